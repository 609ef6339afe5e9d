// One map from CAM to metrics: resize, statistics, cut points, digitize, then the component tree or the histograms.
//
// In: a raw CAM (or a score map) with its ground truth. Out: per normalization and level which IoU thresholds are
// reached, or the score histograms. Everything a map needs on the way lives in a Workspace, one per thread.
#pragma once

#include <charconv>
#include <iterator>
#include <stdexcept>
#include <string>

#include "cpu/cut_points.h"
#include "cpu/histogram.h"
#include "cpu/parallel.h"
#include "cpu/quantize.h"
#include "cpu/resize.h"
#include "cpu/stages.h"
#include "cpu/tree/component_tree.h"
#include "cpu/tree/foreground.h"
#include "cpu/tree/rules.h"
#include "shared/levels.h"

namespace wsolkern {

// at[t]: which IoU thresholds are reached, one bit each, or the best IoU, with the foreground "level > t".
template <class Value>
struct Levels {
  Value at[kScoreLevels + 1];
};

// An error that names the first value outside [0, 1], if there is one. name[which]: the map, as the caller knows it.
inline void expect_scores(const double* scores, size_t height, size_t width, const char* name, size_t which) {
  for (size_t y = 0; y < height; ++y, scores += width) {
    bool valid = true;
    for (size_t x = 0; x < width; ++x) valid &= (scores[x] >= 0) & (scores[x] <= 1);
    if (valid) continue;
    const size_t x = std::find_if(scores, scores + width, [](double s) { return !(s >= 0 && s <= 1); }) - scores;
    char value[32];
    *std::to_chars(value, std::end(value) - 1, scores[x]).ptr = 0;
    throw std::invalid_argument(std::string(name) + "[" + std::to_string(which) +
                                "]: expected a score map with values in [0, 1], found " + value + " at row " +
                                std::to_string(y) + ", column " + std::to_string(x) +
                                "; name a normalization to evaluate raw class activation maps");
  }
}

// A resized map with all that is known of it.
class PreparedMap {
 public:
  const double* values = nullptr;  // [H * W]
  size_t size = 0;
  Extremes extremes{};
  Grid grid;
  AlignedVector<uint16_t> cells;   // of every pixel, if the grid is usable and they are needed
  AlignedVector<double> filtered;  // scratch of a resize

  // `num_cuts`: how many cut points will be asked for at once.
  void prepare(const double* cam, const Resize& resize, bool is_resized, size_t num_pixels, size_t num_cuts,
               StageClock& clock) {
    size = num_pixels;
    values = cam;
    if (!is_resized) {
      resized_.resize(size);
      resize(cam, resized_.data(), filtered);
      values = resized_.data();
      clock.end_of(kResizing, size * sizeof *values);  // a CAM is small beside it
    }
    extremes = find_extremes(values, size);
    grid = Grid(extremes, num_cuts);
    has_cells_ = false;
    if (num_cuts > kFewCuts) find_cells();
    clock.end_of(kStatistics, num_digitized_bytes());
  }

  // Offset and divisor for each normalization; 0, 0 where there is no score map.
  void affines(std::span<const Ranks> ranks, std::vector<Affine>& out, StageClock& clock) {
    out.assign(ranks.size(), Affine{0, 0});
    if (extremes.degenerate()) return;
    wanted_.clear();
    for (const Ranks& each : ranks)
      for (const int64_t rank : {each.offset, each.divisor})
        if (rank >= 0) wanted_.push_back(rank);
    statistics_.resize(wanted_.size());
    if (!wanted_.empty()) find_cells(), order_.find(values, size, grid, cells, wanted_, statistics_.data());
    size_t next = 0;  // they are asked for in the order in which they were listed
    for (size_t m = 0; m < ranks.size(); ++m)
      out[m] = affine_of(extremes, ranks[m], [&](int64_t) { return statistics_[next++]; });
    clock.end_of(kStatistics, 0, 0);
  }

  // What digitizing reads.
  size_t num_digitized_bytes() const { return size * (sizeof *values + (grid.usable() ? sizeof cells[0] : 0)); }

  size_t bytes() const {
    return (resized_.capacity() + filtered.capacity() + wanted_.capacity() + statistics_.capacity()) * 8 +
           cells.capacity() * 2 + order_.bytes();
  }

 private:
  bool has_cells_ = false;
  AlignedVector<double> resized_;
  std::vector<double> statistics_;
  std::vector<int64_t> wanted_;
  OrderStatistics order_;

  void find_cells() {
    if (std::exchange(has_cells_, true) || !grid.usable()) return;
    grid.cells(values, size, cells);
  }
};

struct BoxProblem {
  size_t height, width;                   // of the resized maps
  std::span<const Ranks> normalizations;  // none: the maps are score maps
  std::span<const double> iou_thresholds;
  std::span<const double> thresholds;
  int contours;

  size_t num_contours() const { return contours == kWantBoth ? 2 : 1; }
  size_t num_normalizations() const { return std::max<size_t>(normalizations.size(), 1); }
};

// int(threshold * max level): the foreground is "level > this".
inline int threshold_level(double threshold, int max_level) { return int(threshold * max_level); }

// Which levels are asked for, each once: those of a normalized map, or of a score map, whose largest may be less.
struct LevelProblem {
  size_t height, width;
  std::span<const Ranks> normalizations;  // none: the maps are score maps
  std::span<const double> thresholds;     // [normalizations or 1, num_thresholds]
  size_t num_thresholds;
  std::vector<std::vector<double>> scores;  // per normalization: the least scores of the foregrounds asked for
  std::vector<int> which;                   // per threshold: of these scores

  size_t num_foregrounds() const {  // at most
    size_t number = normalizations.empty() ? num_thresholds : 0;
    for (const std::vector<double>& each : scores) number += each.size();
    return number;
  }

  LevelProblem(size_t height, size_t width, std::span<const Ranks> normalizations, std::span<const double> thresholds,
               size_t num_thresholds)
      : height(height),
        width(width),
        normalizations(normalizations),
        thresholds(thresholds),
        num_thresholds(num_thresholds),
        scores(normalizations.size()),
        which(normalizations.size() * num_thresholds) {
    for (size_t m = 0; m < normalizations.size(); ++m) {
      int place[kScoreLevels];
      std::fill(place, place + kScoreLevels, -1);
      for (size_t t = 0; t < num_thresholds; ++t) {
        const int level = threshold_level(thresholds[m * num_thresholds + t], kScoreLevels);
        if (place[level] < 0) {
          place[level] = int(scores[m].size());
          scores[m].push_back(score_of_level(level + 1));
        }
        which[m * num_thresholds + t] = place[level];
      }
    }
  }
};

// One map of a batch.
struct MapTask {
  const double* cam;
  size_t which;  // in the batch, as the caller knows it
  const Resize& resize;
  bool is_resized;
  uint8_t* degenerate;  // of its first normalization
  std::ptrdiff_t degenerate_stride;
};

class Workspace {
 public:
  PreparedMap map;
  std::vector<int64_t> counts;         // what is added up over maps
  std::vector<uint32_t> level_counts;  // the same of 255 levels, in half the memory: 24 normalizations 2 us a map less
  RuleTree rules;
  std::vector<double> ious[2];  // per level, by the largest contour and by all
  StageClock clock;

  void begin() {
    counts.clear();
    level_counts.clear();
    clock.start();
  }
  void end() { clock.stop(); }

  // Calls sink(contours index, normalization, max level, hits) for each of them, with Levels<uint32_t>.
  template <class Sink>
  void box_hits(const BoxProblem& problem, const MapTask& task, const GroundTruth& truth, Sink&& sink) {
    by_level(
        problem, task, truth.hits(kNoBox), hits_,
        [&](uint32_t* largest, uint32_t* all) { tree_.box_hits(image_, truth, largest, all); }, sink);
  }

  // The same with the best IoU of each level, Levels<double>.
  template <class Sink>
  void box_ious(const BoxProblem& problem, const MapTask& task, const TruthBoxes& truth, Sink&& sink) {
    by_level(
        problem, task, truth.best_iou(kNoBox), ious,
        [&](double* largest, double* all) { tree_.box_ious(image_, truth, largest, all); }, sink);
  }

  // Calls sink(normalization, threshold, the largest contour's box, number of contours) for each of them.
  template <class Sink>
  void localize(const LevelProblem& problem, const MapTask& task, Sink&& sink) {
    if (problem.num_foregrounds() <= kFewForegrounds) {
      localize_few(problem, task, sink);
      return;
    }
    const size_t num_pixels = problem.height * problem.width, num_bin_bytes = num_pixels * sizeof(int16_t);
    image_.resize(int(problem.height), int(problem.width));
    const auto find_all = [&] {
      boxes_.resize(image_.top + 2);
      num_contours_.resize(image_.top + 2);
      tree_.localize(image_, boxes_.data(), num_contours_.data());
      boxes_[image_.top + 1] = kNoBox;
      num_contours_[image_.top + 1] = 0;
    };
    const auto tell = [&](size_t m, size_t t, int level) {
      const int k = std::min(level, image_.top + 1);
      sink(m, t, boxes_[k], num_contours_[k]);
    };
    if (problem.normalizations.empty()) {
      expect_scores(task.cam, problem.height, problem.width, "cams", task.which);
      quantize(task.cam, image_);
      task.degenerate[0] = 0;
      int level_of[kScoreLevels + 2] = {};  // first 1 where a level is the least of a foreground asked for
      const int top = image_.top;
      for (const double threshold : problem.thresholds) level_of[threshold_level(threshold, top) + 1] = 1;
      std::partial_sum(level_of, level_of + top + 2, level_of);
      for (int y = 0; y < image_.height; ++y)
        for (int x = 0; x < image_.width; ++x) image_.row(y)[x] = int16_t(level_of[image_.row(y)[x]]);
      image_.top = level_of[top];
      clock.end_of(kDigitizing, num_pixels * sizeof *task.cam + num_bin_bytes);
      find_all();
      clock.end_of(kTree, num_bin_bytes);
      for (size_t t = 0; t < problem.num_thresholds; ++t)
        tell(0, t, level_of[threshold_level(problem.thresholds[t], top) + 1]);
      return;
    }
    constexpr size_t kMostAtOnce = kMostCuts / kScoreLevels;
    size_t most_cuts = 0;
    for (size_t m = 0; m < problem.scores.size(); ++m) most_cuts += m < kMostAtOnce ? problem.scores[m].size() : 0;
    map.prepare(task.cam, task.resize, task.is_resized, num_pixels, most_cuts, clock);
    map.affines(problem.normalizations, affines_, clock);
    for (size_t m0 = 0; m0 < affines_.size(); m0 += kMostAtOnce) {
      const size_t m1 = std::min(affines_.size(), m0 + kMostAtOnce);
      cuts_.clear();
      for (size_t m = m0; m < m1; ++m) {
        cuts_.resize(cuts_.size() + problem.scores[m].size());
        cut_points(affines_[m], problem.scores[m], cuts_.data() + cuts_.size() - problem.scores[m].size());
      }
      ranks_.resize(cuts_.size());
      digitizer_.set_cuts(map.grid, cuts_, cuts_.size(), ranks_.data());
      draw_bins();
      clock.end_of(kDigitizing, map.num_digitized_bytes() + num_bin_bytes, m0 == 0);
      find_all();
      clock.end_of(kTree, num_bin_bytes, m0 == 0);
      const int16_t* rank = ranks_.data();
      for (size_t m = m0; m < m1; rank += problem.scores[m++].size()) {
        const bool is_degenerate = affines_[m].divisor == 0;
        task.degenerate[std::ptrdiff_t(m) * task.degenerate_stride] = is_degenerate;
        for (size_t t = 0; t < problem.num_thresholds; ++t)
          tell(m, t, is_degenerate ? INT16_MAX : rank[problem.which[m * problem.num_thresholds + t]]);
      }
    }
  }

  // Calls visit(t, box) for every contour's box with foreground "level > t", for the t that are wanted.
  template <class Visit>
  void threshold_boxes(const double* scores, int height, int width, size_t which_map, bool largest,
                       std::span<const double> thresholds, Visit&& visit) {
    image_.resize(height, width);
    expect_scores(scores, height, width, "score_maps", which_map);
    quantize(scores, image_);
    clock.end_of(kDigitizing, size_t(height) * width * (sizeof *scores + sizeof(int16_t)));
    std::vector<Box> boxes[kScoreLevels + 1];
    bool wanted[kScoreLevels + 1] = {};
    for (const double threshold : thresholds) wanted[threshold_level(threshold, image_.top)] = true;
    tree_.boxes(image_, largest, [&](int lowest, int highest, const Box& box) {
      for (int k = lowest; k <= highest; ++k)
        if (wanted[k - 1]) boxes[k - 1].push_back(box);
    });
    for (int t = 0; t <= kScoreLevels; ++t) {
      if (!wanted[t]) continue;
      poll(kStepsPerClock);
      if (t >= image_.top) boxes[t].push_back({0, 0, 0, 0});
      std::sort(boxes[t].begin(), boxes[t].end(), [](const Box& a, const Box& b) {
        return std::tie(a.x0, a.y0, a.x1, a.y1) < std::tie(b.x0, b.y0, b.x1, b.y1);
      });
      for (const Box& box : boxes[t]) visit(t, box);
    }
    clock.end_of(kTree, size_t(height) * width * sizeof(int16_t));
  }
  int max_level() const { return image_.top; }

  // Calls sink(normalization, histogram) for each normalization; the histogram then adds to what it is given.
  template <class Sink>
  void pixel_histograms(std::span<const Ranks> normalizations, std::span<const double> edges, const double* cam,
                        const uint8_t* mask, const Resize& resize, bool is_resized, size_t num_pixels,
                        uint8_t* degenerate, std::ptrdiff_t degenerate_stride, Sink&& sink) {
    const size_t at_once = kMostCuts / edges.size();
    if (at_once == 0)
      throw std::invalid_argument("thresholds: expected at most " + std::to_string(kMostCuts - 1) + ", found " +
                                  std::to_string(edges.size() - 1));
    map.prepare(cam, resize, is_resized, num_pixels,
                edges.size() * std::clamp<size_t>(normalizations.size(), 1, at_once), clock);
    if (normalizations.empty())
      affines_.assign(1, Affine{0, 1});
    else
      map.affines(normalizations, affines_, clock);
    for (size_t m0 = 0; m0 < affines_.size(); m0 += at_once) {
      const size_t m1 = std::min(affines_.size(), m0 + at_once);
      cut(std::span(affines_).subspan(m0, m1 - m0), edges);
      bins_.resize(num_pixels);
      digitizer_.bins(map.values, map.cells.data(), num_pixels, bins_.data());
      clock.end_of(kDigitizing, map.num_digitized_bytes() + num_pixels * sizeof bins_[0], m0 == 0);
      histogram_.count(bins_.data(), mask, num_pixels, cuts_.size());
      for (size_t m = m0; m < m1; ++m) {
        int16_t* rank = ranks_.data() + (m - m0) * edges.size();
        if (affines_[m].divisor == 0)  // the scores are 0, whatever the pixels are: all reach the edge 0, none another
          for (size_t t = 0; t < edges.size(); ++t) rank[t] = edges[t] <= 0 ? int16_t(0) : int16_t(cuts_.size() + 1);
        degenerate[std::ptrdiff_t(m) * degenerate_stride] = affines_[m].divisor == 0;
        sink(m, std::span<const int16_t>(rank, edges.size()), histogram_);
      }
      const size_t num_count_bytes = (m1 - m0) * 2 * (edges.size() + 1) * 2 * sizeof counts[0];  // read and written
      clock.end_of(kGathering, num_pixels * (sizeof bins_[0] + sizeof *mask) + num_count_bytes, m0 == 0);
    }
  }

  size_t bytes() const {
    return map.bytes() + rules.bytes() + (ious[0].capacity() + ious[1].capacity()) * 8 + image_.bytes() +
           tree_.bytes() + foreground_.bytes() + digitizer_.bytes() + quantizer_.bytes() + histogram_.bytes() +
           (cuts_.capacity() + counts.capacity()) * 8 + (ranks_.capacity() + bins_.capacity()) * 2 +
           (hits_[0].capacity() + hits_[1].capacity() + level_counts.capacity()) * 4 + boxes_.capacity() * sizeof(Box) +
           num_contours_.capacity() * 4;
  }

 private:
  std::vector<Affine> affines_;
  std::vector<double> cuts_;
  std::vector<int16_t> ranks_;
  AlignedVector<int16_t> bins_;
  Digitizer digitizer_;
  Quantizer quantizer_;
  PixelHistogram histogram_;
  LevelImage image_;
  ComponentTree tree_;
  Foreground foreground_;
  std::vector<uint32_t> hits_[2];  // per level of image_, and one more for an empty foreground
  std::vector<Box> boxes_;
  std::vector<int32_t> num_contours_;

  static constexpr Box kNoBox{0, 0, 0, 0};      // of an empty foreground
  static constexpr size_t kFewForegrounds = 6;  // found one by one in less time than by a tree

  static std::span<const double> scores_of_levels() {
    static const std::vector<double>& scores = *new std::vector<double>([] {  // never destroyed, as the pool
      std::vector<double> all;
      for (int k = 1; k <= kScoreLevels; ++k) all.push_back(score_of_level(k));
      return all;
    }());
    return scores;
  }

  // `localize` without a tree.
  template <class Sink>
  void localize_few(const LevelProblem& problem, const MapTask& task, Sink&& sink) {
    const size_t num_pixels = problem.height * problem.width;
    boxes_.resize(kFewForegrounds);
    num_contours_.resize(kFewForegrounds);
    const auto find = [&](const double* map, double least, size_t place) {
      Extent extent;
      num_contours_[place] = foreground_.find(map, int(problem.height), int(problem.width), least, extent);
      boxes_[place] = num_contours_[place] ? contour_box(extent, int(problem.width), int(problem.height)) : kNoBox;
    };
    if (problem.normalizations.empty()) {
      expect_scores(task.cam, problem.height, problem.width, "cams", task.which);
      const int top = int(find_extremes(task.cam, num_pixels).most * kScoreLevels);
      task.degenerate[0] = 0;
      for (size_t t = 0; t < problem.num_thresholds; ++t) {
        find(task.cam, scores_of_levels()[threshold_level(problem.thresholds[t], top)], t);
        sink(size_t(0), t, boxes_[t], num_contours_[t]);
      }
      clock.end_of(kTree, num_pixels * sizeof *task.cam);
      return;
    }
    map.prepare(task.cam, task.resize, task.is_resized, num_pixels, 0, clock);
    map.affines(problem.normalizations, affines_, clock);
    for (size_t m = 0; m < affines_.size(); ++m) {
      const bool is_degenerate = affines_[m].divisor == 0;
      task.degenerate[std::ptrdiff_t(m) * task.degenerate_stride] = is_degenerate;
      const std::vector<double>& scores = problem.scores[m];
      cuts_.resize(scores.size());
      cut_points(affines_[m], scores, cuts_.data());
      for (size_t place = 0; place < scores.size(); ++place) find(map.values, cuts_[place], place);
      for (size_t t = 0; t < problem.num_thresholds; ++t) {
        const int place = problem.which[m * problem.num_thresholds + t];
        is_degenerate ? sink(m, t, kNoBox, 0) : sink(m, t, boxes_[place], num_contours_[place]);
      }
    }
    clock.end_of(kTree, num_pixels * sizeof *map.values);
  }

  void cut(std::span<const Affine> affines, std::span<const double> scores) {
    cuts_.resize(affines.size() * scores.size());
    ranks_.resize(cuts_.size());
    for (size_t m = 0; m < affines.size(); ++m) cut_points(affines[m], scores, cuts_.data() + m * scores.size());
    digitizer_.set_cuts(map.grid, cuts_, scores.size(), ranks_.data());
  }

  void draw_bins() {
    const bool has_cells = !map.cells.empty();
    for (int y = 0; y < image_.height; ++y) {
      const size_t at = size_t(y) * image_.width;
      digitizer_.bins(map.values + at, has_cells ? map.cells.data() + at : nullptr, image_.width, image_.row(y));
    }
    image_.find_top();
  }

  template <class Value, class Find, class Sink>
  void by_level(const BoxProblem& problem, const MapTask& task, Value none, std::vector<Value> (&values)[2],
                Find&& find, Sink&& sink) {
    const size_t num_pixels = problem.height * problem.width, num_bin_bytes = num_pixels * sizeof(int16_t);
    const size_t num_value_bytes =  // of one normalization: values are read, counts are read and written
        problem.num_contours() * kScoreLevels *
        (sizeof none + 2 * problem.iou_thresholds.size() * sizeof level_counts[0]);
    const auto find_all = [&] {
      for (auto& each : values) {
        each.resize(image_.top + 2);
        each[image_.top + 1] = none;
      }
      // values[0] is what is asked for first: the largest contour's if both are.
      find(problem.contours & kWantLargest ? values[0].data() : nullptr,
           problem.contours & kWantAll ? values[problem.contours == kWantBoth].data() : nullptr);
    };
    Levels<Value> found;
    image_.resize(int(problem.height), int(problem.width));
    if (problem.normalizations.empty()) {
      expect_scores(task.cam, problem.height, problem.width, "cams", task.which);
      quantize(task.cam, image_);
      task.degenerate[0] = 0;
      clock.end_of(kDigitizing, num_pixels * sizeof *task.cam + num_bin_bytes);
      find_all();
      clock.end_of(kTree, num_bin_bytes);
      for (size_t c = 0; c < problem.num_contours(); ++c) {
        for (int t = 0; t <= kScoreLevels; ++t) found.at[t] = values[c][std::min(t, image_.top) + 1];
        sink(c, size_t(0), image_.top, found);
      }
      clock.end_of(kGathering, num_value_bytes);
      return;
    }
    constexpr size_t kMostAtOnce = kMostCuts / kScoreLevels;
    const bool is_one = problem.normalizations.size() == 1;  // whose levels need no cut points
    map.prepare(task.cam, task.resize, task.is_resized, num_pixels,
                is_one ? 0 : kScoreLevels * std::min(problem.normalizations.size(), kMostAtOnce), clock);
    map.affines(problem.normalizations, affines_, clock);
    if (is_one) {
      const bool is_degenerate = affines_[0].divisor == 0;
      task.degenerate[0] = is_degenerate;
      if (!is_degenerate) {
        quantizer_(map.values, affines_[0], image_);
        clock.end_of(kDigitizing, num_pixels * sizeof *map.values + num_bin_bytes);
        find_all();
        clock.end_of(kTree, num_bin_bytes);
      }
      for (size_t c = 0; c < problem.num_contours(); ++c) {
        for (int t = 0; t <= kScoreLevels; ++t)
          found.at[t] = is_degenerate || t == kScoreLevels ? none : values[c][t + 1];
        sink(c, size_t(0), kScoreLevels, found);
      }
      clock.end_of(kGathering, num_value_bytes);
      return;
    }
    for (size_t m0 = 0; m0 < affines_.size(); m0 += kMostAtOnce) {
      const size_t m1 = std::min(affines_.size(), m0 + kMostAtOnce);
      cut(std::span(affines_).subspan(m0, m1 - m0), scores_of_levels());
      draw_bins();
      clock.end_of(kDigitizing, map.num_digitized_bytes() + num_bin_bytes, m0 == 0);
      find_all();
      clock.end_of(kTree, num_bin_bytes, m0 == 0);
      for (size_t m = m0; m < m1; ++m) {
        const bool is_degenerate = affines_[m].divisor == 0;
        task.degenerate[std::ptrdiff_t(m) * task.degenerate_stride] = is_degenerate;
        const int16_t* rank = ranks_.data() + (m - m0) * kScoreLevels;
        for (size_t c = 0; c < problem.num_contours(); ++c) {
          const Value* const value = values[c].data();
          for (int t = 0, last = image_.top + 1; t < kScoreLevels; ++t)
            found.at[t] = is_degenerate ? none : value[std::min<int>(rank[t], last)];
          found.at[kScoreLevels] = none;
          sink(c, m, kScoreLevels, found);
        }
      }
      clock.end_of(kGathering, (m1 - m0) * num_value_bytes, m0 == 0);
    }
  }
};

}  // namespace wsolkern
