// The contour that is largest at each level (MaxBoxAcc), and the holes that its area includes.
//
// In: the tree of the complement, to fill holes with; then that of what is filled. Out: levels without holes; the
// branch of the largest component of each level.
#pragma once

#include "gpu/tree/areas.h"

namespace wsolkern {

// Raises the levels of pixels in holes so that no component of any level has a hole: a pixel is inside as long as its
// background does not reach the frame. The tree is of no use afterwards.
template <class Link, bool kHoles>
WSOLKERN_DEVICE void fill_holes(const Tree<Link, kHoles>& tree) {
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    uint32_t at = tree.scratch.roots[i];
    int32_t reaches = 0;  // the level, of the complement, at which the branch is one with the frame
    while (tree.scratch.join[at] != kNever) {
      reaches = tree.scratch.join[at];
      at = tree.scratch.parent[at];
    }
    tree.scratch.cap[tree.scratch.roots[i]] = at == tree.frame ? reaches : 0;
  });
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    const uint32_t branch = tree.links[pixel];
    if (branch != tree.frame) tree.levels[pixel] = int16_t(tree.top - tree.scratch.cap[branch]);
  });
}

// scratch.winner_branch[k]: the branch of the component that is largest at level k = 1 ... top, ties going to the one
// whose first pixel comes last. Components must have no holes.
template <class Link, bool kHoles>
WSOLKERN_DEVICE void find_largest(const Tree<Link, kHoles>& tree) {
  choose(tree, [](uint32_t) { return true; });
  add_up_branches(tree);
  tree.block.for_each(tree.top + 1, [&](uint32_t k) { tree.scratch.winner[k] = 0; });
  for_each_batch(tree, tree.scratch.nodes_of, kNodes, [&] {
    add_up_levels(tree);
    tree.block.for_each(num_in_batch(tree, tree.scratch.nodes_of), [&](uint32_t i) {
      const uint64_t node = tree.scratch.nodes_of[tree.shared.begin] + i;
      const uint32_t place = owner(tree, tree.scratch.nodes_of, node);
      const int level = tree.peak(tree.scratch.chosen[place]) - int(node - tree.scratch.nodes_of[place]);
      // One more, so that 0 is less than the least.
      raise(tree.scratch.winner + level, (uint64_t(tree.scratch.node_area[i]) << 32 | tree.scratch.node_first[i]) + 1);
    });
  });
  tree.block.for_each(tree.top, [&](uint32_t i) {
    const int level = int(i) + 1;
    tree.scratch.winner_branch[level] = tree.climb(tree.links[uint32_t(tree.scratch.winner[level] - 1)], level);
  });
}

}  // namespace wsolkern
