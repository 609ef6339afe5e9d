// The area of one component at one level, exactly as OpenCV's contourArea measures its outer contour.
//
// The outer border is followed from the component's first pixel in raster order, keeping the component to one side,
// until the same step recurs (Suzuki and Abe, "Topological structural analysis of digitized binary images by border
// following", CVGIP 1985, algorithm 1, step 3); the polygon through the border pixels' centres has the area of the
// shoelace formula. Holes do not matter to an outer border, so this is the area with holes filled. It costs about 5 ns
// a border pixel.
#pragma once

#include <cstdlib>

#include "cpu/tree/branches.h"

namespace wsolkern {

struct Pixel {
  int x, y;
};

// The first pixel in raster order of branch b's component at `level`; the branch must live at that level.
inline Pixel first_pixel(const LevelImage& image, const Runs& runs, const Basins& basins, const Branches& branches,
                         uint32_t b, int level) {
  for (int y = branches.at[b].extent.y0;; ++y)
    for (uint32_t run = runs.row_begin[y]; run + 1 < runs.row_begin[y + 1]; ++run) {
      if (runs.peak[run] < level || branches.at_level(basins.of_run[run], level) != b) continue;
      int x = runs.start[run];
      while (image.row(y)[x] < level) ++x;
      return {x, y};
    }
}

// Twice the area enclosed by the outer border that starts at `first`, an integer.
inline int64_t twice_outline_area(const LevelImage& image, Pixel first, int level) {
  // Directions 0 ... 7 turn clockwise on the screen, from east; rows grow downward.
  static constexpr int kDx[8] = {1, 1, 0, -1, -1, -1, 0, 1};
  static constexpr int kDy[8] = {0, 1, 1, 1, 0, -1, -1, -1};
  std::ptrdiff_t step[8];
  for (int d = 0; d < 8; ++d) step[d] = kDy[d] * image.stride + kDx[d];

  const int16_t* const start = image.row(first.y) + first.x;
  // The first pixel has nothing to its west, north-west, north or north-east, so the border leaves it between east
  // and south-west when one turns clockwise from there.
  int leave = 0;
  while (leave < 4 && start[step[leave]] < level) ++leave;
  if (leave == 4) return 0;  // a single pixel

  int64_t twice_area = 0;
  int x = 0, y = 0;  // from the first pixel
  const int16_t* at = start;
  for (int d = leave;;) {
    twice_area += int64_t(x) * kDy[d] - int64_t(y) * kDx[d];
    at += step[d];
    x += kDx[d];
    y += kDy[d];
    d = (d + 5) & 7;  // the neighbour just left, one further on: it was the last one seen outside
    while (at[step[d]] < level) d = (d + 1) & 7;
    if (at == start && d == leave) return std::abs(twice_area);
  }
}

}  // namespace wsolkern
