// The boxes that each threshold finds in each map of a batch, by blocks that take the maps in turn.
//
// In: 8-bit levels, thresholds. Out: how many boxes each level has, and with places for them the boxes; their order
// within a level is any. Everything is in global memory: boxes themselves are for looking at, not for counting.
#pragma once

#include "gpu/evaluate.h"

namespace wsolkern {

struct BoxList {
  BatchProblem batch;     // images, sizes, thresholds, scratch memory; contours: one of both kinds
  uint32_t* counts;       // [N, 255], 0 before each launch: boxes of the level "> t"
  const int64_t* begins;  // [N, 255], the place of the first of them
  Box* boxes;             // [B], or null: they are only counted
};

struct ListVisitor {
  const BoxList& list;
  const Arrays<InScratch>& arrays;
  Shared& shared;

  WSOLKERN_DEVICE bool worth(const Extent&) const { return true; }
  WSOLKERN_DEVICE void all(int level, const Extent& extent) const {
    if (arrays.all[level - 1]) keep(level - 1, contour_box(extent, arrays.shape.width, arrays.shape.height));
  }
  WSOLKERN_DEVICE void largest(int level, const Extent& extent) const { all(level, extent); }
  WSOLKERN_DEVICE void keep(int t, const Box& box) const {
    const int64_t at = shared.map * kScoreLevels + t;
    const uint32_t place = add(list.counts + at, 1);
    if (list.boxes) list.boxes[list.begins[at] + place] = box;
  }
};

// The work of block number `which`. `memory`: sizeof(Shared) bytes of shared memory.
WSOLKERN_DEVICE void list_boxes(const Block& block, const BoxList& list, uint32_t which, char* memory) {
  const BatchProblem& batch = list.batch;
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const Arrays<InScratch> arrays = begin_maps<InScratch>(block, batch, which, memory);
  const ListVisitor visitor{list, arrays, shared};
  while (shared.map < batch.num_maps) {
    load_levels(block, batch, arrays, shared);
    const int top = int(shared.top);
    uint32_t* const is_wanted = arrays.all;  // per t
    block.for_each(kScoreLevels, [&](uint32_t t) { is_wanted[t] = 0; });
    block.for_each(uint32_t(batch.num_thresholds),
                   [&](uint32_t i) { store(is_wanted + int(batch.thresholds[i] * top), 1u); });
    if (top == 0) {
      block.once([&] { visitor.keep(0, {0, 0, 0, 0}); });  // of an empty foreground
    } else {
      visit_contours(block, arrays, shared, batch.contours, visitor);
    }
    block.once([&] { shared.map += batch.num_blocks; });
  }
}

}  // namespace wsolkern
