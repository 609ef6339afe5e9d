// Step 2 of the component tree: join runs into basins, and find the saddles between basins.
//
// Two runs touch where their pixels do; the highest level at which they are connected directly is their saddle, the
// maximum over touching pixel pairs of the smaller of the two levels. A run whose saddle to a neighbour equals its own
// peak is never a component of its own: it appears already connected, and is merged into that neighbour at once (steps
// up need peak >= own peak, which always holds; steps down need a strictly higher peak, so there are no cycles). What
// remains are the basins, one for each regional maximum of the image (25-50 on a CAM), and the saddles between them.
//
// Which pixel pairs count is the connectivity: 8-connected (components of the foreground) or 4-connected (components of
// the complement, whose bounded ones are the holes).
#pragma once

#include <numeric>
#include <utility>

#include "cpu/tree/runs.h"

namespace wsolkern {

enum class Connectivity { four, eight };

constexpr uint32_t kNoRun = UINT32_MAX;

struct Saddle {
  int16_t level;
  uint32_t a, b;  // basins, or runs while they are being joined
};

struct Basins {
  std::vector<uint32_t> of_run;     // per entry of Runs; of no meaning for end marks
  std::vector<int16_t> peak;        // per basin
  std::vector<Saddle> saddles;      // between different basins, several per pair possible, any order
  std::vector<Saddle> run_saddles;  // scratch: between runs, num_run_saddles of them; never shrinks, to be filled anew
  size_t num_run_saddles;
  std::vector<uint32_t> first_run;   // per basin; its runs in raster order are this and what follows by next_run
  std::vector<uint32_t> next_run;    // per entry of Runs; kNoRun after the last of a basin
  std::vector<uint32_t> num_runs;    // per basin
  std::vector<uint16_t> row_of_run;  // per entry of Runs
  AlignedVector<int16_t> pass;       // scratch: pass values of one row pair

  size_t size() const { return peak.size(); }
  size_t bytes() const {
    return (of_run.capacity() + first_run.capacity() + next_run.capacity() + num_runs.capacity()) * 4 +
           (saddles.capacity() + run_saddles.capacity()) * sizeof(Saddle) +
           (peak.capacity() + row_of_run.capacity() + pass.capacity()) * 2;
  }

  // Calls visit(run) for the runs of a basin in raster order.
  template <class Visit>
  void for_each_run(uint32_t basin, Visit&& visit) const {
    for (uint32_t run = first_run[basin]; run != kNoRun; run = next_run[run]) visit(run);
  }
};

// pass[x]: the highest level at which some pixel of column x is connected to the other row through column x or x - 1.
// Looking back only is enough for runs: where a run starts between x - 1 and x the row rises strictly, so whatever the
// other diagonals there connect is connected at that level through the rise as well.
template <Connectivity connectivity>
void row_pair_passes(const int16_t* above, const int16_t* below, int width, int16_t* pass) {
  for (int x = 0; x < width; x += kLanes16) {
    const i16v a = load(above + x), b = load(below + x);
    i16v level = min(a, b);
    if constexpr (connectivity == Connectivity::eight)
      level = max(level, max(min(load(above + x - 1), b), min(a, load(below + x - 1))));
    store(pass + x, level);
  }
}

// First job: each run is joined to a neighbour that makes it no basin (of_run is that neighbour, or itself), and all
// other touching pairs are saddles.
template <Connectivity connectivity>
void join_runs(const LevelImage& image, const Runs& runs, Basins& basins) {
  const int height = image.height, width = image.width;
  const size_t num_entries = runs.size();
  const uint16_t* start = runs.start.data();
  const int16_t* peak = runs.peak.data();
  std::vector<uint32_t>& joined = basins.of_run;  // the neighbour a run is merged into, itself while there is none
  joined.resize(num_entries);
  std::iota(joined.begin(), joined.end(), 0u);
  basins.pass.resize(width + 64);
  // At most one to the right and two down, per entry.
  if (basins.run_saddles.size() < 3 * num_entries) basins.run_saddles.resize(3 * num_entries);
  Saddle* saddle = basins.run_saddles.data();

  for (uint32_t run = 1; run < num_entries; ++run) {
    *saddle = {runs.valley[run], run - 1, run};
    saddle += runs.valley[run] != 0;
  }
  for (int y = 0; y + 1 < height; ++y) {
    if (y % kRowsPerPoll == kRowsPerPoll - 1) poll(kStepsPerClock);
    row_pair_passes<connectivity>(image.row(y), image.row(y + 1), width, basins.pass.data());
    const int16_t* pass = basins.pass.data();
    uint32_t i = runs.row_begin[y], j = runs.row_begin[y + 1];
    for (int x = 0; x < width;) {
      const int end_i = start[i + 1], end_j = start[j + 1], end = std::min(end_i, end_j);
      const int16_t level = max_of(pass + x, end - x);
      // Written so that it compiles without branches, which could not be predicted.
      const bool joins_up = (level == peak[j]) & (joined[j] == j);
      const bool joins_down = !joins_up & (level == peak[i]) & (peak[j] > peak[i]) & (joined[i] == i);
      joined[j] = joins_up ? i : joined[j];
      joined[i] = joins_down ? j : joined[i];
      *saddle = {level, i, j};
      saddle += !joins_up & !joins_down & (level != 0);
      x = end;
      i += end == end_i;
      j += end == end_j;
    }
  }
  basins.num_run_saddles = saddle - basins.run_saddles.data();
}

// Second job: follows the joins to their ends, which are the basins; numbers these in raster order, and lists the runs
// of each. Without branches on what a run is, which cannot be predicted: half the time of following one by one.
inline void number_basins(const Runs& runs, Basins& basins) {
  const uint32_t num_entries = uint32_t(runs.size());
  std::vector<uint32_t>& joined = basins.of_run;
  // Joins go up or down. A sweep from the last run to the first takes all those down in a row at once, the next one all
  // those up; few turn often.
  for (bool has_changed = true; has_changed;) {
    uint32_t changed = 0;
    for (uint32_t run = num_entries; run-- > 0;) joined[run] = joined[joined[run]];
    for (uint32_t run = 0; run < num_entries; ++run) {
      const uint32_t end = joined[joined[run]];
      changed |= end ^ joined[run];
      joined[run] = end;
    }
    has_changed = changed != 0;
    poll(kStepsPerClock);
  }
  std::vector<uint32_t>& number = basins.next_run;  // of the basin, per run that is an end; lists overwrite it
  number.resize(num_entries);
  basins.row_of_run.resize(num_entries);
  basins.peak.resize(num_entries);
  uint32_t num_basins = 0, y = 0;
  for (uint32_t run = 0; run < num_entries; ++run) {
    const bool is_end_mark = runs.peak[run] == kOutside;
    basins.row_of_run[run] = uint16_t(y);
    y += is_end_mark;
    number[run] = num_basins;
    basins.peak[num_basins] = runs.peak[run];
    num_basins += (joined[run] == run) & !is_end_mark;
  }
  basins.peak.resize(num_basins);
  poll(kStepsPerClock);
  // End marks are listed as one more basin, which is no one's.
  basins.first_run.assign(num_basins + 1, kNoRun);
  basins.num_runs.assign(num_basins + 1, 0);
  for (uint32_t run = 0; run < num_entries; ++run)
    joined[run] = runs.peak[run] == kOutside ? num_basins : number[joined[run]];
  for (uint32_t run = num_entries; run-- > 0;) {
    const uint32_t basin = joined[run];
    basins.next_run[run] = std::exchange(basins.first_run[basin], run);
    ++basins.num_runs[basin];
  }
}

// Third job: saddles between runs become saddles between basins; those within one basin say nothing.
inline void name_saddles(Basins& basins) {
  size_t kept = 0;
  basins.saddles.resize(basins.num_run_saddles);
  for (size_t i = 0; i < basins.num_run_saddles; ++i) {
    const Saddle& each = basins.run_saddles[i];
    const uint32_t a = basins.of_run[each.a], b = basins.of_run[each.b];
    basins.saddles[kept] = {each.level, a, b};
    kept += a != b;
  }
  basins.saddles.resize(kept);
}

template <Connectivity connectivity>
void find_basins(const LevelImage& image, const Runs& runs, Basins& basins) {
  join_runs<connectivity>(image, runs, basins);
  poll(kStepsPerClock);
  number_basins(runs, basins);
  poll(kStepsPerClock);
  name_saddles(basins);
}

}  // namespace wsolkern
