// The component tree of one map, built and read by a block of threads.
//
// The branches are those of csrc/cpu/tree/branches.h (a basin starts a branch, which lives over the levels (join, peak]
// and at level `join` becomes part of its parent), found without an order of levels:
//
//  1. Every row is cut into unimodal runs.
//  2. A run that reaches its peak together with a run of the next row belongs to that; followed to the end, such links
//     lead to the basins.
//  3. Where runs of different basins touch is an edge, at the highest level that connects them there.
//  4. Boruvka: every component takes its highest edge (of equals the one with the largest number). That is where it
//     stops being a component of its own: its branch ends there, and its parent is the component on the other side. Of
//     two that take the same edge the higher one goes on. Repeated with what they have become, until no edge is left.
//  5. Each branch is made to point at the branch that it is part of just below its end. A component at level k is then
//     a branch with join < k <= peak, and its pixels are those of the basins that reach it by steps to parents over
//     joins >= k.
//
// A step a file: runs.h, basins.h, branches.h, boxes.h, areas.h, largest.h.
#pragma once

#include "gpu/tree/boxes.h"
#include "gpu/tree/largest.h"

namespace wsolkern {

// Steps 1 to 5, and the extents of all branches. False if there is no room for them. `is_shared`: of find_runs().
template <class Kind, bool kHoles>
WSOLKERN_DEVICE bool build(const Tree<Kind, kHoles>& tree, bool is_shared) {
  if (!find_runs(tree, is_shared) || !find_basins(tree)) return false;
  find_edges(tree);
  merge(tree);
  attach(tree);
  measure(tree);
  return true;
}

}  // namespace wsolkern
