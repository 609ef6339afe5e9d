// The Euler number of the foreground at one level: 8-connected components less holes.
//
// The foreground is the union of its pixels' closed squares, whose Euler number is vertices - edges + faces. Along one
// row of vertices, or of pixels, the ends of each stretch of them cancel all but one: what remains is the number of
// stretches. So it is the number of stretches in the union of every two neighbouring rows, less those in every row,
// counted in bits (Gray, "Local properties of binary images in two dimensions", IEEE Trans. Computers, 1971).
#pragma once

#include <bit>
#include <vector>

#include "cpu/level_image.h"
#include "cpu/stop.h"
#include "cpu/tree/runs.h"

namespace wsolkern {

// `above`: scratch.
inline int64_t euler_number(const LevelImage& image, int level, std::vector<uint64_t>& above) {
  const int num_words = (image.width + 63) / 64;
  int16_t below[64];
  std::fill(below, below + 64, int16_t(level - 1));
  above.assign(num_words, 0);
  int64_t euler = 0;
  const auto num_begins = [](uint64_t bits, uint64_t& before) {  // of stretches; `before` is the bit to the left
    const uint64_t begins = bits & ~(bits << 1 | before);
    before = bits >> 63;
    return std::popcount(begins);
  };
  for (int y = 0; y <= image.height; ++y) {
    if (y % kRowsPerPoll == kRowsPerPoll - 1) poll(kStepsPerClock);
    uint64_t before = 0, before_in_union = 0;
    for (int w = 0; w < num_words; ++w) {
      // Outside the image there is kOutside, less than any level.
      const uint64_t bits = y < image.height ? greater_bits64(image.row(y) + 64 * w, below) : 0;
      euler += num_begins(bits | above[w], before_in_union) - num_begins(bits, before);
      above[w] = bits;
    }
  }
  return euler;
}

}  // namespace wsolkern
