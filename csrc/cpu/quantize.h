// The 8-bit levels of one score map, as the published evaluator casts it: int(score * 255).
//
// In: a score map, or a map with the offset and divisor of one normalization. Out: a level image, 0 ... 255.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/level_image.h"
#include "cpu/statistics.h"
#include "shared/levels.h"

namespace wsolkern {

// (score * 255) truncated, as the published evaluator casts to 8 bits.
inline void quantize(const double* scores, LevelImage& image) {
  for (int y = 0; y < image.height; ++y) {
    const double* from = scores + size_t(y) * image.width;
    int16_t* to = image.row(y);
    for (int x = 0; x < image.width; ++x) to[x] = int16_t(int(from[x] * 255));
  }
  image.find_top();
}

// The same of the score map of one normalization, which is not made: image = quantize(normalize(map)).
//
// A product with 255 / divisor stands for the division, and is off by a few units in the last place. Only rows in
// which a value comes that near to a whole number are divided: one or two of a CAM (that of its maximum), all of a map
// with few different values. Takes half the time of looking up 255 cut points.
class Quantizer {
 public:
  void operator()(const double* map, const Affine& affine, LevelImage& image) {
    row_.resize((image.width + kLanes64 - 1) / kLanes64 * kLanes64);
    const double scale = kScoreLevels / affine.divisor;
    for (int y = 0; y < image.height; ++y) {
      const double* from = map + size_t(y) * image.width;
      if (!std::isfinite(scale) || !multiply(from, image.width, affine.offset, scale)) {
        normalize(from, image.width, affine, row_.data());
        for (int x = 0; x < image.width; ++x) row_[x] *= kScoreLevels;
      }
      int16_t* to = image.row(y);
      for (int x = 0; x < image.width; ++x) to[x] = int16_t(int(row_[x]));
    }
    image.find_top();
  }

  size_t bytes() const { return row_.capacity() * 8; }

 private:
  std::vector<double> row_;  // 255 * scores

  // Levels with a fraction, or half a level too much below the first one and above the last; false where one is in
  // doubt.
  bool multiply(const double* from, int width, double offset, double scale) {
    constexpr double kWhole = 0x1.8p52, kNear = 1e-6;  // adding and subtracting kWhole rounds to the next whole number
    f64v nearest = splat(1.0);                         // to a whole number
    const auto put = [&](const double* p, int x) {
      const f64v level = max(min((load(p) - offset) * scale, splat(255.5)), splat(0.5));
      nearest = min(nearest, absolute(level - ((level + kWhole) - kWhole)));
      store(row_.data() + x, level);
    };
    int x = 0;
    for (; x + kLanes64 <= width; x += kLanes64) put(from + x, x);
    if (x < width) {
      double rest[kLanes64];
      std::fill(std::copy(from + x, from + width, rest), rest + kLanes64, from[x]);
      put(rest, x);
    }
    return !any(nearest < kNear);
  }
};

}  // namespace wsolkern
