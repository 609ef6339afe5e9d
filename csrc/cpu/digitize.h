// Digitize: one integer image for all cut points of a map, bins[p] = number of cut points <= F[p].
//
// With ranks[c] = number of cut points <= cut point c, "F >= c" is exactly "bin >= ranks[c]": the image stands for
// every binary image of every normalization. Cut points and pixels meet on the grid of statistics.h: a grid cell
// without cut points (nearly all are) tells the bin alone; in the others the pixel is compared with the cell's cut
// points.
#pragma once

#include "cpu/statistics.h"

namespace wsolkern {

constexpr size_t kMostCuts = INT16_MAX - 1;  // so that "more than all" is a 16-bit number too
constexpr size_t kFewCuts = 8;               // so few are each compared with every pixel

class Digitizer {
 public:
  // Sorts the cut points, which may be infinite; `grid` must be that of the maps to come. ranks: one per cut point.
  // Where they come in ascending lists of `num_in_list`, as those of a normalization do, this is faster.
  void set_cuts(const Grid& grid, std::span<const double> cuts, size_t num_in_list, int16_t* ranks) {
    const size_t n = cuts.size();
    usable_ = grid.usable() && n > kFewCuts;
    const int num_cells = usable_ ? grid.num_cells : 8;
    end_.assign(num_cells, 0);
    cell_.resize(n);
    for (size_t c = 0; c < n; ++c) cell_[c] = uint16_t(usable_ ? grid.cell_clamped(cuts[c]) : 0);
    lists_.clear();
    for (size_t c = 0; c < n; c += num_in_list) lists_.push_back({c, c + num_in_list});
    order_.resize(n);
    num_cuts_ = n;
    sorted_.assign(1 + n + kPadding, std::numeric_limits<double>::quiet_NaN());
    sorted_[0] = -std::numeric_limits<double>::infinity();
    // So many cells at a time that what is counted and sorted stays in the nearest cache: half the time of all at once.
    const int at_once = lists_.size() > 1 ? std::min(num_cells, kCellsAtOnce) : num_cells;
    size_t before = 0;
    for (int begin = 0; begin < num_cells; begin += at_once) before = sort_cells(cuts, begin, begin + at_once, before);
    sort_within_cells();
    rank(ranks);
  }

  // bins[i] for n pixels; `cells` are theirs on the grid, and are not read if the grid is not usable or the cuts are
  // few. A NaN gets bin 0.
  void bins(const double* map, const uint16_t* cells, size_t n, int16_t* out) const {
    if (num_cuts_ <= kFewCuts)
      count_reached(map, n, out);
    else if (usable_)
      look_up(map, cells, n, out);
    else
      for (size_t i = 0; i < n; ++i) out[i] = map[i] == map[i] ? search(num_cuts_, map[i]) : int16_t(0);
  }

  size_t bytes() const {
    return (end_.capacity() + cell_.capacity() + order_.capacity()) * 2 + sorted_.capacity() * 8 +
           lists_.capacity() * sizeof(List);
  }

 private:
  static constexpr uint16_t kOccupied = 0x8000;
  static constexpr uint16_t kMany = 512;  // cut points in one cell
  static constexpr int kCellsAtOnce = 1 << 12;
  static constexpr size_t kPadding = 32;  // neighbours are compared 32 at a time
  struct List {
    size_t next, end;
  };
  bool usable_ = false;
  std::vector<uint16_t> end_;  // per cell: number of cut points up to its end; kOccupied: some are in this cell
  size_t num_cuts_ = 0;
  std::vector<double> sorted_;          // cut points from index 1, after -infinity and before kPadding NaNs
  std::vector<uint16_t> cell_, order_;  // scratch
  std::vector<List> lists_;             // scratch: of ascending cut points, those of one normalization; or one of all

  // The cut points in cells [begin, end), of which each list has some in turn; so many cut points lie `before` them.
  // Gives how many lie before `end`.
  size_t sort_cells(std::span<const double> cuts, int begin, int end, size_t before) {
    uint16_t *const ends = end_.data(), *const order = order_.data();
    const uint16_t* const cells = cell_.data();
    double* const sorted = sorted_.data() + 1;
    // A counting sort by cell: `ends` holds counts, then where each cell begins, and moves on to where it ends.
    uint16_t most = 0;
    for (const List& list : lists_)
      for (size_t c = list.next; c < list.end && cells[c] < end; ++c) most = std::max(most, ++ends[cells[c]]);
    const size_t after = exclusive_sums(ends + begin, end - begin, uint16_t(before));
    for (List& list : lists_)
      for (; list.next < list.end && cells[list.next] < end; ++list.next) {
        uint16_t& cell_end = ends[cells[list.next]];
        const uint16_t at = cell_end & ~kOccupied;
        order[at] = uint16_t(list.next);
        sorted[at] = cuts[list.next];
        cell_end = uint16_t(at + 1) | kOccupied;
      }
    if (most > kMany) {  // too many for insertion
      std::sort(order + before, order + after, [&](uint16_t a, uint16_t b) { return cuts[a] < cuts[b]; });
      for (size_t at = before; at < after; ++at) sorted[at] = cuts[order[at]];
    }
    return after;
  }

  // By insertion, as cells hold few. Where, cannot be predicted, as little as which cut points are equal: both are
  // found as bits, in half the time of asking one by one.
  void sort_within_cells() {
    double* const sorted = sorted_.data() + 1;
    const auto is_wrong = [&](size_t at) { return sorted[at] < sorted[at - 1]; };
    for (size_t begin = 1; begin < num_cuts_; begin += 32)
      for (uint32_t bits = less_bits32(sorted + begin, sorted + begin - 1); bits; bits &= bits - 1)
        for (size_t at = begin + std::countr_zero(bits); at < num_cuts_ && is_wrong(at); ++at)
          for (size_t to = at; to > 0 && is_wrong(to); --to) {
            std::swap(sorted[to], sorted[to - 1]);
            std::swap(order_[to], order_[to - 1]);
          }
  }

  void rank(int16_t* ranks) const {
    const double* const sorted = sorted_.data() + 1;
    for (size_t at = 0; at < num_cuts_; ++at) ranks[order_[at]] = int16_t(at + 1);
    for (size_t end = (num_cuts_ + 31) / 32 * 32; end > 0; end -= 32)  // the last of those that are equal first
      for (uint32_t bits = equal_bits32(sorted + end - 32, sorted + end - 31); bits;) {
        const int last = 31 - std::countl_zero(bits);
        ranks[order_[end - 32 + last]] = ranks[order_[end - 31 + last]];
        bits ^= uint32_t(1) << last;
      }
  }

  // First the numbers of all cells; then those that are marked as occupied are found, as bits, and replaced: which ones
  // they are cannot be predicted. Takes two thirds of the time of asking pixel by pixel.
  void look_up(const double* map, const uint16_t* cells, size_t n, int16_t* out) const {
    const uint16_t* const ends = end_.data();
    size_t p = 0;
    for (; p + 4 <= n; p += 4) {  // four cells in one load: 17 us in place of 18 to 27, as loops happen to be aligned
      uint64_t four;
      std::memcpy(&four, cells + p, sizeof four);
      out[p] = int16_t(ends[uint16_t(four)]);
      out[p + 1] = int16_t(ends[uint16_t(four >> 16)]);
      out[p + 2] = int16_t(ends[uint16_t(four >> 32)]);
      out[p + 3] = int16_t(ends[uint16_t(four >> 48)]);
    }
    for (; p < n; ++p) out[p] = int16_t(ends[cells[p]]);
    const auto settle = [&](size_t i) { out[i] = compare(uint16_t(out[i]) & ~kOccupied, map[i]); };
    if (n < 64) {
      for (size_t i = 0; i < n; ++i)
        if (out[i] < 0) settle(i);
      return;
    }
    for (size_t i = 0; i < n; i += 64) {
      const size_t begin = std::min(i, n - 64);  // the last 64 pixels may be partly settled already
      for (uint64_t bits = negative_bits64(out + begin); bits; bits &= bits - 1) settle(begin + std::countr_zero(bits));
    }
  }

  void count_reached(const double* map, size_t n, int16_t* out) const {
    size_t i = 0;
    for (; i + kLanes64 <= n; i += kLanes64) {
      const f64v values = load(map + i);
      i64v reached{};
      for (size_t c = 1; c <= num_cuts_; ++c) reached -= values >= splat(sorted_[c]);
      for (int lane = 0; lane < kLanes64; ++lane) out[i + lane] = int16_t(reached[lane]);
    }
    for (; i < n; ++i) {
      out[i] = 0;
      for (size_t c = 1; c <= num_cuts_; ++c) out[i] += map[i] >= sorted_[c];
    }
  }

  // How many of the first n cut points are <= value; most often n, n - 1 or n - 2.
  int16_t compare(unsigned n, double value) const {
    const double* sorted = sorted_.data();
    n -= value < sorted[n];  // without a branch: whether this is so cannot be predicted
    n -= value < sorted[n];
    return value < sorted[n] ? search(n, value) : int16_t(n);
  }
  int16_t search(size_t n, double value) const {
    const double* sorted = sorted_.data() + 1;
    return int16_t(std::upper_bound(sorted, sorted + n, value) - sorted);
  }
};

}  // namespace wsolkern
