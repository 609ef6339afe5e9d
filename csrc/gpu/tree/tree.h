// A component tree while a block builds it: whose levels, and where its parts lie.
//
// In: levels and links of a map, the block's shared and scratch memory. Out: what the steps have in common: levels seen
// from the foreground or the complement, steps from branch to branch, phases that are repeated until nothing changes.
#pragma once

#include "gpu/block.h"
#include "gpu/scratch.h"

namespace wsolkern {

constexpr int32_t kNever = -1;
constexpr uint32_t kNoEdge = UINT32_MAX;
constexpr int kHops = 8;  // steps along a chain between two looks whether all chains have been followed

// Per thread: the first i in [0, n) for which `reaches(i)` holds, n if none; it must hold for all that follow.
template <class F>
WSOLKERN_DEVICE uint32_t first_that(uint32_t n, F&& reaches) {
  uint32_t low = 0, high = n;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (reaches(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// values[i] = values[0] + ... + values[i], where + is `join`.
template <class T, class Join>
WSOLKERN_DEVICE void scan(const Block& block, Shared& shared, T* values, uint32_t n, Join&& join) {
  const uint32_t each = (n + block.size() - 1) / block.size(), rank = block.rank();
  const uint32_t begin = rank * each < n ? rank * each : n, end = begin + each < n ? begin + each : n;
  for (uint32_t i = begin + 1; i < end; ++i) values[i] = join(values[i - 1], values[i]);
  const uint32_t num_parts = each ? (n + each - 1) / each : 0;
  if (begin < end) shared.partial[rank] = values[end - 1];
  block.barrier();
  for (uint32_t step = 1; step < num_parts; step *= 2) {
    const bool joins = rank >= step && rank < num_parts;
    const uint64_t sum = joins ? join(T(shared.partial[rank - step]), T(shared.partial[rank])) : 0;
    block.barrier();
    if (joins) shared.partial[rank] = sum;
    block.barrier();
  }
  if (rank > 0)
    for (uint32_t i = begin; i < end; ++i) values[i] = join(T(shared.partial[rank - 1]), values[i]);
  block.barrier();
}

// The tree of the foreground (8-connected; levels as they are) or, with `kHoles`, of the complement (4-connected;
// levels turned over; what touches the frame is one component with it from the start, so that what is not is a hole).
template <class Link, bool kHoles>
struct Tree {
  const Block& block;
  int16_t* const levels;  // of the pixels
  Link* const links;      // pixel -> a neighbour, its basin, its branch, from step to step
  Shared& shared;
  const Shape& shape;
  Scratch& scratch;
  const uint32_t frame;  // the number behind those of the pixels
  const int top;         // the largest level

  WSOLKERN_DEVICE Tree(const Block& block, int16_t* levels, Link* links, Shared& shared)
      : block(block),
        levels(levels),
        links(links),
        shared(shared),
        shape(shared.shape),
        scratch(shared.scratch),
        frame(shared.shape.num_pixels),
        top(shared.top) {}

  WSOLKERN_DEVICE int level(uint32_t pixel) const { return kHoles ? top - levels[pixel] : levels[pixel]; }
  WSOLKERN_DEVICE int peak(uint32_t branch) const { return kHoles && branch == frame ? INT16_MAX : level(branch); }
  // The branch that `branch` is part of at `level`, which its peak reaches.
  WSOLKERN_DEVICE uint32_t climb(uint32_t branch, int level) const {
    while (scratch.join[branch] >= level) branch = scratch.parent[branch];
    return branch;
  }
  template <class F>
  WSOLKERN_DEVICE void until_unchanged(F&& phase) const {
    do {
      block.once([&] { shared.changed = 0; });
      phase();
    } while (settle());
  }
  WSOLKERN_DEVICE bool settle() const {  // whether the last phase noted a change; the note may be erased afterwards
    const bool changed = shared.changed;
    block.barrier();
    return changed;
  }
};

}  // namespace wsolkern
