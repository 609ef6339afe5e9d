// What a normalization needs to know of one map: its minimum, its maximum and some order statistics, exactly.
//
// Every normalization is S = clip((F - offset) / divisor, 0, 1) with two numbers per map (Kim et al., equations 3-6;
// the table is in wsolkern/normalization.py). Which ones is said by two ranks: an index into the sorted map, or
//   kZero     offset 0            (max)
//   kExtreme  offset min F, or divisor max F - offset
// A map without a score map (it holds a NaN, is constant, or would divide by 0 or by infinity) gets the divisor 0.
//
// Order statistics are found without sorting: a grid of equal intervals over [min, max] tells which few pixels can have
// the wanted rank. The same grid later serves digitize.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "cpu/simd.h"

namespace wsolkern {

constexpr int64_t kZero = -2, kExtreme = -1;

struct Ranks {
  int64_t offset, divisor;
};
struct Affine {
  double offset, divisor;
};

struct Extremes {
  double least, most;
  bool has_nan;
  // No normalization makes a score map of these.
  bool degenerate() const { return has_nan || least == most; }
};

// A NaN makes the sum a NaN, which is asked for at the end alone: of 25 us in the portable build, asking at every value
// takes 15.
[[gnu::noinline]] inline Extremes find_extremes(const double* map, size_t n) {
  constexpr size_t kAtOnce = 4;  // of which none waits for another
  f64v least[kAtOnce], most[kAtOnce], sum[kAtOnce]{};
  for (size_t j = 0; j < kAtOnce; ++j) least[j] = most[j] = splat(map[0]);
  size_t i = 0;
  for (; i + kAtOnce * kLanes64 <= n; i += kAtOnce * kLanes64)
    for (size_t j = 0; j < kAtOnce; ++j) {
      const f64v v = load(map + i + j * kLanes64);
      least[j] = min(v, least[j]);
      most[j] = max(v, most[j]);
      sum[j] += v;
    }
  Extremes extremes{map[0], map[0], false};
  double total = 0;
  const auto add = [&](double low, double high, double summand) {
    extremes.least = std::min(extremes.least, low);
    extremes.most = std::max(extremes.most, high);
    total += summand;
  };
  for (size_t j = 0; j < kAtOnce; ++j)
    for (int lane = 0; lane < kLanes64; ++lane) add(least[j][lane], most[j][lane], sum[j][lane]);
  for (; i < n; ++i) add(map[i], map[i], map[i]);
  if (!std::isfinite(total))  // a NaN, or an infinity, or very large numbers
    extremes.has_nan = std::any_of(map, map + n, [](double v) { return v != v; });
  return extremes;
}

// A monotone map from values to a few thousand intervals ("cells"): cell(a) < cell(b) implies a < b.
struct Grid {
  static constexpr int kFewest = 1 << 14, kMost = 1 << 16;
  int num_cells = 0;  // a power of two; 0 if the values' range is infinite or too small to be divided
  double least = 0, scale = 0;

  Grid() = default;
  // For so many cut points: few cells shall hold one, but the tables over the cells shall stay in the near caches.
  Grid(const Extremes& extremes, size_t num_cuts) : num_cells(kFewest), least(extremes.least) {
    while (num_cells < kMost && size_t(num_cells) < 4 * num_cuts) num_cells *= 2;
    scale = (num_cells - 1) / (extremes.most - least);
    if (extremes.degenerate() || !std::isfinite(extremes.most - least) || !std::isfinite(scale)) num_cells = 0;
  }
  bool usable() const { return num_cells > 0; }
  bool has_signed_cells() const { return num_cells <= INT16_MAX; }  // they fit into signed numbers

  int cell_clamped(double value) const {
    return int(std::min(std::max((value - least) * scale, 0.0), double(num_cells - 1)));
  }
  // For values in [least, most] nothing needs clamping.
  void cells(const double* map, size_t n, AlignedVector<uint16_t>& out) const {
    out.resize(n);
    for (size_t i = 0; i < n; ++i) out[i] = uint16_t(int((map[i] - least) * scale));
  }
};

// sorted(map)[rank] for each of `ranks`; the map must not hold a NaN.
class OrderStatistics {
 public:
  // `cells` are the map's on `grid`, and are not read if the grid is not usable.
  void find(const double* map, size_t n, const Grid& grid, const AlignedVector<uint16_t>& cells,
            std::span<const int64_t> ranks, double* out) {
    order_.resize(ranks.size());
    std::iota(order_.begin(), order_.end(), size_t(0));
    std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return ranks[a] < ranks[b]; });
    if (!grid.usable()) {
      values_.assign(map, map + n);
      take(0, values_, order_, ranks, out);
    } else if (ranks.size() <= kFewRanks && grid.has_signed_cells()) {
      const int16_t* const signed_cells = reinterpret_cast<const int16_t*>(cells.data());
      draw_sample(signed_cells, n);
      for (const size_t which : order_) {
        const int64_t before = collect(map, signed_cells, n, grid, ranks[which]);
        take(before, values_, {&which, 1}, ranks, out);
      }
    } else {
      find_many(map, n, grid, cells, ranks, out);
    }
  }

  size_t bytes() const {
    return (order_.capacity() + values_.capacity()) * 8 + counts_.capacity() * 4 + groups_.capacity() * sizeof(Group) +
           (group_of_.capacity() + wanted_.capacity() + sample_.capacity()) * 2;
  }

 private:
  // Ranks are looked for in blocks of cells, few enough that their counters stay in the nearest cache.
  static constexpr size_t kFewRanks = 4, kFewValues = 256;
  static constexpr size_t kPiece = 32, kOneIn = 16;  // of pixels; the sample has one piece in so many
  static constexpr int kTurnsBySample = 6;           // then by halves, which ends for sure
  static constexpr double kBeyond = 2;               // values of the sample
  static constexpr int kBlocks = 1 << 13;
  static constexpr size_t kCrowds = 8;  // a block with more than one in so many pixels is crowded
  struct Group {                        // the values of one block in which ranks are wanted
    int block;
    uint32_t count;
    int64_t before;
    size_t from, to;    // of `order_`: the wanted ranks
    size_t begin, end;  // of `values_`
  };
  std::vector<size_t> order_;
  std::vector<double> values_;
  std::vector<int16_t> sample_;
  std::vector<uint32_t> counts_;
  std::vector<uint16_t> group_of_ = std::vector<uint16_t>(kBlocks);  // per block in which ranks are wanted
  std::vector<int16_t> wanted_;                                      // blocks
  std::vector<Group> groups_;

  void draw_sample(const int16_t* cells, size_t n) {
    sample_.clear();
    for (size_t i = 0; i + kPiece <= n; i += kPiece * kOneIn)
      sample_.insert(sample_.end(), cells + i, cells + i + kPiece);
    if (sample_.empty()) sample_.assign(cells, cells + n);
  }

  // The cell that holds the value of this rank in the sample, of (below, above].
  int cell_in_sample(int64_t rank, int below, int above) const {
    while (above - below > 1) {
      const int middle = (below + above) / 2;
      const int64_t up_to = int64_t(sample_.size() - count_greater(sample_.data(), sample_.size(), int16_t(middle)));
      (up_to > rank ? above : below) = middle;
    }
    return above;
  }

  // Makes `values_` hold some neighbouring values of sorted(map), few if they differ, that of `rank` among them; gives
  // the rank of the first. They are those of cells (below, above], which are narrowed down by counting: a comparison
  // of 16 bits a pixel, three or four times. Where to cut is guessed from a sample, which errs by about as much at
  // neighbouring ranks: what the last cut shows of that corrects the next one, aimed a little beyond, so that both
  // ends come near. Half the time of a histogram of cells for 1 rank.
  int64_t collect(const double* map, const int16_t* cells, size_t n, const Grid& grid, int64_t rank) {
    int below = -1, above = grid.num_cells - 1;
    size_t num_below = 0, num_above = n;
    const double share = double(sample_.size()) / double(n);
    double aim = double(rank) * share;
    for (int turn = 0; above - below > 1 && num_above - num_below > kFewValues; ++turn) {
      const int64_t last = int64_t(sample_.size()) - 1;
      const int guess = cell_in_sample(std::clamp(int64_t(aim), int64_t(0), last), below, above);
      const int cut = turn < kTurnsBySample ? std::clamp(guess, below + 1, above - 1) : (below + above) / 2;
      const size_t up_to = n - count_greater(cells, n, int16_t(cut));
      const double too_high = (double(up_to) - double(rank)) * share;
      if (int64_t(up_to) > rank)
        above = cut, num_above = up_to;
      else
        below = cut, num_below = up_to;
      const size_t in_sample = sample_.size() - count_greater(sample_.data(), sample_.size(), int16_t(cut));
      aim = double(in_sample) - 1.25 * too_high + (too_high > 0 ? -kBeyond : kBeyond);
    }
    values_.resize(num_above - num_below);
    size_t filled = 0, p = 0;
    int16_t least[64], most[64];
    std::fill(least, least + 64, int16_t(below));
    std::fill(most, most + 64, int16_t(above));
    for (; p + 64 <= n; p += 64)
      for (uint64_t bits = greater_bits64(cells + p, least) & ~greater_bits64(cells + p, most); bits; bits &= bits - 1)
        values_[filled++] = map[p + std::countr_zero(bits)];
    for (; p < n; ++p)
      if (cells[p] > below && cells[p] <= above) values_[filled++] = map[p];
    return int64_t(num_below);
  }

  void find_many(const double* map, size_t n, const Grid& grid, const AlignedVector<uint16_t>& cells,
                 std::span<const int64_t> ranks, double* out) {
    const int shift = std::countr_zero(unsigned(grid.num_cells / kBlocks));
    count_blocks(cells.data(), n, shift);
    find_groups(ranks);
    wanted_.clear();
    size_t num_gathered = 0;
    for (size_t g = 0; g < groups_.size(); ++g) {
      Group& group = groups_[g];
      group.begin = group.end = num_gathered;
      double value;
      if (group.count > n / kCrowds && are_equal(map, n, grid, group.block << shift, 1 << shift, value)) {
        for (size_t at = group.from; at < group.to; ++at) out[order_[at]] = value;
        continue;
      }
      group_of_[group.block] = uint16_t(g);
      wanted_.push_back(int16_t(group.block));
      num_gathered += group.count;
    }
    values_.resize(num_gathered);
    gather(map, cells.data(), n, shift);
    for (const Group& group : groups_)
      if (group.begin < group.end)
        take(group.before, {values_.data() + group.begin, values_.data() + group.end},
             std::span(order_).subspan(group.from, group.to - group.from), ranks, out);
  }

  // Of four parts of the map in turn: neighbours often share a block, and would wait for each other. Takes 17 us in
  // place of 24 in order, with four counters a block.
  void count_blocks(const uint16_t* cells, size_t n, int shift) {
    counts_.assign(kBlocks, 0);
    uint32_t* const counts = counts_.data();
    const size_t part = n / 4;
    for (size_t i = 0; i < part; ++i)
      for (int turn = 0; turn < 4; ++turn) ++counts[cells[i + turn * part] >> shift];
    for (size_t i = 4 * part; i < n; ++i) ++counts[cells[i] >> shift];
  }

  // Which blocks hold a wanted rank, and how many values lie before each.
  void find_groups(std::span<const int64_t> ranks) {
    groups_.clear();
    int64_t before = 0;
    int block = 0;
    for (size_t at = 0; at < order_.size();) {
      while (before + counts_[block] <= ranks[order_[at]]) before += counts_[block++];
      const size_t from = at;
      while (at < order_.size() && ranks[order_[at]] < before + counts_[block]) ++at;
      groups_.push_back({block, counts_[block], before, from, at, 0, 0});
    }
  }

  // Whether all values of so many cells are the same, as on a plateau, and which one. For a crowded block that takes a
  // tenth of the time of gathering and sorting it.
  static bool are_equal(const double* map, size_t n, const Grid& grid, int first_cell, int num_cells, double& value) {
    const f64v first = splat(double(first_cell)), end = splat(double(first_cell + num_cells)),
               origin = splat(grid.least);
    f64v least = splat(std::numeric_limits<double>::infinity()), most = -least;
    size_t i = 0;
    for (; i + kLanes64 <= n; i += kLanes64) {
      const f64v v = load(map + i), cell = (v - origin) * grid.scale;
      least = min(cell >= first ? (cell < end ? v : least) : least, least);
      most = max(cell >= first ? (cell < end ? v : most) : most, most);
    }
    double low = least[0], high = most[0];
    for (int lane = 1; lane < kLanes64; ++lane) low = std::min(low, least[lane]), high = std::max(high, most[lane]);
    for (; i < n; ++i) {
      const int cell = grid.cell_clamped(map[i]);
      if (cell < first_cell || cell >= first_cell + num_cells) continue;
      low = std::min(low, map[i]), high = std::max(high, map[i]);
    }
    value = low;
    return low == high;
  }

  // Hands the values of the wanted blocks out to their groups. Whether a pixel is in one cannot be predicted: answers
  // as bits, by comparing 64 pixels with each wanted block, then only the few that are. For 20 blocks a third of the
  // time of looking up pixel by pixel whether its block is wanted.
  void gather(const double* map, const uint16_t* cells, size_t n, int shift) {
    const auto hand_out = [&](size_t begin, uint64_t bits) {
      for (; bits; bits &= bits - 1) {
        const size_t p = begin + std::countr_zero(bits);
        values_[groups_[group_of_[cells[p] >> shift]].end++] = map[p];
      }
    };
    size_t p = 0;
    for (; p + 64 <= n; p += 64) hand_out(p, in_wanted(cells + p, shift));
    uint16_t rest[64] = {};
    std::copy(cells + p, cells + n, rest);
    if (p < n) hand_out(p, in_wanted(rest, shift) & ((uint64_t(1) << (n - p)) - 1));
  }

  // Bit i: whether the block of cells[i] is wanted, for i in [0, 64).
  uint64_t in_wanted(const uint16_t* cells, int shift) const {
    constexpr int kVectors = 64 / kLanes16;
    static_assert(kBlocks <= Grid::kFewest / 2);  // blocks are shifted cells: none is negative
    i16v blocks[kVectors], differences[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      blocks[i] = (load(reinterpret_cast<const int16_t*>(cells) + i * kLanes16) >> shift) & int16_t(kBlocks - 1);
      differences[i] = splat(int16_t(INT16_MAX));
    }
    for (const int16_t wanted : wanted_) {
      const i16v each = splat(wanted);
      for (int i = 0; i < kVectors; ++i) differences[i] = min(differences[i], blocks[i] ^ each);
    }
    int16_t less_one[64];  // negative where a difference is 0
    for (int i = 0; i < kVectors; ++i) store(less_one + i * kLanes16, differences[i] - 1);
    return negative_bits64(less_one);
  }

  static void take(int64_t before, std::span<double> values, std::span<const size_t> wanted,
                   std::span<const int64_t> ranks, double* out) {
    auto from = values.begin();  // smaller ranks leave everything after them unsorted but larger
    for (const size_t which : wanted) {
      const auto at = values.begin() + (ranks[which] - before);
      if (at >= from) std::nth_element(from, at, values.end());
      out[which] = *at;
      from = at + 1;
    }
  }
};

// Offset and divisor from the numbers they are made of; `statistic(rank)` is the order statistic.
template <class Statistic>
Affine affine_of(const Extremes& extremes, const Ranks& ranks, Statistic&& statistic) {
  const double offset = ranks.offset == kZero ? 0 : ranks.offset == kExtreme ? extremes.least : statistic(ranks.offset);
  const double high = ranks.divisor == kExtreme ? extremes.most : statistic(ranks.divisor);
  const double divisor = high - offset;
  return std::isfinite(divisor) && divisor > 0 ? Affine{offset, divisor} : Affine{0, 0};
}

inline double score(double value, const Affine& affine) {
  return std::clamp((value - affine.offset) / affine.divisor, 0.0, 1.0);
}

// The score map; zeros if there is none.
inline void normalize(const double* map, size_t n, const Affine& affine, double* out) {
  if (affine.divisor == 0) {
    std::fill(out, out + n, 0.0);
    return;
  }
  const f64v offset = splat(affine.offset), divisor = splat(affine.divisor), zero{}, one = splat(1.0);
  size_t i = 0;
  for (; i + kLanes64 <= n; i += kLanes64) store(out + i, max(min((load(map + i) - offset) / divisor, one), zero));
  for (; i < n; ++i) out[i] = score(map[i], affine);
}

}  // namespace wsolkern
