// Where a hole may match the ground truth as no outer contour does: most maps then need no tree of holes, and of the
// others a few levels and rows are left.
//
// A pixel is part of a hole at level k if its own level is below k and every path of 4-connected pixels from it to the
// outside of the image has a pixel of level k or above. So a pixel is in holes only at levels above its own and up to
// the highest level of any path one likes to try. Here paths are tried from the pixels of a few rows, the lines:
// straight up, straight down, and along the line to where one of these is lower. A path up ends at the line above, from
// which the best one is known already.
//
// A hole whose border's box has an IoU of t with a ground-truth box has at least t times that one's rows in common with
// it: the intersection is as wide as the ground-truth box at most, and the union at least as large. In all of these
// rows the hole has pixels, as it is connected, but for one above and two below, which its border and `contour_box`
// add. So it crosses as many lines, one after the other, as that many rows have for certain. At a level with no such
// lines there is no such hole; nor does any reach beyond the next line that is not crossed.
//
// On the demo's 14 x 14 CAMs this rules out all levels of 77 maps of 114, in 4 us where a tree takes 37, and leaves 7 %
// of the levels and half of the rows of the others, whose trees take 15.
#pragma once

#include <bit>
#include <cmath>

#include "cpu/level_image.h"
#include "cpu/stop.h"
#include "shared/geometry.h"

namespace wsolkern {

struct LevelRange {
  int lowest = 1, highest = 0;

  bool is_empty() const { return lowest > highest; }
  void include(int level) {  // they come in order
    if (is_empty()) lowest = level;
    highest = level;
  }
};

// Levels and rows, all within.
struct Slab {
  LevelRange levels;
  int y0, y1;
};

class HoleBound {
 public:
  // All holes whose border's box reaches an IoU threshold that is lacking at their level are within the slab, and have
  // no pixels in its first and last row: what is open there is open to the outside. `lacking`: per level
  // k = 1 ... image.top, one bit for each IoU threshold.
  Slab find(const LevelImage& image, const GroundTruth& truth, const uint32_t* lacking) {
    LevelRange asked{1, image.top};
    while (!asked.is_empty() && !lacking[asked.lowest]) ++asked.lowest;
    while (!asked.is_empty() && !lacking[asked.highest]) --asked.highest;
    Slab slab{{}, 0, image.height - 1};
    if (asked.is_empty()) return slab;
    find_needs(image, truth);
    find_crossed(image, asked);
    uint64_t lines = 0, crossed = 0, of_matches = 0;
    uint32_t lacks = 0;
    for (int k = asked.lowest; k <= asked.highest; ++k) {
      if (lacking[k] != lacks || crossed_[k - asked.lowest] != crossed) {  // most levels are as the one before
        lacks = lacking[k];
        crossed = crossed_[k - asked.lowest];
        of_matches = lines_of_matches(crossed, lacks);
      }
      if (!of_matches) continue;
      slab.levels.include(k);
      lines |= of_matches;
    }
    if (!lines) return slab;
    const int before = std::countr_zero(lines) - 1, after = 64 - std::countl_zero(lines);
    if (before >= 0) slab.y0 = row_of(before, spacing_of(image));
    if (after < num_lines_of(image)) slab.y1 = row_of(after, spacing_of(image));
    return slab;
  }

  size_t bytes() const {
    return needs_.capacity() * sizeof(Need) + crossed_.capacity() * 8 +
           (between_.capacity() + below_.capacity() + reach_.capacity() + next_.capacity() + most_.capacity()) * 2;
  }

 private:
  static constexpr int kNumLines = 14;  // about; at most 27
  static constexpr int kFurthest = 64;  // pixels along a line at once
  static constexpr int kMargin = kFurthest + kLanes16;
  struct Need {
    uint64_t lines;  // those within a ground-truth box, one bit each
    int number;      // of those that a hole crosses, one after the other, if its border's box reaches ...
    int which;       // ... this IoU threshold with that box
  };
  std::vector<Need> needs_;
  std::vector<uint64_t> crossed_;   // per level from the lowest asked for: the lines where there may be holes
  AlignedVector<int16_t> between_;  // per line, and one more: the highest levels from the line before it to this one
  AlignedVector<int16_t> below_;    // per line: the highest levels down to the end of the image
  // Of one line, with margins of kOutside: the highest level on the way to the outside; the same, being made; and the
  // highest level of each pixel and those to its left.
  AlignedVector<int16_t> reach_, next_, most_;

  static int spacing_of(const LevelImage& image) { return std::max(image.height / kNumLines, 1); }
  static int num_lines_of(const LevelImage& image) {
    const int spacing = spacing_of(image);
    return (image.height - row_of(0, spacing) + spacing - 1) / spacing;
  }
  static int row_of(int line, int spacing) { return spacing / 2 + line * spacing; }

  void find_needs(const LevelImage& image, const GroundTruth& truth) {
    const int spacing = spacing_of(image);
    needs_.clear();
    for (size_t i = 0; i < truth.num_boxes; ++i) {
      const Box& box = truth.boxes[i];
      uint64_t lines = 0;
      for (int line = 0; line < num_lines_of(image); ++line) {
        const int y = row_of(line, spacing);
        lines |= uint64_t(box.y0 <= y && y <= box.y1) << line;
      }
      const double num_rows = std::max(box.y1 - box.y0 + 1, 0);
      for (size_t d = 0; d < truth.num_iou_thresholds; ++d) {
        const int common = int(std::ceil((1 - 1e-9) * truth.iou_thresholds[d] * num_rows));  // a margin for rounding
        needs_.push_back({lines, std::max(common - 3, 0) / spacing, int(d)});
      }
    }
  }

  // Those crossed at a level if a hole that crosses them may reach what is lacking there, else none; all lines if it
  // need not cross one.
  uint64_t lines_of_matches(uint64_t crossed, uint32_t lacking) const {
    uint64_t lines = 0;
    for (const Need& need : needs_)
      if (lacking >> need.which & 1 && has_in_a_row(crossed & need.lines, need.number))
        lines |= need.number ? crossed : ~uint64_t(0);
    return lines;
  }

  static bool has_in_a_row(uint64_t bits, int number) {
    if (number == 0) return true;
    for (; number > 1; number -= number / 2) bits &= bits >> (number / 2);
    return bits != 0;
  }

  void find_crossed(const LevelImage& image, const LevelRange& asked) {
    crossed_.assign(asked.highest - asked.lowest + 1, 0);
    const int width = (image.width + kLanes16 - 1) / kLanes16 * kLanes16;
    const int spacing = spacing_of(image), num_lines = num_lines_of(image);
    const auto below = [&](int i) { return below_.data() + size_t(i) * width; };
    const auto between = [&](int i) { return between_.data() + size_t(i) * width; };
    between_.assign(size_t(num_lines + 1) * width, kOutside);
    for (int i = 0, y = 0; i <= num_lines; ++i, ++y) {
      poll(kStepsPerClock);
      for (const int end = i < num_lines ? row_of(i, spacing) : image.height; y < end; ++y)
        raise(between(i), image.row(y), width);
    }
    below_.resize(size_t(num_lines) * width);
    std::copy_n(between(num_lines), width, below(num_lines - 1));
    for (int i = num_lines - 1; i > 0; --i) {
      std::copy_n(between(i), width, below(i - 1));
      raise(below(i - 1), image.row(row_of(i, spacing)), width);
      raise(below(i - 1), below(i), width);
    }
    for (auto* each : {&reach_, &next_, &most_}) each->assign(width + 2 * kMargin, kOutside);
    for (int i = 0; i < num_lines; ++i) {
      const int16_t* levels = image.row(row_of(i, spacing));
      int16_t *reach = reach_.data() + kMargin, *most = most_.data() + kMargin;
      // `reach` still has the line before, or the outside.
      raise(reach, between(i), width);
      for (int x = 0; x < width; x += kLanes16) {
        const i16v own = load(levels + x);
        store(reach + x, max(own, min(load(reach + x), load(below(i) + x))));
        store(most + x, own);
      }
      std::fill_n(most + width, kFurthest, kOutside);
      go_along(width);
      mark(levels, width, asked, uint64_t(1) << i);
    }
  }

  // out[i] = max(out[i], in[i]) for i < n, whole vectors of them.
  static void raise(int16_t* out, const int16_t* in, int n) {
    for (int i = 0; i < n; i += kLanes16) store(out + i, max(load(out + i), load(in + i)));
  }

  // Lowers `reach_` to the best of the paths along the line: from what is 1 pixel away, then 2, 4, ... `most_` holds
  // the highest level of as many pixels.
  void go_along(int width) {
    int16_t* const most = most_.data() + kMargin;
    for (int step = 1; step <= kFurthest; step *= 2) {
      const int16_t* from = reach_.data() + kMargin;
      int16_t* to = next_.data() + kMargin;
      for (int x = 0; x < width; x += kLanes16) {
        const i16v left = max(load(from + x - step), load(most + x));
        const i16v right = max(load(from + x + step), load(most + x + step - 1));
        store(to + x, min(load(from + x), min(left, right)));
      }
      std::swap(reach_, next_);
      for (int x = width + kFurthest - kLanes16; x >= 0; x -= kLanes16)
        store(most + x, max(load(most + x), load(most + x - step)));
    }
  }

  // Marks a line as crossed at the levels at which some pixel of it may be in a hole.
  void mark(const int16_t* levels, int width, const LevelRange& asked, uint64_t line) {
    const int16_t* reach = reach_.data() + kMargin;
    int16_t* own = next_.data() + kMargin;  // the level, within what is asked for; above all where no level is
    const i16v lowest = splat(int16_t(asked.lowest - 1)), highest = splat(int16_t(asked.highest));
    for (int x = 0; x < width; x += kLanes16) {
      const i16v level = load(levels + x);
      store(own + x, max(max(level, lowest), (level >= highest) & splat(int16_t(INT16_MAX))));
    }
    LevelRange range;  // of neighbouring pixels, whose levels overlap
    for (int base = 0; base < width; base += 64)
      for (uint64_t bits = greater_bits64(reach + base, own + base); bits; bits &= bits - 1) {
        const int x = base + std::countr_zero(bits);
        const int from = own[x] + 1, to = std::min<int>(reach[x], asked.highest);
        if (from > range.highest + 1 || to < range.lowest - 1) {
          mark(range, asked, line);
          range = {from, to};
        } else {
          range = {std::min(range.lowest, from), std::max(range.highest, to)};
        }
      }
    mark(range, asked, line);
  }
  void mark(const LevelRange& range, const LevelRange& asked, uint64_t line) {
    for (int k = range.lowest; k <= range.highest; ++k) crossed_[k - asked.lowest] |= line;
  }
};

}  // namespace wsolkern
