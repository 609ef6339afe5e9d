// Runs to basins, and the saddles between basins (steps 2, 3).
//
// In: runs. Out: basin_of(run); peak of each basin; edges, from which the branches are made.
//
// Two runs of neighbouring rows touch in one segment of columns; the highest level at which they are connected directly
// is the highest that a pair of touching pixels has. A run whose segment reaches its own peak is never a component of
// its own, and takes the other run for its basin: a run above that is at least as high, or a run below that is higher.
// Where several offer themselves any will do. Links make no cycles: along them the peak never falls, and where it stays
// the row does. At their ends are the basins, one for each regional maximum of the map.
#pragma once

#include "gpu/tree/runs.h"

namespace wsolkern {

// Calls visit(upper run, lower run, level) for each segment that is connected at some level.
template <class Kind, bool kHoles, class F>
WSOLKERN_DEVICE void for_each_segment(const Tree<Kind, kHoles>& tree, F&& visit) {
  using Key = typename Kind::Key;
  constexpr int kBits = Arrays<Kind>::kKeyBits;
  tree.block.for_each(2 * tree.shared.num_runs, [&](uint32_t i) {
    const Key segment = tree.arrays.segments[i];
    if (segment == 0) return;
    const uint32_t upper = uint32_t(segment & ((Key(1) << kBits) - 1));
    visit(upper, i - upper, int(segment >> kBits));
  });
}

// segments[i + j]: of runs i and j. Along two rows each step goes on to the next run of one row or of both, so that no
// two pairs have one sum.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void find_segments(const Tree<Kind, kHoles>& tree) {
  using Key = typename Kind::Key;
  const Arrays<Kind>& arrays = tree.arrays;
  const uint32_t width = uint32_t(tree.shape.width), num_words = tree.shape.num_words;
  tree.block.for_each(2 * tree.shared.num_runs, [&](uint32_t i) { arrays.segments[i] = 0; });
  tree.block.for_each_warp(uint32_t(tree.shape.height) - 1, [&](const Warp& warp, uint32_t y) {
    uint32_t i = arrays.row_begin[y], j = arrays.row_begin[y + 1];
    PerLane<uint32_t> open;  // what each lane has seen of the segment that no cut has ended yet
    warp.each([&](uint32_t lane) { open[lane] = 0; });
    const auto keep = [&] {
      const uint32_t level = warp.max([&](uint32_t lane) { return open[lane]; });
      warp.once([&] {
        if (level) arrays.segments[i + j] = Key(level) << Arrays<Kind>::kKeyBits | i;
      });
    };
    for (uint32_t w = 0; w < num_words; ++w) {
      // The highest level at which a column is connected to the other row through itself or the column before. Looking
      // back only is enough: a run starts at a strict rise, so whatever the other diagonals there connect is connected
      // at that level through the rise as well.
      PerLane<uint32_t> pass;
      warp.each([&](uint32_t lane) {
        const uint32_t x = w * kLanes + lane, above = tree.pixel(y, x), below = above + width;
        int reached = 0;
        if (x < width) {
          const int a = tree.level(above), b = tree.level(below);
          reached = a < b ? a : b;
          if (!kHoles && x > 0) {
            const int a0 = tree.level(above - 1), b0 = tree.level(below - 1);
            const int left = a0 < b ? a0 : b, right = a < b0 ? a : b0, both = left > right ? left : right;
            reached = reached > both ? reached : both;
          }
        }
        pass[lane] = uint32_t(reached);
      });
      const uint32_t cuts_above = arrays.cuts[y * num_words + w], cuts_below = arrays.cuts[(y + 1) * num_words + w];
      uint32_t part = ~0u;  // the lanes that are left
      const auto include = [&](uint32_t lanes) {
        warp.each([&](uint32_t lane) {
          const uint32_t found = lanes & 1u << lane ? pass[lane] : 0;
          open[lane] = found > open[lane] ? found : open[lane];
        });
      };
      for (uint32_t rest = cuts_above | cuts_below; rest; rest &= rest - 1) {
        const uint32_t cut = rest & (0 - rest);
        include(part & (cut - 1));
        keep();
        warp.each([&](uint32_t lane) { open[lane] = 0; });
        i += (cuts_above & cut) != 0;
        j += (cuts_below & cut) != 0;
        part = 0 - cut;
      }
      include(part);
    }
    keep();
  });
}

// False if there is no room for the basins.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE bool find_basins(const Tree<Kind, kHoles>& tree) {
  using Id = typename Kind::Id;
  const Arrays<Kind>& arrays = tree.arrays;
  constexpr Id kRoot = Arrays<Kind>::kRoot;
  const uint32_t num_runs = tree.shared.num_runs;
  tree.block.for_each(num_runs, [&](uint32_t run) { arrays.link[run] = Id(run); });
  find_segments(tree);
  for_each_segment(tree, [&](uint32_t above, uint32_t below, int level) {
    const int upper = tree.peak_of(above), lower = tree.peak_of(below);
    if (level == lower)
      store(arrays.link + below, Id(above));
    else if (level == upper && lower > upper)
      store(arrays.link + above, Id(below));
  });
  tree.until_unchanged([&] {
    tree.block.for_each(num_runs, [&](uint32_t run) {
      const uint32_t begin = load(arrays.link + run), to = tree.hop(arrays.link, begin);
      if (to == begin) return;
      store(arrays.link + run, Id(to));
      store(&tree.shared.changed, 1u);
    });
  });
  tree.block.once([&] { tree.shared.num_basins = 0; });
  const uint32_t most = Arrays<Kind>::num_basins(tree.shape);
  tree.block.for_each(num_runs, [&](uint32_t run) {
    if (arrays.link[run] != run) return;
    const uint32_t basin = add(&tree.shared.num_basins, 1);
    if (basin < most) arrays.peak[basin] = int16_t(tree.peak_of(run));
    arrays.link[run] = Id(basin) | kRoot;
  });
  if (tree.shared.num_basins >= most) return false;  // the frame needs room, too
  tree.block.for_each(num_runs, [&](uint32_t run) {
    if (!(arrays.link[run] & kRoot)) arrays.link[run] = arrays.link[arrays.link[run]];
  });
  return true;
}

// The levels at which basins meet each other, and the frame.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void find_edges(const Tree<Kind, kHoles>& tree) {
  const Arrays<Kind>& arrays = tree.arrays;
  const auto keep = [&](int level, uint32_t a, uint32_t b) {
    if (level > 0 && a != b)  // level 0 is never foreground
      arrays.edges[add(&tree.shared.num_edges, 1)] = uint64_t(level) << 48 | uint64_t(a) << 24 | b;
  };
  tree.block.once([&] { tree.shared.num_edges = 0; });
  for_each_segment(tree, [&](uint32_t above, uint32_t below, int level) {
    keep(level, tree.basin_of(above), tree.basin_of(below));
  });
  tree.block.for_each(tree.shared.num_runs, [&](uint32_t run) {
    const uint32_t y = arrays.row[run], basin = tree.basin_of(run);
    const bool is_last = run + 1 == arrays.row_begin[y + 1];
    if (!is_last) keep(tree.level(tree.pixel(y, arrays.start[run + 1]) - 1), basin, tree.basin_of(run + 1));
    if constexpr (kHoles) {
      const uint32_t last_row = uint32_t(tree.shape.height) - 1;
      if (y == 0 || y == last_row)
        keep(tree.peak_of(run), basin, tree.frame());
      else {
        if (arrays.start[run] == 0) keep(tree.level(tree.pixel(y, 0)), basin, tree.frame());
        if (is_last) keep(tree.level(tree.pixel(y, uint32_t(tree.shape.width) - 1)), basin, tree.frame());
      }
    }
  });
}

}  // namespace wsolkern
