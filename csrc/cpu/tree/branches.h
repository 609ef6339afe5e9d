// Step 3 of the component tree: let the level fall and see basins meet (Kruskal's algorithm in descending saddle
// order).
//
// Where two components meet, the larger one (in runs) goes on and the smaller one ends: each basin is thus the start of
// one branch, a component that lives over the levels (join, peak] and at level `join` becomes part of its parent. The
// component of branch b at level k consists of the basins from which one climbs to b over joins >= k. Ending the
// smaller keeps every climb shorter than log2 of the number of runs.
//
// With `framed`, everything that touches the frame of the image is one component from the start: it is where the
// background reaches the outside, and what does not belong to it is a hole. The frame is a basin of its own, the last.
#pragma once

#include "cpu/tree/basins.h"
#include "shared/geometry.h"

namespace wsolkern {

struct Branch {
  int16_t peak;     // first level, from above, at which it is a component
  int16_t join;     // level at which it becomes part of `parent`; 0: never
  uint32_t parent;  // itself if it never joins
  uint32_t next;    // next basin in the list of a component: b, ..., last
  uint32_t last;    // the list from b to here is b with everything that ever joins it
  Extent extent;    // no pixel of b, or of what joins it, lies outside; often much smaller than this
};

struct Branches {
  std::vector<Branch> at;             // per basin; the frame's is the last if there is one
  std::vector<uint32_t> order;        // every branch but the frame, those that join before those they join
  std::vector<uint32_t> leader;       // scratch: union-find over basins, the leader is the branch that goes on
  std::vector<uint32_t> num_runs;     // scratch
  std::vector<int16_t> at_frame;      // scratch
  std::vector<Saddle> sorted;         // scratch
  std::vector<uint32_t> level_begin;  // scratch

  size_t bytes() const {
    return at.capacity() * sizeof(Branch) + sorted.capacity() * sizeof(Saddle) +
           (order.capacity() + leader.capacity() + num_runs.capacity() + level_begin.capacity()) * 4 +
           at_frame.capacity() * 2;
  }

  // Calls visit(run, cap) for the runs of branch b and of all that ever joins it: of what joined it, no level counts
  // for more than that at which it did.
  template <class Visit>
  void for_each_run(const Basins& basins, uint32_t b, Visit&& visit) const {
    basins.for_each_run(b, [&](uint32_t run) { visit(run, at[b].peak); });
    for (uint32_t basin = b; basin != at[b].last;) {
      const Branch& joined = at[at[basin].next];
      do {
        basin = at[basin].next;
        basins.for_each_run(basin, [&](uint32_t run) { visit(run, joined.join); });
      } while (basin != joined.last);
    }
  }

  // The branch that basin `b` is part of at `level`, given that b's own peak reaches it.
  uint32_t at_level(uint32_t b, int level) const {
    while (at[b].join >= level) b = at[b].parent;
    return b;
  }

 private:
  static constexpr size_t kSaddlesPerPoll = 1 << 16;

  uint32_t find(uint32_t b) {
    while (leader[b] != b) b = leader[b] = leader[leader[b]];
    return b;
  }

  void sort_saddles(const std::vector<Saddle>& saddles, int top) {  // a counting sort, highest level first
    level_begin.assign(top + 2, 0);
    for (const Saddle& saddle : saddles) ++level_begin[top - saddle.level + 1];
    std::partial_sum(level_begin.begin(), level_begin.end(), level_begin.begin());
    sorted.resize(saddles.size());
    for (const Saddle& saddle : saddles) sorted[level_begin[top - saddle.level]++] = saddle;
  }

 public:
  // `basins` gets the saddles to the frame added if `framed`.
  void grow(const LevelImage& image, const Runs& runs, Basins& basins, bool framed) {
    const uint32_t num_basins = uint32_t(basins.size());
    const int height = image.height, width = image.width;
    at.resize(num_basins + framed);
    leader.resize(at.size());
    num_runs.resize(at.size());
    std::iota(leader.begin(), leader.end(), 0u);
    for (uint32_t b = 0; b < num_basins; ++b) {
      Extent extent{width, height, -1, -1};
      basins.for_each_run(b, [&](uint32_t run) {
        const int y = basins.row_of_run[run];
        extent.include({runs.start[run], y, runs.start[run + 1] - 1, y});
      });
      at[b] = {basins.peak[b], 0, b, b, b, extent};
      num_runs[b] = basins.num_runs[b];
    }
    const uint32_t frame = num_basins;
    if (framed) {
      at[frame] = {INT16_MAX, 0, frame, frame, frame, {0, 0, width - 1, height - 1}};
      num_runs[frame] = UINT32_MAX;    // the frame always goes on
      at_frame.assign(num_basins, 0);  // the highest level at which each basin reaches it
      const auto reaches_frame_at = [&](uint32_t run, int16_t level) {
        int16_t& most = at_frame[basins.of_run[run]];
        most = std::max(most, level);
      };
      for (int y = 0; y < height; ++y) {
        const bool at_edge = y == 0 || y + 1 == height;
        const uint32_t begin = runs.row_begin[y], end = runs.row_begin[y + 1] - 1;
        if (at_edge)
          for (uint32_t run = begin; run < end; ++run) reaches_frame_at(run, runs.peak[run]);
        reaches_frame_at(begin, image.row(y)[0]);
        reaches_frame_at(end - 1, image.row(y)[width - 1]);
      }
      for (uint32_t b = 0; b < num_basins; ++b)
        if (at_frame[b]) basins.saddles.push_back({at_frame[b], b, frame});
    }

    poll(kStepsPerClock);
    sort_saddles(basins.saddles, image.top);
    poll(kStepsPerClock);
    order.clear();
    size_t num_met = 0;
    for (const Saddle& saddle : sorted) {
      if (++num_met % kSaddlesPerPoll == 0) poll(kStepsPerClock);
      uint32_t major = find(saddle.a), minor = find(saddle.b);
      if (major == minor) continue;
      if (num_runs[major] < num_runs[minor]) std::swap(major, minor);
      leader[minor] = major;
      if (num_runs[major] != UINT32_MAX) num_runs[major] += num_runs[minor];
      Branch& into = at[major];
      at[minor].join = saddle.level;
      at[minor].parent = major;
      at[into.last].next = minor;
      into.last = at[minor].last;
      into.extent.include(at[minor].extent);
      order.push_back(minor);
    }
    for (uint32_t b = 0; b < num_basins; ++b)
      if (leader[b] == b) order.push_back(b);
  }
};

}  // namespace wsolkern
