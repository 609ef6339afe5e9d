// A level image: the integer image whose threshold sets {level >= k} are all the binary images of a map.
//
// Levels are 16-bit and >= 0; 0 is never foreground, so the binary images are those of k = 1 ... top. Every row has a
// margin on both sides and there is a row above and below, all filled with kOutside: neighbours can be read without
// asking where the image ends, and vectors can be read past the last column.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/simd.h"

namespace wsolkern {

constexpr int16_t kOutside = -1;

class LevelImage {
 public:
  int height = 0, width = 0;
  int top = 0;                // largest level in the image
  std::ptrdiff_t stride = 0;  // from a pixel to the one below it

  void resize(int new_height, int new_width) {
    if (new_height == height && new_width == width) return;
    height = new_height;
    if (new_width == width && size_t(height + 2) * stride <= pixels_.size()) {  // the margins are there
      std::fill_n(row(height) - kMargin, stride, kOutside);
      return;
    }
    width = new_width;
    stride = kMargin + (width + 63) / 64 * 64 + kMargin;  // steps are compared 64 at a time
    pixels_.assign(size_t(height + 2) * stride, kOutside);
  }
  int16_t* row(int y) { return pixels_.data() + (y + 1) * stride + kMargin; }
  const int16_t* row(int y) const { return pixels_.data() + (y + 1) * stride + kMargin; }

  void find_top() {
    i16v most{};
    int16_t tail = 0;
    for (int y = 0; y < height; ++y) {
      const int16_t* levels = row(y);
      int x = 0;
      for (; x + kLanes16 <= width; x += kLanes16) most = max(most, load(levels + x));
      for (; x < width; ++x) tail = std::max(tail, levels[x]);
    }
    top = std::max(tail, max_lane(most));
  }

  // The complement at the levels k = lowest ... highest and in the rows y0 ... y1: {level < k} of `image` is
  // {level >= highest - k + 1} of this.
  void invert(const LevelImage& image, int lowest, int highest, int y0, int y1) {
    resize(y1 - y0 + 1, image.width);
    top = highest - lowest + 1;
    const int16_t least = 0, most = int16_t(top), from_highest = int16_t(highest);  // 16 bits: vectors
    for (int y = 0; y < height; ++y) {
      const int16_t* from = image.row(y0 + y);
      int16_t* to = row(y);
      for (int x = 0; x < width; ++x) to[x] = std::min(std::max(int16_t(from_highest - from[x]), least), most);
    }
    // `top` may be more than the largest inverted level; that only leaves levels without components.
  }

  size_t bytes() const { return pixels_.capacity() * sizeof(int16_t); }

 private:
  static constexpr int kMargin = kLanes16;
  AlignedVector<int16_t> pixels_;
};

}  // namespace wsolkern
