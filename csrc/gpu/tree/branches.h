// Basins to branches: which one each becomes part of, and at which level (steps 4, 5).
//
// In: basins and edges. Out: parent and join of each.
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

template <class Kind, bool kHoles>
WSOLKERN_DEVICE void merge(const Tree<Kind, kHoles>& tree) {
  using Id = typename Kind::Id;
  using Key = typename Kind::Key;
  const Arrays<Kind>& arrays = tree.arrays;
  constexpr int kBits = Arrays<Kind>::kKeyBits;
  const uint32_t frame = tree.frame(), num_basins = frame + kHoles, num_edges = tree.shared.num_edges;
  if constexpr (kHoles) tree.block.once([&] { arrays.peak[frame] = INT16_MAX; });
  tree.block.for_each(num_basins, [&](uint32_t basin) {
    arrays.best[basin] = 0;
    arrays.leader[basin] = arrays.parent[basin] = Id(basin);
    arrays.join[basin] = kNever;
    arrays.mark[basin] = 0;
  });
  const auto goes_on = [&](uint32_t branch, uint32_t other) {
    const int mine = arrays.peak[branch], theirs = arrays.peak[other];
    return mine > theirs || (mine == theirs && branch < other);
  };
  const auto end = [&](uint64_t edge, int which) { return uint32_t(edge >> (which ? 0 : 24)) & 0xffffff; };
  for (;;) {
    tree.block.for_each(num_edges, [&](uint32_t i) {
      const uint64_t edge = arrays.edges[i];
      if (edge == kNoEdge) return;
      const uint32_t a = arrays.leader[end(edge, 0)], b = arrays.leader[end(edge, 1)];
      if (a == b) {
        arrays.edges[i] = kNoEdge;
        return;
      }
      const Key key = Key(edge >> 48) << kBits | i;
      raise(arrays.best + a, key);
      raise(arrays.best + b, key);
    });
    tree.block.once([&] { tree.shared.changed = 0; });
    tree.block.for_each(num_basins, [&](uint32_t branch) {
      const Key key = arrays.best[branch];
      if (key == 0 || branch == frame) return;  // the frame is joined by others
      const uint64_t edge = arrays.edges[uint32_t(key & ((Key(1) << kBits) - 1))];
      const uint32_t a = arrays.leader[end(edge, 0)], b = arrays.leader[end(edge, 1)];
      const uint32_t other = a == branch ? b : a;
      store(&tree.shared.changed, 1u);
      if (arrays.best[other] == key && goes_on(branch, other)) return;
      arrays.join[branch] = int16_t(key >> kBits);
      arrays.parent[branch] = Id(other);
    });
    if (!tree.settle()) return;
    tree.block.for_each(num_basins, [&](uint32_t branch) {
      arrays.best[branch] = 0;
      if (arrays.leader[branch] == branch) arrays.leader[branch] = arrays.parent[branch];
    });
    tree.until_unchanged([&] {
      tree.block.for_each(num_basins, [&](uint32_t branch) {
        const uint32_t begin = load(arrays.leader + branch), to = tree.hop(arrays.leader, begin);
        if (to == begin) return;
        store(arrays.leader + branch, Id(to));
        store(&tree.shared.changed, 1u);
      });
    });
  }
}

// Makes each branch point at the branch that it is part of just below its end.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void attach(const Tree<Kind, kHoles>& tree) {
  using Id = typename Kind::Id;
  const Arrays<Kind>& arrays = tree.arrays;
  tree.until_unchanged([&] {
    tree.block.for_each(tree.frame(), [&](uint32_t branch) {
      const uint32_t begin = load(arrays.parent + branch);
      const int join = arrays.join[branch];
      uint32_t to = begin;
      for (int hop = 0; join != kNever && hop < kHops && arrays.join[to] >= join; ++hop) to = load(arrays.parent + to);
      if (to == begin) return;
      store(arrays.parent + branch, Id(to));
      store(&tree.shared.changed, 1u);
    });
  });
}

}  // namespace wsolkern
