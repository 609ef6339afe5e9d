// The contour that is largest at each level (MaxBoxAcc), and the holes that its area includes.
//
// In: the tree of the complement, to fill holes with; then that of what is filled. Out: levels without holes; the
// branch of the largest component of each level.
#pragma once

#include "gpu/tree/areas.h"

namespace wsolkern {

// Raises the levels of pixels in holes so that no component of any level has a hole: a pixel is inside as long as its
// background does not reach the frame. The tree is of no use afterwards.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void fill_holes(const Tree<Kind, kHoles>& tree) {
  const Arrays<Kind>& arrays = tree.arrays;
  tree.block.for_each(tree.frame(), [&](uint32_t branch) {
    uint32_t at = branch;
    int16_t reached = 0;  // the level, of the complement, at which the branch is one with the frame
    while (arrays.join[at] != kNever) {
      reached = arrays.join[at];
      at = arrays.parent[at];
    }
    arrays.reached[branch] = at == tree.frame() ? reached : int16_t(0);
  });
  // Pixels above that level are not yet one with the frame, and all that is in between has the same level. Two rows of
  // three of a CAM have none.
  const uint32_t width = uint32_t(tree.shape.width), height = uint32_t(tree.shape.height);
  tree.block.for_each(height, [&](uint32_t y) { arrays.has_holes[y] = 0; });
  tree.block.for_each(tree.shared.num_runs, [&](uint32_t run) {
    if (tree.peak_of(run) > arrays.reached[tree.basin_of(run)]) store(arrays.has_holes + arrays.row[run], 1u);
  });
  tree.block.for_each_warp(height, [&](const Warp& warp, uint32_t y) {
    if (!arrays.has_holes[y]) return;
    warp.each([&](uint32_t lane) {
      for (uint32_t x = lane; x < width; x += kLanes) {
        const uint32_t pixel = tree.pixel(y, x);
        const int reached = arrays.reached[tree.basin_of(tree.run_of(y, x))];
        if (tree.level(pixel) > reached) arrays.levels[pixel] = typename Kind::Level(tree.top - reached);
      }
    });
  });
}

// winner_branch[k]: the branch of the component that is largest at level k = 1 ... top, ties going to the one whose
// first pixel comes last. Components must have no holes.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void find_largest(const Tree<Kind, kHoles>& tree) {
  const Arrays<Kind>& arrays = tree.arrays;
  choose(tree, [](uint32_t) { return true; });
  const bool at_once = arrays.nodes_of[tree.shared.num_chosen] <= kNodes;
  if (!at_once) add_up_branches(tree);
  tree.block.for_each(uint32_t(tree.top) + 1, [&](uint32_t k) { arrays.winner[k] = 0; });
  for_each_batch(tree, arrays.nodes_of, kNodes, [&] {
    add_up_levels(tree, at_once);
    tree.block.for_each(num_in_batch(tree, arrays.nodes_of), [&](uint32_t i) {
      const uint64_t node = arrays.nodes_of[tree.shared.begin] + i;
      const uint32_t place = owner(tree, arrays.nodes_of, node);
      const int level = arrays.peak[arrays.chosen[place]] - int(node - arrays.nodes_of[place]);
      // One more, so that 0 is less than the least.
      raise(arrays.winner + level, (uint64_t(arrays.node_area[i]) << 32 | arrays.node_first[i]) + 1);
    });
  });
  tree.block.for_each(uint32_t(tree.top), [&](uint32_t i) {
    const int level = int(i) + 1;
    const uint32_t pixel = uint32_t(arrays.winner[level] - 1), width = uint32_t(tree.shape.width);
    const uint32_t run = tree.run_of(pixel / width, pixel % width);
    arrays.winner_branch[level] = tree.climb(tree.basin_of(run), level);
  });
}

}  // namespace wsolkern
