// Basins to branches: which one each becomes part of, and at which level (steps 3, 4).
//
// In: basins and edges. Out: scratch.parent and scratch.join of each; links[pixel], the branch of the pixel at its
// level.
//
// merge() makes no cycles: `key` (level, then number of the edge) is different for every edge, and each component takes
// the edge with the largest key that leaves it. Suppose that each of a ring of components had the next one as its
// parent. The edge that one took also leaves the next, so that the next took one that is at least as large; once
// around, all keys are equal, so it is one edge, which has two ends: the ring is a pair. Of a pair that took the same
// edge goes_on(), a strict order, holds for one only, and that one takes no parent. (The frame never takes one.) Ties:
// of edges of one level the largest number counts, so that plateaus are merged along one tree of edges; of equal peaks
// the branch with the smaller number goes on. Either choice gives the same components: a component of level k is the
// one branch in it with join < k <= peak, because all others in it have joined at levels >= k.
#pragma once

#include "gpu/tree/basins.h"

namespace wsolkern {

template <class Link, bool kHoles>
WSOLKERN_DEVICE uint32_t leader_at(const Tree<Link, kHoles>& tree, uint32_t pixel) {
  return tree.scratch.leader[kHoles && pixel == tree.frame ? tree.frame : uint32_t(tree.links[pixel])];
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE void merge(const Tree<Link, kHoles>& tree) {
  if constexpr (kHoles) tree.block.once([&] { tree.scratch.roots[tree.shared.num_roots++] = tree.frame; });
  const uint32_t num_roots = tree.shared.num_roots, num_edges = tree.shared.num_edges;
  tree.block.for_each(num_roots, [&](uint32_t i) {
    const uint32_t basin = tree.scratch.roots[i];
    tree.scratch.best[basin] = 0;
    tree.scratch.leader[basin] = tree.scratch.parent[basin] = basin;
    tree.scratch.join[basin] = kNever;
    tree.scratch.mark[basin] = 0;
  });
  const auto goes_on = [&](uint32_t branch, uint32_t other) {
    const int mine = tree.peak(branch), theirs = tree.peak(other);
    return mine > theirs || (mine == theirs && branch < other);
  };
  for (;;) {
    tree.block.for_each(num_edges, [&](uint32_t i) {
      const uint32_t edge = tree.scratch.edges[i];
      if (edge == kNoEdge) return;
      const uint32_t pixel = edge / 4, end = far_end(tree, edge);
      const uint32_t a = leader_at(tree, pixel), b = leader_at(tree, end);
      if (a == b) {
        tree.scratch.edges[i] = kNoEdge;
        return;
      }
      const int here = tree.level(pixel), there = kHoles && end == tree.frame ? here : tree.level(end);
      const uint64_t key = uint64_t(here < there ? here : there) << 32 | edge;
      raise(tree.scratch.best + a, key);
      raise(tree.scratch.best + b, key);
    });
    tree.block.once([&] { tree.shared.changed = 0; });
    tree.block.for_each(num_roots, [&](uint32_t i) {
      const uint32_t branch = tree.scratch.roots[i];
      const uint64_t key = tree.scratch.best[branch];
      if (key == 0 || tree.scratch.leader[branch] != branch || branch == tree.frame)
        return;  // the frame is joined by others
      const uint32_t edge = uint32_t(key), a = leader_at(tree, edge / 4), b = leader_at(tree, far_end(tree, edge));
      const uint32_t other = a == branch ? b : a;
      store(&tree.shared.changed, 1u);
      if (tree.scratch.best[other] == key && goes_on(branch, other)) return;
      tree.scratch.join[branch] = int32_t(key >> 32);
      tree.scratch.parent[branch] = other;
    });
    if (!tree.settle()) return;
    tree.block.for_each(num_roots, [&](uint32_t i) {
      const uint32_t branch = tree.scratch.roots[i];
      tree.scratch.best[branch] = 0;
      if (tree.scratch.leader[branch] == branch) tree.scratch.leader[branch] = tree.scratch.parent[branch];
    });
    tree.until_unchanged([&] {
      tree.block.for_each(num_roots, [&](uint32_t i) {
        uint32_t* const leader = tree.scratch.leader + tree.scratch.roots[i];
        const uint32_t begin = load(leader);
        uint32_t to = begin;
        for (int hop = 0; hop < kHops; ++hop) {
          const uint32_t next = load(tree.scratch.leader + to);
          if (next == to) break;
          to = next;
        }
        if (to == begin) return;
        store(leader, to);
        store(&tree.shared.changed, 1u);
      });
    });
  }
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE void attach(const Tree<Link, kHoles>& tree) {
  tree.until_unchanged([&] {
    tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
      const uint32_t branch = tree.scratch.roots[i], begin = load(tree.scratch.parent + branch);
      const int32_t join = tree.scratch.join[branch];
      uint32_t to = begin;
      for (int hop = 0; join != kNever && hop < kHops && tree.scratch.join[to] >= join; ++hop)
        to = load(tree.scratch.parent + to);
      if (to == begin) return;
      store(tree.scratch.parent + branch, to);
      store(&tree.shared.changed, 1u);
    });
  });
  tree.block.for_each(tree.shape.num_pixels,
                      [&](uint32_t pixel) { tree.links[pixel] = tree.climb(tree.links[pixel], tree.level(pixel)); });
}

}  // namespace wsolkern
