// Step 4 of the component tree: the box of every component at every level of its life.
//
// For each branch the largest level in every column and row is kept ("silhouette"), what joined it counted no higher
// than the level at which it joined. At level k the box is then bounded by the first and last column, and the first and
// last row, whose silhouette reaches k. Walking from the lowest level up, the box shrinks from all four sides, and
// stays the same until the level passes the smallest of the four silhouettes it rests on: a branch has few boxes over
// many levels.
#pragma once

#include "cpu/tree/branches.h"

namespace wsolkern {

// The exact extent of branch b's component at its lowest level. Without a silhouette: for branches that are not walked.
inline Extent lowest_extent(const LevelImage& image, const Runs& runs, const Basins& basins, const Branches& branches,
                            uint32_t b) {
  const Branch& branch = branches.at[b];
  const int level = branch.join + 1;
  Extent extent{image.width, image.height, -1, -1};
  branches.for_each_run(basins, b, [&](uint32_t run, int16_t) {
    if (runs.peak[run] < level) return;
    const int y = basins.row_of_run[run];
    const int16_t* levels = image.row(y);
    int x0 = runs.start[run], x1 = runs.start[run + 1] - 1;
    while (x0 < extent.x0 && levels[x0] < level) ++x0;
    while (x1 > extent.x1 && levels[x1] < level) --x1;
    extent.include({x0, y, x1, y});
  });
  return extent;
}

class Silhouettes {
 public:
  void reset(size_t num_branches) {
    begin_.assign(num_branches, kNone);
    levels_.assign(kLanes16, 0);
  }

  // Calls visit(lowest level, highest level, extent) for each box of branch b, from the lowest level up.
  // Branches must be walked in `branches.order`, though any may be left out.
  template <class Visit>
  void walk(const LevelImage& image, const Runs& runs, const Basins& basins, const Branches& branches, uint32_t b,
            Visit&& visit) {
    const Branch& branch = branches.at[b];
    draw(image, runs, basins, branches, b);
    const Extent& extent = branch.extent;
    const int16_t* column = levels_.data() + begin_[b] - extent.x0;
    const int16_t* row = levels_.data() + begin_[b] + (extent.x1 - extent.x0 + 1) - extent.y0;
    Extent box = extent;
    for (int level = branch.join + 1; level <= branch.peak;) {
      while (column[box.x0] < level) ++box.x0;
      while (column[box.x1] < level) --box.x1;
      while (row[box.y0] < level) ++box.y0;
      while (row[box.y1] < level) --box.y1;
      const int highest = std::min(std::min(column[box.x0], column[box.x1]), std::min(row[box.y0], row[box.y1]));
      visit(level, highest, box);
      level = highest + 1;
    }
  }

  size_t bytes() const { return begin_.capacity() * sizeof(size_t) + levels_.capacity() * 2; }

 private:
  static constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> begin_;  // per branch: its silhouette in `levels_`, columns then rows of its extent
  std::vector<int16_t> levels_;

  // out[i] = max(out[i], min(in[i], limit)). Whole vectors are read and written; what is beyond n stays as it is.
  static void raise(int16_t* out, const int16_t* in, int n, int16_t limit) {
    const i16v cap = splat(limit);
    for (; n > kLanes16; n -= kLanes16, out += kLanes16, in += kLanes16) store(out, max(load(out), min(load(in), cap)));
    store(out, max(load(out), min(load(in), cap) & first_lanes(n)));
  }

  void draw(const LevelImage& image, const Runs& runs, const Basins& basins, const Branches& branches, uint32_t b) {
    const Branch& branch = branches.at[b];
    const Extent& extent = branch.extent;
    const int width = extent.x1 - extent.x0 + 1, height = extent.y1 - extent.y0 + 1;
    begin_[b] = levels_.size() - kLanes16;  // the vector after the end is there to be overrun
    levels_.resize(levels_.size() + width + height, 0);
    int16_t* column = levels_.data() + begin_[b] - extent.x0;
    int16_t* row = levels_.data() + begin_[b] + width - extent.y0;

    const auto draw_run = [&](uint32_t run, int16_t limit) {
      const int x = runs.start[run], y = basins.row_of_run[run];
      raise(column + x, image.row(y) + x, runs.start[run + 1] - x, limit);
      row[y] = std::max(row[y], std::min(runs.peak[run], limit));
    };
    basins.for_each_run(b, [&](uint32_t run) { draw_run(run, branch.peak); });
    for (uint32_t basin = b; basin != branch.last;) {  // what joined b, one after the other
      const uint32_t child = branches.at[basin].next;
      const Branch& joined = branches.at[child];
      if (begin_[child] != kNone) {
        const Extent& part = joined.extent;
        const int part_width = part.x1 - part.x0 + 1;
        const int16_t* levels = levels_.data() + begin_[child];
        raise(column + part.x0, levels, part_width, joined.join);
        raise(row + part.y0, levels + part_width, part.y1 - part.y0 + 1, joined.join);
        basin = joined.last;
      } else {
        branches.for_each_run(basins, child, [&](uint32_t run, int16_t) { draw_run(run, joined.join); });
        basin = joined.last;
      }
    }
  }
};

}  // namespace wsolkern
