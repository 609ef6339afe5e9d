// Boxes and how well they match the ground truth; the same on the host and on a device.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define WSOLKERN_BOTH __host__ __device__  // compiled for the host and for the device
#else
#define WSOLKERN_BOTH
#endif

namespace wsolkern {

struct Extent {
  int x0, y0, x1, y1;  // inclusive
  WSOLKERN_BOTH void include(const Extent& other) {
    if (other.x0 < x0) x0 = other.x0;
    if (other.y0 < y0) y0 = other.y0;
    if (other.x1 > x1) x1 = other.x1;
    if (other.y1 > y1) y1 = other.y1;
  }
};

struct Box {
  int x0, y0, x1, y1;
};

// The box of a contour as the metrics use it: one past the last column and row, unless that lies outside.
WSOLKERN_BOTH inline Box contour_box(const Extent& extent, int width, int height) {
  return {extent.x0, extent.y0, extent.x1 + 1 < width ? extent.x1 + 1 : width - 1,
          extent.y1 + 1 < height ? extent.y1 + 1 : height - 1};
}

WSOLKERN_BOTH inline int64_t box_area(const Box& box) { return int64_t(box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1); }

WSOLKERN_BOTH inline int64_t intersection(const Box& a, const Box& b) {
  const int width = (a.x1 < b.x1 ? a.x1 : b.x1) - (a.x0 > b.x0 ? a.x0 : b.x0) + 1;
  const int height = (a.y1 < b.y1 ? a.y1 : b.y1) - (a.y0 > b.y0 ? a.y0 : b.y0) + 1;
  return width > 0 && height > 0 ? int64_t(width) * height : 0;
}

WSOLKERN_BOTH inline double iou(const Box& a, const Box& b) {
  const int64_t common = intersection(a, b), joint = box_area(a) + box_area(b) - common;
  return joint > 0 ? double(common) / double(joint) : 0;
}

// Ground-truth boxes of one map: how well does a box match any of them?
struct TruthBoxes {
  const Box* boxes;
  size_t num_boxes;

  // The best IoU of `box` with any of them.
  WSOLKERN_BOTH double best_iou(const Box& box) const {
    double most = 0;
    for (size_t i = 0; i < num_boxes; ++i) {
      const double reached = iou(box, boxes[i]);
      if (reached > most) most = reached;
    }
    return most;
  }

  // No box inside `loosest` has a better IoU than this: its intersection with a ground-truth box is at most that of
  // `loosest`, and the union at least the ground-truth box. Rounding keeps the order of quotients.
  WSOLKERN_BOTH double most_iou(const Box& loosest) const {
    double most = 0;
    for (size_t i = 0; i < num_boxes; ++i) {
      const double reached = double(intersection(loosest, boxes[i])) / double(box_area(boxes[i]));
      if (reached > most) most = reached;
    }
    return most;
  }
};

// The same with IoU thresholds: which of them does a box reach with any of its boxes?
struct GroundTruth : TruthBoxes {
  const double* iou_thresholds;
  size_t num_iou_thresholds;  // at most 32
  double least;               // of the IoU thresholds

  WSOLKERN_BOTH GroundTruth(const Box* boxes, size_t num_boxes, const double* iou_thresholds, size_t num_iou_thresholds)
      : TruthBoxes{boxes, num_boxes},
        iou_thresholds(iou_thresholds),
        num_iou_thresholds(num_iou_thresholds),
        least(iou_thresholds[0]) {
    for (size_t d = 1; d < num_iou_thresholds; ++d)
      if (iou_thresholds[d] < least) least = iou_thresholds[d];
  }

  // One bit per IoU threshold.
  WSOLKERN_BOTH uint32_t hits(const Box& box) const { return reached(best_iou(box)); }

  // What a box inside `loosest` can hit at most.
  WSOLKERN_BOTH uint32_t hits_within(const Box& loosest) const { return reached(most_iou(loosest)); }

  WSOLKERN_BOTH uint32_t reached(double most) const {
    uint32_t bits = 0;
    for (size_t d = 0; d < num_iou_thresholds; ++d) bits |= uint32_t(most >= iou_thresholds[d]) << d;
    return bits;
  }

  // False if no box inside `loosest` can reach even the least IoU threshold. As `most_iou`, without a division; the
  // margin covers rounding.
  WSOLKERN_BOTH bool within_reach(const Box& loosest) const {
    for (size_t i = 0; i < num_boxes; ++i)
      if (double(intersection(loosest, boxes[i])) >= least * (1 - 1e-9) * double(box_area(boxes[i]))) return true;
    return false;
  }
};

}  // namespace wsolkern
