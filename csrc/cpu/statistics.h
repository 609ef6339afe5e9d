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
    size_t total = (order_.capacity() + values_.capacity()) * 8 + counts_.capacity() * 4 + group_of_.capacity() * 2 +
                   is_wanted_.capacity() + sample_.capacity() * 2;
    for (const Group& group : groups_) total += sizeof group + group.values.capacity() * 8;
    return total;
  }

 private:
  // Ranks are looked for in blocks of cells, few enough that their counters stay in the nearest cache.
  static constexpr size_t kFewRanks = 4, kFewValues = 256;
  static constexpr size_t kPiece = 32, kOneIn = 16;  // of pixels; the sample has one piece in so many
  static constexpr int kTurnsBySample = 6;           // then by halves, which ends for sure
  static constexpr double kBeyond = 2;               // values of the sample
  static constexpr int kBlocks = 1 << 12;
  struct Group {  // the values of one block in which ranks are wanted
    int64_t before;
    size_t from, to;  // of `order_`: the wanted ranks
    size_t filled;
    std::vector<double> values;
  };
  std::vector<size_t> order_;
  std::vector<double> values_;
  std::vector<int16_t> sample_;
  std::vector<uint32_t> counts_;
  std::vector<uint16_t> group_of_;  // per block in which ranks are wanted
  std::vector<uint8_t> is_wanted_;  // per block: 1 if so
  std::vector<Group> groups_;
  size_t num_groups_ = 0;

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
    // Four counters a block, taken in turn: neighbours often share a block, and would wait for each other.
    const int shift = std::countr_zero(unsigned(grid.num_cells / kBlocks));
    const auto block_of = [&](size_t p) { return cells[p] >> shift; };
    counts_.assign(4 * kBlocks, 0);
    uint32_t* const counts = counts_.data();
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int turn = 0; turn < 4; ++turn) ++counts[4 * block_of(i + turn) + turn];
    for (; i < n; ++i) ++counts[4 * block_of(i)];

    // Which blocks hold a wanted rank, and how many values lie before each.
    group_of_.resize(kBlocks);
    is_wanted_.assign(kBlocks, 0);
    num_groups_ = 0;
    int64_t before = 0;
    int block = 0;
    for (size_t at = 0; at < order_.size();) {
      const auto count = [&] {
        const uint32_t* const each = counts + 4 * block;
        return int64_t(each[0] + each[1] + each[2] + each[3]);
      };
      while (before + count() <= ranks[order_[at]]) before += count(), ++block;
      if (num_groups_ == groups_.size()) groups_.emplace_back();
      Group& group = groups_[num_groups_++];
      group.before = before;
      group.from = at;
      while (at < order_.size() && ranks[order_[at]] < before + count()) ++at;
      group.to = at;
      group.values.resize(count());
      group.filled = 0;
      group_of_[block] = uint16_t(num_groups_ - 1);
      is_wanted_[block] = 1;
    }
    // Whether a pixel is in such a block cannot be predicted: answers as bits, then only the few that are.
    const auto hand_out = [&](size_t p) {
      Group& group = groups_[group_of_[block_of(p)]];
      group.values[group.filled++] = map[p];
    };
    size_t p = 0;
    for (; p + 32 <= n; p += 32) {
      uint32_t bits = 0;
      for (int j = 0; j < 32; ++j) bits |= uint32_t(is_wanted_[block_of(p + j)]) << j;
      for (; bits; bits &= bits - 1) hand_out(p + std::countr_zero(bits));
    }
    for (; p < n; ++p)
      if (is_wanted_[block_of(p)]) hand_out(p);
    for (size_t g = 0; g < num_groups_; ++g) {
      Group& group = groups_[g];
      take(group.before, {group.values.data(), group.filled},
           std::span(order_).subspan(group.from, group.to - group.from), ranks, out);
    }
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
