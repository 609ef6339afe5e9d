// Step 1 of the component tree: cut every row into unimodal runs.
//
// A run is a stretch of a row that never falls and then never rises. At any level k its pixels >= k are therefore one
// interval, so a run is present at level k as a whole (if its peak reaches k) or not at all: the components of every
// level are components of runs. A smooth 224 x 224 map has 500-1100 runs in place of 50,176 pixels.
//
// A run starts at column 0 and at every rise that follows a fall; equal neighbours continue whatever came before, so a
// plateau does not split a run. Hence each cut lies at a strict rise, level[x - 1] < level[x]: `basins.h` relies on it.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "cpu/level_image.h"
#include "cpu/stop.h"

namespace wsolkern {

constexpr int kRowsPerPoll = 64;

struct Runs {
  // Row y has runs row_begin[y] ... row_begin[y + 1] - 2; the entry after its last run is an end mark whose start is
  // the image's width, so a run always ends where the next entry starts.
  std::vector<uint32_t> row_begin;  // [H + 1]
  std::vector<uint16_t> start;      // first column, per entry
  std::vector<int16_t> peak;        // largest level, per entry; kOutside for an end mark
  std::vector<int16_t> valley;  // the level just before `start`, per entry; 0 for the first of a row and an end mark

  size_t size() const { return start.size(); }
  size_t bytes() const {
    return row_begin.capacity() * 4 + (start.capacity() + peak.capacity() + valley.capacity()) * 2;
  }
  void resize(size_t num_entries) {
    start.resize(num_entries);
    peak.resize(num_entries);
    valley.resize(num_entries);
  }
};

// x + y + carry on 64 bits, with the carry out of the top left in `carry`.
inline uint64_t add_with_carry(uint64_t x, uint64_t y, bool& carry) {
  const uint64_t sum = x + y, total = sum + carry;
  carry = (sum < x) | (total < sum);
  return total;
}

inline void find_runs(const LevelImage& image, Runs& runs) {
  const int height = image.height, width = image.width;
  runs.row_begin.resize(height + 1);
  // A row has at most (width + 1) / 2 runs, and an end mark.
  const size_t most_in_row = (width + 1) / 2 + 1;
  size_t count = 0;
  for (int y = 0; y < height; ++y) {
    if (y % kRowsPerPoll == kRowsPerPoll - 1) poll(kStepsPerClock);
    const int16_t* levels = image.row(y);
    if (count + most_in_row > runs.size()) runs.resize(2 * runs.size() + most_in_row);
    uint16_t* start = runs.start.data() + count;
    int16_t *peak = runs.peak.data() + count, *valley = runs.valley.data() + count;
    runs.row_begin[y] = uint32_t(count);
    *start++ = 0;
    *valley++ = 0;
    bool falling = false;  // whether the last step that was not level went down
    for (int base = 0; base < width; base += 64) {
      const uint64_t inside = width - base >= 64 ? ~uint64_t(0) : (uint64_t(1) << (width - base)) - 1;
      const uint64_t steps = base == 0 ? inside & ~uint64_t(1) : inside;  // column 0 is no step
      const uint64_t rises = steps & greater_bits64(levels + base, levels + base - 1);
      const uint64_t falls = steps & greater_bits64(levels + base - 1, levels + base);
      // "Falling before column x" is handed on from bit to bit through level steps, set by falls and cleared by rises:
      // exactly the carry of (falls | level) + falls.
      const uint64_t passing = ~rises, setting = falls;
      const uint64_t was_falling = add_with_carry(passing, setting, falling) ^ passing ^ setting;
      for (uint64_t crests = falls & ~was_falling; crests; crests &= crests - 1)
        *peak++ = levels[base + std::countr_zero(crests) - 1];
      for (uint64_t cuts = rises & was_falling; cuts; cuts &= cuts - 1) {
        const int x = base + std::countr_zero(cuts);
        *start++ = uint16_t(x);
        *valley++ = levels[x - 1];
      }
    }
    const size_t num_runs = start - (runs.start.data() + count);
    if (size_t(peak - (runs.peak.data() + count)) < num_runs) *peak++ = levels[width - 1];  // still rising at the end
    *start = uint16_t(width);
    *peak = kOutside;
    *valley = 0;
    count += num_runs + 1;
  }
  runs.row_begin[height] = uint32_t(count);
  runs.resize(count);
}

}  // namespace wsolkern
