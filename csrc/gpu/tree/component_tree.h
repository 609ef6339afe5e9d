// The component tree of one map, built and read by a block of threads.
//
// The branches are those of csrc/cpu/tree/branches.h (a basin starts a branch, which lives over the levels (join, peak]
// and at level `join` becomes part of its parent), found without an order of levels:
//
//  1. Every pixel points to a neighbour that is at least as high, the highest; where only equals are left, to the first
//     of a fixed order. Of two that point at each other one stays. Followed to the end, the pointers lead to the
//     basins.
//  2. Where pixels of different basins touch is an edge, at the lower of both levels.
//  3. Boruvka: every component takes its highest edge (of equals the one with the largest number). That is where it
//     stops being a component of its own: its branch ends there, and its parent is the component on the other side. Of
//     two that take the same edge the higher one goes on. Repeated with what they have become, until no edge is left.
//  4. Each branch is made to point at the branch that it is part of just below its end, and each pixel at the branch
//     that it is part of at its own level. A component at level k is then a branch with join < k <= peak, and its
//     pixels are those that reach it by steps to parents over joins >= k.
//
//
// A step a file: basins.h, branches.h, boxes.h, areas.h, largest.h.
#pragma once

#include "gpu/tree/boxes.h"
#include "gpu/tree/largest.h"

namespace wsolkern {

// Steps 1 to 4, and the extents of all branches.
template <class Link, bool kHoles>
WSOLKERN_DEVICE void build(const Tree<Link, kHoles>& tree) {
  find_basins(tree);
  find_edges(tree);
  merge(tree);
  attach(tree);
  measure(tree);
}

}  // namespace wsolkern
