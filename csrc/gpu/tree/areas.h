// Twice the area of each component, and its first pixel.
//
// In: branches without holes. Out: what each branch brings along where it joins, and what each level of it has.
// Twice the area grows by one for each 2 x 2 square in which a pixel is the third or the fourth to arrive as the level
// falls (protocol of Choe et al., arXiv 2007.04178, by way of cv2.contourArea). The first pixel of a component, in
// raster order, is higher than what lies to its left and above, so that only such pixels are looked at.
#pragma once

#include "gpu/tree/chosen.h"

namespace wsolkern {

// Calls grow(branch, level) for the levels at which a square adds to the area of its component, and begin(branch,
// level, pixel) for the pixels that can be the first of theirs: `branch` is the one that they are part of at `level`.
template <class Kind, bool kHoles, class Grow, class Begin>
WSOLKERN_DEVICE void for_each_arrival(const Tree<Kind, kHoles>& tree, Grow&& grow, Begin&& begin) {
  const uint32_t width = uint32_t(tree.shape.width), height = uint32_t(tree.shape.height);
  const auto least = [](int a, int b) { return a < b ? a : b; };
  const auto most = [](int a, int b) { return a > b ? a : b; };
  const auto visit = [&](uint32_t y, uint32_t x) {
    const uint32_t pixel = tree.pixel(y, x);
    const int here = tree.level(pixel);
    const int east = x + 1 < width ? tree.level(pixel + 1) : 0;
    // The square that this pixel is the upper left of.
    const bool is_square = x + 1 < width && y + 1 < height;
    const int south = is_square ? tree.level(pixel + width) : 0, across = is_square ? tree.level(pixel + width + 1) : 0;
    const int low = least(here, east), high = most(here, east);
    const int other_low = least(south, across), other_high = most(south, across);
    const int fourth = least(low, other_low), third = least(most(low, other_low), least(high, other_high));
    if (third > 0) {
      uint32_t branch = tree.climb(tree.basin_of(tree.run_of(y, x + (here < third))), third);
      grow(branch, third);
      if (fourth > 0) {
        branch = tree.climb(branch, fourth);
        grow(branch, fourth);
      }
    }
    // Levels outside of the map are below all others.
    const bool is_first =
        here > 0 && (x == 0 || tree.level(pixel - 1) < here) &&
        (y == 0 || (tree.level(pixel - width) < here && (x == 0 || tree.level(pixel - width - 1) < here) &&
                    (x + 1 == width || tree.level(pixel - width + 1) < here)));
    if (is_first) begin(tree.climb(tree.basin_of(tree.run_of(y, x)), here), here, pixel);
  };
  tree.block.for_each_warp(height, [&](const Warp& warp, uint32_t y) {
    warp.each([&](uint32_t lane) {
      for (uint32_t x = lane; x < width; x += kLanes) visit(y, x);
    });
  });
}

// What each branch brings along where it joins: area and first pixel, without what joined it. For when the levels of
// all branches are not at work at once; else add_up_levels() does it.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void add_up_branches(const Tree<Kind, kHoles>& tree) {
  const Arrays<Kind>& arrays = tree.arrays;
  tree.block.for_each(tree.frame(), [&](uint32_t branch) {
    arrays.area[branch] = 0;
    arrays.first[branch] = UINT32_MAX;
  });
  for_each_arrival(
      tree, [&](uint32_t branch, int) { add(arrays.area + branch, 1); },
      [&](uint32_t branch, int, uint32_t pixel) { lower(arrays.first + branch, pixel); });
}

// The same per level of the marked branches, with all that is part of them by then. is_all: these are all branches.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void add_up_levels(const Tree<Kind, kHoles>& tree, bool is_all) {
  using Key = typename Kind::Key;
  const Arrays<Kind>& arrays = tree.arrays;
  uint32_t *const areas = arrays.node_area, *const firsts = arrays.node_first;
  const auto offset = arrays.nodes_of[tree.shared.begin];
  const auto nodes_of = [&](uint32_t place) { return uint32_t(arrays.nodes_of[place] - offset); };
  // Where the levels of a branch would end if they went down to 0: `best` is free by now.
  Key* const ends = arrays.best;
  constexpr Key kNone = ~Key(0);  // it is not marked
  const auto node = [&](uint32_t branch, int level) { return uint32_t(ends[branch]) - uint32_t(level); };
  tree.block.for_each(tree.frame(), [&](uint32_t branch) {
    const uint32_t mark = arrays.mark[branch];
    ends[branch] = mark ? nodes_of(mark - 1) + uint32_t(arrays.peak[branch]) : kNone;
  });
  tree.block.for_each(num_in_batch(tree, arrays.nodes_of), [&](uint32_t i) {
    areas[i] = 0;
    firsts[i] = UINT32_MAX;
  });
  for_each_arrival(
      tree,
      [&](uint32_t branch, int level) {
        if (ends[branch] != kNone) add(areas + node(branch, level), 1);
      },
      [&](uint32_t branch, int level, uint32_t pixel) {
        if (ends[branch] != kNone) lower(firsts + node(branch, level), pixel);
      });
  const uint32_t begin = tree.shared.begin, num = tree.shared.end - begin;
  const auto sum = [](uint32_t a, uint32_t b) { return a + b; };
  const auto least = [](uint32_t a, uint32_t b) { return a < b ? a : b; };
  if (is_all)
    tree.block.for_each_warp(num, [&](const Warp& warp, uint32_t i) {
      const uint32_t from = nodes_of(begin + i), to = nodes_of(begin + i + 1);
      PerLane<uint32_t> area, first;
      warp.each([&](uint32_t lane) {
        area[lane] = 0;
        first[lane] = UINT32_MAX;
        for (uint32_t at = from + lane; at < to; at += kLanes) {
          area[lane] += areas[at];
          first[lane] = least(first[lane], firsts[at]);
        }
      });
      const uint32_t all = warp.scan(area, sum), earliest = warp.scan(first, least);
      warp.once([&] {
        arrays.area[arrays.chosen[begin + i]] = all;
        arrays.first[arrays.chosen[begin + i]] = earliest;
      });
    });
  tree.block.for_each(tree.frame(), [&](uint32_t branch) {
    if (is_all && !arrays.mark[branch]) return;  // it has no levels
    const uint32_t first = arrays.first[branch], area = arrays.area[branch];
    if (first == UINT32_MAX && area == 0) return;
    for (uint32_t at = branch; arrays.join[at] != kNever;) {
      const int level = arrays.join[at];
      at = arrays.parent[at];
      if (!arrays.mark[at]) continue;
      if (area) add(areas + node(at, level), area);
      lower(firsts + node(at, level), first);
    }
  });
  // From the highest level down.
  tree.block.for_each_warp(2 * num, [&](const Warp& warp, uint32_t i) {
    const uint32_t from = nodes_of(begin + i / 2), n = nodes_of(begin + i / 2 + 1) - from;
    if (i % 2)
      scan(warp, areas + from, n, sum);
    else
      scan(warp, firsts + from, n, least);
  });
}

}  // namespace wsolkern
