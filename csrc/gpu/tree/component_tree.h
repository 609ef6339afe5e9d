// The component tree of one map, built and read by a block of threads.
//
// The branches are those of branches.h (a basin starts a branch, which lives over the levels (join, peak] and at level
// `join` becomes part of its parent), found without an order of levels:
//
//  1. Every pixel points to a neighbour that is at least as high, the highest; where only equals are left, to the first
//     of a fixed order. Of two that point at each other one stays. Followed to the end, the pointers lead to the
//     basins.
//  2. Where pixels of different basins touch is an edge, at the lower of both levels.
//  3. Boruvka: every component takes its highest edge (of equals the one with the largest number). That is where it
//     stops being a component of its own: its branch ends there, and its parent is the component on the other side. Of
//     two that take the same edge the higher one goes on. Repeated with what they have become, until no edge is left.
//  4. Each branch is made to point at the branch that it is part of just below its end, and each pixel at the branch
//     that it is part of at its own level. A component at level k is then a branch with join < k <= peak, and its
//     pixels are those that reach it by steps to parents over joins >= k.
//
// Boxes are read off silhouettes, as in boxes.h, for the branches a question is about; the largest contour off areas:
// where holes are filled, twice the area grows by one for each 2 x 2 square in which a pixel is the third or the fourth
// to arrive as the level falls (protocol of Choe et al., arXiv 2007.04178, by way of cv2.contourArea).
#pragma once

#include "gpu/block.h"
#include "gpu/scratch.h"

namespace wsolkern {

constexpr int32_t kNever = -1;
constexpr uint32_t kNoEdge = UINT32_MAX;
constexpr int kHops = 8;  // steps along a chain between two looks whether all chains have been followed

enum Direction : uint32_t { kEast, kSouth, kSouthEast, kSouthWest, kToFrame = kSouthEast };

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
class BlockTree {
 public:
  WSOLKERN_DEVICE BlockTree(const Block& block, int16_t* levels, Link* links, Shared& shared)
      : block_(block),
        levels_(levels),
        links_(links),
        shared_(shared),
        shape_(shared.shape),
        scratch_(shared.scratch),
        frame_(shared.shape.num_pixels),
        top_(shared.top) {}

  // Steps 1 to 4, and the extents of all branches.
  WSOLKERN_DEVICE void build() {
    link();
    find_edges();
    merge();
    attach();
    measure();
  }

  // Calls visit(branch, level, extent) for the component of every branch that is worth it, at all its levels.
  template <class Worth, class Visit>
  WSOLKERN_DEVICE void boxes(Worth&& worth, Visit&& visit) {
    choose(worth);
    for_each_batch(scratch_.cells_of, shape_.num_cells(), [&] {
      draw();
      block_.for_each(num_in_batch(scratch_.nodes_of), [&](uint32_t i) {
        const uint64_t node = scratch_.nodes_of[shared_.begin] + i;
        const uint32_t place = owner(scratch_.nodes_of, node), branch = scratch_.chosen[place];
        const int level = peak(branch) - int(node - scratch_.nodes_of[place]);
        visit(branch, level, extent_at(place, level));
      });
    });
  }

  // scratch.winner_branch[k]: the branch of the component that is largest at level k = 1 ... top, ties going to the one
  // whose first pixel comes last. Components must have no holes.
  WSOLKERN_DEVICE void find_largest() {
    choose([](uint32_t) { return true; });
    add_up_branches();
    block_.for_each(top_ + 1, [&](uint32_t k) { scratch_.winner[k] = 0; });
    for_each_batch(scratch_.nodes_of, kNodes, [&] {
      add_up_levels();
      block_.for_each(num_in_batch(scratch_.nodes_of), [&](uint32_t i) {
        const uint64_t node = scratch_.nodes_of[shared_.begin] + i;
        const uint32_t place = owner(scratch_.nodes_of, node);
        const int level = peak(scratch_.chosen[place]) - int(node - scratch_.nodes_of[place]);
        // One more, so that 0 is less than the least.
        raise(scratch_.winner + level, (uint64_t(scratch_.node_area[i]) << 32 | scratch_.node_first[i]) + 1);
      });
    });
    block_.for_each(top_, [&](uint32_t i) {
      const int level = int(i) + 1;
      scratch_.winner_branch[level] = climb(links_[uint32_t(scratch_.winner[level] - 1)], level);
    });
  }

  // Raises the levels of pixels in holes so that no component of any level has a hole: a pixel is inside as long as its
  // background does not reach the frame. The tree is of no use afterwards.
  WSOLKERN_DEVICE void fill_holes() {
    block_.for_each(shared_.num_roots, [&](uint32_t i) {
      uint32_t at = scratch_.roots[i];
      int32_t reaches = 0;  // the level, of the complement, at which the branch is one with the frame
      while (scratch_.join[at] != kNever) {
        reaches = scratch_.join[at];
        at = scratch_.parent[at];
      }
      scratch_.cap[scratch_.roots[i]] = at == frame_ ? reaches : 0;
    });
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      const uint32_t branch = links_[pixel];
      if (branch != frame_) levels_[pixel] = int16_t(top_ - scratch_.cap[branch]);
    });
  }

 private:
  const Block& block_;
  int16_t* const levels_;
  Link* const links_;
  Shared& shared_;
  const Shape& shape_;
  Scratch& scratch_;
  const uint32_t frame_;
  const int top_;

  WSOLKERN_DEVICE int level(uint32_t pixel) const { return kHoles ? top_ - levels_[pixel] : levels_[pixel]; }
  WSOLKERN_DEVICE int peak(uint32_t branch) const { return kHoles && branch == frame_ ? INT16_MAX : level(branch); }
  // The branch that `branch` is part of at `level`, which its peak reaches.
  WSOLKERN_DEVICE uint32_t climb(uint32_t branch, int level) const {
    while (scratch_.join[branch] >= level) branch = scratch_.parent[branch];
    return branch;
  }
  // Which of the branches at work has item number `at`, of the items that `begins` counts.
  WSOLKERN_DEVICE uint32_t owner(const uint64_t* begins, uint64_t at) const {
    const uint32_t begin = shared_.begin;
    return begin + first_that(shared_.end - begin, [&](uint32_t i) { return begins[begin + i + 1] > at; });
  }
  WSOLKERN_DEVICE uint32_t num_in_batch(const uint64_t* begins) const {
    return uint32_t(begins[shared_.end] - begins[shared_.begin]);
  }
  // Marks the chosen branches and calls work(), for as many at a time as have no more than `most` items.
  template <class F>
  WSOLKERN_DEVICE void for_each_batch(const uint64_t* begins, uint32_t most, F&& work) {
    block_.once([&] { shared_.begin = 0; });
    while (shared_.begin < shared_.num_chosen) {
      block_.once([&] {
        const uint32_t begin = shared_.begin;
        shared_.end = begin + first_that(shared_.num_chosen - begin,
                                         [&](uint32_t i) { return begins[begin + i + 1] - begins[begin] > most; });
      });
      mark(true);
      work();
      mark(false);
      block_.once([&] { shared_.begin = shared_.end; });
    }
  }
  template <class F>
  WSOLKERN_DEVICE void until_unchanged(F&& phase) {
    do {
      block_.once([&] { shared_.changed = 0; });
      phase();
    } while (settle());
  }
  WSOLKERN_DEVICE bool settle() const {  // whether the last phase noted a change; the note may be erased afterwards
    const bool changed = shared_.changed;
    block_.barrier();
    return changed;
  }

  WSOLKERN_DEVICE void link() {
    const int width = shape_.width, height = shape_.height;
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      const int x = shape_.column(pixel), y = shape_.row(pixel);
      uint32_t to = pixel;
      int highest = level(pixel) - 1;
      const auto consider = [&](bool is_inside, uint32_t neighbour) {
        if (!is_inside) return;
        const int theirs = level(neighbour);
        if (theirs > highest) {
          highest = theirs;
          to = neighbour;
        }
      };
      const bool west = x > 0, east = x + 1 < width, north = y > 0, south = y + 1 < height;
      consider(east, pixel + 1);
      consider(south, pixel + width);
      if (!kHoles) {
        consider(south && east, pixel + width + 1);
        consider(south && west, pixel + width - 1);
      }
      consider(west, pixel - 1);
      if (!kHoles) consider(north && east, pixel - width + 1);
      consider(north, pixel - width);
      if (!kHoles) consider(north && west, pixel - width - 1);
      store(links_ + pixel, Link(to));
    });
    // Only equals can point at each other, and only in pairs: edges between equals are ordered by their upper end and
    // direction, and each pixel takes its last.
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      const uint32_t to = load(links_ + pixel);
      if (to > pixel && load(links_ + to) == pixel) store(links_ + pixel, Link(pixel));
    });
    until_unchanged([&] {
      block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
        const uint32_t begin = load(links_ + pixel);
        uint32_t to = begin;
        for (int hop = 0; hop < kHops; ++hop) {
          const uint32_t next = load(links_ + to);
          if (next == to) break;
          to = next;
        }
        if (to == begin) return;
        store(links_ + pixel, Link(to));
        store(&shared_.changed, 1u);
      });
    });
    block_.once([&] { shared_.num_roots = shared_.num_edges = 0; });
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      if (links_[pixel] == pixel) scratch_.roots[add(&shared_.num_roots, 1)] = pixel;
    });
  }

  WSOLKERN_DEVICE void find_edges() {
    const int width = shape_.width, height = shape_.height;
    const auto keep = [&](uint32_t pixel, Direction direction) {
      scratch_.edges[add(&shared_.num_edges, 1)] = pixel * 4 + direction;
    };
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      const int mine = level(pixel);
      if (mine == 0) return;  // level 0 is never foreground
      const int x = shape_.column(pixel), y = shape_.row(pixel);
      const bool west = x > 0, east = x + 1 < width, south = y + 1 < height;
      const uint32_t basin = links_[pixel];
      const auto leads_out = [&](uint32_t neighbour) { return links_[neighbour] != basin && level(neighbour) > 0; };
      if (east && leads_out(pixel + 1)) keep(pixel, kEast);
      if (south && leads_out(pixel + width)) keep(pixel, kSouth);
      if constexpr (kHoles) {
        if (!west || !east || y == 0 || !south) keep(pixel, kToFrame);
      } else {
        // A step aside that is not lower than the ends of a diagonal connects them just as well.
        const auto is_needed = [&](uint32_t across, uint32_t one_side, uint32_t other_side) {
          const int theirs = level(across), both = theirs < mine ? theirs : mine;
          return level(one_side) < both && level(other_side) < both;
        };
        const uint32_t below = pixel + width;
        if (south && east && leads_out(below + 1) && is_needed(below + 1, pixel + 1, below)) keep(pixel, kSouthEast);
        if (south && west && leads_out(below - 1) && is_needed(below - 1, pixel - 1, below)) keep(pixel, kSouthWest);
      }
    });
  }

  WSOLKERN_DEVICE uint32_t far_end(uint32_t edge) const {  // a pixel, or the frame
    const uint32_t pixel = edge / 4, direction = edge % 4;
    if (direction == kEast) return pixel + 1;
    if (direction == kSouth) return pixel + shape_.width;
    if (kHoles) return frame_;
    return pixel + shape_.width + (direction == kSouthEast ? 1 : -1);
  }
  WSOLKERN_DEVICE uint32_t leader_at(uint32_t pixel) const {
    return scratch_.leader[kHoles && pixel == frame_ ? frame_ : uint32_t(links_[pixel])];
  }

  WSOLKERN_DEVICE void merge() {
    if constexpr (kHoles) block_.once([&] { scratch_.roots[shared_.num_roots++] = frame_; });
    const uint32_t num_roots = shared_.num_roots, num_edges = shared_.num_edges;
    block_.for_each(num_roots, [&](uint32_t i) {
      const uint32_t basin = scratch_.roots[i];
      scratch_.best[basin] = 0;
      scratch_.leader[basin] = scratch_.parent[basin] = basin;
      scratch_.join[basin] = kNever;
      scratch_.mark[basin] = 0;
    });
    const auto goes_on = [&](uint32_t branch, uint32_t other) {
      const int mine = peak(branch), theirs = peak(other);
      return mine > theirs || (mine == theirs && branch < other);
    };
    for (;;) {
      block_.for_each(num_edges, [&](uint32_t i) {
        const uint32_t edge = scratch_.edges[i];
        if (edge == kNoEdge) return;
        const uint32_t pixel = edge / 4, end = far_end(edge);
        const uint32_t a = leader_at(pixel), b = leader_at(end);
        if (a == b) {
          scratch_.edges[i] = kNoEdge;
          return;
        }
        const int here = level(pixel), there = kHoles && end == frame_ ? here : level(end);
        const uint64_t key = uint64_t(here < there ? here : there) << 32 | edge;
        raise(scratch_.best + a, key);
        raise(scratch_.best + b, key);
      });
      block_.once([&] { shared_.changed = 0; });
      block_.for_each(num_roots, [&](uint32_t i) {
        const uint32_t branch = scratch_.roots[i];
        const uint64_t key = scratch_.best[branch];
        if (key == 0 || scratch_.leader[branch] != branch || branch == frame_) return;  // the frame is joined by others
        const uint32_t edge = uint32_t(key), a = leader_at(edge / 4), b = leader_at(far_end(edge));
        const uint32_t other = a == branch ? b : a;
        store(&shared_.changed, 1u);
        if (scratch_.best[other] == key && goes_on(branch, other)) return;
        scratch_.join[branch] = int32_t(key >> 32);
        scratch_.parent[branch] = other;
      });
      if (!settle()) return;
      block_.for_each(num_roots, [&](uint32_t i) {
        const uint32_t branch = scratch_.roots[i];
        scratch_.best[branch] = 0;
        if (scratch_.leader[branch] == branch) scratch_.leader[branch] = scratch_.parent[branch];
      });
      until_unchanged([&] {
        block_.for_each(num_roots, [&](uint32_t i) {
          uint32_t* const leader = scratch_.leader + scratch_.roots[i];
          const uint32_t begin = load(leader);
          uint32_t to = begin;
          for (int hop = 0; hop < kHops; ++hop) {
            const uint32_t next = load(scratch_.leader + to);
            if (next == to) break;
            to = next;
          }
          if (to == begin) return;
          store(leader, to);
          store(&shared_.changed, 1u);
        });
      });
    }
  }

  WSOLKERN_DEVICE void attach() {
    until_unchanged([&] {
      block_.for_each(shared_.num_roots, [&](uint32_t i) {
        const uint32_t branch = scratch_.roots[i], begin = load(scratch_.parent + branch);
        const int32_t join = scratch_.join[branch];
        uint32_t to = begin;
        for (int hop = 0; join != kNever && hop < kHops && scratch_.join[to] >= join; ++hop)
          to = load(scratch_.parent + to);
        if (to == begin) return;
        store(scratch_.parent + branch, to);
        store(&shared_.changed, 1u);
      });
    });
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) { links_[pixel] = climb(links_[pixel], level(pixel)); });
  }

  WSOLKERN_DEVICE void measure() {
    block_.for_each(shared_.num_roots,
                    [&](uint32_t i) { scratch_.extent[scratch_.roots[i]] = {shape_.width, shape_.height, -1, -1}; });
    const auto include = [&](uint32_t branch, const Extent& part) {
      Extent& whole = scratch_.extent[branch];
      lower(&whole.x0, part.x0);
      lower(&whole.y0, part.y0);
      raise(&whole.x1, part.x1);
      raise(&whole.y1, part.y1);
    };
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      if (level(pixel) == 0 || links_[pixel] == frame_) return;
      const int x = shape_.column(pixel), y = shape_.row(pixel);
      include(links_[pixel], {x, y, x, y});
    });
    block_.for_each(shared_.num_roots, [&](uint32_t i) {
      uint32_t at = scratch_.roots[i];
      Extent& mine = scratch_.extent[at];
      const Extent part{load(&mine.x0), load(&mine.y0), load(&mine.x1), load(&mine.y1)};
      if (part.x1 < part.x0) return;
      while (scratch_.join[at] != kNever) {
        at = scratch_.parent[at];
        if (at != frame_) include(at, part);
      }
    });
  }

  // The list of the branches that live at some level and are worth it, and how many cells and levels they have.
  template <class Worth>
  WSOLKERN_DEVICE void choose(Worth&& worth) {
    const auto num_levels = [&](uint32_t branch) {
      const int32_t join = scratch_.join[branch];
      return peak(branch) - (join == kNever ? 0 : join);
    };
    block_.once([&] { shared_.num_chosen = 0; });
    block_.for_each(shared_.num_roots, [&](uint32_t i) {
      const uint32_t branch = scratch_.roots[i];
      if (branch != frame_ && num_levels(branch) > 0 && worth(branch))
        scratch_.chosen[add(&shared_.num_chosen, 1)] = branch;
    });
    const uint32_t num_chosen = shared_.num_chosen;
    block_.once([&] { scratch_.cells_of[0] = scratch_.nodes_of[0] = 0; });
    block_.for_each(num_chosen, [&](uint32_t i) {
      const uint32_t branch = scratch_.chosen[i];
      const Extent& extent = scratch_.extent[branch];
      scratch_.cells_of[i + 1] = 2 * uint64_t(extent.x1 - extent.x0 + extent.y1 - extent.y0 + 2);
      scratch_.nodes_of[i + 1] = num_levels(branch);
    });
    const auto sum = [](uint64_t a, uint64_t b) { return a + b; };
    scan(block_, shared_, scratch_.cells_of, num_chosen + 1, sum);
    scan(block_, shared_, scratch_.nodes_of, num_chosen + 1, sum);
  }

  WSOLKERN_DEVICE void mark(bool is_marked) {
    block_.for_each(shared_.end - shared_.begin, [&](uint32_t i) {
      const uint32_t place = shared_.begin + i;
      scratch_.mark[scratch_.chosen[place]] = is_marked ? place + 1 : 0;
    });
  }

  // The silhouettes of marked branches: per branch, the highest level in each column and each row of its extent, what
  // joined it counting no higher than where it joined. Then the maxima of these from either end.
  WSOLKERN_DEVICE void draw() {
    int32_t* const cells = scratch_.cells;
    const uint64_t offset = scratch_.cells_of[shared_.begin];
    const uint32_t num_cells = num_in_batch(scratch_.cells_of);
    const auto columns_of = [&](uint32_t place) { return cells + (scratch_.cells_of[place] - offset); };
    const auto rows_of = [&](uint32_t place) { return columns_of(place) + width_of(scratch_.chosen[place]); };
    block_.for_each(num_cells, [&](uint32_t i) { cells[i] = 0; });
    block_.for_each(shared_.num_roots, [&](uint32_t i) {
      const uint32_t branch = scratch_.roots[i];
      uint32_t at = branch;
      int32_t cap = INT16_MAX;
      while (!scratch_.mark[at] && scratch_.join[at] != kNever) {
        cap = scratch_.join[at];
        at = scratch_.parent[at];
      }
      scratch_.target[branch] = scratch_.mark[at];
      scratch_.cap[branch] = cap;
    });
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      const uint32_t branch = links_[pixel], target = scratch_.target[branch];
      const int own = level(pixel), reached = own < scratch_.cap[branch] ? own : scratch_.cap[branch];
      if (!target || reached == 0) return;
      const uint32_t place = target - 1;
      const Extent& extent = scratch_.extent[scratch_.chosen[place]];
      raise(columns_of(place) + (shape_.column(pixel) - extent.x0), reached);
      raise(rows_of(place) + (shape_.row(pixel) - extent.y0), reached);
    });
    block_.for_each(num_cells / 2, [&](uint32_t i) {  // half of a branch's cells hold its silhouettes by now
      const uint32_t place = owner(scratch_.cells_of, offset + 2 * uint64_t(i));
      const int32_t at = int32_t(i - uint32_t(scratch_.cells_of[place] - offset) / 2);
      uint32_t branch = scratch_.chosen[place];
      const bool is_row = at >= width_of(branch);
      const int32_t line =
          is_row ? scratch_.extent[branch].y0 + at - width_of(branch) : scratch_.extent[branch].x0 + at;
      const int32_t reached = load(columns_of(place) + at);
      if (reached == 0) return;
      while (scratch_.join[branch] != kNever) {
        const int32_t cap = scratch_.join[branch];
        branch = scratch_.parent[branch];
        if (!scratch_.mark[branch]) continue;
        const uint32_t above = scratch_.mark[branch] - 1;
        raise(is_row ? rows_of(above) + (line - scratch_.extent[branch].y0)
                     : columns_of(above) + (line - scratch_.extent[branch].x0),
              reached < cap ? reached : cap);
      }
    });
    // Maxima from the far ends, in the other half; then from the near ends, in place.
    block_.for_each(2 * (shared_.end - shared_.begin), [&](uint32_t i) {
      const auto [from, n, half] = line(shared_.begin + i / 2, i % 2);
      int32_t most = 0;
      for (int32_t at = n; at-- > 0;) {
        most = from[at] > most ? from[at] : most;
        from[half + at] = most;
      }
    });
    block_.for_each(2 * (shared_.end - shared_.begin), [&](uint32_t i) {
      const auto [from, n, half] = line(shared_.begin + i / 2, i % 2);
      for (int32_t at = 1; at < n; ++at) from[at] = from[at] > from[at - 1] ? from[at] : from[at - 1];
    });
  }

  struct Line {
    int32_t* from;  // the cells of the columns or of the rows
    int32_t n;      // of them
    int32_t half;   // how much further the same cells of the other half are
  };
  WSOLKERN_DEVICE Line line(uint32_t place, bool is_rows) const {
    int32_t* const cells = scratch_.cells + (scratch_.cells_of[place] - scratch_.cells_of[shared_.begin]);
    const int32_t width = width_of(scratch_.chosen[place]);
    const int32_t half = int32_t(scratch_.cells_of[place + 1] - scratch_.cells_of[place]) / 2;
    return is_rows ? Line{cells + width, half - width, half} : Line{cells, width, half};
  }
  WSOLKERN_DEVICE int32_t width_of(uint32_t branch) const {
    return scratch_.extent[branch].x1 - scratch_.extent[branch].x0 + 1;
  }

  WSOLKERN_DEVICE Extent extent_at(uint32_t place, int level) const {
    const Extent& most = scratch_.extent[scratch_.chosen[place]];
    const auto ends = [&](const Line& cells, int first, int& low, int& high) {
      low = first + int(first_that(cells.n, [&](uint32_t i) { return cells.from[i] >= level; }));
      high = first - 1 + int(first_that(cells.n, [&](uint32_t i) { return cells.from[cells.half + i] < level; }));
    };
    Extent extent;
    ends(line(place, false), most.x0, extent.x0, extent.x1);
    ends(line(place, true), most.y0, extent.y0, extent.y1);
    return extent;
  }

  // Twice the area that a pixel adds to its component.
  WSOLKERN_DEVICE uint32_t area_added(uint32_t pixel) const {
    const int x = shape_.column(pixel), y = shape_.row(pixel), mine = level(pixel);
    const auto is_there = [&](int dx, int dy) {  // whether the neighbour has arrived before
      const uint32_t neighbour = pixel + dy * shape_.width + dx;
      const int theirs = level(neighbour);
      return theirs > mine || (theirs == mine && neighbour < pixel);
    };
    uint32_t added = 0;
    for (int dy = -1; dy <= 1; dy += 2)
      for (int dx = -1; dx <= 1; dx += 2) {
        if (x + dx < 0 || x + dx >= shape_.width || y + dy < 0 || y + dy >= shape_.height) continue;
        added += is_there(dx, 0) + is_there(0, dy) + is_there(dx, dy) >= 2;
      }
    return added;
  }

  // What each branch brings along where it joins: area and first pixel, without what joined it.
  WSOLKERN_DEVICE void add_up_branches() {
    block_.for_each(shared_.num_roots, [&](uint32_t i) {
      scratch_.area[scratch_.roots[i]] = 0;
      scratch_.first[scratch_.roots[i]] = UINT32_MAX;
    });
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      if (level(pixel) == 0) return;
      const uint32_t branch = links_[pixel], added = area_added(pixel);
      if (added) add(scratch_.area + branch, added);
      lower(scratch_.first + branch, pixel);
    });
  }

  // The same per level of the marked branches, with all that is part of them by then.
  WSOLKERN_DEVICE void add_up_levels() {
    uint32_t *const areas = scratch_.node_area, *const firsts = scratch_.node_first;
    const uint64_t offset = scratch_.nodes_of[shared_.begin];
    const auto nodes_of = [&](uint32_t place) { return uint32_t(scratch_.nodes_of[place] - offset); };
    const auto contribute = [&](uint32_t branch, int level, uint32_t area, uint32_t first) {
      const uint32_t node = nodes_of(scratch_.mark[branch] - 1) + uint32_t(peak(branch) - level);
      if (area) add(areas + node, area);
      lower(firsts + node, first);
    };
    block_.for_each(num_in_batch(scratch_.nodes_of), [&](uint32_t i) {
      areas[i] = 0;
      firsts[i] = UINT32_MAX;
    });
    block_.for_each(shape_.num_pixels, [&](uint32_t pixel) {
      const uint32_t branch = links_[pixel];
      if (level(pixel) && scratch_.mark[branch]) contribute(branch, level(pixel), area_added(pixel), pixel);
    });
    block_.for_each(shared_.num_roots, [&](uint32_t i) {
      const uint32_t branch = scratch_.roots[i], first = scratch_.first[branch];
      uint32_t at = branch;
      while (first != UINT32_MAX && scratch_.join[at] != kNever) {
        const int level = scratch_.join[at];
        at = scratch_.parent[at];
        if (scratch_.mark[at]) contribute(at, level, scratch_.area[branch], first);
      }
    });
    // From the highest level down; branches with many levels by all threads together.
    constexpr uint32_t kMany = 512;
    const auto sum = [](uint32_t a, uint32_t b) { return a + b; };
    const auto least = [](uint32_t a, uint32_t b) { return a < b ? a : b; };
    block_.once([&] { shared_.num_longest = 0; });
    block_.for_each(shared_.end - shared_.begin, [&](uint32_t i) {
      const uint32_t place = shared_.begin + i, from = nodes_of(place), to = nodes_of(place + 1);
      if (to - from > kMany) {
        scratch_.longest[add(&shared_.num_longest, 1)] = place;
        return;
      }
      for (uint32_t node = from + 1; node < to; ++node) {
        areas[node] = sum(areas[node - 1], areas[node]);
        firsts[node] = least(firsts[node - 1], firsts[node]);
      }
    });
    for (uint32_t i = 0; i < shared_.num_longest; ++i) {
      const uint32_t place = scratch_.longest[i], from = nodes_of(place), n = nodes_of(place + 1) - from;
      scan(block_, shared_, areas + from, n, sum);
      scan(block_, shared_, firsts + from, n, least);
    }
  }
};

}  // namespace wsolkern
