// Which component is the largest at each level (MaxBoxAcc), without measuring most of them.
//
// The largest contour is an outer one, and both its area and its box grow as the level falls. So over a whole range of
// levels a branch cannot win if the area of its box at the lowest level is less than what some component has been
// measured to have at the highest. If that leaves one branch, it wins the range; if not, the largest contender is
// measured, and the range is halved until it is a single level, where all remaining contenders are measured. Ties go to
// the component whose first pixel is last in raster order, as OpenCV's order of contours has it.
// On CAMs a handful of measurements settles 255 levels.
#pragma once

#include "cpu/tree/areas.h"
#include "cpu/tree/boxes.h"

namespace wsolkern {

// A stretch of a branch's life: its component's box over the levels [lowest, highest] is at most `extent`, and of these
// levels' contour boxes the ones in `hits` reach an IoU threshold, one bit each.
struct Piece {
  int lowest, highest;
  Extent extent;
  uint32_t hits;
  bool is_loose;  // `extent` was not measured, the component may be much smaller

  int64_t twice_area_bound() const { return 2 * int64_t(extent.x1 - extent.x0) * (extent.y1 - extent.y0); }
};

struct Pieces {
  std::vector<Piece> all;
  struct Range {
    uint32_t branch, begin, end;
  };
  std::vector<Range> ranges;  // per branch that lives at all: its pieces, from the lowest level up, without gaps

  void clear() {
    all.clear();
    ranges.clear();
  }
  size_t bytes() const { return all.capacity() * sizeof(Piece) + ranges.capacity() * sizeof(Range); }
};

class LargestSearch {
 public:
  LargestSearch(const LevelImage& image, const Runs& runs, const Basins& basins, const Branches& branches,
                Pieces& pieces, Areas& areas)
      : image_(image), runs_(runs), basins_(basins), branches_(branches), pieces_(pieces), areas_(areas) {
    areas.reset(branches.at.size());
  }

  // Calls settle(lowest, highest, piece) until every level of [lowest, highest] has got the piece that is largest
  // there. Where only `hits` matter, ranges in which all contenders agree on them are settled without a measurement;
  // where not, no piece may be loose. Ranges must be asked for from the highest down.
  template <class Settle>
  void find(int lowest, int highest, bool only_hits_matter, Settle&& settle) {
    std::vector<uint32_t> contenders;
    for (uint32_t i = 0; i < pieces_.ranges.size(); ++i)
      if (lives_within(i, lowest, highest)) contenders.push_back(i);
    narrow(lowest, highest, std::move(contenders), only_hits_matter, settle);
  }

 private:
  const LevelImage& image_;
  const Runs& runs_;
  const Basins& basins_;
  const Branches& branches_;
  Pieces& pieces_;
  Areas& areas_;
  static constexpr size_t kFew = 4;
  int64_t floor_ = -1;  // some component measured this (twice its area) at a level above all that is still open

  const Piece* begin(uint32_t i) const { return pieces_.all.data() + pieces_.ranges[i].begin; }
  const Piece* end(uint32_t i) const { return pieces_.all.data() + pieces_.ranges[i].end; }
  const Piece& piece_at(uint32_t i, int level) const {  // the first piece that reaches the level
    return *std::partition_point(begin(i), end(i), [&](const Piece& piece) { return piece.highest < level; });
  }
  bool lives_at(uint32_t i, int level) const { return begin(i)->lowest <= level && level <= (end(i) - 1)->highest; }

  bool lives_within(uint32_t i, int lowest, int highest) const {
    return begin(i)->lowest <= highest && lowest <= (end(i) - 1)->highest;
  }
  // Whether branch i is too small to be the largest at `lowest` or any level above.
  bool is_beaten(uint32_t i, int lowest) {
    const Piece& piece = piece_at(i, lowest);
    if (piece.twice_area_bound() < floor_) return true;
    if (!piece.is_loose || floor_ < 0) return false;
    tighten(i);
    return piece.twice_area_bound() < floor_;
  }

  // Measures the extent of branch i at its lowest level, if it was not walked.
  void tighten(uint32_t i) {
    const Pieces::Range& range = pieces_.ranges[i];
    Piece& piece = pieces_.all[range.begin];
    if (!piece.is_loose) return;
    piece.extent = lowest_extent(image_, runs_, basins_, branches_, range.branch);
    piece.is_loose = false;
  }

  int64_t measure(uint32_t i, int level) {
    poll(kStepsPerClock / 8);
    return areas_.twice(image_, runs_, basins_, branches_, pieces_.ranges[i].branch, level);
  }
  // Whether the first pixel of branch i's component comes after branch j's in raster order.
  bool is_later(uint32_t i, uint32_t j, int level) const {
    const auto first = [&](uint32_t which) {
      return first_pixel(image_, runs_, basins_, branches_, pieces_.ranges[which].branch, level);
    };
    const Pixel a = first(i), b = first(j);
    return a.y > b.y || (a.y == b.y && a.x > b.x);
  }

  template <class Settle>
  void settle_all(uint32_t i, int lowest, int highest, Settle& settle) const {
    for (const Piece* piece = &piece_at(i, lowest); piece != end(i) && piece->lowest <= highest; ++piece)
      settle(std::max(lowest, piece->lowest), std::min(highest, piece->highest), *piece);
  }

  bool agree_on_hits(const std::vector<uint32_t>& contenders, int lowest, int highest) const {
    const uint32_t hits = piece_at(contenders[0], std::max(lowest, begin(contenders[0])->lowest)).hits;
    for (const uint32_t i : contenders)
      for (const Piece* piece = &piece_at(i, lowest); piece != end(i) && piece->lowest <= highest; ++piece)
        if (piece->hits != hits) return false;
    return true;
  }

  // Settles [lowest, highest], of which some contender is the largest at every level. It goes from high to low, and
  // must: `floor_` is an area that some component had at a level at or above all that are still open. Components grow
  // as the level falls, so the largest of any open level has at least that area, and who cannot reach it is out; an
  // area measured at a lower level would say nothing about the levels above it. The upper half is therefore finished,
  // down to its last level, before the lower one is begun, and a range is measured at its highest level. Of that
  // measurement only the area stays: its branch need not be the largest, nor live at the lower levels.
  template <class Settle>
  void narrow(int lowest, int highest, std::vector<uint32_t> contenders, bool only_hits_matter, Settle& settle) {
    const auto drop_the_beaten = [&] {
      poll(unsigned(1 + contenders.size() / 256));
      std::erase_if(contenders, [&](uint32_t i) { return !lives_within(i, lowest, highest) || is_beaten(i, lowest); });
    };
    drop_the_beaten();
    if (contenders.size() > 1 && only_hits_matter && agree_on_hits(contenders, lowest, highest)) {
      settle(lowest, highest, piece_at(contenders[0], lowest));
      return;
    }
    if (contenders.size() > 1) {  // measure the one most likely to win at the highest level
      int64_t most = -1;
      uint32_t likely = 0;
      for (const uint32_t i : contenders)
        if (lives_at(i, highest) && piece_at(i, highest).twice_area_bound() > most) {
          most = piece_at(i, highest).twice_area_bound();
          likely = i;
        }
      if (most > floor_) floor_ = std::max(floor_, measure(likely, highest));
      drop_the_beaten();
      // Few are left: see how large all of them are at the highest level, and how large they ever get in this range. On
      // the demo's 14 x 14 CAMs the latter takes the mean number of measurements from 55 to 20 with 255 levels, and
      // from 1,400 to 210 with 6,120; the former from 21 to 15 and from 273 to 24.
      if (contenders.size() <= kFew) {
        for (const uint32_t i : contenders)
          if (i != likely && lives_at(i, highest)) floor_ = std::max(floor_, measure(i, highest));
        drop_the_beaten();
        if (lowest < highest && contenders.size() > 1)
          std::erase_if(contenders,
                        [&](uint32_t i) { return measure(i, std::max(lowest, begin(i)->lowest)) < floor_; });
      }
    }
    if (contenders.size() == 1) {
      settle_all(contenders[0], lowest, highest, settle);
    } else if (lowest == highest) {
      uint32_t winner = contenders[0];
      int64_t most = -1;
      for (const uint32_t i : contenders) {
        const int64_t area = measure(i, highest);
        if (area > most || (area == most && is_later(i, winner, highest))) winner = i, most = area;
      }
      floor_ = std::max(floor_, most);
      settle_all(winner, lowest, highest, settle);
    } else {
      const int middle = lowest + (highest - lowest) / 2;
      narrow(middle + 1, highest, contenders, only_hits_matter, settle);
      narrow(lowest, middle, std::move(contenders), only_hits_matter, settle);
    }
  }
};

}  // namespace wsolkern
