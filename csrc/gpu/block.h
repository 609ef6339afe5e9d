// A block: threads that work on one map together, as CUDA means it. The same algorithm compiles for both kinds.
//
// nvcc: a thread block, of warps. Host compiler: real threads with a real barrier, which take the work in an order of
// their own choosing, another one each time; each of them can be a warp, whose lanes it goes through one by one. The
// host's blocks are there to be checked (against the CPU engine, under ThreadSanitizer and AddressSanitizer) where
// there is no GPU; nobody waits for them.
//
// An algorithm is a sequence of phases: for_each gives every index to some thread, for_each_warp to some warp, and both
// end with a barrier. Within a phase, what one thread writes and another reads or writes goes through load, store and
// the atomics below. Within a warp's work, what its lanes know goes from one to the others by ballot, max and scan
// alone; these are called by all lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define WSOLKERN_DEVICE __device__ __forceinline__
#else
#define WSOLKERN_DEVICE inline
#include <atomic>
#include <barrier>
#include <thread>
#endif

namespace wsolkern {

constexpr uint32_t kLanes = 32;  // of a warp

#ifdef __CUDACC__

template <class T>
WSOLKERN_DEVICE T load(const T* at) {
  return __nv_atomic_load_n(const_cast<T*>(at), __NV_ATOMIC_RELAXED, __NV_THREAD_SCOPE_BLOCK);
}
template <class T>
WSOLKERN_DEVICE void store(T* at, T value) {
  __nv_atomic_store_n(at, value, __NV_ATOMIC_RELAXED, __NV_THREAD_SCOPE_BLOCK);
}
WSOLKERN_DEVICE uint32_t add(uint32_t* at, uint32_t value) { return atomicAdd_block(at, value); }
WSOLKERN_DEVICE uint32_t add_for_all(uint32_t* at, uint32_t value) { return atomicAdd(at, value); }  // of all blocks
WSOLKERN_DEVICE void include_bits(uint32_t* at, uint32_t bits) { atomicOr_block(at, bits); }
// raise and lower: *at becomes the larger or smaller of both. Most values do not change anything; a look before the
// atomic operation keeps those from queueing up.
WSOLKERN_DEVICE void raise(int32_t* at, int32_t value) {
  if (load(at) < value) atomicMax_block(at, value);
}
WSOLKERN_DEVICE void raise(uint32_t* at, uint32_t value) {
  if (load(at) < value) atomicMax_block(at, value);
}
WSOLKERN_DEVICE void raise(uint64_t* at, uint64_t value) {
  if (load(at) < value)
    atomicMax_block(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
}
WSOLKERN_DEVICE void lower(int32_t* at, int32_t value) {
  if (load(at) > value) atomicMin_block(at, value);
}
WSOLKERN_DEVICE void lower(uint32_t* at, uint32_t value) {
  if (load(at) > value) atomicMin_block(at, value);
}
WSOLKERN_DEVICE uint32_t count_bits(uint32_t bits) { return uint32_t(__popc(bits)); }
WSOLKERN_DEVICE uint32_t first_bit(uint32_t bits) { return uint32_t(__ffs(int(bits))) - 1; }  // the lowest that is set

// What each lane of a warp has of something.
template <class T>
class PerLane {
 public:
  WSOLKERN_DEVICE T& operator[](uint32_t) { return mine_; }
  WSOLKERN_DEVICE const T& operator[](uint32_t) const { return mine_; }

 private:
  T mine_;
};

class Warp {
 public:
  template <class F>
  WSOLKERN_DEVICE void each(F&& f) const {  // f(lane)
    f(lane());
  }
  template <class F>
  WSOLKERN_DEVICE void once(F&& f) const {
    if (lane() == 0) f();
  }
  template <class F>
  WSOLKERN_DEVICE uint32_t ballot(F&& f) const {  // a bit a lane
    return __ballot_sync(~0u, f(lane()));
  }
  template <class F>
  WSOLKERN_DEVICE uint32_t max(F&& f) const {  // of f(lane)
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(~0u, f(lane()));
#else
    uint32_t most = f(lane());
    for (uint32_t step = kLanes / 2; step; step /= 2) {
      const uint32_t other = __shfl_xor_sync(~0u, most, step);
      most = other > most ? other : most;
    }
    return most;
#endif
  }
  // values[lane] becomes values[0] + ... + values[lane], where + is `join`; returns the last.
  template <class T, class Join>
  WSOLKERN_DEVICE T scan(PerLane<T>& values, Join&& join) const {
    T& mine = values[lane()];
    for (uint32_t step = 1; step < kLanes; step *= 2) {
      const T before = T(__shfl_up_sync(~0u, mine, step));
      if (lane() >= step) mine = join(before, mine);
    }
    return T(__shfl_sync(~0u, mine, kLanes - 1));
  }
  WSOLKERN_DEVICE void sync() const { __syncwarp(); }  // what lanes wrote before it, the others may read after it

 private:
  WSOLKERN_DEVICE static uint32_t lane() { return threadIdx.x % kLanes; }
};

class Block {
 public:
  WSOLKERN_DEVICE uint32_t rank() const { return threadIdx.x; }
  WSOLKERN_DEVICE uint32_t size() const { return blockDim.x; }
  WSOLKERN_DEVICE void barrier() const { __syncthreads(); }

  template <class F>
  WSOLKERN_DEVICE void for_each(uint32_t n, F&& f) const {
#pragma unroll 1
    for (uint32_t i = rank(); i < n; i += size()) f(i);
    barrier();
  }
  template <class F>
  WSOLKERN_DEVICE void for_each_warp(uint32_t n, F&& f) const {  // f(warp, i)
#pragma unroll 1
    for (uint32_t i = rank() / kLanes; i < n; i += size() / kLanes) f(Warp(), i);
    barrier();
  }
  template <class F>
  WSOLKERN_DEVICE void once(F&& f) const {
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
inline uint32_t add_for_all(uint32_t* at, uint32_t value) { return add(at, value); }
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
inline uint32_t count_bits(uint32_t bits) { return uint32_t(__builtin_popcount(bits)); }
inline uint32_t first_bit(uint32_t bits) { return uint32_t(__builtin_ctz(bits)); }

template <class T>
class PerLane {
 public:
  T& operator[](uint32_t lane) { return all_[lane]; }
  const T& operator[](uint32_t lane) const { return all_[lane]; }

 private:
  T all_[kLanes];
};

class Warp {
 public:
  template <class F>
  void each(F&& f) const {
    for (uint32_t lane = 0; lane < kLanes; ++lane) f(lane);
  }
  template <class F>
  void once(F&& f) const {
    f();
  }
  template <class F>
  uint32_t ballot(F&& f) const {
    uint32_t bits = 0;
    each([&](uint32_t lane) { bits |= uint32_t(bool(f(lane))) << lane; });
    return bits;
  }
  template <class F>
  uint32_t max(F&& f) const {
    uint32_t most = 0;
    each([&](uint32_t lane) { most = f(lane) > most ? f(lane) : most; });
    return most;
  }
  template <class T, class Join>
  T scan(PerLane<T>& values, Join&& join) const {
    for (uint32_t lane = 1; lane < kLanes; ++lane) values[lane] = join(values[lane - 1], values[lane]);
    return values[kLanes - 1];
  }
  void sync() const {}
};

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
  void for_each_warp(uint32_t n, F&& f) const {
    for_each(n, [&](uint32_t i) { f(Warp(), i); });
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
