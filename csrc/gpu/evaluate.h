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
  uint32_t* left_over;  // [1 + N], how many maps do not fit shared memory, and which; null if all are taken as such

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
// 1 ... top; leaves out those of which visitor.worth(an extent that no contour in it leaves) is false. False if there
// is no room for the map's runs or basins: then some calls may be missing.
template <class Kind, class Visitor>
WSOLKERN_DEVICE bool visit_contours(const Block& block, const Arrays<Kind>& arrays, Shared& shared, int contours,
                                    const Visitor& visitor) {
  const int top = int(shared.top);
  const Tree<Kind, false> outer(block, shared, arrays);
  const Tree<Kind, true> holes(block, shared, arrays);
  // The holes come second. The largest contours come last, of the map without its holes. The loop makes the code of the
  // two trees of the foreground one.
  for (int turn = contours & kWantAll ? 0 : 1; turn < (contours & kWantLargest ? 3 : 2); ++turn) {
    if (turn == 1) {
      if (!build(holes, contours & kWantAll)) return false;
      if (contours & kWantAll) {
        // A hole's border runs through the pixels around it; holes never reach the edge, so that it stays inside. A
        // level of the complement counts the other way round.
        const auto grown = [](const Extent& e) { return Extent{e.x0 - 1, e.y0 - 1, e.x1 + 1, e.y1 + 1}; };
        boxes(
            holes, [&](uint32_t branch) { return visitor.worth(grown(arrays.extent[branch])); },
            [&](uint32_t, int level, const Extent& extent) { visitor.all(top + 1 - level, grown(extent)); });
      }
      if (contours & kWantLargest) fill_holes(holes);
      continue;
    }
    if (!build(outer, turn == 0)) return false;
    const bool is_largest = turn == 2;
    if (is_largest) {
      find_largest(outer);
      block.for_each(outer.frame(), [&](uint32_t branch) { arrays.area[branch] = 0; });  // 1: is the largest
      block.for_each(uint32_t(top), [&](uint32_t i) { store(arrays.area + arrays.winner_branch[i + 1], 1u); });
    }
    boxes(
        outer,
        [&](uint32_t branch) {
          return (!is_largest || arrays.area[branch] != 0) && visitor.worth(arrays.extent[branch]);
        },
        [&](uint32_t branch, int level, const Extent& extent) {
          if (!is_largest)
            visitor.all(level, extent);
          else if (arrays.winner_branch[level] == branch)
            visitor.largest(level, extent);
        });
  }
  return true;
}

// Fills arrays.all[k] and arrays.largest[k] for the levels k = 1 ... top.
template <class Kind>
struct HitsVisitor {
  const Arrays<Kind>& arrays;
  Shared& shared;

  WSOLKERN_DEVICE Box box_of(const Extent& extent) const {
    return contour_box(extent, arrays.shape.width, arrays.shape.height);
  }
  WSOLKERN_DEVICE bool worth(const Extent& extent) const { return shared.truth.within_reach(box_of(extent)); }
  WSOLKERN_DEVICE void all(int level, const Extent& extent) const {
    if (const uint32_t bits = shared.truth.hits(box_of(extent))) include_bits(arrays.all + level, bits);
  }
  WSOLKERN_DEVICE void largest(int level, const Extent& extent) const {
    arrays.largest[level] = shared.truth.hits(box_of(extent));
  }
};

// Copies a map's levels to where the trees are built, and finds the largest.
template <class Kind>
WSOLKERN_DEVICE void load_levels(const Block& block, const BatchProblem& problem, const Arrays<Kind>& arrays,
                                 Shared& shared) {
  using Level = typename Kind::Level;
  constexpr uint32_t kEach = 4;  // of a lane at a time
  block.once([&] { shared.top = 0; });
  const uint32_t num_pixels = arrays.shape.num_pixels;
  const int64_t begin = shared.map * int64_t(num_pixels);
  const auto copy = [&](uint32_t n, auto&& copied) {  // n items; copied(i) returns the largest level of one
    block.for_each_warp((n + kEach * kLanes - 1) / (kEach * kLanes), [&](const Warp& warp, uint32_t part) {
      const uint32_t found = warp.max([&](uint32_t lane) {
        uint32_t most = 0;
        for (uint32_t i = 0; i < kEach; ++i) {
          const uint32_t item = (part * kEach + i) * kLanes + lane;
          if (item >= n) break;
          const uint32_t level = copied(item);
          most = level > most ? level : most;
        }
        return most;
      });
      warp.once([&] { raise(&shared.top, found); });
    });
  };
  if constexpr (sizeof(Level) == 1) {
    const uint8_t* const images = static_cast<const uint8_t*>(problem.images) + begin;
    if (problem.most_level == UINT8_MAX && num_pixels % 4 == 0 && reinterpret_cast<uintptr_t>(images) % 4 == 0) {
      copy(num_pixels / 4, [&](uint32_t i) {
        const uint32_t four = reinterpret_cast<const uint32_t*>(images)[i];
        reinterpret_cast<uint32_t*>(arrays.levels)[i] = four;
        uint32_t most = 0;
        for (uint32_t byte = 0; byte < 4; ++byte)
          most = (four >> 8 * byte & 255) > most ? four >> 8 * byte & 255 : most;
        return most;
      });
      return;
    }
  }
  copy(num_pixels, [&](uint32_t pixel) {
    const int level = problem.level(begin + pixel), kept = level < problem.most_level ? level : problem.most_level;
    arrays.levels[pixel] = Level(kept);
    return uint32_t(kept);
  });
}

// False if there is no room for the map; nothing has been counted then.
template <class Kind>
WSOLKERN_DEVICE bool evaluate_map(const Block& block, const BatchProblem& problem, const Arrays<Kind>& arrays,
                                  Shared& shared, uint32_t which_block) {
  block.once([&] {
    const int64_t begin = problem.box_offsets[shared.map], end = problem.box_offsets[shared.map + 1];
    shared.truth = GroundTruth(reinterpret_cast<const Box*>(problem.boxes) + begin, size_t(end - begin),
                               problem.iou_thresholds, size_t(problem.num_iou_thresholds));
  });
  load_levels(block, problem, arrays, shared);
  block.for_each(shared.top + 2, [&](uint32_t k) { arrays.all[k] = arrays.largest[k] = 0; });
  if (!visit_contours(block, arrays, shared, problem.contours, HitsVisitor<Kind>{arrays, shared})) return false;
  const int top = int(shared.top);
  const int64_t map = shared.map;
  uint32_t* const sums = problem.sums ? problem.sums + which_block * problem.num_sums() : nullptr;
  const uint32_t none = shared.truth.hits({0, 0, 0, 0});  // of an empty foreground
  block.once([&] { arrays.all[top + 1] = arrays.largest[top + 1] = none; });

  // Every threshold of every normalization is one of these levels.
  const int num_thresholds = problem.num_thresholds, num_ious = problem.num_iou_thresholds;
  const int num_normalizations = problem.num_normalizations;
  for (int c = 0; c < problem.num_contours(); ++c) {
    const uint32_t* const found = problem.contours == kWantAll || c == 1 ? arrays.all : arrays.largest;
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
  return true;  // who calls has a barrier before the arrays are another map's
}

// Gives a block its memory, and its first map.
template <class Kind>
WSOLKERN_DEVICE Arrays<Kind> begin_maps(const Block& block, const BatchProblem& problem, uint32_t which, char* memory) {
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  char* const scratch = problem.scratch + which * problem.scratch_bytes;
  const Shape shape(problem.height, problem.width);
  block.once([&] { shared.map = which; });
  Arrays<Kind> arrays;
  arrays.lay_out(memory + sizeof(Shared), scratch, shape, uint32_t(problem.most_level));
  return arrays;
}

WSOLKERN_DEVICE void clear_sums(const Block& block, const BatchProblem& problem, uint32_t which) {
  if (problem.sums)
    for (size_t i = block.rank(); i < problem.num_sums(); i += block.size())
      problem.sums[which * problem.num_sums() + i] = 0;
}

// The work of block number `which`: the maps that fit shared memory. The others are put on the list. `memory`: shared
// memory, shared_bytes() of it.
template <class Kind>
WSOLKERN_DEVICE void evaluate_batch(const Block& block, const BatchProblem& problem, uint32_t which, char* memory) {
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const Arrays<Kind> arrays = begin_maps<Kind>(block, problem, which, memory);
  clear_sums(block, problem, which);
  while (shared.map < problem.num_maps) {
    const bool is_done = evaluate_map(block, problem, arrays, shared, which);
    block.once([&] {
      if (!is_done) problem.left_over[1 + add_for_all(problem.left_over, 1)] = uint32_t(shared.map);
      shared.map += problem.num_blocks;
    });
  }
}

// The same for the maps on the list, or for all if there is none, in scratch memory. `memory`: sizeof(Shared).
WSOLKERN_DEVICE void evaluate_left_over(const Block& block, const BatchProblem& problem, uint32_t which, char* memory) {
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const Arrays<InScratch> arrays = begin_maps<InScratch>(block, problem, which, memory);
  const int64_t count = problem.left_over ? problem.left_over[0] : problem.num_maps;
  if (!problem.left_over) clear_sums(block, problem, which);
  for (int64_t i = which; i < count; i += problem.num_blocks) {
    block.once([&] { shared.map = problem.left_over ? problem.left_over[1 + i] : i; });
    evaluate_map(block, problem, arrays, shared, which);
  }
}

// counts[i] += the sums of all blocks. `i` in [0, num_sums).
WSOLKERN_DEVICE void add_sums(const BatchProblem& problem, int64_t* counts, size_t i) {
  int64_t sum = 0;
  for (int which = 0; which < problem.num_blocks; ++which) sum += problem.sums[which * problem.num_sums() + i];
  counts[i] += sum;
}

}  // namespace wsolkern
