// What libFuzzer calls: bytes become maps, boxes, thresholds, normalizations and box rules, and the native core's
// counts are held against plain ones, made here threshold by threshold: flood fills, sorted copies, one division a
// pixel.
//
// In: some bytes; what is beyond their end is read as 0. Out: nothing, or an abort after a line that says what differs.
// Without libFuzzer (WSOLKERN_REPLAY) it is a program that takes files of such bytes, as the named cases have them.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>

#include "cpu/energy.h"
#include "cpu/evaluate.h"

using namespace wsolkern;

namespace {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}
  uint8_t byte() { return data_ < end_ ? *data_++ : 0; }
  int from(int least, int most) { return least + byte() % (most - least + 1); }
  double any_number() {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = bits << 8 | byte();
    return std::bit_cast<double>(bits);
  }

 private:
  const uint8_t *data_, *const end_;
};

template <class Value>
void expect(const char* what, const Value& expected, const Value& found) {
  if (expected == found) return;
  std::fprintf(stderr, "the core differs from the plain reference: %s\n", what);
  std::abort();
}

bool is_same(double a, double b) { return a == b || (a != a && b != b); }
std::array<int, 4> corners(const Box& box) { return {box.x0, box.y0, box.x1, box.y1}; }

// The plain reference

constexpr int kMostHeight = 20, kMostWidth = 72;  // more than a vector of any kind

struct Contour {
  Extent extent;
  bool is_hole;
  int64_t num_pixels, twice_area;  // of outer contours
};

struct Binary {
  int height, width;
  std::vector<char> pixels;
  bool at(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width && pixels[y * width + x]; }
};

// The pixels that are connected with one, with that value; they are taken out of `left`.
std::vector<Pixel> flood(Binary& left, Pixel from, bool diagonals) {
  std::vector<Pixel> found{from};
  left.pixels[from.y * left.width + from.x] = 0;
  for (size_t i = 0; i < found.size(); ++i)
    for (int dy = -1; dy <= 1; ++dy)
      for (int dx = -1; dx <= 1; ++dx) {
        const int y = found[i].y + dy, x = found[i].x + dx;
        if ((!diagonals && dy && dx) || !left.at(y, x)) continue;
        left.pixels[y * left.width + x] = 0;
        found.push_back({x, y});
      }
  return found;
}

Extent extent_of(const std::vector<Pixel>& pixels) {
  Extent extent{pixels[0].x, pixels[0].y, pixels[0].x, pixels[0].y};
  for (const Pixel& each : pixels) extent.include({each.x, each.y, each.x, each.y});
  return extent;
}

// Twice the area within the polygon through a component's outermost pixels: squares of four neighbours that it or its
// holes fill, and triangles of three.
int64_t twice_area_within(const std::vector<Pixel>& pixels) {
  const Extent e = extent_of(pixels);
  Binary around{e.y1 - e.y0 + 3, e.x1 - e.x0 + 3, {}};
  around.pixels.assign(size_t(around.height) * around.width, 1);
  for (const Pixel& each : pixels) around.pixels[(each.y - e.y0 + 1) * around.width + each.x - e.x0 + 1] = 0;
  Binary filled = around;
  std::fill(filled.pixels.begin(), filled.pixels.end(), 1);
  for (const Pixel& each : flood(around, {0, 0}, false)) filled.pixels[each.y * filled.width + each.x] = 0;
  int64_t twice = 0;
  for (int y = 0; y + 1 < filled.height; ++y)
    for (int x = 0; x + 1 < filled.width; ++x) {
      const int number = filled.at(y, x) + filled.at(y, x + 1) + filled.at(y + 1, x) + filled.at(y + 1, x + 1);
      twice += number == 4 ? 2 : number == 3;
    }
  return twice;
}

// All contours in the order of their first pixels, outer ones before the borders of holes.
std::vector<Contour> contours_of(const Binary& binary, Connectivity connectivity) {
  std::vector<Contour> found;
  Binary left = binary;
  for (int y = 0; y < binary.height; ++y)
    for (int x = 0; x < binary.width; ++x)
      if (left.at(y, x)) {
        const std::vector<Pixel> pixels = flood(left, {x, y}, connectivity == Connectivity::eight);
        found.push_back({extent_of(pixels), false, int64_t(pixels.size()), twice_area_within(pixels)});
      }
  for (size_t p = 0; p < binary.pixels.size(); ++p) left.pixels[p] = !binary.pixels[p];
  for (int y = 0; y < binary.height; ++y)
    for (int x = 0; x < binary.width; ++x)
      if (left.at(y, x)) {
        const Extent e = extent_of(flood(left, {x, y}, false));
        if (e.x0 > 0 && e.y0 > 0 && e.x1 < binary.width - 1 && e.y1 < binary.height - 1)
          found.push_back({{e.x0 - 1, e.y0 - 1, e.x1 + 1, e.y1 + 1}, true, 0, 0});
      }
  return found;
}

// The foreground of a threshold is "level > this".
int highest_below(double threshold, int top) { return int(threshold * top); }

constexpr BoxRule kPublished{Largest::contour_area, false, Connectivity::eight, true, FarEdge::clipped, true, {}};

// The contours of every level k = 0 ... top + 1 of an image, whose foreground is "level >= k".
class LevelContours {
 public:
  int top = 0;
  LevelContours(const std::vector<int>& levels, int height, int width, const BoxRule& rule = kPublished)
      : rule_(rule), height_(height), width_(width) {
    top = *std::max_element(levels.begin(), levels.end());
    at_.resize(top + 2);
    for (int k = top; k > 0; --k) {
      if (k < top && std::find(levels.begin(), levels.end(), k) == levels.end()) {
        at_[k] = at_[k + 1];
        continue;
      }
      Binary binary{height, width, std::vector<char>(levels.size())};
      for (size_t p = 0; p < levels.size(); ++p) binary.pixels[p] = levels[p] >= k;
      at_[k] = contours_of(binary, rule.connectivity);
    }
  }

  size_t number(int k, bool with_holes = true) const {
    return k > top ? 0 : std::count_if(at_[k].begin(), at_[k].end(), [&](const Contour& each) {
      return with_holes || !each.is_hole;
    });
  }
  std::vector<Box> boxes(int k, bool only_largest) const {
    std::vector<Box> found;
    if (k > top) return {rule_.empty};
    if (only_largest) return {box_of(largest(at_[k]).extent)};
    for (const Contour& each : at_[k])
      if (!each.is_hole || rule_.hole_borders) found.push_back(box_of(each.extent));
    return found;
  }
  double best_iou(int k, bool only_largest, const std::vector<Box>& truth) const {
    double best = 0;
    for (const Box& a : boxes(k, only_largest))
      for (const Box& b : truth) best = std::max(best, iou_of(a, b));
    return best;
  }

 private:
  const BoxRule rule_;
  const int height_, width_;
  std::vector<std::vector<Contour>> at_;

  const Contour& largest(const std::vector<Contour>& contours) const {
    const auto size = [&](const Contour& each) -> int64_t {
      if (rule_.largest == Largest::contour_area) return each.twice_area;
      if (rule_.largest == Largest::pixel_count) return each.num_pixels;
      return int64_t(each.extent.x1 - each.extent.x0 + 1) * (each.extent.y1 - each.extent.y0 + 1);
    };
    size_t best = 0;
    for (size_t i = 1; i < contours.size() && !contours[i].is_hole; ++i)
      if (size(contours[i]) > size(contours[best]) ||
          (size(contours[i]) == size(contours[best]) && !rule_.first_of_ties))
        best = i;
    return contours[best];
  }
  Box box_of(const Extent& e) const {
    Box box{e.x0, e.y0, e.x1, e.y1};
    if (rule_.far_edge != FarEdge::last) ++box.x1, ++box.y1;
    if (rule_.far_edge == FarEdge::clipped)
      box.x1 = std::min(box.x1, width_ - 1), box.y1 = std::min(box.y1, height_ - 1);
    return box;
  }
  double iou_of(const Box& a, const Box& b) const {
    const auto area = [&](int width, int height) {
      return int64_t(std::max(0, width + rule_.inclusive)) * std::max(0, height + rule_.inclusive);
    };
    const int64_t common =
        area(std::min(a.x1, b.x1) - std::max(a.x0, b.x0), std::min(a.y1, b.y1) - std::max(a.y0, b.y0));
    const int64_t joint = area(a.x1 - a.x0, a.y1 - a.y0) + area(b.x1 - b.x0, b.y1 - b.y0) - common;
    return joint > 0 ? double(common) / double(joint) : 0;
  }
};

// What is evaluated

struct Asked {
  int height, width, contours;
  std::vector<Box> truth;
  std::vector<double> ious, thresholds;

  explicit Asked(Bytes& bytes)
      : height(bytes.from(1, kMostHeight)), width(bytes.from(1, kMostWidth)), contours(bytes.from(1, 3)) {
    for (int n = bytes.from(1, 3); n > 0; --n) {
      const int x0 = bytes.from(0, width - 1), y0 = bytes.from(0, height - 1);
      truth.push_back({x0, y0, bytes.from(x0, width - 1), bytes.from(y0, height - 1)});
    }
    for (int n = bytes.from(1, 4); n > 0; --n) ious.push_back(bytes.from(1, 100) / 100.0);
    for (int n = bytes.from(1, 12); n > 0; --n) thresholds.push_back(bytes.byte() / 256.0);
  }
  size_t size() const { return size_t(height) * width; }
  BoxProblem problem(std::span<const Ranks> normalizations) const {
    return {size_t(height), size_t(width), normalizations, ious, thresholds, contours};
  }
  // Which of the two ways to count is row c of an answer.
  bool is_largest(size_t c) const { return contours == kWantBoth ? c == 0 : contours == kWantLargest; }
};

// Pixels of few different values: n 255ths, small whole numbers, or any float64.
std::vector<double> values(Bytes& bytes, size_t size, bool are_scores) {
  std::vector<double> palette;
  const int kind = bytes.from(0, 3);
  for (int n = bytes.from(1, 24); n > 0; --n)
    palette.push_back(kind == 0   ? bytes.byte() / 255.0
                      : kind == 1 ? bytes.byte() / (are_scores ? 256.0 : 8.0) - (are_scores ? 0 : 16)
                      : kind == 2 ? std::ldexp(bytes.byte(), are_scores ? -8 - bytes.byte() : 4 * bytes.byte() - 1100)
                                  : bytes.any_number());
  std::vector<double> found(size);
  const bool repeats = bytes.byte() & 1;
  std::vector<uint8_t> pattern(repeats ? bytes.from(1, 40) : 0);
  for (uint8_t& each : pattern) each = bytes.byte();
  for (size_t p = 0; p < size; ++p)
    found[p] = palette[(repeats ? pattern[p % pattern.size()] : bytes.byte()) % palette.size()];
  return found;
}

Workspace& workspace(bool renewed = false) {
  static std::unique_ptr<Workspace> kept = std::make_unique<Workspace>();  // what a map leaves is there for the next
  if (renewed) kept = std::make_unique<Workspace>();
  kept->begin();
  return *kept;
}

// Hits, IoUs and boxes of one map under several normalizations, against the levels of its score maps.
void check_boxes(const Asked& asked, const double* cam, const Resize& resize, bool is_resized,
                 std::span<const Ranks> ranks, const std::vector<LevelContours>& plain, const std::vector<bool>& flat) {
  const size_t num_rows = plain.size();
  std::vector<uint8_t> degenerate(num_rows, 7);
  const MapTask task{cam, 0, resize, is_resized, degenerate.data(), 1};
  const BoxProblem problem = asked.problem(ranks);
  const GroundTruth truth(asked.truth.data(), asked.truth.size(), asked.ious.data(), asked.ious.size());
  const auto expected = [&](size_t c, size_t m, int t) {
    return plain[m].best_iou(flat[m] ? plain[m].top + 1 : std::min(t, plain[m].top) + 1, asked.is_largest(c),
                             asked.truth);
  };
  size_t calls = 0;
  workspace().box_hits(problem, task, truth, [&](size_t c, size_t m, int top, const Levels<uint32_t>& found) {
    ++calls;
    expect("the largest level", ranks.empty() ? plain[m].top : kScoreLevels, top);
    for (int t = 0; t <= kScoreLevels; ++t)
      for (size_t d = 0; d < asked.ious.size(); ++d)
        expect("hits", expected(c, m, t) >= asked.ious[d], bool(found.at[t] >> d & 1));
  });
  workspace().box_ious(problem, task, truth, [&](size_t c, size_t m, int, const Levels<double>& found) {
    ++calls;
    for (int t = 0; t <= kScoreLevels; ++t) expect("IoUs", expected(c, m, t), found.at[t]);
  });
  expect("rows of hits and IoUs", 2 * problem.num_contours() * num_rows, calls);
  for (size_t m = 0; m < num_rows; ++m) expect("degenerate", bool(flat[m]), bool(degenerate[m]));

  std::vector<double> thresholds;
  for (size_t m = 0; m < num_rows; ++m)
    thresholds.insert(thresholds.end(), asked.thresholds.begin(), asked.thresholds.end());
  const LevelProblem levels(asked.height, asked.width, ranks, thresholds, asked.thresholds.size());
  workspace().localize(levels, task, [&](size_t m, size_t t, const Box& box, int32_t number) {
    const int level = highest_below(asked.thresholds[t], ranks.empty() ? plain[m].top : kScoreLevels) + 1;
    const int k = flat[m] ? plain[m].top + 1 : level;
    expect("the number of contours", plain[m].number(k), size_t(number));
    expect("the largest contour's box", corners(plain[m].boxes(k, true)[0]), corners(box));
  });
}

std::vector<int> quantized(const std::vector<double>& scores) {
  std::vector<int> levels;
  for (const double score : scores) levels.push_back(int(score * 255));
  return levels;
}

void check_rules(Bytes& bytes, const Asked& asked, const std::vector<int>& levels) {
  BoxRule rule;
  rule.largest = Largest(bytes.from(0, 2));
  rule.first_of_ties = rule.largest != Largest::contour_area && bytes.from(0, 1);
  rule.hole_borders = bytes.from(0, 1);
  rule.connectivity = rule.largest == Largest::contour_area || rule.hole_borders || bytes.from(0, 1)
                          ? Connectivity::eight
                          : Connectivity::four;
  rule.far_edge = FarEdge(bytes.from(0, 2));
  rule.inclusive = bytes.from(0, 1);
  rule.empty = {0, 0, bytes.from(0, asked.width - 1), bytes.from(0, asked.height - 1)};
  const LevelContours plain(levels, asked.height, asked.width, rule);
  RuleTree& rules = workspace().rules;
  rules.image.resize(asked.height, asked.width);
  for (int y = 0; y < asked.height; ++y)
    for (int x = 0; x < asked.width; ++x) rules.image.row(y)[x] = int16_t(levels[y * asked.width + x]);
  rules.image.find_top();
  std::vector<double> largest(plain.top + 2, -1), all(plain.top + 2, -1);
  rules.best_ious(rule, asked.truth, asked.contours & kWantLargest ? largest.data() : nullptr,
                  asked.contours & kWantAll ? all.data() : nullptr);
  std::vector<Box> boxes(plain.top + 2, Box{-1, -1, -1, -1});
  std::vector<int32_t> numbers(plain.top + 2, -1);
  rules.localize(rule, boxes.data(), numbers.data());
  for (int k = 1; k <= plain.top + 1; ++k) {
    if (asked.contours & kWantLargest) expect("a rule's IoU", plain.best_iou(k, true, asked.truth), largest[k]);
    if (asked.contours & kWantAll) expect("a rule's best IoU", plain.best_iou(k, false, asked.truth), all[k]);
    expect("a rule's box", corners(plain.boxes(k, true)[0]), corners(boxes[k]));
    expect("a rule's contours", plain.number(k, rule.hole_borders), size_t(numbers[k]));
  }
}

void check_scores(Bytes& bytes, const Asked& asked) {
  const std::vector<double> scores = values(bytes, asked.size(), true);
  const Resize as_is(asked.height, asked.width, asked.height, asked.width);
  const bool are_scores = std::all_of(scores.begin(), scores.end(), [](double s) { return s >= 0 && s <= 1; });
  for (const bool largest : {false, true}) {
    std::vector<std::array<int, 5>> expected, found;
    try {
      workspace().threshold_boxes(scores.data(), asked.height, asked.width, 0, largest, asked.thresholds,
                                  [&](int level, const Box& b) { found.push_back({level, b.x0, b.y0, b.x1, b.y1}); });
    } catch (const std::invalid_argument&) {
      expect("a value that is no score is refused", false, are_scores);
      workspace(true);
      return;
    }
    expect("a value that is no score is refused", true, are_scores);
    const LevelContours plain(quantized(scores), asked.height, asked.width);
    std::set<int> wanted;
    for (const double each : asked.thresholds) wanted.insert(highest_below(each, plain.top));
    for (const int level : wanted)
      for (const Box& b : plain.boxes(level + 1, largest)) expected.push_back({level, b.x0, b.y0, b.x1, b.y1});
    std::sort(expected.begin(), expected.end());
    expect("boxes of thresholds", expected, found);
  }
  const std::vector<int> levels = quantized(scores);
  check_boxes(asked, scores.data(), as_is, true, {}, {LevelContours(levels, asked.height, asked.width)}, {false});
  check_rules(bytes, asked, levels);
}

std::vector<double> resized(const std::vector<double>& from, int h, int w, int height, int width) {
  struct Tap {
    int index[4];
    float weight[4];
  };
  const auto taps = [](int from, int to) {
    std::vector<Tap> all(to);
    const double scale = 1 / (double(to) / from);
    for (int i = 0; i < to; ++i) {
      const float x = float((i + 0.5) * scale - 0.5);
      const float f = x - std::floor(x), a = -0.75f;
      for (int j = 0; j < 4; ++j) all[i].index[j] = std::min(std::max(int(std::floor(x)) + j - 1, 0), from - 1);
      float* const weight = all[i].weight;
      weight[0] = ((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a;
      weight[1] = ((a + 2) * f - (a + 3)) * f * f + 1;
      weight[2] = ((a + 2) * (1 - f) - (a + 3)) * (1 - f) * (1 - f) + 1;
      weight[3] = 1 - weight[0] - weight[1] - weight[2];
    }
    return all;
  };
  if (h == height && w == width) return from;
  const std::vector<Tap> rows = taps(h, height), columns = taps(w, width);
  std::vector<double> out;
  for (const Tap& row : rows)
    for (const Tap& column : columns) {
      double across[4], sum = 0;
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
          const double term = from[row.index[i] * w + column.index[j]] * column.weight[j];
          across[i] = j ? across[i] + term : term;
        }
      for (int i = 0; i < 4; ++i) sum = i ? sum + across[i] * row.weight[i] : across[i] * row.weight[i];
      out.push_back(sum);
    }
  return out;
}

Affine plain_affine(const std::vector<double>& map, const Ranks& ranks) {
  std::vector<double> in_order = map;
  for (const double value : map)
    if (value != value) return {0, 0};
  std::sort(in_order.begin(), in_order.end());
  const double offset = ranks.offset == kZero ? 0 : in_order[ranks.offset == kExtreme ? 0 : size_t(ranks.offset)];
  const double high = ranks.divisor == kExtreme ? in_order.back() : in_order[size_t(ranks.divisor)];
  const double divisor = high - offset;
  return in_order[0] < in_order.back() && std::isfinite(divisor) && divisor > 0 ? Affine{offset, divisor}
                                                                                : Affine{0, 0};
}

std::vector<double> plain_scores(const std::vector<double>& map, const Affine& affine) {
  std::vector<double> scores;
  for (const double value : map)
    scores.push_back(affine.divisor == 0 ? 0 : std::min(std::max((value - affine.offset) / affine.divisor, 0.0), 1.0));
  return scores;
}

// The least float64 value whose score is as wanted.
void check_cut_points(const Affine& affine, const std::vector<double>& wanted) {
  std::vector<double> cuts(wanted.size());
  cut_points(affine, wanted, cuts.data());
  const auto reached = [&](double value, double score) {
    return std::min(std::max((value - affine.offset) / affine.divisor, 0.0), 1.0) >= score;
  };
  for (size_t i = 0; i < cuts.size() && affine.divisor > 0; ++i) {
    if (wanted[i] <= 0) {
      expect("a cut point that all reach", -std::numeric_limits<double>::infinity(), cuts[i]);
      continue;
    }
    expect("a cut point", true, reached(cuts[i], wanted[i]));
    expect("what is below a cut point", false, reached(from_key(to_key(cuts[i]) - 1), wanted[i]));
  }
}

void check_histograms(Bytes& bytes, const Asked& asked, const double* cam, const Resize& resize, bool is_resized,
                      std::span<const Ranks> ranks, const std::vector<std::vector<double>>& scores) {
  std::vector<double> edges = asked.thresholds;
  std::sort(edges.begin(), edges.end());
  edges.push_back(1);
  std::vector<uint8_t> mask(asked.size()), degenerate(scores.size());
  const int period = bytes.from(1, 7);
  for (size_t p = 0; p < mask.size(); ++p) mask[p] = p % period == 0 ? 255 : p % period % 2;
  workspace().pixel_histograms(ranks, edges, cam, mask.data(), resize, is_resized, asked.size(), degenerate.data(), 1,
                               [&](size_t m, std::span<const int16_t> edge_ranks, const PixelHistogram& histogram) {
                                 const size_t n = edges.size();
                                 std::vector<int64_t> expected(2 * n), found(2 * n);
                                 histogram.add(edge_ranks, found.data(), found.data() + n);
                                 for (size_t p = 0; p < mask.size(); ++p)
                                   for (size_t t = 0; t < n && mask[p] < 2; ++t)
                                     expected[(1 - mask[p]) * n + t] +=
                                         scores[m][p] >= edges[t] && (t + 1 == n || scores[m][p] < edges[t + 1]);
                                 expect("histograms", expected, found);
                               });
}

void check_cams(Bytes& bytes, const Asked& asked) {
  const int h = bytes.byte() & 1 ? asked.height : bytes.from(1, 9),
            w = h == asked.height ? asked.width : bytes.from(1, 9);
  const std::vector<double> cam = values(bytes, size_t(h) * w, false);
  const Resize resize(h, w, asked.height, asked.width);
  const bool is_resized = h == asked.height && w == asked.width;
  const std::vector<double> map = resized(cam, h, w, asked.height, asked.width);
  std::vector<double> by_core(map.size());
  AlignedVector<double> scratch;
  resize(cam.data(), by_core.data(), scratch);
  for (size_t p = 0; p < map.size(); ++p) expect("a resized map", true, is_same(map[p], by_core[p]));

  std::vector<Ranks> ranks;
  for (int n = bytes.from(1, 5); n > 0; --n) {
    const int kind = bytes.from(0, 3);
    const auto some = [&] { return int64_t(bytes.byte()) * int64_t(asked.size() - 1) / 255; };
    const int64_t offset = kind == 0 ? kExtreme : kind == 1 ? kZero : some();
    ranks.push_back({offset, bytes.byte() & 1 ? some() : kExtreme});
  }
  std::vector<Affine> affines;
  StageClock clock;
  PreparedMap& prepared = workspace().map;
  prepared.prepare(cam.data(), resize, is_resized, asked.size(), 0, clock);
  prepared.affines(ranks, affines, clock);
  std::vector<LevelContours> plain;
  std::vector<std::vector<double>> scores;
  std::vector<bool> flat;
  for (size_t m = 0; m < ranks.size(); ++m) {
    const Affine affine = plain_affine(map, ranks[m]);
    expect("an offset", affine.offset, affines[m].offset);
    expect("a divisor", affine.divisor, affines[m].divisor);
    scores.push_back(plain_scores(map, affine));
    std::vector<double> normalized(map.size());
    normalize(map.data(), map.size(), affine, normalized.data());
    expect("a score map", scores[m], normalized);
    plain.emplace_back(quantized(scores[m]), asked.height, asked.width);
    flat.push_back(affine.divisor == 0);
    check_cut_points(affine, asked.thresholds);
  }
  check_boxes(asked, cam.data(), resize, is_resized, ranks, plain, flat);
  check_histograms(bytes, asked, cam.data(), resize, is_resized, ranks, scores);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes bytes(data, size);
  const bool are_scores = bytes.byte() & 1;
  const Asked asked(bytes);
  are_scores ? check_scores(bytes, asked) : check_cams(bytes, asked);
  return 0;
}

#ifdef WSOLKERN_REPLAY
int main(int num_arguments, char** arguments) {
  for (int i = 1; i < num_arguments; ++i) {
    std::ifstream file(arguments[i], std::ios::binary);
    const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
    std::fprintf(stderr, "%s\n", arguments[i]);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(content.data()), content.size());
  }
}
#endif
