// The component tree of one level image: every contour of every level, from which the box metrics are read.
//
// Outer contours are the 8-connected components of {level >= k}; hole borders are the bounded 4-connected components of
// {level < k}, which are the components of the inverted image. Both come from the same four steps (runs.h, basins.h,
// branches.h, boxes.h), once with each connectivity; largest.h then picks MaxBoxAcc's contour.
#pragma once

#include "cpu/tree/largest.h"

namespace wsolkern {

class ComponentTree {
 public:
  // Per level k = 1 ... image.top: which IoU thresholds are reached (one bit each) by the largest contour's box and by
  // any contour's box. `largest` and `all` hold image.top + 1 values; either may be null.
  void box_hits(const LevelImage& image, const GroundTruth& truth, uint32_t* largest, uint32_t* all) {
    const int top = image.top;
    // With outer contours alone first: a level that none of them hits is not hit by the largest either.
    outer_hits_.assign(top + 1, 0);
    pieces_.clear();
    walk_outer(
        image, [&](const Extent& extent) { return truth.within_reach(contour_box(extent, image.width, image.height)); },
        [&](int lowest, int highest, const Extent& extent) {
          const uint32_t hits = truth.hits(contour_box(extent, image.width, image.height));
          if (hits)
            for (int k = lowest; k <= highest; ++k) outer_hits_[k] |= hits;
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
      walk_holes(
          image,
          [&](const Extent& extent) { return truth.within_reach(contour_box(extent, image.width, image.height)); },
          [&](int lowest, int highest, const Extent& extent) {
            if (const uint32_t hits = truth.hits(contour_box(extent, image.width, image.height)))
              for (int k = lowest; k <= highest; ++k) all[k] |= hits;
          });
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
    pieces_.clear();
    const auto every = [](const Extent&) { return true; };
    walk_outer(image, every, [&](int lowest, int highest, const Extent& extent) -> uint32_t {
      if (!only_largest) visit(lowest, highest, extent);
      return 0;
    });
    if (!only_largest)
      walk_holes(image, every, visit_hole);
    else if (image.top)
      LargestSearch(image, runs_, basins_, branches_, pieces_, areas_)
          .find(1, image.top, false,
                [&](int lowest, int highest, const Piece& piece) { visit(lowest, highest, piece.extent); });
  }

  size_t bytes() const {
    return inverted_.bytes() + runs_.bytes() + basins_.bytes() + branches_.bytes() + silhouettes_.bytes() +
           pieces_.bytes() + areas_.bytes() + outer_hits_.capacity() * 4;
  }

 private:
  LevelImage inverted_;
  Runs runs_;
  Basins basins_;
  Branches branches_;
  Silhouettes silhouettes_;
  Pieces pieces_;
  Areas areas_;
  std::vector<uint32_t> outer_hits_;

  // hits = visit(lowest, highest, extent) for the boxes of every branch whose loosest extent is worth it; notes
  // `pieces_`.
  template <class Worth, class Visit>
  void walk_outer(const LevelImage& image, Worth&& worth, Visit&& visit) {
    find_runs(image, runs_);
    find_basins<Connectivity::eight>(image, runs_, basins_);
    branches_.grow(image, runs_, basins_, false);
    silhouettes_.reset(branches_.at.size());
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

  // visit(lowest, highest, extent) for every hole whose loosest extent is worth it. A hole's border runs through the
  // pixels around it, hence the extent grown by one; holes never reach the edge, so it stays inside.
  template <class Worth, class Visit>
  void walk_holes(const LevelImage& image, Worth&& worth, Visit&& visit) {
    const int top = image.top;
    inverted_.invert(image);
    find_runs(inverted_, runs_);
    find_basins<Connectivity::four>(inverted_, runs_, basins_);
    branches_.grow(inverted_, runs_, basins_, true);
    silhouettes_.reset(branches_.at.size());
    const auto grown = [](const Extent& e) { return Extent{e.x0 - 1, e.y0 - 1, e.x1 + 1, e.y1 + 1}; };
    for (const uint32_t b : branches_.order) {
      poll();
      const Branch& branch = branches_.at[b];
      if (branch.peak == branch.join || !worth(grown(branch.extent))) continue;
      silhouettes_.walk(inverted_, runs_, basins_, branches_, b, [&](int lowest, int highest, const Extent& extent) {
        visit(top + 1 - highest, top + 1 - lowest, grown(extent));  // level j of the inverted image is k = top + 1 - j
      });
    }
  }
};

}  // namespace wsolkern
