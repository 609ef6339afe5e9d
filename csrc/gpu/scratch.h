// Where a block keeps what it knows of a map: in shared memory, or in its piece of scratch memory.
//
// A launch has a fixed number of blocks, which take the maps of a batch in turn; each owns one piece of scratch memory.
// A map that is small and smooth enough lies in shared memory, with room for so many runs and basins as such maps have;
// all others lie in scratch memory, with room for the most that there can be. The same function measures a place and
// hands out its arrays, so the two cannot differ.
#pragma once

#include <type_traits>

#include "gpu/block.h"
#include "shared/geometry.h"

namespace wsolkern {

constexpr uint32_t kNodes = 1 << 16;  // areas of component and level that are kept at once

// A map's pixels, in raster order. A word has the pixels of a row that a warp looks at together.
struct Shape {
  int width, height;
  uint32_t num_pixels, num_words;  // words: of a row

  Shape() = default;
  WSOLKERN_BOTH Shape(int height, int width)
      : width(width),
        height(height),
        num_pixels(uint32_t(width) * uint32_t(height)),
        num_words((uint32_t(width) + kLanes - 1) / kLanes) {}
  WSOLKERN_BOTH uint32_t num_runs() const { return uint32_t(height) * ((uint32_t(width) + 1) / 2); }  // at most
  WSOLKERN_BOTH uint32_t num_cells() const { return 2 * uint32_t(width + height); }  // of a branch, at most
};

// Kinds of places. Id: a number of a run or a basin. Key: a level and the number of an edge or a run. Count: how many
// cells or levels the branches have together.
template <class LevelType>
struct InShared {
  using Level = LevelType;
  using Id = uint16_t;
  using Key = uint32_t;
  using Count = uint32_t;
  static constexpr bool kIsShared = true;
  // Two maps of 224 x 224 pixels and 8 bits fit a multiprocessor of 228 KB so.
  static constexpr uint32_t kRuns = 2304, kBasins = 320, kCells = 3072;
};
struct InScratch {
  using Level = int16_t;
  using Id = uint32_t;
  using Key = uint64_t;
  using Count = uint64_t;
  static constexpr bool kIsShared = false;
};

// Where runs of a word begin, and where they begin to fall, as bits of its pixels.
struct alignas(8) Turns {
  uint32_t cuts, crests;
};

// The branch with silhouettes that a basin's pixels are drawn to.
struct alignas(8) Home {
  uint32_t mark;   // as in Arrays; 0: there is none
  int16_t cap;     // no pixel reaches higher there
  int16_t lowest;  // pixels of this level and below are part of another branch
};

template <class Kind>
struct Arrays {
  using Level = typename Kind::Level;
  using Id = typename Kind::Id;
  using Key = typename Kind::Key;
  using Count = typename Kind::Count;
  static constexpr Id kRoot = Id(1) << (8 * sizeof(Id) - 1);  // marks what is no link any more
  static constexpr int kKeyBits = 4 * sizeof(Key);            // below the level

  Shape shape;
  // Per run.
  uint16_t *start, *crest;  // its first column; one that is as high as any
  uint16_t* row;
  Id* link;  // a run that it belongs to; then kRoot and its basin
  // Per basin; behind them is the frame.
  int16_t* peak;     // its highest level
  int16_t* join;     // the level at which its branch becomes part of another; kNever if it never does
  Id* parent;        // that other one
  Id* leader;        // while basins are merged: the branch that goes on in the basin's component
  Key* best;         // while basins are merged: highest saddle to another component, with its edge
  Extent* extent;    // of the branch's component at its lowest level
  Id* mark;          // 1 + place in `chosen`, in the current batch of branches; 0: not in it
  Home* home;        // of its pixels
  uint32_t* area;    // twice the area that the branch adds to what it joins
  uint32_t* first;   // its first pixel in raster order
  int16_t* reached;  // the level at which it is one with the frame
  // Per chosen branch.
  Id* chosen;       // list of branches that a question is about
  Count* cells_of;  // where its silhouettes begin; then of all
  Count* nodes_of;  // where its levels begin; then of all
  int32_t* cells;   // silhouettes
  // Per row; per word; per pixel.
  Id* row_begin;     // the row's first run; then of all
  uint32_t* cuts;    // bits of the pixels at which a run begins that is not the row's first
  uint32_t* crests;  // bits of the pixels behind a crest; lies where the cells will lie
  Id* word_run;      // the run that the word begins in, if it does not begin with a cut
  Level* levels;
  // In scratch memory in any case: lists that are read in order, and what depends on the number of levels.
  Turns* complement;           // per word, while the foreground is at work; so below
  uint32_t* complement_run;    // as word_run, counted from the row's first
  uint32_t* complement_count;  // per row: its runs
  uint32_t* has_holes;         // per row: whether any of its pixels is filled
  Key* segments;               // per pair of runs of neighbouring rows that touch: level and the upper run
  uint64_t* edges;             // between basins: level and both
  uint32_t* node_area;         // twice the area, per chosen branch and level, highest first
  uint32_t* node_first;        // first pixel
  // Per level, 0 ... most + 1.
  uint64_t* winner;         // the largest component: area and first pixel in one number
  uint32_t* winner_branch;  // its branch
  uint32_t* all;            // bits of the IoU thresholds that any contour reaches
  uint32_t* largest;        // that the largest contour reaches

  struct Sizes {
    size_t in_shared, in_scratch;  // bytes
  };

  WSOLKERN_BOTH static uint32_t num_runs(const Shape& shape) {  // that there is room for
    if constexpr (Kind::kIsShared)
      return Kind::kRuns;
    else
      return shape.num_runs();
  }
  WSOLKERN_BOTH static uint32_t num_basins(const Shape& shape) {  // with the frame
    if constexpr (Kind::kIsShared)
      return Kind::kBasins;
    else
      return shape.num_runs() + 1;
  }
  // Silhouettes are drawn in batches of this many cells, of at least one branch that spans the map.
  WSOLKERN_BOTH static uint32_t num_cells(const Shape& shape) {
    if constexpr (Kind::kIsShared) return Kind::kCells;
    const uint32_t wide = 4 * shape.num_cells();
    return wide > 16384 ? wide : 16384;
  }

  // Lays the arrays out from the two beginnings on, and returns what they take.
  WSOLKERN_BOTH Sizes lay_out(char* shared, char* scratch, const Shape& shape, uint32_t most_level) {
    this->shape = shape;
    size_t at[2] = {0, 0};
    char* const base[2] = {scratch, shared};
    const auto place = [&](bool is_shared, auto*& array, size_t size) {
      constexpr size_t kAlign = 16;
      using T = std::remove_reference_t<decltype(*array)>;
      array = reinterpret_cast<T*>(base[is_shared] + at[is_shared]);
      at[is_shared] += (size * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    };
    constexpr bool here = Kind::kIsShared;
    const size_t runs = num_runs(shape), basins = num_basins(shape), words = size_t(shape.height) * shape.num_words;
    // First what has a fixed size in shared memory, so that compilers know where it lies.
    place(here, best, basins);
    place(here, home, basins);
    place(here, extent, basins);
    place(here, area, basins);
    place(here, first, basins);
    place(here, peak, basins);
    place(here, join, basins);
    place(here, parent, basins);
    place(here, leader, basins);
    place(here, mark, basins);
    place(here, reached, basins);
    place(here, chosen, basins);
    place(here, cells_of, basins + 1);
    place(here, nodes_of, basins + 1);
    place(here, start, runs);
    place(here, crest, runs);
    place(here, row, runs);
    place(here, link, runs);
    place(here, cells, num_cells(shape));
    if constexpr (here)
      crests = reinterpret_cast<uint32_t*>(cells);
    else
      place(here, crests, words);
    place(here, row_begin, size_t(shape.height) + 1);
    place(here, cuts, words);
    place(here, word_run, words);
    place(here, levels, shape.num_pixels);
    place(false, complement, words);
    place(false, complement_run, words);
    place(false, complement_count, size_t(shape.height));
    place(false, has_holes, size_t(shape.height));
    place(false, segments, 2 * runs);
    place(false, edges, 3 * runs + 2 * size_t(shape.height) + size_t(shape.width) + 1);
    place(false, node_area, kNodes);
    place(false, node_first, kNodes);
    const size_t num_levels = size_t(most_level) + 2;
    place(false, winner, num_levels);
    place(false, winner_branch, num_levels);
    place(false, all, num_levels);
    place(false, largest, num_levels);
    return {at[1], (at[0] + 127) / 128 * 128};
  }
};

// What a block's threads share beside the arrays; at the beginning of shared memory.
struct alignas(16) Shared {
  uint32_t num_runs, num_basins, num_edges, num_chosen;
  uint32_t begin, end;  // the batch of chosen branches that is at work
  uint32_t changed;
  uint32_t top;       // largest level of the map
  int64_t map;        // which map of the batch it is
  GroundTruth truth;  // of the map
};

template <class Kind>
size_t shared_bytes(const Shape& shape) {
  return sizeof(Shared) + Arrays<Kind>().lay_out(nullptr, nullptr, shape, 0).in_shared;
}
template <class Kind>
bool fits_shared(const Shape& shape, size_t limit) {
  return shape.num_cells() <= Kind::kCells && shared_bytes<Kind>(shape) <= limit &&
         size_t(shape.height) * shape.num_words <= Kind::kCells;  // crests lie where cells will
}

}  // namespace wsolkern
