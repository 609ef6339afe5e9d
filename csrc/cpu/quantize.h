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
// A product with 255 / divisor stands for the division, and is off by a few units in the last place; it is taken to 16
// binary places. Only rows in which a value comes within two of these places of a whole number are divided: five or so
// of a CAM (that of its maximum among them), all of a map with few different values. Takes a third of the time of
// products that are compared and converted as float64, which take half the time of looking up 255 cut points.
class Quantizer {
 public:
  void operator()(const double* map, const Affine& affine, LevelImage& image) {
    row_.resize(image.width);
    const double scale = kScoreLevels / affine.divisor;
    for (int y = 0; y < image.height; ++y) {
      const double* from = map + size_t(y) * image.width;
      int16_t* to = image.row(y);
      if (std::isfinite(scale) && multiply(from, image.width, affine.offset, scale, to)) continue;
      normalize(from, image.width, affine, row_.data());
      for (int x = 0; x < image.width; ++x) to[x] = int16_t(int(row_[x] * kScoreLevels));
    }
    image.top = kScoreLevels;  // that of the map's maximum
  }

  size_t bytes() const { return row_.capacity() * 8; }

 private:
  std::vector<double> row_;  // scores

  // False where a level is in doubt.
  static bool multiply(const double* from, int width, double offset, double scale, int16_t* to) {
    constexpr int32_t kNear = 2;
    i32v nearest = splat_int32(INT16_MAX);  // to a whole number from above, with kNear added
    const auto put = [&](const double* p, int16_t* out) {
      i32v levels[2];  // with 16 binary places
      for (int half = 0; half < 2; ++half) {
        i64v parts[2];
        for (int i = 0; i < 2; ++i) {
          const f64v level = (load(p + (2 * half + i) * kLanes64) - offset) * scale;
          parts[i] = fixed_point(max(min(level, splat(kScoreLevels + 0.5)), splat(0.5)));
        }
        levels[half] = low_halves(parts[0], parts[1]);
        nearest = min(nearest, (levels[half] + kNear) & 0xffff);
      }
      store(out, high_halves(levels[0], levels[1]));
    };
    int x = 0;
    for (; x + kLanes16 <= width; x += kLanes16) put(from + x, to + x);
    if (x < width) {
      double rest[kLanes16];
      int16_t levels[kLanes16];
      std::fill(std::copy(from + x, from + width, rest), rest + kLanes16, from[x]);
      put(rest, levels);
      std::copy(levels, levels + (width - x), to + x);
    }
    return !any(nearest < 2 * kNear);
  }
};

}  // namespace wsolkern
