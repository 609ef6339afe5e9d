// What a block needs beside its shared memory, and where in its piece of scratch memory each array lies.
//
// A launch has a fixed number of blocks, which take the maps of a batch in turn; each owns one piece. The same function
// measures the piece and hands out its arrays, so the two cannot differ.
#pragma once

#include "shared/geometry.h"

namespace wsolkern {

constexpr uint32_t kNodes = 1 << 16;  // areas of component and level that are kept at once
constexpr int kMostThreads = 1024;    // of a block

// A map's pixels, in raster order.
struct Shape {
  int width, height;
  uint32_t num_pixels;
  uint64_t inverse;  // of the width, in units of 2^-40

  WSOLKERN_BOTH Shape(int height, int width)
      : width(width),
        height(height),
        num_pixels(uint32_t(width) * uint32_t(height)),
        inverse((uint64_t(1) << 40) / uint64_t(width) + 1) {}
  // pixel / width: exact, as pixel * width < 2^40 for sides up to 4096.
  WSOLKERN_BOTH int row(uint32_t pixel) const { return int(pixel * inverse >> 40); }
  WSOLKERN_BOTH int column(uint32_t pixel) const { return int(pixel - uint32_t(row(pixel)) * uint32_t(width)); }
  // Silhouettes are drawn in batches of this many cells, of at least four that span the map.
  WSOLKERN_BOTH uint32_t num_cells() const {
    const uint32_t wide = 8 * uint32_t(width + height);
    return wide > 16384 ? wide : 16384;
  }
};

struct Scratch {
  // Per basin, known by one of its pixels; the last entry is the frame's.
  uint64_t* best;                    // while basins are merged: highest saddle to another component, with its edge
  uint32_t* leader;                  // while basins are merged: the branch that goes on in the basin's component
  uint32_t* parent;                  // the branch that this one joins
  int32_t* join;                     // the level at which it does; kNever if it never does
  Extent* extent;                    // of the branch's component at its lowest level
  uint32_t* mark;                    // 1 + place in `chosen`, in the current batch of branches; 0: not in it
  uint32_t* target;                  // nearest marked branch from here on upwards, as `mark`
  int32_t* cap;                      // level at which this one becomes part of it
  uint32_t* area;                    // twice the area that the branch adds to what it joins
  uint32_t* first;                   // its first pixel in raster order
  uint32_t* roots;                   // list of the basins
  uint32_t* edges;                   // between basins: 4 * pixel + direction
  uint32_t* chosen;                  // list of branches that a question is about
  uint64_t* cells_of;                // per chosen branch: where its silhouettes begin; then of all
  uint64_t* nodes_of;                // per chosen branch: where its levels begin; then of all
  uint32_t* longest;                 // list of chosen branches with many levels
  int32_t* cells;                    // silhouettes
  uint32_t *node_area, *node_first;  // twice the area, first pixel, per chosen branch and level, highest first
  // Per level, 0 ... most + 1.
  uint64_t* winner;         // the largest component: area and first pixel in one number
  uint32_t* winner_branch;  // its branch
  uint32_t* all;            // bits of the IoU thresholds that any contour reaches
  uint32_t* largest;        // that the largest contour reaches
  // Of maps that do not fit shared memory.
  int16_t* levels;
  uint32_t* links;

  // Lays the arrays out from `base` on and returns what they take, in bytes.
  WSOLKERN_BOTH size_t lay_out(char* base, const Shape& shape, uint32_t most_level, bool in_shared) {
    size_t at = 0;
    const size_t n = shape.num_pixels, perimeter = 2 * size_t(shape.width + shape.height);
    const size_t num_basins = (n + 1) / 2 + 1, num_levels = size_t(most_level) + 2;
    place(base, at, best, n + 1);
    place(base, at, leader, n + 1);
    place(base, at, parent, n + 1);
    place(base, at, join, n + 1);
    place(base, at, extent, n + 1);
    place(base, at, mark, n + 1);
    place(base, at, target, n + 1);
    place(base, at, cap, n + 1);
    place(base, at, area, n + 1);
    place(base, at, first, n + 1);
    place(base, at, roots, num_basins);
    place(base, at, edges, 3 * n + perimeter);
    place(base, at, chosen, num_basins);
    place(base, at, cells_of, num_basins + 1);
    place(base, at, nodes_of, num_basins + 1);
    place(base, at, longest, num_basins);
    place(base, at, cells, shape.num_cells());
    place(base, at, node_area, kNodes);
    place(base, at, node_first, kNodes);
    place(base, at, winner, num_levels);
    place(base, at, winner_branch, num_levels);
    place(base, at, all, num_levels);
    place(base, at, largest, num_levels);
    place(base, at, levels, in_shared ? 0 : n);
    place(base, at, links, in_shared ? 0 : n);
    return at;
  }

 private:
  template <class T>
  WSOLKERN_BOTH static void place(char* base, size_t& at, T*& array, size_t size) {
    array = reinterpret_cast<T*>(base + at);
    at += (size * sizeof(T) + 127) / 128 * 128;
  }
};

// What a block's threads share beside the map; at the beginning of shared memory.
struct Shared {
  uint64_t partial[kMostThreads];  // of a scan
  uint32_t num_edges, num_roots, num_chosen, num_longest;
  uint32_t begin, end;  // the batch of chosen branches that is at work
  uint32_t changed;
  int32_t top;  // largest level of the map
  // Here rather than with each thread, which would take registers that there are not.
  Shape shape;
  Scratch scratch;
  int64_t map;        // which map of the batch it is
  GroundTruth truth;  // of the map
};

// Levels and links of a map take 16 bits each in shared memory, so that pixels and the frame must have 16-bit numbers.
inline size_t shared_bytes(const Shape& shape) { return sizeof(Shared) + 4 * ((size_t(shape.num_pixels) + 1) / 2 * 2); }
inline bool fits_shared(const Shape& shape, size_t limit) {
  return shape.num_pixels < UINT16_MAX && shared_bytes(shape) <= limit;
}

}  // namespace wsolkern
