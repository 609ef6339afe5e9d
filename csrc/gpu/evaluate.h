// A batch of level images against its ground truth, by blocks that take the maps in turn.
//
// In: level images, where each normalization's thresholds lie in them, boxes. Out: hits per map, or their sums.
#pragma once

#include "gpu/tree/component_tree.h"
#include "shared/levels.h"

namespace wsolkern {

// All a launch needs to know. Pointers are the device's; those of what is not asked for are null.
struct BatchProblem {
  const void* images;            // [N, H, W], levels >= 0: uint8 if most_level is at most 255, else int16
  int64_t num_maps;              // N
  int height, width;             // H, W; at most 4096
  int most_level;                // no level is higher
  const int32_t* boxes;          // [B, 4] x0 y0 x1 y1, of all maps
  const int64_t* box_offsets;    // [N + 1], where each map's boxes begin
  const double* iou_thresholds;  // [D]
  int num_iou_thresholds;        // D, at most 32
  const double* thresholds;      // [T], in [0, 1)
  int num_thresholds;            // T
  const int16_t* ranks;   // [N, M, 255]: "8-bit level of normalization m > t" is "level of the image >= rank"; or null:
                          // the images are themselves 8-bit levels of score maps, M is 1
  const double* affines;  // [N, M, 2], a divisor of 0 says that there is no score map; null with `ranks`
  int num_normalizations;  // M
  int contours;            // WantedContours
  uint8_t* hits;           // [C, M, N, D, T], or null
  uint32_t* sums;          // [blocks, C, M, D, T], of the maps that each block took; or null
  char* scratch;           // [blocks, scratch_bytes]
  size_t scratch_bytes;    // of one block
  int num_blocks;

  WSOLKERN_BOTH bool is_8_bit() const { return most_level <= UINT8_MAX; }
  WSOLKERN_BOTH int level(int64_t pixel) const {
    return is_8_bit() ? static_cast<const uint8_t*>(images)[pixel] : static_cast<const int16_t*>(images)[pixel];
  }
  WSOLKERN_BOTH int num_contours() const { return contours == kWantBoth ? 2 : 1; }
  WSOLKERN_BOTH size_t num_sums() const {
    return size_t(num_contours()) * num_normalizations * num_iou_thresholds * num_thresholds;
  }
};

// Calls visitor.all(level, extent) and visitor.largest(level, extent) for the contours that are wanted, at the levels
// 1 ... top; leaves out those of which visitor.worth(an extent that no contour in it leaves) is false.
template <class Link, class Visitor>
WSOLKERN_DEVICE void visit_contours(const Block& block, int16_t* levels, Link* links, Shared& shared, int contours,
                                    const Visitor& visitor) {
  Scratch& scratch = shared.scratch;
  const int top = shared.top;
  if (contours & kWantAll) {
    const Tree<Link, false> outer(block, levels, links, shared);
    build(outer);
    boxes(
        outer, [&](uint32_t branch) { return visitor.worth(scratch.extent[branch]); },
        [&](uint32_t, int level, const Extent& extent) { visitor.all(level, extent); });
  }
  const Tree<Link, true> holes(block, levels, links, shared);
  build(holes);
  if (contours & kWantAll) {
    // A hole's border runs through the pixels around it; holes never reach the edge, so that it stays inside. A level
    // of the complement counts the other way round.
    const auto grown = [](const Extent& e) { return Extent{e.x0 - 1, e.y0 - 1, e.x1 + 1, e.y1 + 1}; };
    boxes(
        holes, [&](uint32_t branch) { return visitor.worth(grown(scratch.extent[branch])); },
        [&](uint32_t, int level, const Extent& extent) { visitor.all(top + 1 - level, grown(extent)); });
  }
  if (contours & kWantLargest) {
    fill_holes(holes);
    const Tree<Link, false> filled(block, levels, links, shared);
    build(filled);
    find_largest(filled);
    block.for_each(shared.num_roots, [&](uint32_t i) { scratch.area[scratch.roots[i]] = 0; });  // 1: is the largest
    block.for_each(top, [&](uint32_t i) { store(scratch.area + scratch.winner_branch[i + 1], 1u); });
    boxes(
        filled, [&](uint32_t branch) { return scratch.area[branch] != 0 && visitor.worth(scratch.extent[branch]); },
        [&](uint32_t branch, int level, const Extent& extent) {
          if (scratch.winner_branch[level] == branch) visitor.largest(level, extent);
        });
  }
}

// Fills scratch.all[k] and scratch.largest[k] for the levels k = 1 ... top.
struct HitsVisitor {
  Shared& shared;

  WSOLKERN_DEVICE Box box_of(const Extent& extent) const {
    return contour_box(extent, shared.shape.width, shared.shape.height);
  }
  WSOLKERN_DEVICE bool worth(const Extent& extent) const { return shared.truth.within_reach(box_of(extent)); }
  WSOLKERN_DEVICE void all(int level, const Extent& extent) const {
    if (const uint32_t bits = shared.truth.hits(box_of(extent))) include_bits(shared.scratch.all + level, bits);
  }
  WSOLKERN_DEVICE void largest(int level, const Extent& extent) const {
    shared.scratch.largest[level] = shared.truth.hits(box_of(extent));
  }
};

// Copies a map's levels to where the trees are built, and finds the largest.
WSOLKERN_DEVICE inline void load_levels(const Block& block, const BatchProblem& problem, int16_t* levels,
                                        Shared& shared) {
  block.once([&] { shared.top = 0; });
  const uint32_t num_pixels = shared.shape.num_pixels;
  const int64_t begin = shared.map * int64_t(num_pixels);
  block.for_each(num_pixels, [&](uint32_t pixel) {
    const int found = problem.level(begin + pixel);
    const int16_t level = int16_t(found < problem.most_level ? found : problem.most_level);
    levels[pixel] = level;
    raise(&shared.top, int32_t(level));
  });
}

template <class Link>
WSOLKERN_DEVICE void evaluate_map(const Block& block, const BatchProblem& problem, int16_t* levels, Link* links,
                                  Shared& shared, uint32_t which_block) {
  Scratch& scratch = shared.scratch;
  block.once([&] {
    const int64_t begin = problem.box_offsets[shared.map], end = problem.box_offsets[shared.map + 1];
    shared.truth = GroundTruth(reinterpret_cast<const Box*>(problem.boxes) + begin, size_t(end - begin),
                               problem.iou_thresholds, size_t(problem.num_iou_thresholds));
  });
  load_levels(block, problem, levels, shared);
  block.for_each(uint32_t(shared.top) + 2, [&](uint32_t k) { scratch.all[k] = scratch.largest[k] = 0; });
  visit_contours(block, levels, links, shared, problem.contours, HitsVisitor{shared});
  const int top = shared.top;
  const int64_t map = shared.map;
  uint32_t* const sums = problem.sums ? problem.sums + which_block * problem.num_sums() : nullptr;
  const uint32_t none = shared.truth.hits({0, 0, 0, 0});  // of an empty foreground
  block.once([&] { scratch.all[top + 1] = scratch.largest[top + 1] = none; });

  // Every threshold of every normalization is one of these levels.
  const int num_thresholds = problem.num_thresholds, num_ious = problem.num_iou_thresholds;
  const int num_normalizations = problem.num_normalizations;
  for (int c = 0; c < problem.num_contours(); ++c) {
    const uint32_t* const found = problem.contours == kWantAll || c == 1 ? scratch.all : scratch.largest;
    for (int m = 0; m < num_normalizations; ++m) {
      const int64_t row = map * num_normalizations + m;
      const bool is_degenerate = problem.ranks && problem.affines[2 * row + 1] == 0;
      const int64_t line = int64_t(c) * num_normalizations + m;
      for (int t = int(block.rank()); t < num_thresholds; t += int(block.size())) {
        uint32_t bits = none;
        if (!is_degenerate) {
          const int level = int(problem.thresholds[t] * (problem.ranks ? kScoreLevels : top));
          const int k = problem.ranks ? problem.ranks[row * kScoreLevels + level] : level + 1;
          bits = found[k <= top ? k : top + 1];
        }
        for (int d = 0; d < num_ious; ++d) {
          if (problem.hits)
            problem.hits[((line * problem.num_maps + map) * num_ious + d) * num_thresholds + t] = bits >> d & 1;
          if (sums) sums[(line * num_ious + d) * num_thresholds + t] += bits >> d & 1;
        }
      }
    }
  }
  block.barrier();  // the arrays are another map's from here on
}

template <bool kInShared>
WSOLKERN_DEVICE void begin_maps(const Block& block, const BatchProblem& problem, uint32_t which, Shared& shared) {
  block.once([&] {
    shared.map = which;
    shared.shape = Shape(problem.height, problem.width);
    shared.scratch.lay_out(problem.scratch + which * problem.scratch_bytes, shared.shape, problem.most_level,
                           kInShared);
  });
}

// The work of block number `which`. `memory`: shared memory, shared_bytes() of it or, of a map that does not fit,
// sizeof(Shared).
template <bool kInShared>
WSOLKERN_DEVICE void evaluate_batch(const Block& block, const BatchProblem& problem, uint32_t which, char* memory) {
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  begin_maps<kInShared>(block, problem, which, shared);
  if (problem.sums)
    for (size_t i = block.rank(); i < problem.num_sums(); i += block.size())
      problem.sums[which * problem.num_sums() + i] = 0;
  while (shared.map < problem.num_maps) {
    if constexpr (kInShared) {
      int16_t* const levels = reinterpret_cast<int16_t*>(memory + sizeof(Shared));
      uint16_t* const links = reinterpret_cast<uint16_t*>(levels + (size_t(shared.shape.num_pixels) + 1) / 2 * 2);
      evaluate_map(block, problem, levels, links, shared, which);
    } else {
      evaluate_map(block, problem, shared.scratch.levels, shared.scratch.links, shared, which);
    }
    block.once([&] { shared.map += problem.num_blocks; });
  }
}

// counts[i] += the sums of all blocks. `i` in [0, num_sums).
WSOLKERN_DEVICE inline void add_sums(const BatchProblem& problem, int64_t* counts, size_t i) {
  int64_t sum = 0;
  for (int which = 0; which < problem.num_blocks; ++which) sum += problem.sums[which * problem.num_sums() + i];
  counts[i] += sum;
}

}  // namespace wsolkern
