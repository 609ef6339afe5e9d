// A block: threads that work on one map together, as CUDA means it. The same algorithm compiles for both kinds.
//
// nvcc: a thread block. Host compiler: real threads with a real barrier, which take the work in an order of their own
// choosing, another one each time. The host's blocks are there to be checked (against the CPU engine, under
// ThreadSanitizer and AddressSanitizer) where there is no GPU; nobody waits for them.
//
// An algorithm is a sequence of phases: for_each gives every index to some thread and ends with a barrier. Within a
// phase, what one thread writes and another reads or writes goes through load, store and the atomics below.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define WSOLKERN_DEVICE __device__
#else
#define WSOLKERN_DEVICE
#include <atomic>
#include <barrier>
#include <thread>
#endif

namespace wsolkern {

#ifdef __CUDACC__

template <class T>
__device__ T load(const T* at) {
  return __nv_atomic_load_n(const_cast<T*>(at), __NV_ATOMIC_RELAXED, __NV_THREAD_SCOPE_BLOCK);
}
template <class T>
__device__ void store(T* at, T value) {
  __nv_atomic_store_n(at, value, __NV_ATOMIC_RELAXED, __NV_THREAD_SCOPE_BLOCK);
}
inline __device__ uint32_t add(uint32_t* at, uint32_t value) { return atomicAdd_block(at, value); }
inline __device__ void include_bits(uint32_t* at, uint32_t bits) { atomicOr_block(at, bits); }
// raise and lower: *at becomes the larger or smaller of both. Most values do not change anything; a look before the
// atomic operation keeps those from queueing up.
inline __device__ void raise(int32_t* at, int32_t value) {
  if (load(at) < value) atomicMax_block(at, value);
}
inline __device__ void raise(uint64_t* at, uint64_t value) {
  if (load(at) < value)
    atomicMax_block(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
}
inline __device__ void lower(int32_t* at, int32_t value) {
  if (load(at) > value) atomicMin_block(at, value);
}
inline __device__ void lower(uint32_t* at, uint32_t value) {
  if (load(at) > value) atomicMin_block(at, value);
}

class Block {
 public:
  __device__ uint32_t rank() const { return threadIdx.x; }
  __device__ uint32_t size() const { return blockDim.x; }
  __device__ void barrier() const { __syncthreads(); }

  template <class F>
  __device__ void for_each(uint32_t n, F&& f) const {
    for (uint32_t i = rank(); i < n; i += size()) f(i);
    barrier();
  }
  template <class F>
  __device__ void once(F&& f) const {
    if (rank() == 0) f();
    barrier();
  }
};

#else

template <class T>
T load(const T* at) {
  return std::atomic_ref<T>(*const_cast<T*>(at)).load(std::memory_order_relaxed);
}
template <class T>
void store(T* at, T value) {
  std::atomic_ref<T>(*at).store(value, std::memory_order_relaxed);
}
inline uint32_t add(uint32_t* at, uint32_t value) {
  return std::atomic_ref<uint32_t>(*at).fetch_add(value, std::memory_order_relaxed);
}
inline void include_bits(uint32_t* at, uint32_t bits) {
  std::atomic_ref<uint32_t>(*at).fetch_or(bits, std::memory_order_relaxed);
}
template <class T>
void raise(T* at, T value) {
  std::atomic_ref<T> cell(*at);
  T old = cell.load(std::memory_order_relaxed);
  while (old < value && !cell.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
}
template <class T>
void lower(T* at, T value) {
  std::atomic_ref<T> cell(*at);
  T old = cell.load(std::memory_order_relaxed);
  while (old > value && !cell.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
}

class Block {
 public:
  Block(uint32_t rank, uint32_t size, std::barrier<>& barrier, uint64_t seed)
      : rank_(rank), size_(size), barrier_(barrier), random_(seed * 2 + 1) {}
  uint32_t rank() const { return rank_; }
  uint32_t size() const { return size_; }
  void barrier() const { barrier_.arrive_and_wait(); }

  // Every thread draws the same numbers, so they agree on which index is whose; each begins where it likes.
  template <class F>
  void for_each(uint32_t n, F&& f) const {
    const uint64_t shift = draw() % size_, begin = draw() + rank_ * 7919;
    const uint64_t mine = (rank_ + shift) % size_, count = n > mine ? (n - mine + size_ - 1) / size_ : 0;
    const bool backwards = (draw() >> rank_ % 8) & 1;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t turn = (begin + (backwards ? count - 1 - i : i)) % count;
      f(uint32_t(mine + turn * size_));
      if (i % 64 == 0 && (begin + i) % 5 == rank_ % 5) std::this_thread::yield();
    }
    barrier();
  }
  template <class F>
  void once(F&& f) const {
    if (rank_ == draw() % size_) f();
    barrier();
  }

 private:
  const uint32_t rank_, size_;
  std::barrier<>& barrier_;
  mutable uint64_t random_;
  uint64_t draw() const {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return random_ >> 33;
  }
};

#endif

}  // namespace wsolkern
