// Digitize: one integer image for all cut points of a map, bins[p] = number of cut points <= F[p].
//
// With ranks[c] = number of cut points <= cut point c, "F >= c" is exactly "bin >= ranks[c]": the image stands for
// every binary image of every normalization. Cut points and pixels meet on the grid of statistics.h: a grid cell
// without cut points (nearly all are) tells the bin alone; in the others the pixel is compared with the cell's cut
// points.
#pragma once

#include "statistics.h"

namespace wsolkern {

constexpr size_t kMostCuts = INT16_MAX - 1;  // so that "more than all" is a 16-bit number too

class Digitizer {
 public:
  // Sorts the cut points, which may be infinite; `grid` must be that of the maps to come. ranks: one per cut point.
  void set_cuts(const Grid& grid, std::span<const double> cuts, int16_t* ranks) {
    const size_t n = cuts.size();
    usable_ = grid.usable();
    // A counting sort by cell: end_ holds counts, then where each cell begins, and moves on to where it ends.
    end_.assign(std::max(grid.num_cells, 1), 0);
    cell_.resize(n);
    for (size_t c = 0; c < n; ++c) ++end_[cell_[c] = uint16_t(usable_ ? grid.cell_clamped(cuts[c]) : 0)];
    const bool crowded = *std::max_element(end_.begin(), end_.end()) > kMany;
    std::exclusive_scan(end_.begin(), end_.end(), end_.begin(), uint16_t(0));
    order_.resize(n);
    for (size_t c = 0; c < n; ++c) order_[end_[cell_[c]]++] = uint16_t(c);
    for (size_t c = 0; c < n; ++c) end_[cell_[c]] |= kOccupied;
    // Within the cells by insertion, as they hold few.
    if (crowded)
      std::sort(order_.begin(), order_.end(), [&](uint16_t a, uint16_t b) { return cuts[a] < cuts[b]; });
    else
      for (size_t at = 1; at < n; ++at)
        for (size_t to = at; to > 0 && cuts[order_[to]] < cuts[order_[to - 1]]; --to)
          std::swap(order_[to], order_[to - 1]);

    sorted_.resize(n + 1);
    sorted_[0] = -std::numeric_limits<double>::infinity();
    for (size_t at = 0; at < n; ++at) sorted_[at + 1] = cuts[order_[at]];
    for (size_t at = n; at-- > 0;) {
      const bool like_next = at + 1 < n && sorted_[at + 1] == sorted_[at + 2];
      ranks[order_[at]] = like_next ? ranks[order_[at + 1]] : int16_t(at + 1);
    }
  }

  // bins[i] for n pixels; `cells` are theirs on the grid, and are not read if the grid is not usable. A NaN gets bin 0.
  void bins(const double* map, const uint16_t* cells, size_t n, int16_t* out) const {
    if (usable_)
      for (size_t i = 0; i < n; ++i) {
        const uint16_t end = end_[cells[i]];
        out[i] = end & kOccupied ? compare(end & ~kOccupied, map[i]) : int16_t(end);
      }
    else
      for (size_t i = 0; i < n; ++i) out[i] = map[i] == map[i] ? search(sorted_.size() - 1, map[i]) : int16_t(0);
  }

  size_t bytes() const { return (end_.capacity() + cell_.capacity() + order_.capacity()) * 2 + sorted_.capacity() * 8; }

 private:
  static constexpr uint16_t kOccupied = 0x8000;
  static constexpr uint16_t kMany = 512;  // in one cell: too many for insertion
  bool usable_ = false;
  std::vector<uint16_t> end_;   // per cell: number of cut points up to its end; kOccupied: some are in this cell
  std::vector<double> sorted_;  // cut points from index 1, after -infinity
  std::vector<uint16_t> cell_, order_;  // scratch

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
