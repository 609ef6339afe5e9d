// Branches to boxes: extents, and silhouettes, off which the box of a branch at any of its levels is read.
//
// In: branches. Out: extent of each at its lowest level; boxes of those that are worth it, at all their levels.
//
// A branch whose extent has W columns and H rows owns 2 (W + H) cells, two halves of W and then H. Up to the last phase
// of draw() the first half holds the silhouettes: for each column, and each row, the highest level that the branch has
// there. Then the first half holds the maxima of these from the near end (left, top) up to each place, and the second
// half those from the far end. A level's box begins where the one reaches the level and ends where the other last does:
// both are sorted, so that extent_at() finds them by bisection.
#pragma once

#include "gpu/tree/chosen.h"

namespace wsolkern {

constexpr uint32_t kRowsAtOnce = 28;  // that a thread goes down a column

template <class Kind, bool kHoles>
WSOLKERN_DEVICE void measure(const Tree<Kind, kHoles>& tree) {
  const Arrays<Kind>& arrays = tree.arrays;
  tree.block.for_each(tree.frame(),
                      [&](uint32_t branch) { arrays.extent[branch] = {tree.shape.width, tree.shape.height, -1, -1}; });
  const auto include = [&](uint32_t branch, const Extent& part) {
    Extent& whole = arrays.extent[branch];
    lower(&whole.x0, part.x0);
    lower(&whole.y0, part.y0);
    raise(&whole.x1, part.x1);
    raise(&whole.y1, part.y1);
  };
  // Each run, to the branches that it is part of, up to the first that has all of it.
  tree.block.for_each(tree.shared.num_runs, [&](uint32_t run) {
    const uint32_t y = arrays.row[run], crest = arrays.crest[run], begin = arrays.start[run], end = tree.end_of(run);
    const int peak = tree.level(tree.pixel(y, crest));
    for (uint32_t at = tree.basin_of(run); at != tree.frame(); at = arrays.parent[at]) {
      const int join = arrays.join[at], lowest = (join > 0 ? join : 0) + 1;
      if (peak >= lowest) {
        const uint32_t from = tree.pixel(y, begin), behind = tree.pixel(y, crest) + 1;
        const uint32_t x0 =
            begin + first_that(crest - begin, [&](uint32_t i) { return tree.level(from + i) >= lowest; });
        const uint32_t x1 =
            crest + first_that(end - 1 - crest, [&](uint32_t i) { return tree.level(behind + i) < lowest; });
        include(at, {int(x0), int(y), int(x1), int(y)});
        if (x0 == begin && x1 + 1 == end) break;
      }
      if (join == kNever) break;
    }
  });
  tree.block.for_each(tree.frame(), [&](uint32_t branch) {
    Extent& mine = arrays.extent[branch];
    const Extent part{load(&mine.x0), load(&mine.y0), load(&mine.x1), load(&mine.y1)};
    if (part.x1 < part.x0) return;
    for (uint32_t at = branch; arrays.join[at] != kNever;) {
      at = arrays.parent[at];
      if (at != tree.frame()) include(at, part);
    }
  });
}

struct Line {
  int32_t* from;  // the cells of the columns or of the rows
  int32_t n;      // of them
  int32_t half;   // how much further the same cells of the other half are
};

template <class Kind, bool kHoles>
WSOLKERN_DEVICE Line line(const Tree<Kind, kHoles>& tree, uint32_t place, bool is_rows) {
  const Arrays<Kind>& arrays = tree.arrays;
  int32_t* const cells = arrays.cells + uint32_t(arrays.cells_of[place] - arrays.cells_of[tree.shared.begin]);
  const Extent& extent = arrays.extent[arrays.chosen[place]];
  const int32_t width = extent.x1 - extent.x0 + 1, half = width + extent.y1 - extent.y0 + 1;
  return is_rows ? Line{cells + width, half - width, half} : Line{cells, width, half};
}

// The cell of a column or a row of the map.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE int32_t* cell(const Tree<Kind, kHoles>& tree, uint32_t place, bool is_row, uint32_t at) {
  const Extent& extent = tree.arrays.extent[tree.arrays.chosen[place]];
  return line(tree, place, is_row).from + (int32_t(at) - (is_row ? extent.y0 : extent.x0));
}

// Where pixels of a basin and of a level above 0 are drawn to.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE Home home_of(const Tree<Kind, kHoles>& tree, uint32_t basin, int level) {
  const Arrays<Kind>& arrays = tree.arrays;
  Home home = arrays.home[basin];
  while (home.mark && level <= home.lowest) home = arrays.home[arrays.parent[arrays.chosen[home.mark - 1]]];
  return home;
}

// The silhouettes of marked branches: per branch, the highest level in each column and each row of its extent, what
// joined it counting no higher than where it joined. Then the maxima of these from either end.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void draw(const Tree<Kind, kHoles>& tree) {
  const Arrays<Kind>& arrays = tree.arrays;
  const uint32_t width = uint32_t(tree.shape.width), height = uint32_t(tree.shape.height);
  const uint32_t num_words = tree.shape.num_words, begin = tree.shared.begin, num = tree.shared.end - begin;
  tree.block.for_each(num_in_batch(tree, arrays.cells_of), [&](uint32_t i) { arrays.cells[i] = 0; });
  tree.block.for_each(tree.frame() + kHoles, [&](uint32_t branch) {
    uint32_t at = branch;
    int16_t cap = INT16_MAX;
    while (!arrays.mark[at] && arrays.join[at] != kNever) {
      cap = arrays.join[at];
      at = arrays.parent[at];
    }
    arrays.home[branch] = {arrays.mark[at], cap, int16_t(arrays.join[at] > 0 ? arrays.join[at] : 0)};
  });
  tree.block.for_each(width * ((height + kRowsAtOnce - 1) / kRowsAtOnce), [&](uint32_t i) {
    const uint32_t x = i % width, first = i / width * kRowsAtOnce;
    const uint32_t last = first + kRowsAtOnce < height ? first + kRowsAtOnce : height;
    const uint32_t up_to_here = (2u << x % kLanes) - 1;
    uint32_t mark = 0;
    int32_t most = 0;
    const auto keep = [&] {
      if (mark) raise(cell(tree, mark - 1, false, x), most);
    };
    for (uint32_t y = first; y < last; ++y) {
      const uint32_t word = y * num_words + x / kLanes;
      const uint32_t run = arrays.word_run[word] + count_bits(arrays.cuts[word] & up_to_here);
      const int level = tree.level(tree.pixel(y, x));
      if (level == 0) continue;
      const Home home = home_of(tree, tree.basin_of(run), level);
      const int32_t reached = level < home.cap ? level : home.cap;
      if (!home.mark) continue;
      if (home.mark != mark) {
        keep();
        mark = home.mark;
        most = 0;
      }
      most = most > reached ? most : reached;
    }
    keep();
  });
  tree.block.for_each(tree.shared.num_runs, [&](uint32_t run) {
    const int level = tree.peak_of(run);
    if (level == 0) return;
    const Home home = home_of(tree, tree.basin_of(run), level);
    const int32_t reached = level < home.cap ? level : home.cap;
    if (home.mark) raise(cell(tree, home.mark - 1, true, arrays.row[run]), reached);
  });
  // To the branches above.
  tree.block.for_each_warp(2 * num, [&](const Warp& warp, uint32_t i) {
    const uint32_t place = begin + i / 2;
    const bool is_row = i % 2;
    const uint32_t drawn = arrays.chosen[place];
    const Extent& extent = arrays.extent[drawn];
    const uint32_t offset = uint32_t(is_row ? extent.y0 : extent.x0);
    const Line mine = line(tree, place, is_row);
    for (uint32_t branch = drawn; arrays.join[branch] != kNever;) {
      const int32_t cap = arrays.join[branch];
      branch = arrays.parent[branch];
      const uint32_t above = arrays.mark[branch];
      if (!above) continue;
      int32_t* const theirs = cell(tree, above - 1, is_row, offset);
      warp.each([&](uint32_t lane) {
        for (uint32_t at = lane; at < uint32_t(mine.n); at += kLanes) {
          const int32_t reached = load(mine.from + at);
          if (reached) raise(theirs + at, reached < cap ? reached : cap);
        }
      });
    }
  });
  tree.block.for_each_warp(2 * num, [&](const Warp& warp, uint32_t i) {
    const auto [from, n, half] = line(tree, begin + i / 2, i % 2);
    const auto maxima = [&](int32_t* to, bool is_far) {
      int32_t before = 0;
      for (int32_t base = 0; base < n; base += int32_t(kLanes)) {
        const auto at = [&](uint32_t lane) { return is_far ? n - 1 - base - int32_t(lane) : base + int32_t(lane); };
        const auto is_inside = [&](uint32_t lane) { return base + int32_t(lane) < n; };
        PerLane<int32_t> each;
        warp.each([&](uint32_t lane) {
          const int32_t here = is_inside(lane) ? from[at(lane)] : 0;
          each[lane] = here > before ? here : before;
        });
        before = warp.scan(each, [](int32_t a, int32_t b) { return a > b ? a : b; });
        warp.each([&](uint32_t lane) {
          if (is_inside(lane)) to[at(lane)] = each[lane];
        });
      }
    };
    maxima(from + half, true);
    warp.sync();
    maxima(from, false);
  });
}

template <class Kind, bool kHoles>
WSOLKERN_DEVICE Extent extent_at(const Tree<Kind, kHoles>& tree, uint32_t place, int level) {
  const Extent& most = tree.arrays.extent[tree.arrays.chosen[place]];
  const auto ends = [&](const Line& cells, int first, int& low, int& high) {
    low = first + int(first_that(uint32_t(cells.n), [&](uint32_t i) { return cells.from[i] >= level; }));
    high = first - 1 +
           int(first_that(uint32_t(cells.n), [&](uint32_t i) { return cells.from[uint32_t(cells.half) + i] < level; }));
  };
  Extent extent;
  ends(line(tree, place, false), most.x0, extent.x0, extent.x1);
  ends(line(tree, place, true), most.y0, extent.y0, extent.y1);
  return extent;
}

// Calls visit(branch, level, extent) for the component of every branch that is worth it, at all its levels.
template <class Kind, bool kHoles, class Worth, class Visit>
WSOLKERN_DEVICE void boxes(const Tree<Kind, kHoles>& tree, Worth&& worth, Visit&& visit) {
  const Arrays<Kind>& arrays = tree.arrays;
  choose(tree, worth);
  for_each_batch(tree, arrays.cells_of, Arrays<Kind>::num_cells(tree.shape), [&] {
    draw(tree);
    tree.block.for_each(num_in_batch(tree, arrays.nodes_of), [&](uint32_t i) {
      const uint64_t node = arrays.nodes_of[tree.shared.begin] + i;
      const uint32_t place = owner(tree, arrays.nodes_of, node), branch = arrays.chosen[place];
      const int level = arrays.peak[branch] - int(node - arrays.nodes_of[place]);
      visit(branch, level, extent_at(tree, place, level));
    });
  });
}

}  // namespace wsolkern
