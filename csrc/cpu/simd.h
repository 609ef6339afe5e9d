// The small named layer over vector instructions: everything machine-specific in this project is in this file.
//
// Vectors are the compilers' own vector types (GCC and Clang), as wide as the instruction set this file is compiled
// for. Only the few things those types cannot say well (a comparison as bits or as one, a horizontal maximum, a lane
// mask) are written with intrinsics, and each has a plain fallback that any other machine uses.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#if defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define WSOLKERN_ISA "avx512"
#define WSOLKERN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define WSOLKERN_ISA "avx2"
#define WSOLKERN_VECTOR_BYTES 32
#else
#define WSOLKERN_ISA "generic"
#define WSOLKERN_VECTOR_BYTES 16
#endif

namespace wsolkern {

typedef int16_t i16v __attribute__((vector_size(WSOLKERN_VECTOR_BYTES)));
typedef int32_t i32v __attribute__((vector_size(WSOLKERN_VECTOR_BYTES)));
typedef double f64v __attribute__((vector_size(WSOLKERN_VECTOR_BYTES)));
typedef int64_t i64v __attribute__((vector_size(WSOLKERN_VECTOR_BYTES)));

constexpr int kLanes16 = WSOLKERN_VECTOR_BYTES / 2;
constexpr int kLanes32 = WSOLKERN_VECTOR_BYTES / 4;
constexpr int kLanes64 = WSOLKERN_VECTOR_BYTES / 8;

// A vector that begins at the border of a cache line, for what is read from end to end: else every other load of 32
// bytes, and every one of 64, meets two lines. A map with AVX-512 takes 162 us in place of 168.
template <class T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kLine)); }
  void deallocate(T* p, size_t) { ::operator delete(p, kLine); }
  bool operator==(const LineAllocator&) const { return true; }
};
template <class T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

inline i16v load(const int16_t* p) {
  i16v v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline f64v load(const double* p) {
  f64v v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(int16_t* p, i16v v) { std::memcpy(p, &v, sizeof v); }
inline void store(double* p, f64v v) { std::memcpy(p, &v, sizeof v); }

inline i16v splat(int16_t x) { return i16v{} + x; }
inline f64v splat(double x) { return f64v{} + x; }
inline i32v splat_int32(int32_t x) { return i32v{} + x; }
inline i64v splat_int(int64_t x) { return i64v{} + x; }

inline i16v max(i16v a, i16v b) { return a > b ? a : b; }
inline i16v min(i16v a, i16v b) { return a < b ? a : b; }
// As instructions, since GCC compares and blends instead: b where one is NaN.
#if defined(__AVX512DQ__)
inline f64v max(f64v a, f64v b) { return _mm512_max_pd(a, b); }
inline f64v min(f64v a, f64v b) { return _mm512_min_pd(a, b); }
#elif defined(__AVX2__)
inline f64v max(f64v a, f64v b) { return _mm256_max_pd(a, b); }
inline f64v min(f64v a, f64v b) { return _mm256_min_pd(a, b); }
#elif defined(__SSE2__)
inline f64v max(f64v a, f64v b) { return _mm_max_pd(a, b); }
inline f64v min(f64v a, f64v b) { return _mm_min_pd(a, b); }
#else
inline f64v max(f64v a, f64v b) { return a > b ? a : b; }
inline f64v min(f64v a, f64v b) { return a < b ? a : b; }
#endif

// Lane by lane a where the mask is set, else b.
inline f64v choose(i64v mask, f64v a, f64v b) {
#if defined(__SSE2__) && !defined(__AVX2__)  // which has no comparison of 64-bit numbers that GCC could ask again with
  return _mm_or_pd(_mm_and_pd((__m128d)mask, a), _mm_andnot_pd((__m128d)mask, b));
#else
  return mask ? a : b;
#endif
}

// The lower 32 bits of the lanes of a, then of b.
inline i32v low_halves(i64v a, i64v b) {
#if defined(__AVX512F__)
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return (i32v)_mm512_permutex2var_epi32((__m512i)a, even, (__m512i)b);
#elif defined(__AVX2__)
  const __m256 mixed = _mm256_shuffle_ps((__m256)a, (__m256)b, 0x88);  // quarters land as 0, 2, 1, 3
  return (i32v)_mm256_permute4x64_epi64((__m256i)mixed, 0xd8);
#elif defined(__SSE2__)
  return (i32v)_mm_shuffle_ps((__m128)a, (__m128)b, 0x88);
#else
  i32v halves;
  for (int lane = 0; lane < kLanes64; ++lane) {
    halves[lane] = int32_t(a[lane]);
    halves[lane + kLanes64] = int32_t(b[lane]);
  }
  return halves;
#endif
}

// The upper 16 bits of the lanes of a, then of b.
inline i16v high_halves(i32v a, i32v b) {
#if defined(__AVX512BW__)
  // By shifts and a saturating pack, as below, it would be three instructions more.
  static constexpr struct Odd {
    int16_t at[kLanes16];
    constexpr Odd() : at() {
      for (int i = 0; i < kLanes16; ++i) at[i] = int16_t(2 * i + 1);
    }
  } odd;
  return (i16v)_mm512_permutex2var_epi16((__m512i)a, (__m512i)load(odd.at), (__m512i)b);
#elif defined(__AVX2__)
  const __m256i mixed = _mm256_packs_epi32((__m256i)(a >> 16), (__m256i)(b >> 16));  // as above
  return (i16v)_mm256_permute4x64_epi64(mixed, 0xd8);
#elif defined(__SSE2__)
  return (i16v)_mm_packs_epi32((__m128i)(a >> 16), (__m128i)(b >> 16));
#else
  i16v halves;
  for (int lane = 0; lane < kLanes32; ++lane) {
    halves[lane] = int16_t(a[lane] >> 16);
    halves[lane + kLanes32] = int16_t(b[lane] >> 16);
  }
  return halves;
#endif
}
inline i32v min(i32v a, i32v b) { return a < b ? a : b; }

// Numbers of a magnitude below 2^15, rounded to 16 binary places, as the lower 32 bits of the lanes. They are the last
// bits of the sum with a number that is large enough; a conversion takes eight instructions in place of this addition.
inline i64v fixed_point(f64v v) { return i64v(v + splat(0x1.8p36)); }

// Bit i of the result is a[i] > b[i], for i in [0, 64): 64 values at a time whatever the vector width.
inline uint64_t greater_bits64(const int16_t* a, const int16_t* b) {
#if defined(__AVX512BW__)
  const auto half = [&](int at) -> uint64_t {
    return _mm512_cmpgt_epi16_mask(_mm512_loadu_si512(a + at), _mm512_loadu_si512(b + at));
  };
  return half(0) | half(32) << 32;
#elif defined(__AVX2__)
  const auto compare = [&](int at) {
    return _mm256_cmpgt_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + at)),
                              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + at)));
  };
  const auto half = [&](int at) -> uint64_t {
    const __m256i packed = _mm256_packs_epi16(compare(at), compare(at + 16));  // quarters land as 0, 2, 1, 3
    return uint32_t(_mm256_movemask_epi8(_mm256_permute4x64_epi64(packed, 0xd8)));
  };
  return half(0) | half(32) << 32;
#elif defined(__SSE2__)
  const auto compare = [&](int at) {
    return _mm_cmpgt_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + at)),
                           _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + at)));
  };
  uint64_t bits = 0;
  for (int at = 0; at < 64; at += 16)
    bits |= uint64_t(_mm_movemask_epi8(_mm_packs_epi16(compare(at), compare(at + 8)))) << at;
  return bits;
#else
  uint64_t bits = 0;
  for (int i = 0; i < 64; ++i) bits |= uint64_t(a[i] > b[i]) << i;
  return bits;
#endif
}

// Bit i of the result is p[i] < 0, for i in [0, 64).
inline uint64_t negative_bits64(const int16_t* p) {
  static constexpr int16_t kZeros[64] = {};
  return greater_bits64(kZeros, p);
}

// The largest lane; every lane must be >= 0.
inline int16_t max_lane(i16v v) {
#if defined(__SSE2__)
#if defined(__AVX512BW__)
  const __m512i wide = (__m512i)v;
  const __m256i half = _mm256_max_epi16(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64(wide, 1));
#elif defined(__AVX2__)
  const __m256i half = (__m256i)v;
#endif
#if defined(__AVX2__)
  __m128i m = _mm_max_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // minpos finds an unsigned minimum: complement within the non-negative range.
  m = _mm_minpos_epu16(_mm_xor_si128(m, _mm_set1_epi16(0x7fff)));
  return int16_t(_mm_cvtsi128_si32(m) ^ 0x7fff);
#else
  __m128i m = (__m128i)v;
  m = _mm_max_epi16(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi16(m, _mm_shuffle_epi32(m, 0xb1));
  m = _mm_max_epi16(m, _mm_shufflelo_epi16(m, 0xb1));
  return int16_t(_mm_cvtsi128_si32(m));
#endif
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return vmaxvq_s16((int16x8_t)v);
#else
  int16_t most = 0;
  for (int i = 0; i < kLanes16; ++i) most = v[i] > most ? v[i] : most;
  return most;
#endif
}

// All ones in the first n lanes, zeros after; 0 <= n <= kLanes16.
inline i16v first_lanes(int n) {
  static constexpr struct Table {
    int16_t at[2 * kLanes16];
    constexpr Table() : at() {
      for (int i = 0; i < kLanes16; ++i) at[i] = -1;
    }
  } table;
  return load(table.at + kLanes16 - n);
}

// Bit i of the result says whether lane i of a comparison's result is set.
inline unsigned lane_bits(i64v v) {
#if defined(__AVX512DQ__)
  return _mm512_movepi64_mask((__m512i)v);
#elif defined(__AVX2__)
  return unsigned(_mm256_movemask_pd((__m256d)v));
#elif defined(__SSE2__)
  return unsigned(_mm_movemask_pd((__m128d)v));
#else
  unsigned bits = 0;
  for (int lane = 0; lane < kLanes64; ++lane) bits |= unsigned(v[lane] & 1) << lane;
  return bits;
#endif
}
inline bool any(i64v v) { return lane_bits(v) != 0; }
inline bool any(i32v v) { return any(i64v(v) | i64v(v) << 32); }

// Bit i of the result is said by a comparison, whose lanes from i on compare(i) gives, for i in [0, 32).
template <class Compare>
uint32_t bits32(Compare&& compare) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; i += kLanes64) bits |= lane_bits(compare(i)) << i;
  return bits;
}
// p[i] >= limit, a[i] < b[i], a[i] == b[i].
inline uint32_t at_least_bits32(const double* p, double limit) {
  return bits32([p, least = splat(limit)](int i) { return load(p + i) >= least; });
}
inline uint32_t less_bits32(const double* a, const double* b) {
  return bits32([a, b](int i) { return load(a + i) < load(b + i); });
}
inline uint32_t equal_bits32(const double* a, const double* b) {
  return bits32([a, b](int i) { return load(a + i) == load(b + i); });
}

// How many of p[0], ..., p[n - 1] are greater than `limit`.
inline size_t count_greater(const int16_t* p, size_t n, int16_t limit) {
  constexpr size_t kMostAtOnce = size_t(INT16_MAX) * kLanes16;  // each lane counts in 16 bits
  const i16v least = splat(limit);
  size_t count = 0, i = 0;
  while (n - i >= size_t(kLanes16)) {
    const size_t end = i + std::min(n - i, kMostAtOnce) / kLanes16 * kLanes16;
    i16v counts{};
    for (; i < end; i += kLanes16) counts -= load(p + i) > least;
    for (int lane = 0; lane < kLanes16; ++lane) count += counts[lane];
  }
  for (; i < n; ++i) count += p[i] > limit;
  return count;
}

// p[i] = before + p[0] + ... + p[i - 1], for n values, a multiple of 8; gives the sum of all. With vectors of 8 half
// the time of words of 4, which take a third of that one by one.
inline uint16_t exclusive_sums(uint16_t* p, size_t n, uint16_t before) {
#if defined(__SSE2__)
  __m128i base = _mm_set1_epi16(int16_t(before));
  for (size_t i = 0; i < n; i += 8) {
    __m128i* const at = reinterpret_cast<__m128i*>(p + i);
    const __m128i values = _mm_loadu_si128(at);
    __m128i sums = _mm_add_epi16(values, _mm_slli_si128(values, 2));
    sums = _mm_add_epi16(sums, _mm_slli_si128(sums, 4));
    sums = _mm_add_epi16(sums, _mm_slli_si128(sums, 8));
    _mm_storeu_si128(at, _mm_add_epi16(base, _mm_sub_epi16(sums, values)));
    base = _mm_add_epi16(base, _mm_shuffle_epi32(_mm_shufflehi_epi16(sums, 0xff), 0xff));
  }
  return uint16_t(_mm_cvtsi128_si32(base));
#else
  constexpr uint64_t kOnes = 0x0001000100010001;  // a product with it sums up the values of a word
  for (size_t i = 0; i < n; i += 4) {
    uint64_t values;
    std::memcpy(&values, p + i, sizeof values);
    const uint64_t sums = values * kOnes, begins = sums - values + before * kOnes;
    std::memcpy(p + i, &begins, sizeof begins);
    before = uint16_t(before + (sums >> 48));
  }
  return before;
#endif
}

// Whether any of p[0], ..., p[n - 1] is less than `limit`.
inline bool any_below(const double* p, int n, double limit) {
  const f64v most = splat(limit);
  for (; n >= 4 * kLanes64; n -= 4 * kLanes64, p += 4 * kLanes64) {
    const i64v below = (load(p) < most) | (load(p + kLanes64) < most) | (load(p + 2 * kLanes64) < most) |
                       (load(p + 3 * kLanes64) < most);
    if (any(below)) return true;
  }
  for (int i = 0; i < n; ++i)
    if (p[i] < limit) return true;
  return false;
}

// max(0, p[0], ..., p[n - 1]); reads up to 64 values beyond p + n, which do not matter. The last 64 at most are taken
// without a branch, as their number cannot be predicted.
inline int16_t max_of(const int16_t* p, int n) {
  i16v most{};
  for (; n > 64; n -= 64, p += 64)
    for (int i = 0; i < 64; i += kLanes16) most = max(most, load(p + i));
  for (int i = 0; i < 64; i += kLanes16) most = max(most, load(p + i) & first_lanes(std::clamp(n - i, 0, kLanes16)));
  return max_lane(most);
}

}  // namespace wsolkern
