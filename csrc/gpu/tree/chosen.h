// The branches that a question is about, as many at a time as there is memory for.
//
// In: branches with their extents, which of them are worth it. Out: `chosen`, with what each has of cells and levels;
// batches of them, marked while they are at work.
#pragma once

#include "gpu/tree/branches.h"

namespace wsolkern {

// The list of the branches that live at some level and are worth it, and how many cells and levels they have.
template <class Kind, bool kHoles, class Worth>
WSOLKERN_DEVICE void choose(const Tree<Kind, kHoles>& tree, Worth&& worth) {
  using Id = typename Kind::Id;
  using Count = typename Kind::Count;
  const Arrays<Kind>& arrays = tree.arrays;
  const auto num_levels = [&](uint32_t branch) {
    const int join = arrays.join[branch];
    return arrays.peak[branch] - (join == kNever ? 0 : join);
  };
  tree.block.once([&] { tree.shared.num_chosen = 0; });
  tree.block.for_each(tree.frame(), [&](uint32_t branch) {
    if (num_levels(branch) > 0 && worth(branch)) arrays.chosen[add(&tree.shared.num_chosen, 1)] = Id(branch);
  });
  const uint32_t num_chosen = tree.shared.num_chosen;
  tree.block.for_each(num_chosen + 1, [&](uint32_t i) {
    if (i == 0) {
      arrays.cells_of[0] = arrays.nodes_of[0] = 0;
      return;
    }
    const uint32_t branch = arrays.chosen[i - 1];
    const Extent& extent = arrays.extent[branch];
    arrays.cells_of[i] = 2 * Count(extent.x1 - extent.x0 + extent.y1 - extent.y0 + 2);
    arrays.nodes_of[i] = Count(num_levels(branch));
  });
  tree.block.for_each_warp(2, [&](const Warp& warp, uint32_t which) {
    scan(warp, which ? arrays.cells_of : arrays.nodes_of, num_chosen + 1, [](Count a, Count b) { return a + b; });
  });
}

// Which of the branches at work has item number `at`, of the items that `begins` counts.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE uint32_t owner(const Tree<Kind, kHoles>& tree, const typename Kind::Count* begins, uint64_t at) {
  const uint32_t begin = tree.shared.begin;
  return begin + first_that(tree.shared.end - begin, [&](uint32_t i) { return begins[begin + i + 1] > at; });
}

template <class Kind, bool kHoles>
WSOLKERN_DEVICE uint32_t num_in_batch(const Tree<Kind, kHoles>& tree, const typename Kind::Count* begins) {
  return uint32_t(begins[tree.shared.end] - begins[tree.shared.begin]);
}

template <class Kind, bool kHoles>
WSOLKERN_DEVICE void mark(const Tree<Kind, kHoles>& tree, bool is_marked) {
  tree.block.for_each(tree.shared.end - tree.shared.begin, [&](uint32_t i) {
    const uint32_t place = tree.shared.begin + i;
    tree.arrays.mark[tree.arrays.chosen[place]] = typename Kind::Id(is_marked ? place + 1 : 0);
  });
}

// Marks the chosen branches and calls work(), for as many at a time as have no more than `most` items.
template <class Kind, bool kHoles, class F>
WSOLKERN_DEVICE void for_each_batch(const Tree<Kind, kHoles>& tree, const typename Kind::Count* begins, uint32_t most,
                                    F&& work) {
  tree.block.once([&] { tree.shared.begin = 0; });
  while (tree.shared.begin < tree.shared.num_chosen) {
    tree.block.once([&] {
      const uint32_t begin = tree.shared.begin;
      tree.shared.end = begin + first_that(tree.shared.num_chosen - begin,
                                           [&](uint32_t i) { return begins[begin + i + 1] - begins[begin] > most; });
    });
    mark(tree, true);
    work();
    mark(tree, false);
    tree.block.once([&] { tree.shared.begin = tree.shared.end; });
  }
}

}  // namespace wsolkern
