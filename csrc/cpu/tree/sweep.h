// The largest component of every level (MaxBoxAcc) where there are too many to search among them: all are followed as
// the level falls, pixel by pixel.
//
// A pixel that arrives changes the area and the Euler number of its component by what its eight neighbours say, those
// counted that arrived before it (of one level: those before it in raster order). Twice the area is the number of 2 x 2
// squares with at least 3 of their pixels in the component plus that of those with all 4; the Euler number is a quarter
// of the number of squares with 1 pixel, less those with 3, less twice those with 2 on a diagonal (Gray, "Local
// properties of binary images in two dimensions", IEEE Trans. Computers, 1971). Where it is 1 there are no holes, and
// the area is exact. Where there are holes it is the least that the outline encloses, and the box the most: only of
// components for which that leaves it open is the outline followed.
//
// A component that did not change since the level above cannot win where the winner of that level has become larger, so
// at each level only the last winner and what changed are compared.
#pragma once

#include <array>

#include "cpu/tree/areas.h"

namespace wsolkern {

struct Change {
  int8_t twice_area, euler;  // 4 times
};

// What a pixel changes, by its neighbours, a bit each in raster order: the four squares that it is in, without and with
// it.
constexpr std::array<Change, 256> changes_by_neighbours() {
  std::array<Change, 256> all{};
  constexpr int squares[4][3] = {{0, 1, 3}, {2, 1, 4}, {5, 6, 3}, {7, 6, 4}};  // the diagonal one, its two others
  for (int around = 0; around < 256; ++around)
    for (const auto& square : squares) {
      const bool diagonal = around >> square[0] & 1, a = around >> square[1] & 1, b = around >> square[2] & 1;
      const int number = diagonal + a + b;
      const auto euler = [](int pixels, bool on_diagonal) {
        return pixels == 1 ? 1 : pixels == 3 ? -1 : pixels == 2 && on_diagonal ? -2 : 0;
      };
      all[around].twice_area += number >= 2;
      all[around].euler += euler(number + 1, diagonal && !a && !b) - euler(number, !diagonal && a && b);
    }
  return all;
}

class LargestSweep {
 public:
  // Calls settle(lowest, highest, extent) for the component that is largest there, until every level of
  // [1, image.top] has got one. Ties go to the component whose first pixel is last in raster order.
  template <class Settle>
  void find(const LevelImage& image, const Runs& runs, const Basins& basins, const Branches& branches,
            Settle&& settle) {
    sort_pixels(image, runs, basins);
    components_.assign(branches.at.size(), Component{{image.width, image.height, -1, -1}});
    leader_.resize(branches.at.size());
    std::iota(leader_.begin(), leader_.end(), 0u);
    uint32_t winner = kNone;
    bool was_contested = false;  // whether another may be as large as the winner, which is exact then
    int highest = image.top;     // of the levels that the winner has had since it changed
    auto join = branches.order.begin();
    const Arrival* arrival = arrivals_.data();
    for (int level = image.top; level > 0; --level) {
      poll();
      changed_.clear();
      const int64_t least = winner == kNone ? -1 : components_[winner].least();
      for (; join != branches.order.end() && branches.at[*join].join == level; ++join) {
        const uint32_t into = branches.at[*join].parent;
        leader_[*join] = into;
        change(into, level).merge(components_[*join]);
        if (winner == *join) winner = into;
      }
      for (const Arrival* end = arrivals_.data() + level_end_[kStreams * (image.top - level) + kStreams - 1];
           arrival != end; ++arrival)
        change(leader(arrival->basin), level).add(*arrival);
      std::erase_if(changed_, [&](uint32_t i) { return leader_[i] != i; });  // it joined another one afterwards
      if (changed_.empty()) continue;
      const Extent before = extent_;
      const uint32_t was = winner;
      pick(image, level, winner, was_contested, least);
      extent_ = components_[winner].extent;
      if (was != kNone && level < highest && !is_same(before, extent_)) {
        settle(level + 1, highest, before);
        highest = level;
      }
    }
    if (image.top > 0) settle(1, highest, extent_);
  }

  size_t bytes() const {
    return arrivals_.capacity() * sizeof(Arrival) + components_.capacity() * sizeof(Component) +
           (leader_.capacity() + changed_.capacity() + contenders_.capacity() + level_end_.capacity()) * 4 +
           around_.capacity() * 2;
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr unsigned kStreams = 4;  // in which pixels of a level are counted: one counter would wait for itself
  static constexpr std::array<Change, 256> kChanges = changes_by_neighbours();
  struct Arrival {
    uint32_t basin;
    uint16_t x, y;
    uint8_t around;  // which neighbours were there already, one bit each
  };
  struct Component {
    Extent extent;
    int64_t twice_area = 0;     // of what it covers, holes left out
    int64_t twice_outline = 0;  // at least that is enclosed: what was measured, of it or of a part of it, once
    uint32_t first_x = 0, first_y = kNone;
    int32_t euler = 0;         // 4 times
    int32_t level = 0;         // at which it changed last
    bool is_measured = false;  // as it is now

    void include_first(uint32_t x, uint32_t y) {
      if (y < first_y || (y == first_y && x < first_x)) first_x = x, first_y = y;
    }
    void add(const Arrival& pixel) {
      const Change change = kChanges[pixel.around];
      twice_area += change.twice_area;
      euler += change.euler;
      extent.include({pixel.x, pixel.y, pixel.x, pixel.y});
      if (!(pixel.around & kEarlier)) include_first(pixel.x, pixel.y);
    }
    void merge(const Component& other) {
      if (other.first_y == kNone) return;
      twice_area += other.twice_area;
      euler += other.euler;
      twice_outline = std::max(twice_outline, other.twice_outline);
      extent.include(other.extent);
      include_first(other.first_x, other.first_y);
    }
    bool is_exact() const { return is_measured || euler == 4; }
    int64_t least() const { return std::max(twice_area, twice_outline); }
    int64_t most() const { return is_exact() ? least() : 2 * int64_t(extent.x1 - extent.x0) * (extent.y1 - extent.y0); }
    bool is_later(const Component& other) const {
      return first_y > other.first_y || (first_y == other.first_y && first_x > other.first_x);
    }
  };
  std::vector<Arrival> arrivals_;    // of all pixels, by falling level
  std::vector<uint32_t> level_end_;  // where those of level top - i end, in kStreams of them
  std::vector<Component> components_;
  std::vector<uint32_t> leader_;  // union-find over basins: the branch that lives at the level
  std::vector<uint32_t> changed_, contenders_;
  std::vector<uint16_t> around_;  // scratch: of the pixels of a row
  Extent extent_{};

  static constexpr uint8_t kEarlier = 0x0f;  // the neighbours that come before it in raster order

  static bool is_same(const Extent& a, const Extent& b) {
    return a.x0 == b.x0 && a.y0 == b.y0 && a.x1 == b.x1 && a.y1 == b.y1;
  }

  uint32_t leader(uint32_t b) {
    while (leader_[b] != b) b = leader_[b] = leader_[leader_[b]];
    return b;
  }

  Component& change(uint32_t i, int level) {
    Component& component = components_[i];
    if (component.level != level) {
      component.level = level;
      component.is_measured = false;
      changed_.push_back(i);
    }
    return component;
  }

  // A counting sort of all pixels above level 0, highest level first.
  void sort_pixels(const LevelImage& image, const Runs& runs, const Basins& basins) {
    const int top = image.top;
    level_end_.assign(kStreams * (top + 1), 0);
    for (int y = 0; y < image.height; ++y)
      for (unsigned x = 0; x < unsigned(image.width); ++x)
        ++level_end_[kStreams * (top - image.row(y)[x]) + x % kStreams];
    uint32_t num_pixels = 0;
    for (uint32_t& end : level_end_) end = std::exchange(num_pixels, num_pixels + end);
    arrivals_.resize(num_pixels);  // those of level 0 are last, and stay
    around_.resize(image.width);
    uint16_t* const around = around_.data();
    uint32_t* const level_end = level_end_.data();
    Arrival* const arrivals = arrivals_.data();
    for (int y = 0; y < image.height; ++y) {
      if (y % kRowsPerPoll == kRowsPerPoll - 1) poll(kStepsPerClock);
      const int16_t *const here = image.row(y), *const above = here - image.stride, *const below = here + image.stride;
      for (int x = 0; x < image.width; ++x) {
        const int16_t level = here[x];
        around[x] = uint16_t((above[x - 1] >= level) | (above[x] >= level) << 1 | (above[x + 1] >= level) << 2 |
                             (here[x - 1] >= level) << 3 | (here[x + 1] > level) << 4 | (below[x - 1] > level) << 5 |
                             (below[x] > level) << 6 | (below[x + 1] > level) << 7);
      }
      for (uint32_t run = runs.row_begin[y]; run + 1 < runs.row_begin[y + 1]; ++run) {
        const uint32_t basin = basins.of_run[run];
        const unsigned end = runs.start[run + 1];
        for (unsigned x = runs.start[run]; x < end; ++x)
          arrivals[level_end[kStreams * (top - here[x]) + x % kStreams]++] = {basin, uint16_t(x), uint16_t(y),
                                                                              uint8_t(around[x])};
      }
    }
  }

  // Finds the winner at `level`, of the last one, which enclosed at least `least`, and of what changed.
  void pick(const LevelImage& image, int level, uint32_t& winner, bool& was_contested, int64_t least) {
    contenders_ = changed_;
    const bool has_changed = winner != kNone && components_[winner].level == level;
    if (winner != kNone && !has_changed) contenders_.push_back(winner);
    int64_t floor = largest_least();
    // The winner may have lost a tie by what it got, to a component that did not change.
    const bool looks_at_all = has_changed && was_contested && floor <= least;
    if (looks_at_all) {
      contenders_.clear();
      for (uint32_t i = 0; i < components_.size(); ++i)
        if (leader_[i] == i && components_[i].first_y != kNone) contenders_.push_back(i);
      poll(unsigned(1 + components_.size() / 256));
      floor = largest_least();
    }
    for (;;) {
      std::erase_if(contenders_, [&](uint32_t i) { return components_[i].most() < floor; });
      if (contenders_.size() == 1) break;
      const auto open = [&](uint32_t i) { return components_[i].is_exact() ? -1 : components_[i].least(); };
      const uint32_t likely = *std::max_element(contenders_.begin(), contenders_.end(),
                                                [&](uint32_t i, uint32_t j) { return open(i) < open(j); });
      Component& component = components_[likely];
      if (component.is_exact()) break;  // all are
      poll(kStepsPerClock / 8);
      const Pixel first{int(component.first_x), int(component.first_y)};
      component.twice_outline = twice_outline_area(image, first, level);
      component.is_measured = true;
      floor = std::max(floor, component.twice_outline);
    }
    was_contested = contenders_.size() > 1 || (was_contested && !looks_at_all && floor <= least);
    winner = contenders_[0];
    for (const uint32_t i : contenders_)
      if (components_[i].is_later(components_[winner])) winner = i;
  }

  int64_t largest_least() const {
    int64_t most = -1;
    for (const uint32_t i : contenders_) most = std::max(most, components_[i].least());
    return most;
  }
};

}  // namespace wsolkern
