// Boxes by other rules than the published evaluation's: which component counts as the largest, and what its box is.
//
// The contours of findContours come from the component tree. Where the largest component is the one of most pixels, or
// of the largest box, the same four steps (runs.h, basins.h, branches.h, boxes.h) are walked here, with 8 or 4
// neighbours. A pixel of level v is first counted by the branch that its basin is part of at v, and from there on
// downward: by that branch as far as it goes, then, as one of the whole branch, by the one that it joins. So sums from
// the highest level down, branches that join before those they join, count every component at every level.
#pragma once

#include "cpu/tree/component_tree.h"

namespace wsolkern {

enum class Largest { contour_area, pixel_count, box_area };
enum class FarEdge { clipped, past, last };

struct BoxRule {
  Largest largest;
  bool first_of_ties;  // by the first pixel in raster order; contours: always the last
  Connectivity connectivity;
  bool hole_borders;  // count as contours where all do
  FarEdge far_edge;
  bool inclusive;  // widths of the IoU are x1 - x0 + 1
  Box empty;       // where nothing is foreground
};

class RuleTree {
 public:
  LevelImage image;

  // Per level k = 1 ... image.top, and for image.top + 1, above which nothing is foreground: the best IoU of the
  // largest component's box, and of any contour's box, with any box of the truth. Either may be null.
  void best_ious(const BoxRule& rule, std::span<const Box> truth, double* largest, double* all) {
    const auto reached = [&](const Extent& extent) { return best_iou(rule, box_of(rule, extent), truth); };
    const auto raise = [&](double* ious, int lowest, int highest, const Extent& extent) {
      const double iou = reached(extent);
      for (int k = lowest; k <= highest; ++k) ious[k] = std::max(ious[k], iou);
    };
    for (double* ious : {largest, all}) {
      if (!ious) continue;
      std::fill(ious, ious + image.top + 1, 0);
      ious[image.top + 1] = best_iou(rule, rule.empty, truth);
    }
    if (largest && rule.largest == Largest::contour_area)
      tree_.extents(
          image, true, [&](int lowest, int highest, const Extent& extent) { raise(largest, lowest, highest, extent); },
          [](int, int, const Extent&) {});
    if (all || rule.largest != Largest::contour_area)
      rule.connectivity == Connectivity::eight ? walk<Connectivity::eight>() : walk<Connectivity::four>();
    if (all) {
      for (const Walked& each : walked_) raise(all, each.lowest, each.highest, each.extent);
    }
    if (largest && rule.largest != Largest::contour_area) {
      find_winners(rule);
      for (const Walked& each : walked_)
        for (int k = each.lowest; k <= each.highest; ++k)
          if (winner_[k] == each.branch) largest[k] = reached(each.extent);
    }
    if (all && rule.hole_borders)  // last: it walks the tree's own inverted image
      tree_.extents(
          image, false, [](int, int, const Extent&) {},
          [&](int lowest, int highest, const Extent& extent) { raise(all, lowest, highest, extent); });
  }

  // Per level k = 1 ... image.top, and for image.top + 1: the largest component's box, and how many contours there are.
  void localize(const BoxRule& rule, Box* boxes, int32_t* num_contours) {
    boxes[image.top + 1] = rule.empty;
    std::fill(num_contours, num_contours + image.top + 2, 0);
    const auto count = [&](int lowest, int highest, const Extent&) {
      for (int k = lowest; k <= highest; ++k) ++num_contours[k];
    };
    if (rule.largest == Largest::contour_area)
      tree_.extents(
          image, true,
          [&](int lowest, int highest, const Extent& extent) {
            std::fill(boxes + lowest, boxes + highest + 1, box_of(rule, extent));
          },
          [](int, int, const Extent&) {});
    rule.connectivity == Connectivity::eight ? walk<Connectivity::eight>() : walk<Connectivity::four>();
    for (const Walked& each : walked_) count(each.lowest, each.highest, each.extent);
    if (rule.largest != Largest::contour_area) {
      find_winners(rule);
      for (const Walked& each : walked_)
        for (int k = each.lowest; k <= each.highest; ++k)
          if (winner_[k] == each.branch) boxes[k] = box_of(rule, each.extent);
    }
    if (rule.hole_borders)  // last: it walks the tree's own inverted image
      tree_.extents(image, false, [](int, int, const Extent&) {}, count);
  }

  size_t bytes() const {
    return image.bytes() + tree_.bytes() + runs_.bytes() + basins_.bytes() + branches_.bytes() + silhouettes_.bytes() +
           walked_.capacity() * sizeof(Walked) + (counts_.capacity() + most_.capacity()) * 8 +
           begin_.capacity() * sizeof(size_t) + winner_.capacity() * 4;
  }

 private:
  struct Walked {
    uint32_t branch;
    int lowest, highest;
    Extent extent;
  };
  static constexpr uint32_t kNobody = UINT32_MAX;
  ComponentTree tree_;
  Runs runs_;
  Basins basins_;
  Branches branches_;
  Silhouettes silhouettes_;
  std::vector<Walked> walked_;    // every component's extent over the levels that it has it
  std::vector<int64_t> counts_;   // per branch, from `begin_` on: the pixels at its levels, from the lowest up
  std::vector<size_t> begin_;     // per branch
  std::vector<int64_t> most_;     // per level: what the largest component has
  std::vector<uint32_t> winner_;  // per level: the branch that it is of

  Box box_of(const BoxRule& rule, const Extent& extent) const {
    if (rule.far_edge == FarEdge::clipped) return contour_box(extent, image.width, image.height);
    const int beyond = rule.far_edge == FarEdge::past;
    return {extent.x0, extent.y0, extent.x1 + beyond, extent.y1 + beyond};
  }

  static double best_iou(const BoxRule& rule, const Box& box, std::span<const Box> truth) {
    const int more = rule.inclusive;
    const auto area = [more](int x0, int y0, int x1, int y1) {
      return int64_t(std::max(0, x1 - x0 + more)) * std::max(0, y1 - y0 + more);
    };
    double best = 0;
    for (const Box& other : truth) {
      const int64_t common = area(std::max(box.x0, other.x0), std::max(box.y0, other.y0), std::min(box.x1, other.x1),
                                  std::min(box.y1, other.y1));
      const int64_t joint =
          area(box.x0, box.y0, box.x1, box.y1) + area(other.x0, other.y0, other.x1, other.y1) - common;
      if (joint > 0) best = std::max(best, double(common) / double(joint));
    }
    return best;
  }

  template <Connectivity connectivity>
  void walk() {
    find_runs(image, runs_);
    find_basins<connectivity>(image, runs_, basins_);
    branches_.grow(image, runs_, basins_, false);
    silhouettes_.reset(branches_.at.size());
    walked_.clear();
    for (const uint32_t b : branches_.order) {
      poll();
      if (branches_.at[b].peak == branches_.at[b].join) continue;
      silhouettes_.walk(image, runs_, basins_, branches_, b, [&](int lowest, int highest, const Extent& extent) {
        walked_.push_back({b, lowest, highest, extent});
      });
    }
  }

  void count_pixels() {
    begin_.resize(branches_.at.size());
    size_t num_counts = 0;
    for (size_t b = 0; b < begin_.size(); ++b) {
      begin_[b] = num_counts;
      num_counts += branches_.at[b].peak - branches_.at[b].join;
    }
    counts_.assign(num_counts, 0);
    const auto count = [&](uint32_t b, int level) -> int64_t& {
      return counts_[begin_[b] + level - branches_.at[b].join - 1];
    };
    for (int y = 0; y < image.height; ++y) {
      poll();
      const int16_t* levels = image.row(y);
      for (uint32_t run = runs_.row_begin[y]; run + 1 < runs_.row_begin[y + 1]; ++run) {
        const uint32_t basin = basins_.of_run[run];
        for (int x = runs_.start[run]; x < runs_.start[run + 1]; ++x)
          if (levels[x] > 0) ++count(branches_.at_level(basin, levels[x]), levels[x]);
      }
    }
    for (const uint32_t b : branches_.order) {
      const Branch& branch = branches_.at[b];
      if (branch.peak == branch.join) continue;
      for (int level = branch.peak - 1; level > branch.join; --level) count(b, level) += count(b, level + 1);
      if (branch.join > 0)
        count(branches_.at_level(branch.parent, branch.join), branch.join) += count(b, branch.join + 1);
    }
  }

  void find_winners(const BoxRule& rule) {
    const bool by_pixels = rule.largest == Largest::pixel_count;
    if (by_pixels) count_pixels();
    most_.assign(image.top + 2, -1);
    winner_.assign(image.top + 2, kNobody);
    for (const Walked& each : walked_) {
      poll();
      const Extent& box = each.extent;
      const int64_t box_area = int64_t(box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1);
      for (int k = each.lowest; k <= each.highest; ++k) {
        const int64_t size =
            by_pixels ? counts_[begin_[each.branch] + k - branches_.at[each.branch].join - 1] : box_area;
        if (size < most_[k]) continue;
        if (size == most_[k] && is_earlier(each.branch, winner_[k], k) != rule.first_of_ties) continue;
        most_[k] = size;
        winner_[k] = each.branch;
      }
    }
  }

  // Whether the first pixel of branch i's component comes before branch j's in raster order.
  bool is_earlier(uint32_t i, uint32_t j, int level) const {
    const Pixel a = first_pixel(image, runs_, basins_, branches_, i, level);
    const Pixel b = first_pixel(image, runs_, basins_, branches_, j, level);
    return a.y < b.y || (a.y == b.y && a.x < b.x);
  }
};

}  // namespace wsolkern
