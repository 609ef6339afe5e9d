// The component tree of one level image: every contour of every level, from which the box metrics are read.
//
// Outer contours are the 8-connected components of {level >= k}; hole borders are the bounded 4-connected components of
// {level < k}, which are the components of the inverted image. Both come from the same four steps (runs.h, basins.h,
// branches.h, boxes.h), once with each connectivity; largest.h then picks MaxBoxAcc's contour.
#pragma once

#include <array>

#include "cpu/tree/hole_bound.h"
#include "cpu/tree/largest.h"
#include "cpu/tree/sweep.h"

namespace wsolkern {

class ComponentTree {
 public:
  // Per level k = 1 ... image.top: which IoU thresholds are reached (one bit each) by the largest contour's box and by
  // any contour's box. `largest` and `all` hold image.top + 1 values; either may be null.
  void box_hits(const LevelImage& image, const GroundTruth& truth, uint32_t* largest, uint32_t* all) {
    const int top = image.top;
    // With outer contours alone first: a level that none of them hits is not hit by the largest either.
    outer_hits_.assign(top + 1, 0);
    in_reach_.assign(top + 1, 0);
    grow_outer(image);
    walk_outer(
        image, [&](const Extent& extent) { return truth.within_reach(contour_box(extent, image.width, image.height)); },
        [&](int lowest, int highest, const Extent& extent) {
          const Box box = contour_box(extent, image.width, image.height);
          const uint32_t in_reach = truth.hits_within(box);
          if (!in_reach) return in_reach;  // and no hits
          const uint32_t hits = truth.hits(box);
          for (int k = lowest; k <= highest; ++k) {
            outer_hits_[k] |= hits;
            in_reach_[k] |= in_reach;
          }
          return hits;
        });
    if (largest) {
      std::fill(largest, largest + top + 1, 0);
      LargestSearch search(image, runs_, basins_, branches_, pieces_, areas_);
      for (int highest = top; highest > 0;) {
        if (!outer_hits_[highest]) {
          --highest;
          continue;
        }
        int lowest = highest;
        while (lowest > 1 && outer_hits_[lowest - 1]) --lowest;
        search.find(lowest, highest, true, [&](int from, int to, const Piece& piece) {
          std::fill(largest + from, largest + to + 1, piece.hits);
        });
        highest = lowest - 1;
      }
    }
    if (all) {
      std::copy(outer_hits_.begin(), outer_hits_.end(), all);
      // A hole is within an outer component, and its border's box within that one's.
      for (int k = 1; k <= top; ++k) in_reach_[k] &= ~outer_hits_[k];
      const Slab open = hole_bound_.find(image, truth, in_reach_.data());
      if (open.levels.is_empty()) return;
      walk_holes(
          image, open,
          [&](const Extent& extent) { return truth.within_reach(contour_box(extent, image.width, image.height)); },
          [&](int lowest, int highest, const Extent& extent) {
            if (const uint32_t hits = truth.hits(contour_box(extent, image.width, image.height)))
              for (int k = lowest; k <= highest; ++k) all[k] |= hits;
          });
    }
  }

  // Per level k = 1 ... image.top the best IoU, with any ground-truth box, of the largest contour's box and of any
  // contour's box. As above.
  void box_ious(const LevelImage& image, const TruthBoxes& truth, double* largest, double* all) {
    const int top = image.top;
    if (all) std::fill(all, all + top + 1, 0);
    const auto best_iou = [&](const Extent& extent) {
      return truth.best_iou(contour_box(extent, image.width, image.height));
    };
    grow_outer(image);
    if (largest && !are_many()) {
      walk_outer(
          image, [](const Extent&) { return true; },
          [&](int lowest, int highest, const Extent& extent) -> uint32_t {
            if (all) raise(all + lowest, highest - lowest + 1, best_iou(extent));
            return 0;
          });
      if (top)
        LargestSearch(image, runs_, basins_, branches_, pieces_, areas_)
            .find(1, top, false, [&](int lowest, int highest, const Piece& piece) {
              std::fill(largest + lowest, largest + highest + 1, best_iou(piece.extent));
            });
    } else {
      if (largest)
        sweep_.find(image, runs_, basins_, branches_, [&](int lowest, int highest, const Extent& extent) {
          std::fill(largest + lowest, largest + highest + 1, best_iou(extent));
        });
      if (all)
        raise_ious(
            image, truth, [](const Extent& extent) { return extent; }, [](int lowest, int) { return lowest; }, all);
    }
    if (all) {
      grow_holes(image, whole(image));
      raise_ious(inverted_, truth, hole_border, [top](int, int highest) { return top + 1 - highest; }, all);
    }
  }

  // Calls visit(lowest, highest, box) for every contour's box over a range of levels; or, if `only_largest`, for the
  // largest contour's box, with the ranges covering 1 ... image.top.
  template <class Visit>
  void boxes(const LevelImage& image, bool only_largest, Visit&& visit) {
    const auto visit_extent = [&](int lowest, int highest, const Extent& extent) {
      visit(lowest, highest, contour_box(extent, image.width, image.height));
    };
    extents(image, only_largest, visit_extent, visit_extent);
  }

  // The same with what each contour extends over; hole borders are visited by `visit_hole`.
  template <class Visit, class VisitHole>
  void extents(const LevelImage& image, bool only_largest, Visit&& visit, VisitHole&& visit_hole) {
    if (only_largest) {
      largest_extents(image, visit);
      return;
    }
    grow_outer(image);
    const auto every = [](const Extent&) { return true; };
    walk_outer(image, every, [&](int lowest, int highest, const Extent& extent) -> uint32_t {
      visit(lowest, highest, extent);
      return 0;
    });
    walk_holes(image, whole(image), every, visit_hole);
  }

  // Per level k = 1 ... image.top the box of the largest contour and the number of all, outer and hole borders.
  // `boxes` and `num_contours` have room for image.top + 2.
  void localize(const LevelImage& image, Box* boxes, int32_t* num_contours) {
    largest_extents(image, [&](int lowest, int highest, const Extent& extent) {
      std::fill(boxes + lowest, boxes + highest + 1, contour_box(extent, image.width, image.height));
    });
    // First by how much the numbers differ from those of the level below.
    std::fill(num_contours, num_contours + image.top + 2, 0);
    for (const uint32_t b : branches_.order) {
      ++num_contours[branches_.at[b].join + 1];
      --num_contours[branches_.at[b].peak + 1];
    }
    grow_holes(image, whole(image));
    for (const uint32_t b : branches_.order) {  // level j of the inverted image is k = top + 1 - j
      ++num_contours[image.top + 1 - branches_.at[b].peak];
      --num_contours[image.top + 1 - branches_.at[b].join];
    }
    std::partial_sum(num_contours, num_contours + image.top + 1, num_contours);
  }

  size_t bytes() const {
    return inverted_.bytes() + runs_.bytes() + basins_.bytes() + branches_.bytes() + silhouettes_.bytes() +
           pieces_.bytes() + areas_.bytes() + sweep_.bytes() + hole_bound_.bytes() +
           (outer_hits_.capacity() + in_reach_.capacity()) * 4 +
           (matches_[0].capacity() + matches_[1].capacity() + matches_[2].capacity()) * sizeof(Match);
  }

 private:
  LevelImage inverted_;
  Runs runs_;
  Basins basins_;
  Branches branches_;
  Silhouettes silhouettes_;
  Pieces pieces_;
  Areas areas_;
  LargestSweep sweep_;
  HoleBound hole_bound_;
  std::vector<uint32_t> outer_hits_;
  std::vector<uint32_t> in_reach_;  // per level: what a box within an outer contour's box may reach, one bit each
  static constexpr size_t kManyBranches = 500;  // about 5 times those of a CAM: following all costs less than a search
  static constexpr std::array<double, 3> kRounds = {1. / 4, 1. / 64, 0};
  struct Match {
    uint32_t branch;
    double most_iou;
  };
  std::vector<Match> matches_[kRounds.size()];  // scratch

  // A hole's border runs through the pixels around it; holes never reach the edge, so it stays inside.
  static Extent hole_border(const Extent& e) { return {e.x0 - 1, e.y0 - 1, e.x1 + 1, e.y1 + 1}; }

  // The branches of outer contours.
  void grow_outer(const LevelImage& image) {
    find_runs(image, runs_);
    find_basins<Connectivity::eight>(image, runs_, basins_);
    branches_.grow(image, runs_, basins_, false);
    silhouettes_.reset(branches_.at.size());
  }

  static Slab whole(const LevelImage& image) { return {{1, image.top}, 0, image.height - 1}; }

  // The branches of the holes in a slab, in `inverted_`, whose level j is level slab.levels.highest + 1 - j of the
  // image and whose first row is row slab.y0.
  void grow_holes(const LevelImage& image, const Slab& slab) {
    inverted_.invert(image, slab.levels.lowest, slab.levels.highest, slab.y0, slab.y1);
    find_runs(inverted_, runs_);
    find_basins<Connectivity::four>(inverted_, runs_, basins_);
    branches_.grow(inverted_, runs_, basins_, true);
    silhouettes_.reset(branches_.at.size());
  }

  bool are_many() const { return branches_.order.size() > kManyBranches; }

  // hits = visit(lowest, highest, extent) for the boxes of every grown branch whose loosest extent is worth it; notes
  // `pieces_`.
  template <class Worth, class Visit>
  void walk_outer(const LevelImage& image, Worth&& worth, Visit&& visit) {
    pieces_.clear();
    for (const uint32_t b : branches_.order) {
      poll();
      const Branch& branch = branches_.at[b];
      if (branch.peak == branch.join) continue;
      const uint32_t first = uint32_t(pieces_.all.size());
      if (worth(branch.extent))
        silhouettes_.walk(image, runs_, basins_, branches_, b, [&](int lowest, int highest, const Extent& extent) {
          pieces_.all.push_back({lowest, highest, extent, visit(lowest, highest, extent), false});
        });
      else
        pieces_.all.push_back({branch.join + 1, branch.peak, branch.extent, 0, true});
      pieces_.ranges.push_back({b, first, uint32_t(pieces_.all.size())});
    }
  }

  // visit(lowest, highest, extent) for every hole in a slab whose loosest extent is worth it, with the extents of their
  // borders.
  template <class Worth, class Visit>
  void walk_holes(const LevelImage& image, const Slab& slab, Worth&& worth, Visit&& visit) {
    grow_holes(image, slab);
    const auto border = [&](const Extent& extent) {
      return hole_border({extent.x0, extent.y0 + slab.y0, extent.x1, extent.y1 + slab.y0});
    };
    const int above = slab.levels.highest + 1;
    for (const uint32_t b : branches_.order) {
      poll();
      const Branch& branch = branches_.at[b];
      if (branch.peak == branch.join || !worth(border(branch.extent))) continue;
      silhouettes_.walk(inverted_, runs_, basins_, branches_, b, [&](int lowest, int highest, const Extent& extent) {
        visit(above - highest, above - lowest, border(extent));
      });
    }
  }

  // visit(lowest, highest, extent) for the largest component, with the ranges covering 1 ... image.top.
  template <class Visit>
  void largest_extents(const LevelImage& image, Visit&& visit) {
    grow_outer(image);
    if (are_many()) {
      sweep_.find(image, runs_, basins_, branches_, visit);
      return;
    }
    walk_outer(image, [](const Extent&) { return true; }, [](int, int, const Extent&) -> uint32_t { return 0; });
    if (image.top)
      LargestSearch(image, runs_, basins_, branches_, pieces_, areas_)
          .find(1, image.top, false,
                [&](int lowest, int highest, const Piece& piece) { visit(lowest, highest, piece.extent); });
  }

  static void raise(double* values, int n, double to) {
    for (int i = 0; i < n; ++i) values[i] = std::max(values[i], to);
  }

  // Raises ious[k] of every level to the best of the contours of all branches, whose extents are border_of(extent) and
  // whose lowest level is level_of(their lowest, their highest). A branch that cannot match better at any of its levels
  // than what is found already is passed by. Hence the rounds: those that may match well come first, and of the many
  // others most are passed by. Within a round branches keep their order, in which silhouettes are drawn upon another.
  template <class BorderOf, class LevelOf>
  void raise_ious(const LevelImage& image, const TruthBoxes& truth, BorderOf&& border_of, LevelOf&& level_of,
                  double* ious) {
    const auto box_of = [&](const Extent& extent) { return contour_box(border_of(extent), image.width, image.height); };
    for (auto& each : matches_) each.clear();
    for (const uint32_t b : branches_.order) {
      const Branch& branch = branches_.at[b];
      if (branch.peak == branch.join) continue;
      const double most = truth.most_iou(box_of(branch.extent));
      if (most > 0) matches_[most >= kRounds[0] ? 0 : most >= kRounds[1] ? 1 : 2].push_back({b, most});
    }
    for (const std::vector<Match>& round : matches_)
      for (const Match& match : round) {
        const Branch& branch = branches_.at[match.branch];
        poll();
        if (!any_below(ious + level_of(branch.join + 1, branch.peak), branch.peak - branch.join, match.most_iou))
          continue;
        silhouettes_.walk(
            image, runs_, basins_, branches_, match.branch, [&](int lowest, int highest, const Extent& extent) {
              raise(ious + level_of(lowest, highest), highest - lowest + 1, truth.best_iou(box_of(extent)));
            });
      }
  }
};

}  // namespace wsolkern
