// Twice the area of each component, and its first pixel.
//
// In: branches without holes. Out: what each branch brings along where it joins, and what each level of it has.
// Twice the area grows by one for each 2 x 2 square in which a pixel is the third or the fourth to arrive as the level
// falls (protocol of Choe et al., arXiv 2007.04178, by way of cv2.contourArea).
#pragma once

#include "gpu/tree/chosen.h"

namespace wsolkern {

// Twice the area that a pixel adds to its component.
template <class Link, bool kHoles>
WSOLKERN_DEVICE uint32_t area_added(const Tree<Link, kHoles>& tree, uint32_t pixel) {
  const int x = tree.shape.column(pixel), y = tree.shape.row(pixel), mine = tree.level(pixel);
  const auto is_there = [&](int dx, int dy) {  // whether the neighbour has arrived before
    const uint32_t neighbour = pixel + dy * tree.shape.width + dx;
    const int theirs = tree.level(neighbour);
    return theirs > mine || (theirs == mine && neighbour < pixel);
  };
  uint32_t added = 0;
  for (int dy = -1; dy <= 1; dy += 2)
    for (int dx = -1; dx <= 1; dx += 2) {
      if (x + dx < 0 || x + dx >= tree.shape.width || y + dy < 0 || y + dy >= tree.shape.height) continue;
      added += is_there(dx, 0) + is_there(0, dy) + is_there(dx, dy) >= 2;
    }
  return added;
}

// What each branch brings along where it joins: area and first pixel, without what joined it.
template <class Link, bool kHoles>
WSOLKERN_DEVICE void add_up_branches(const Tree<Link, kHoles>& tree) {
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    tree.scratch.area[tree.scratch.roots[i]] = 0;
    tree.scratch.first[tree.scratch.roots[i]] = UINT32_MAX;
  });
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    if (tree.level(pixel) == 0) return;
    const uint32_t branch = tree.links[pixel], added = area_added(tree, pixel);
    if (added) add(tree.scratch.area + branch, added);
    lower(tree.scratch.first + branch, pixel);
  });
}

// The same per level of the marked branches, with all that is part of them by then.
template <class Link, bool kHoles>
WSOLKERN_DEVICE void add_up_levels(const Tree<Link, kHoles>& tree) {
  uint32_t *const areas = tree.scratch.node_area, *const firsts = tree.scratch.node_first;
  const uint64_t offset = tree.scratch.nodes_of[tree.shared.begin];
  const auto nodes_of = [&](uint32_t place) { return uint32_t(tree.scratch.nodes_of[place] - offset); };
  const auto contribute = [&](uint32_t branch, int level, uint32_t area, uint32_t first) {
    const uint32_t node = nodes_of(tree.scratch.mark[branch] - 1) + uint32_t(tree.peak(branch) - level);
    if (area) add(areas + node, area);
    lower(firsts + node, first);
  };
  tree.block.for_each(num_in_batch(tree, tree.scratch.nodes_of), [&](uint32_t i) {
    areas[i] = 0;
    firsts[i] = UINT32_MAX;
  });
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    const uint32_t branch = tree.links[pixel];
    if (tree.level(pixel) && tree.scratch.mark[branch])
      contribute(branch, tree.level(pixel), area_added(tree, pixel), pixel);
  });
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    const uint32_t branch = tree.scratch.roots[i], first = tree.scratch.first[branch];
    uint32_t at = branch;
    while (first != UINT32_MAX && tree.scratch.join[at] != kNever) {
      const int level = tree.scratch.join[at];
      at = tree.scratch.parent[at];
      if (tree.scratch.mark[at]) contribute(at, level, tree.scratch.area[branch], first);
    }
  });
  // From the highest level down; branches with many levels by all threads together.
  constexpr uint32_t kMany = 512;
  const auto sum = [](uint32_t a, uint32_t b) { return a + b; };
  const auto least = [](uint32_t a, uint32_t b) { return a < b ? a : b; };
  tree.block.once([&] { tree.shared.num_longest = 0; });
  tree.block.for_each(tree.shared.end - tree.shared.begin, [&](uint32_t i) {
    const uint32_t place = tree.shared.begin + i, from = nodes_of(place), to = nodes_of(place + 1);
    if (to - from > kMany) {
      tree.scratch.longest[add(&tree.shared.num_longest, 1)] = place;
      return;
    }
    for (uint32_t node = from + 1; node < to; ++node) {
      areas[node] = sum(areas[node - 1], areas[node]);
      firsts[node] = least(firsts[node - 1], firsts[node]);
    }
  });
  for (uint32_t i = 0; i < tree.shared.num_longest; ++i) {
    const uint32_t place = tree.scratch.longest[i], from = nodes_of(place), n = nodes_of(place + 1) - from;
    scan(tree.block, tree.shared, areas + from, n, sum);
    scan(tree.block, tree.shared, firsts + from, n, least);
  }
}

}  // namespace wsolkern
