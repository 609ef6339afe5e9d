// Branches to boxes: extents, and silhouettes, off which the box of a branch at any of its levels is read.
//
// In: branches. Out: scratch.extent of each at its lowest level; boxes of those that are worth it, at all their levels.
//
// A branch whose extent has W columns and H rows owns 2 (W + H) cells, two halves of W and then H. Up to the last two
// phases of draw() the first half holds the silhouettes: for each column, and each row, the highest level that the
// branch has there. Then the first half holds the maxima of these from the near end (left, top) up to each place, and
// the second half those from the far end. A level's box begins where the one reaches the level and ends where the other
// last does: both are sorted, so that extent_at() finds them by bisection.
#pragma once

#include "gpu/tree/chosen.h"

namespace wsolkern {

template <class Link, bool kHoles>
WSOLKERN_DEVICE void measure(const Tree<Link, kHoles>& tree) {
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    tree.scratch.extent[tree.scratch.roots[i]] = {tree.shape.width, tree.shape.height, -1, -1};
  });
  const auto include = [&](uint32_t branch, const Extent& part) {
    Extent& whole = tree.scratch.extent[branch];
    lower(&whole.x0, part.x0);
    lower(&whole.y0, part.y0);
    raise(&whole.x1, part.x1);
    raise(&whole.y1, part.y1);
  };
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    if (tree.level(pixel) == 0 || tree.links[pixel] == tree.frame) return;
    const int x = tree.shape.column(pixel), y = tree.shape.row(pixel);
    include(tree.links[pixel], {x, y, x, y});
  });
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    uint32_t at = tree.scratch.roots[i];
    Extent& mine = tree.scratch.extent[at];
    const Extent part{load(&mine.x0), load(&mine.y0), load(&mine.x1), load(&mine.y1)};
    if (part.x1 < part.x0) return;
    while (tree.scratch.join[at] != kNever) {
      at = tree.scratch.parent[at];
      if (at != tree.frame) include(at, part);
    }
  });
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE int32_t width_of(const Tree<Link, kHoles>& tree, uint32_t branch) {
  return tree.scratch.extent[branch].x1 - tree.scratch.extent[branch].x0 + 1;
}

struct Line {
  int32_t* from;  // the cells of the columns or of the rows
  int32_t n;      // of them
  int32_t half;   // how much further the same cells of the other half are
};

template <class Link, bool kHoles>
WSOLKERN_DEVICE Line line(const Tree<Link, kHoles>& tree, uint32_t place, bool is_rows) {
  int32_t* const cells = tree.scratch.cells + (tree.scratch.cells_of[place] - tree.scratch.cells_of[tree.shared.begin]);
  const int32_t width = width_of(tree, tree.scratch.chosen[place]);
  const int32_t half = int32_t(tree.scratch.cells_of[place + 1] - tree.scratch.cells_of[place]) / 2;
  return is_rows ? Line{cells + width, half - width, half} : Line{cells, width, half};
}

// The silhouettes of marked branches: per branch, the highest level in each column and each row of its extent, what
// joined it counting no higher than where it joined. Then the maxima of these from either end.
template <class Link, bool kHoles>
WSOLKERN_DEVICE void draw(const Tree<Link, kHoles>& tree) {
  int32_t* const cells = tree.scratch.cells;
  const uint64_t offset = tree.scratch.cells_of[tree.shared.begin];
  const uint32_t num_cells = num_in_batch(tree, tree.scratch.cells_of);
  const auto columns_of = [&](uint32_t place) { return cells + (tree.scratch.cells_of[place] - offset); };
  const auto rows_of = [&](uint32_t place) { return columns_of(place) + width_of(tree, tree.scratch.chosen[place]); };
  tree.block.for_each(num_cells, [&](uint32_t i) { cells[i] = 0; });
  tree.block.for_each(tree.shared.num_roots, [&](uint32_t i) {
    const uint32_t branch = tree.scratch.roots[i];
    uint32_t at = branch;
    int32_t cap = INT16_MAX;
    while (!tree.scratch.mark[at] && tree.scratch.join[at] != kNever) {
      cap = tree.scratch.join[at];
      at = tree.scratch.parent[at];
    }
    tree.scratch.target[branch] = tree.scratch.mark[at];
    tree.scratch.cap[branch] = cap;
  });
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    const uint32_t branch = tree.links[pixel], target = tree.scratch.target[branch];
    const int own = tree.level(pixel), reached = own < tree.scratch.cap[branch] ? own : tree.scratch.cap[branch];
    if (!target || reached == 0) return;
    const uint32_t place = target - 1;
    const Extent& extent = tree.scratch.extent[tree.scratch.chosen[place]];
    raise(columns_of(place) + (tree.shape.column(pixel) - extent.x0), reached);
    raise(rows_of(place) + (tree.shape.row(pixel) - extent.y0), reached);
  });
  tree.block.for_each(num_cells / 2, [&](uint32_t i) {  // half of a branch's cells hold its silhouettes by now
    const uint32_t place = owner(tree, tree.scratch.cells_of, offset + 2 * uint64_t(i));
    const int32_t at = int32_t(i - uint32_t(tree.scratch.cells_of[place] - offset) / 2);
    uint32_t branch = tree.scratch.chosen[place];
    const bool is_row = at >= width_of(tree, branch);
    const int32_t line =
        is_row ? tree.scratch.extent[branch].y0 + at - width_of(tree, branch) : tree.scratch.extent[branch].x0 + at;
    const int32_t reached = load(columns_of(place) + at);
    if (reached == 0) return;
    while (tree.scratch.join[branch] != kNever) {
      const int32_t cap = tree.scratch.join[branch];
      branch = tree.scratch.parent[branch];
      if (!tree.scratch.mark[branch]) continue;
      const uint32_t above = tree.scratch.mark[branch] - 1;
      raise(is_row ? rows_of(above) + (line - tree.scratch.extent[branch].y0)
                   : columns_of(above) + (line - tree.scratch.extent[branch].x0),
            reached < cap ? reached : cap);
    }
  });
  // Maxima from the far ends, in the other half; then from the near ends, in place.
  tree.block.for_each(2 * (tree.shared.end - tree.shared.begin), [&](uint32_t i) {
    const auto [from, n, half] = line(tree, tree.shared.begin + i / 2, i % 2);
    int32_t most = 0;
    for (int32_t at = n; at-- > 0;) {
      most = from[at] > most ? from[at] : most;
      from[half + at] = most;
    }
  });
  tree.block.for_each(2 * (tree.shared.end - tree.shared.begin), [&](uint32_t i) {
    const auto [from, n, half] = line(tree, tree.shared.begin + i / 2, i % 2);
    for (int32_t at = 1; at < n; ++at) from[at] = from[at] > from[at - 1] ? from[at] : from[at - 1];
  });
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE Extent extent_at(const Tree<Link, kHoles>& tree, uint32_t place, int level) {
  const Extent& most = tree.scratch.extent[tree.scratch.chosen[place]];
  const auto ends = [&](const Line& cells, int first, int& low, int& high) {
    low = first + int(first_that(cells.n, [&](uint32_t i) { return cells.from[i] >= level; }));
    high = first - 1 + int(first_that(cells.n, [&](uint32_t i) { return cells.from[cells.half + i] < level; }));
  };
  Extent extent;
  ends(line(tree, place, false), most.x0, extent.x0, extent.x1);
  ends(line(tree, place, true), most.y0, extent.y0, extent.y1);
  return extent;
}

// Calls visit(branch, level, extent) for the component of every branch that is worth it, at all its levels.
template <class Link, bool kHoles, class Worth, class Visit>
WSOLKERN_DEVICE void boxes(const Tree<Link, kHoles>& tree, Worth&& worth, Visit&& visit) {
  choose(tree, worth);
  for_each_batch(tree, tree.scratch.cells_of, tree.shape.num_cells(), [&] {
    draw(tree);
    tree.block.for_each(num_in_batch(tree, tree.scratch.nodes_of), [&](uint32_t i) {
      const uint64_t node = tree.scratch.nodes_of[tree.shared.begin] + i;
      const uint32_t place = owner(tree, tree.scratch.nodes_of, node), branch = tree.scratch.chosen[place];
      const int level = tree.peak(branch) - int(node - tree.scratch.nodes_of[place]);
      visit(branch, level, extent_at(tree, place, level));
    });
  });
}

}  // namespace wsolkern
