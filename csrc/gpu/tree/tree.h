// A component tree while a block builds it: whose levels, and where its parts lie.
//
// In: levels of a map, the block's shared and scratch memory. Out: what the steps have in common: levels seen from the
// foreground or the complement, runs and their basins, steps from branch to branch, phases that are repeated until
// nothing changes.
#pragma once

#include "gpu/scratch.h"

namespace wsolkern {

constexpr int16_t kNever = -1;
constexpr uint64_t kNoEdge = UINT64_MAX;
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

// By a warp: values[i] = values[0] + ... + values[i], where + is `join`.
template <class T, class Join>
WSOLKERN_DEVICE void scan(const Warp& warp, T* values, uint32_t n, Join&& join) {
  T before = 0;
  for (uint32_t base = 0; base < n; base += kLanes) {
    PerLane<T> each;
    warp.each([&](uint32_t lane) { each[lane] = base + lane < n ? values[base + lane] : T(0); });
    if (base) warp.once([&] { each[0] = join(before, each[0]); });
    before = warp.scan(each, join);
    warp.each([&](uint32_t lane) {
      if (base + lane < n) values[base + lane] = each[lane];
    });
  }
}

// The tree of the foreground (8-connected; levels as they are) or, with `kHoles`, of the complement (4-connected;
// levels turned over; what touches the frame is one component with it from the start, so that what is not is a hole).
template <class Kind, bool kHoles>
struct Tree {
  using Id = typename Kind::Id;
  using Key = typename Kind::Key;
  using Count = typename Kind::Count;
  static constexpr Id kRoot = Arrays<Kind>::kRoot;

  const Block& block;
  Shared& shared;
  const Shape& shape;
  const Arrays<Kind>& arrays;
  const int top;  // the largest level

  WSOLKERN_DEVICE Tree(const Block& block, Shared& shared, const Arrays<Kind>& arrays)
      : block(block), shared(shared), shape(arrays.shape), arrays(arrays), top(int(shared.top)) {}

  WSOLKERN_DEVICE int level(uint32_t pixel) const { return kHoles ? top - arrays.levels[pixel] : arrays.levels[pixel]; }
  WSOLKERN_DEVICE uint32_t pixel(uint32_t row, uint32_t column) const { return row * uint32_t(shape.width) + column; }
  WSOLKERN_DEVICE uint32_t frame() const { return shared.num_basins; }  // the number behind those of the basins

  // The run that a pixel is part of.
  WSOLKERN_DEVICE uint32_t run_of(uint32_t row, uint32_t column) const {
    const uint32_t word = row * shape.num_words + column / kLanes;
    return arrays.word_run[word] + count_bits(arrays.cuts[word] & ((2u << column % kLanes) - 1));
  }
  WSOLKERN_DEVICE uint32_t end_of_row(uint32_t run) const { return arrays.row_begin[arrays.row[run] + 1]; }
  WSOLKERN_DEVICE uint32_t end_of(uint32_t run) const {  // one past its last column
    return run + 1 < end_of_row(run) ? arrays.start[run + 1] : uint32_t(shape.width);
  }
  WSOLKERN_DEVICE int peak_of(uint32_t run) const { return level(pixel(arrays.row[run], arrays.crest[run])); }
  WSOLKERN_DEVICE uint32_t basin_of(uint32_t run) const { return arrays.link[run] & ~kRoot; }

  // The branch that `branch` is part of at `level`, which its peak reaches.
  WSOLKERN_DEVICE uint32_t climb(uint32_t branch, int level) const {
    while (arrays.join[branch] >= level) branch = arrays.parent[branch];
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
  // Follows links from `begin`, up to kHops of them, to `links[to] == to`.
  template <class T>
  WSOLKERN_DEVICE uint32_t hop(const T* links, uint32_t begin) const {
    uint32_t to = begin;
    for (int i = 0; i < kHops; ++i) {
      const uint32_t next = load(links + to);
      if (next == to) break;
      to = next;
    }
    return to;
  }
};

}  // namespace wsolkern
