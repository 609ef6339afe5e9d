// Cut points: the exact float64 value F at which a normalization's score map reaches a given score.
//
// S(F) = clip(fl(fl(F - offset) / divisor), 0, 1) never falls as F rises, rounding included. So "level k or higher" and
// "score tau or higher" are each the same as F >= c for one number c, and a normalization is its set of cut points on
// the CAM's own axis: one image of integers and one component tree serve any number of normalizations.
//
// c is first estimated by inverting the formula, then made exact by evaluating the formula itself at the neighbouring
// float64 values. The division needs a neighbour or two. The subtraction can need thousands: near F = 0 many values F
// give the same F - offset, so the estimate aims at the midpoint where rounding turns up, from which one neighbour
// decides. What the neighbours do not decide (subnormal numbers, huge ranges) is found by bisection. Several cut points
// at a time take 1/4 of the time of one by one.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "cpu/statistics.h"

namespace wsolkern {

// float64 values in ascending order as integers: neighbours differ by one (-0.0 comes just before 0.0).
inline int64_t to_key(double value) {
  const int64_t bits = std::bit_cast<int64_t>(value);
  return bits < 0 ? bits ^ INT64_MAX : bits;
}
inline double from_key(int64_t key) { return std::bit_cast<double>(key < 0 ? key ^ INT64_MAX : key); }

// The smallest value for which `reached` holds; it must hold for +infinity and not for -infinity.
template <class Reached>
double smallest_value(double estimate, Reached&& reached) {
  const int64_t key = to_key(estimate);
  if (std::isfinite(estimate)) {
    if (reached(estimate)) {
      if (!reached(from_key(key - 1))) return estimate;
      if (!reached(from_key(key - 2))) return from_key(key - 1);
    } else {
      if (reached(from_key(key + 1))) return from_key(key + 1);
      if (reached(from_key(key + 2))) return from_key(key + 2);
    }
  }
  int64_t below = to_key(-std::numeric_limits<double>::infinity());
  int64_t above = to_key(std::numeric_limits<double>::infinity());
  while (above - 1 != below) {  // the keys of both signs together do not overflow: they stay within +-2^63 - 2^52
    const int64_t middle = (below >> 1) + (above >> 1) + (below & above & 1);
    (reached(from_key(middle)) ? above : below) = middle;
  }
  return from_key(above);
}

inline double cut_point(const Affine& affine, double wanted) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (wanted <= 0) return -kInfinity;
  if (affine.divisor == 0 || !(wanted <= 1)) return kInfinity;
  const double offset = affine.offset, divisor = affine.divisor;
  const double shifted = smallest_value(wanted * divisor, [&](double d) { return d / divisor >= wanted; });
  const double half_gap = (shifted - from_key(to_key(shifted) - 1)) / 2;
  return smallest_value(offset + shifted - half_gap, [&](double f) { return f - offset >= shifted; });
}

// smallest_value for several estimates at once, where one neighbour on either side decides; lanes in which it may not
// are marked in `doubtful`, one bit each.
template <class Reached>
f64v smallest_values(f64v estimate, unsigned& doubtful, Reached&& reached) {
  const i64v up = estimate < 0 ? splat_int(-1) : splat_int(1);  // to the next larger value, in its bits
  const f64v below = f64v(i64v(estimate) - up), above = f64v(i64v(estimate) + up);
  const i64v is_reached = reached(estimate), is_next_reached = reached(choose(is_reached, below, above));
  const f64v value = choose(is_reached, choose(is_next_reached, below, estimate), above);
  // The value itself is reached, and the one below it is not: what of that is not known yet.
  const unsigned found = lane_bits(is_reached), next = lane_bits(is_next_reached);
  const unsigned last = lane_bits(reached(f64v(i64v(below) - up)));
  constexpr double kTinySquare = 1e-300;  // around zero, bits of neighbours are not next to each other
  doubtful |= (found & next & last) | ~(found | next) | lane_bits(value * value < kTinySquare);
  return value;
}

inline void cut_points(const Affine& affine, std::span<const double> scores, double* out) {
  const f64v offset = splat(affine.offset), divisor = splat(affine.divisor);
  size_t k = 0;
  for (; k + kLanes64 <= scores.size() && affine.divisor > 0; k += kLanes64) {
    const f64v wanted = load(scores.data() + k);
    unsigned doubtful = ~(lane_bits(wanted > 0.0) & lane_bits(wanted <= 1.0));
    const f64v shifted = smallest_values(wanted * divisor, doubtful, [&](f64v d) { return d / divisor >= wanted; });
    const f64v half_gap = (shifted - f64v(i64v(shifted) - 1)) * 0.5;
    store(out + k,
          smallest_values(offset + shifted - half_gap, doubtful, [&](f64v f) { return f - offset >= shifted; }));
    for (unsigned bits = doubtful & ((1u << kLanes64) - 1); bits; bits &= bits - 1) {
      const size_t at = k + std::countr_zero(bits);
      out[at] = cut_point(affine, scores[at]);
    }
  }
  for (; k < scores.size(); ++k) out[k] = cut_point(affine, scores[k]);
}

// The smallest score whose 8-bit level, floor(255 * score), is at least k.
inline double score_of_level(int k) {
  return smallest_value(k / 255.0, [&](double s) { return s * 255 >= k; });
}

}  // namespace wsolkern
