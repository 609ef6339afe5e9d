// The branches that a question is about, as many at a time as there is memory for.
//
// In: branches with their extents, which of them are worth it. Out: scratch.chosen, with what each has of cells and
// levels; batches of them, marked while they are at work.
#pragma once

#include "gpu/tree/branches.h"

namespace wsolkern {

// The list of the branches that live at some level and are worth it, and how many cells and levels they have.
template <class Link, bool kHoles, class Worth>
WSOLKERN_DEVICE void choose(const Tree<Link, kHoles>& tree, Worth&& worth) {
  const auto num_levels = [&](uint32_t branch) {
    const int32_t join = tree.scratch.join[branch];
    return tree.peak(branch) - (join == kNever ? 0 : join);
  };
  tree.block.once([&] { tree.shared.num_chosen = 0; });
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    const uint32_t branch = tree.scratch.roots[i];
    if (branch != tree.frame && num_levels(branch) > 0 && worth(branch))
      tree.scratch.chosen[add(&tree.shared.num_chosen, 1)] = branch;
  });
  const uint32_t num_chosen = tree.shared.num_chosen;
  tree.block.once([&] { tree.scratch.cells_of[0] = tree.scratch.nodes_of[0] = 0; });
  tree.block.for_each(num_chosen, [&](uint32_t i) {
    const uint32_t branch = tree.scratch.chosen[i];
    const Extent& extent = tree.scratch.extent[branch];
    tree.scratch.cells_of[i + 1] = 2 * uint64_t(extent.x1 - extent.x0 + extent.y1 - extent.y0 + 2);
    tree.scratch.nodes_of[i + 1] = num_levels(branch);
  });
  const auto sum = [](uint64_t a, uint64_t b) { return a + b; };
  scan(tree.block, tree.shared, tree.scratch.cells_of, num_chosen + 1, sum);
  scan(tree.block, tree.shared, tree.scratch.nodes_of, num_chosen + 1, sum);
}

// Which of the branches at work has item number `at`, of the items that `begins` counts.
template <class Link, bool kHoles>
WSOLKERN_DEVICE uint32_t owner(const Tree<Link, kHoles>& tree, const uint64_t* begins, uint64_t at) {
  const uint32_t begin = tree.shared.begin;
  return begin + first_that(tree.shared.end - begin, [&](uint32_t i) { return begins[begin + i + 1] > at; });
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE uint32_t num_in_batch(const Tree<Link, kHoles>& tree, const uint64_t* begins) {
  return uint32_t(begins[tree.shared.end] - begins[tree.shared.begin]);
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE void mark(const Tree<Link, kHoles>& tree, bool is_marked) {
  tree.block.for_each(tree.shared.end - tree.shared.begin, [&](uint32_t i) {
    const uint32_t place = tree.shared.begin + i;
    tree.scratch.mark[tree.scratch.chosen[place]] = is_marked ? place + 1 : 0;
  });
}

// Marks the chosen branches and calls work(), for as many at a time as have no more than `most` items.
template <class Link, bool kHoles, class F>
WSOLKERN_DEVICE void for_each_batch(const Tree<Link, kHoles>& tree, const uint64_t* begins, uint32_t most, F&& work) {
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
