// The Python face of the native core: checks shapes, releases the GIL, spreads the maps of a batch over threads.
//
// This file is compiled once per instruction set, each time as a module of its own (wsolkern._native_generic,
// _native_avx2, _native_avx512), so that no instruction leaks into code that runs elsewhere; wsolkern/ops/backends.py
// picks one. Outputs are allocated by the caller. Axes: N maps, H W pixels, T thresholds, M normalizations, D IoU
// thresholds.
#include <pthread.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include <optional>

#include "cpu/energy.h"
#include "cpu/evaluate.h"
#include "shared/gil.h"

namespace py = pybind11;
using namespace wsolkern;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;  // bound with noconvert(): a wrong dtype or layout is an error

WorkspacePool<Workspace>& pool() {
  static WorkspacePool<Workspace>& the_pool = *new WorkspacePool<Workspace>;
  return the_pool;
}

template <class T>
void expect_shape(const char* name, const Array<T>& array, const std::vector<py::ssize_t>& shape) {
  bool same = array.ndim() == py::ssize_t(shape.size());
  for (size_t i = 0; same && i < shape.size(); ++i) same = shape[i] < 0 || array.shape(i) == shape[i];
  if (same) return;
  const auto print = [](const auto& sizes, size_t n) {
    std::string text = "[";
    for (size_t i = 0; i < n; ++i) text += (i ? ", " : "") + (sizes[i] < 0 ? "any" : std::to_string(sizes[i]));
    return text + "]";
  };
  throw std::invalid_argument(std::string(name) + ": expected shape " + print(shape, shape.size()) + ", found " +
                              print(array.shape(), array.ndim()));
}

template <class T>
std::span<const T> span_of(const Array<T>& array) {
  return {array.data(), size_t(array.size())};
}

std::span<const Ranks> ranks_of(const Array<int64_t>& ranks) {
  expect_shape("ranks", ranks, {-1, 2});
  static_assert(sizeof(Ranks) == 2 * sizeof(int64_t));
  return {reinterpret_cast<const Ranks*>(ranks.data()), size_t(ranks.shape(0))};
}

std::span<const Affine> affine_span(const Array<double>& affine) {
  static_assert(sizeof(Affine) == 2 * sizeof(double));
  return {reinterpret_cast<const Affine*>(affine.data()), size_t(affine.size() / 2)};
}

// Signals come to the main thread alone.
bool is_main_thread() {
#if defined(__linux__)
  return syscall(SYS_gettid) == getpid();
#elif defined(__APPLE__)
  return pthread_main_np();
#else
  return false;
#endif
}

// See for_each_map. Where a signal's handler raises an exception, as that of Ctrl-C does, all threads stop, and that
// exception is raised.
template <class Work, class Finish>
void parallel(size_t n, int threads, Work&& work, Finish&& finish) {
  try {
    without_gil([&](PyThreadState* state) {
      const auto handler_raises = [state] {
        if (!is_main_thread()) return false;
        take_gil(state);
        const bool raises = PyErr_CheckSignals() != 0;
        PyEval_SaveThread();
        return raises;
      };
      for_each_map(pool(), n, threads, handler_raises, work, finish);
    });
  } catch (const Stopped&) {
    throw py::error_already_set();
  }
}

template <class Work>
void parallel(size_t n, int threads, Work&& work) {
  parallel(n, threads, work, [](Workspace&) {});
}

// A child must not wait for a lock that a thread of its parent held when it was forked.
void keep_locks_through_forks() {
  static const bool done = [] {
    const auto unlock = [] {
      stage_profile().unlock();
      pool().unlock();
    };
    pthread_atfork(
        [] {
          pool().lock();
          stage_profile().lock();
        },
        unlock, unlock);
    return true;
  }();
  (void)done;
}

void resize(const Array<double>& src, Array<double>& out, int threads) {
  expect_shape("src", src, {-1, -1, -1});
  expect_shape("out", out, {src.shape(0), -1, -1});
  const Resize resizer(int(src.shape(1)), int(src.shape(2)), int(out.shape(1)), int(out.shape(2)));
  const size_t from_size = src.shape(1) * src.shape(2), to_size = out.shape(1) * out.shape(2);
  const double* from = src.data();
  double* to = out.mutable_data();
  parallel(src.shape(0), threads, [&](Workspace& workspace, size_t n) {
    resizer(from + n * from_size, to + n * to_size, workspace.map.filtered);
    workspace.clock.end_of(kResizing, (from_size + to_size) * sizeof *to);
  });
}

void affine(const Array<double>& maps, const Array<int64_t>& ranks, Array<double>& out, int threads) {
  expect_shape("maps", maps, {-1, -1, -1});
  const std::span<const Ranks> normalizations = ranks_of(ranks);
  expect_shape("out", out, {maps.shape(0), ranks.shape(0), 2});
  const int height = int(maps.shape(1)), width = int(maps.shape(2));
  const size_t size = maps.shape(1) * maps.shape(2);
  const Resize as_is(height, width, height, width);
  const double* from = maps.data();
  Affine* to = reinterpret_cast<Affine*>(out.mutable_data());
  parallel(maps.shape(0), threads, [&](Workspace& workspace, size_t n) {
    std::vector<Affine> affines;
    workspace.map.prepare(from + n * size, as_is, true, size, 0, workspace.clock);
    workspace.map.affines(normalizations, affines, workspace.clock);
    std::copy(affines.begin(), affines.end(), to + n * normalizations.size());
  });
}

void normalize_maps(const Array<double>& maps, const Array<double>& affines, Array<double>& out, int threads) {
  expect_shape("maps", maps, {-1, -1, -1});
  expect_shape("affine", affines, {maps.shape(0), 2});
  expect_shape("out", out, {maps.shape(0), maps.shape(1), maps.shape(2)});
  const std::span<const Affine> each = affine_span(affines);
  const size_t size = maps.shape(1) * maps.shape(2);
  const double* from = maps.data();
  double* to = out.mutable_data();
  parallel(maps.shape(0), threads,
           [&](Workspace&, size_t n) { normalize(from + n * size, size, each[n], to + n * size); });
}

void cut_points_of(const Array<double>& affines, const Array<double>& scores, Array<double>& out, int threads) {
  expect_shape("affine", affines, {-1, 2});
  expect_shape("out", out, {affines.shape(0), scores.size()});
  const std::span<const Affine> each = affine_span(affines);
  const std::span<const double> wanted = span_of(scores);
  double* to = out.mutable_data();
  parallel(each.size(), threads, [&](Workspace& workspace, size_t r) {
    cut_points(each[r], wanted, to + r * wanted.size());
    workspace.clock.end_of(kDigitizing, wanted.size() * sizeof *to, 0);
  });
}

void digitize(const Array<double>& maps, const Array<double>& cuts, Array<int16_t>& bins, Array<int16_t>& ranks,
              int threads) {
  expect_shape("maps", maps, {-1, -1, -1});
  expect_shape("cuts", cuts, {maps.shape(0), -1});
  expect_shape("bins", bins, {maps.shape(0), maps.shape(1), maps.shape(2)});
  expect_shape("ranks", ranks, {cuts.shape(0), cuts.shape(1)});
  const size_t size = maps.shape(1) * maps.shape(2), num_cuts = cuts.shape(1);
  if (num_cuts > kMostCuts)
    throw std::invalid_argument("cuts: expected at most " + std::to_string(kMostCuts) + " a map, found " +
                                std::to_string(num_cuts));
  const int height = int(maps.shape(1)), width = int(maps.shape(2));
  const Resize as_is(height, width, height, width);
  const double *from = maps.data(), *from_cuts = cuts.data();
  int16_t *to = bins.mutable_data(), *to_ranks = ranks.mutable_data();
  parallel(maps.shape(0), threads, [&](Workspace& workspace, size_t n) {
    Digitizer digitizer;
    workspace.map.prepare(from + n * size, as_is, true, size, num_cuts, workspace.clock);
    digitizer.set_cuts(workspace.map.grid, {from_cuts + n * num_cuts, num_cuts}, num_cuts, to_ranks + n * num_cuts);
    digitizer.bins(workspace.map.values, workspace.map.cells.data(), size, to + n * size);
    workspace.clock.end_of(kDigitizing, workspace.map.num_digitized_bytes() + size * sizeof *to);
  });
}

// The maps of a batch, checked against what they are to become.
class Batch {
 public:
  Batch(const Array<double>& maps, std::pair<int, int> size, std::span<const Ranks> normalizations,
        Array<uint8_t>& degenerate)
      : resize_(prepared(maps, size, normalizations, degenerate)),
        is_resized_(maps.shape(1) == size.first && maps.shape(2) == size.second),
        num_maps_(maps.shape(0)),
        cam_size_(maps.shape(1) * maps.shape(2)),
        cams_(maps.data()),
        degenerate_(degenerate.mutable_data()) {}

  MapTask operator[](size_t n) const {
    return {cams_ + n * cam_size_, n, resize_, is_resized_, degenerate_ + n, std::ptrdiff_t(num_maps_)};
  }

 private:
  const Resize resize_;
  const bool is_resized_;
  const size_t num_maps_, cam_size_;
  const double* const cams_;
  uint8_t* const degenerate_;

  static Resize prepared(const Array<double>& maps, std::pair<int, int> size, std::span<const Ranks> normalizations,
                         const Array<uint8_t>& degenerate) {
    expect_shape("maps", maps, {-1, -1, -1});
    if (normalizations.empty()) expect_shape("maps", maps, {maps.shape(0), size.first, size.second});
    expect_shape("degenerate", degenerate, {py::ssize_t(std::max<size_t>(normalizations.size(), 1)), maps.shape(0)});
    return Resize(int(maps.shape(1)), int(maps.shape(2)), size.first, size.second);
  }
};

void expect_thresholds(const Array<double>& thresholds) {
  for (const double threshold : span_of(thresholds))
    if (!(threshold >= 0 && threshold < 1)) throw std::invalid_argument("thresholds: expected fractions in [0, 1)");
}

void expect_boxes(const Array<int32_t>& boxes, const Array<int64_t>& box_offsets, py::ssize_t num_maps) {
  static_assert(sizeof(Box) == 4 * sizeof(int32_t));
  expect_shape("boxes", boxes, {-1, 4});
  expect_shape("box_offsets", box_offsets, {num_maps + 1});
  const std::span<const int64_t> offsets = span_of(box_offsets);
  if (offsets.front() != 0 || offsets.back() != boxes.shape(0))
    throw std::invalid_argument("box_offsets: expected to run from 0 to the number of boxes");
  for (py::ssize_t n = 0; n < num_maps; ++n)
    if (offsets[n] >= offsets[n + 1])
      throw std::invalid_argument("boxes of map " + std::to_string(n) + ": expected at least one");
}

std::vector<int> levels_of_normalized(std::span<const double> thresholds) {
  std::vector<int> levels;
  for (const double threshold : thresholds) levels.push_back(threshold_level(threshold, kScoreLevels));
  return levels;
}

void box_hits(const Array<double>& maps, std::pair<int, int> size, const Array<int64_t>& ranks,
              const Array<int32_t>& boxes, const Array<int64_t>& box_offsets, const Array<double>& iou_thresholds,
              const Array<double>& thresholds, int contours, std::optional<Array<uint8_t>> hits,
              std::optional<Array<int64_t>> counts, Array<uint8_t>& degenerate, int threads) {
  const py::ssize_t num_maps = maps.shape(0), num_thresholds = thresholds.size(), num_ious = iou_thresholds.size();
  const BoxProblem problem{size_t(size.first),      size_t(size.second), ranks_of(ranks),
                           span_of(iou_thresholds), span_of(thresholds), contours};
  const Batch batch(maps, size, problem.normalizations, degenerate);
  const py::ssize_t num_contours = problem.num_contours(), num_normalizations = problem.num_normalizations();
  expect_boxes(boxes, box_offsets, num_maps);
  if (num_maps > py::ssize_t(UINT32_MAX))
    throw std::invalid_argument("maps: expected fewer than 2^32 in a call, found " + std::to_string(num_maps));
  if (hits) expect_shape("hits", *hits, {num_contours, num_normalizations, num_maps, num_ious, num_thresholds});
  if (counts) expect_shape("counts", *counts, {num_contours, num_normalizations, num_ious, num_thresholds});
  if (num_ious < 1 || num_ious > kMaxIouThresholds)
    throw std::invalid_argument("iou_thresholds: expected 1 to " + std::to_string(kMaxIouThresholds) + ", found " +
                                std::to_string(num_ious));
  expect_thresholds(thresholds);

  const std::span<const int64_t> offsets = span_of(box_offsets);
  const Box* const truth = reinterpret_cast<const Box*>(boxes.data());
  uint8_t* const out_hits = hits ? hits->mutable_data() : nullptr;
  int64_t* const out_counts = counts ? counts->mutable_data() : nullptr;
  const std::vector<int> levels_of_255 = levels_of_normalized(problem.thresholds);

  // A normalized map's largest level is 255, so its counts per level add up, and thresholds are looked up at the end. A
  // score map's can be less: then each threshold is looked up at once.
  const size_t num_rows = num_contours * num_normalizations * num_ious;
  parallel(
      num_maps, threads,
      [&](Workspace& workspace, size_t n) {
        const GroundTruth ground_truth(truth + offsets[n], size_t(offsets[n + 1] - offsets[n]),
                                       problem.iou_thresholds.data(), problem.iou_thresholds.size());
        std::vector<uint32_t>& sums = workspace.level_counts;  // [contours, M, D, 255]
        std::vector<int64_t>& direct_sums = workspace.counts;  // [contours, M, D, T]
        if (out_counts) {
          sums.resize(num_rows * kScoreLevels);
          if (problem.normalizations.empty()) direct_sums.resize(num_rows * num_thresholds);
        }
        workspace.box_hits(
            problem, batch[n], ground_truth, [&](size_t c, size_t m, int max_level, const Levels<uint32_t>& found) {
              const size_t row = (c * num_normalizations + m) * num_ious;
              if (out_counts && max_level == kScoreLevels) {
                for (py::ssize_t d = 0; d < num_ious; ++d)
                  for (int t = 0; t < kScoreLevels; ++t) sums[(row + d) * kScoreLevels + t] += found.at[t] >> d & 1;
              } else if (out_counts) {
                int64_t* direct = direct_sums.data() + row * num_thresholds;
                for (py::ssize_t d = 0; d < num_ious; ++d)
                  for (py::ssize_t t = 0; t < num_thresholds; ++t)
                    *direct++ += found.at[threshold_level(problem.thresholds[t], max_level)] >> d & 1;
              }
              if (!out_hits) return;
              uint8_t* to = out_hits + ((c * num_normalizations + m) * num_maps + n) * num_ious * num_thresholds;
              for (py::ssize_t d = 0; d < num_ious; ++d)
                for (py::ssize_t t = 0; t < num_thresholds; ++t) {
                  const int level =
                      max_level == kScoreLevels ? levels_of_255[t] : threshold_level(problem.thresholds[t], max_level);
                  *to++ = found.at[level] >> d & 1;
                }
            });
      },
      [&](Workspace& workspace) {
        if (!out_counts || workspace.level_counts.empty()) return;
        const uint32_t* by_level = workspace.level_counts.data();
        for (size_t row = 0; row < num_rows; ++row, by_level += kScoreLevels)
          for (py::ssize_t t = 0; t < num_thresholds; ++t)
            out_counts[row * num_thresholds + t] += by_level[levels_of_255[t]];
        const std::vector<int64_t>& direct = workspace.counts;  // of score maps alone
        for (size_t i = 0; i < direct.size(); ++i) out_counts[i] += direct[i];
        const size_t num_bytes = direct.size() * sizeof direct[0];
        workspace.clock.end_of(kReducing, num_bytes + workspace.level_counts.size() * sizeof *by_level, 0);
      });
}

// As box_hits, for the best IoU per threshold.
void box_ious(const Array<double>& maps, std::pair<int, int> size, const Array<int64_t>& ranks,
              const Array<int32_t>& boxes, const Array<int64_t>& box_offsets, const Array<double>& thresholds,
              int contours, Array<double>& ious, Array<uint8_t>& degenerate, int threads) {
  const BoxProblem problem{size_t(size.first), size_t(size.second), ranks_of(ranks), {}, span_of(thresholds), contours};
  const Batch batch(maps, size, problem.normalizations, degenerate);
  const size_t num_maps = maps.shape(0), num_thresholds = thresholds.size(),
               num_normalizations = problem.num_normalizations();
  expect_boxes(boxes, box_offsets, num_maps);
  expect_thresholds(thresholds);
  expect_shape("ious", ious,
               {py::ssize_t(problem.num_contours()), py::ssize_t(num_normalizations), py::ssize_t(num_maps),
                py::ssize_t(num_thresholds)});
  const std::span<const int64_t> offsets = span_of(box_offsets);
  const Box* const truth = reinterpret_cast<const Box*>(boxes.data());
  const std::vector<int> levels_of_255 = levels_of_normalized(problem.thresholds);
  double* const out = ious.mutable_data();
  parallel(num_maps, threads, [&](Workspace& workspace, size_t n) {
    workspace.box_ious(
        problem, batch[n], {truth + offsets[n], size_t(offsets[n + 1] - offsets[n])},
        [&](size_t c, size_t m, int max_level, const Levels<double>& found) {
          double* to = out + ((c * num_normalizations + m) * num_maps + n) * num_thresholds;
          for (size_t t = 0; t < num_thresholds; ++t) {
            const bool is_whole = max_level == kScoreLevels;
            to[t] = found.at[is_whole ? levels_of_255[t] : threshold_level(problem.thresholds[t], max_level)];
          }
        });
  });
}

void localize(const Array<double>& maps, std::pair<int, int> size, const Array<int64_t>& ranks,
              const Array<double>& thresholds, Array<int32_t>& boxes, Array<int32_t>& num_contours,
              Array<uint8_t>& degenerate, int threads) {
  const std::span<const Ranks> normalizations = ranks_of(ranks);
  const py::ssize_t num_maps = maps.shape(0), num_normalizations = std::max<size_t>(normalizations.size(), 1);
  const Batch batch(maps, size, normalizations, degenerate);
  expect_shape("thresholds", thresholds, {num_normalizations, -1});
  expect_thresholds(thresholds);
  const py::ssize_t num_thresholds = thresholds.shape(1);
  expect_shape("boxes", boxes, {num_normalizations, num_maps, num_thresholds, 4});
  expect_shape("num_contours", num_contours, {num_normalizations, num_maps, num_thresholds});
  const LevelProblem problem(size.first, size.second, normalizations, span_of(thresholds), num_thresholds);
  Box* const out_boxes = reinterpret_cast<Box*>(boxes.mutable_data());
  int32_t* const out_numbers = num_contours.mutable_data();
  parallel(num_maps, threads, [&](Workspace& workspace, size_t n) {
    workspace.localize(problem, batch[n], [&](size_t m, size_t t, const Box& box, int32_t number) {
      const size_t at = (m * num_maps + n) * num_thresholds + t;
      out_boxes[at] = box;
      out_numbers[at] = number;
    });
  });
}

// What takes long to free: where an exception ends the call, as that of Ctrl-C does, a thread of its own frees it.
template <class T>
struct FreedBeside {
  T value;

  ~FreedBeside() {
    if (!std::uncaught_exceptions()) return;
    try {
      std::thread([moved = std::move(value)] {}).detach();
    } catch (const std::system_error&) {
      // No more threads to be had: it is freed here.
    }
  }
};

py::tuple threshold_boxes(const Array<double>& score_maps, const Array<double>& thresholds, bool largest, int threads) {
  expect_shape("score_maps", score_maps, {-1, -1, -1});
  const py::ssize_t num_maps = score_maps.shape(0);
  const int height = int(score_maps.shape(1)), width = int(score_maps.shape(2));
  const double* const scores = score_maps.data();
  const std::span<const double> wanted = span_of(thresholds);
  expect_thresholds(thresholds);
  Array<int64_t> counts({num_maps, py::ssize_t(kScoreLevels + 1)});
  Array<uint8_t> max_levels(num_maps);
  int64_t* const out_counts = counts.mutable_data();
  uint8_t* const out_levels = max_levels.mutable_data();
  std::fill(out_counts, out_counts + num_maps * (kScoreLevels + 1), 0);
  FreedBeside<std::vector<std::vector<Box>>> owner{std::vector<std::vector<Box>>(num_maps)};
  std::vector<std::vector<Box>>& found = owner.value;
  parallel(num_maps, threads, [&](Workspace& workspace, size_t n) {
    workspace.threshold_boxes(scores + n * height * width, height, width, n, largest, wanted,
                              [&](int level, const Box& box) {
                                found[n].push_back(box);
                                ++out_counts[n * (kScoreLevels + 1) + level];
                              });
    out_levels[n] = uint8_t(workspace.max_level());
  });
  std::vector<size_t> begins{0};
  for (const auto& boxes : found) begins.push_back(begins.back() + boxes.size());
  Array<int32_t> boxes({py::ssize_t(begins.back()), py::ssize_t(4)});
  int32_t* const out_boxes = boxes.mutable_data();
  parallel(num_maps, threads, [&](Workspace&, size_t n) {  // of noise these are gigabytes
    int32_t* to = out_boxes + 4 * begins[n];
    for (const Box& box : found[n])
      for (const int value : {box.x0, box.y0, box.x1, box.y1}) *to++ = value;
    found[n] = {};
  });
  return py::make_tuple(boxes, counts, max_levels);
}

void pixel_histograms(const Array<double>& maps, std::pair<int, int> size, const Array<int64_t>& ranks,
                      const Array<double>& thresholds, const Array<uint8_t>& masks, std::optional<Array<int64_t>> out,
                      std::optional<Array<int64_t>> total, Array<uint8_t>& degenerate, int threads) {
  expect_shape("maps", maps, {-1, -1, -1});
  const py::ssize_t num_maps = maps.shape(0), num_bins = thresholds.size() + 2;
  const std::span<const Ranks> normalizations = ranks_of(ranks);
  const py::ssize_t num_normalizations = std::max<size_t>(normalizations.size(), 1);
  if (normalizations.empty()) expect_shape("maps", maps, {num_maps, size.first, size.second});
  expect_shape("masks", masks, {num_maps, size.first, size.second});
  expect_shape("degenerate", degenerate, {num_normalizations, num_maps});
  if (out) expect_shape("out", *out, {num_normalizations, num_maps, 2, num_bins});
  if (total) expect_shape("total", *total, {num_normalizations, 2, num_bins});
  std::vector<double> edges(thresholds.data(), thresholds.data() + thresholds.size());
  edges.push_back(1);
  if (!std::is_sorted(edges.begin(), edges.end()))
    throw std::invalid_argument("thresholds: expected ascending fractions, at most 1");

  const Resize resizer(int(maps.shape(1)), int(maps.shape(2)), size.first, size.second);
  const bool is_resized = maps.shape(1) == size.first && maps.shape(2) == size.second;
  const size_t cam_size = maps.shape(1) * maps.shape(2), num_pixels = size_t(size.first) * size.second;
  const double* const cams = maps.data();
  const uint8_t* const mask = masks.data();
  int64_t* const out_each = out ? out->mutable_data() : nullptr;
  int64_t* const out_total = total ? total->mutable_data() : nullptr;
  uint8_t* const out_degenerate = degenerate.mutable_data();
  if (out_each) std::fill(out_each, out_each + out->size(), 0);
  parallel(
      num_maps, threads,
      [&](Workspace& workspace, size_t n) {
        std::vector<int64_t>& sums = workspace.counts;  // [M, 2, bins]
        if (out_total) sums.resize(num_normalizations * 2 * num_bins);
        if (normalizations.empty()) expect_scores(cams + n * cam_size, size.first, size.second, "cams", n);
        workspace.pixel_histograms(normalizations, edges, cams + n * cam_size, mask + n * num_pixels, resizer,
                                   is_resized, num_pixels, out_degenerate + n, num_maps,
                                   [&](size_t m, std::span<const int16_t> edge_ranks, const PixelHistogram& histogram) {
                                     const auto add_to = [&](int64_t* to) {
                                       histogram.add(edge_ranks, to, to + num_bins);
                                     };
                                     if (out_total) add_to(sums.data() + m * 2 * num_bins);
                                     if (out_each) add_to(out_each + (m * num_maps + n) * 2 * num_bins);
                                   });
      },
      [&](Workspace& workspace) {
        if (!out_total) return;
        for (size_t i = 0; i < workspace.counts.size(); ++i) out_total[i] += workspace.counts[i];
        workspace.clock.end_of(kReducing, workspace.counts.size() * sizeof *out_total, 0);
      });
}

// The best IoU by another rule than the published evaluation's, of every contours' way, map and threshold: ious
// [C, N, T]. The foreground of threshold t is {bins >= ranks[n, t]}, and ranks are at least 1.
// A box rule as Python names its fields, in this order.
using RuleFields = std::tuple<int, bool, int, bool, int, bool, std::array<int, 4>>;

BoxRule rule_of(const RuleFields& fields) {
  const auto& [largest, first_of_ties, connectivity, hole_borders, far_edge, inclusive, empty] = fields;
  return {Largest(largest),
          first_of_ties,
          connectivity == 8 ? Connectivity::eight : Connectivity::four,
          hole_borders,
          FarEdge(far_edge),
          inclusive,
          {empty[0], empty[1], empty[2], empty[3]}};
}

// Calls visit(workspace, n) for every map; workspace.rules.image has its levels.
template <class Visit>
void each_level_image(const Array<int16_t>& bins, int threads, Visit&& visit) {
  const py::ssize_t num_maps = bins.shape(0), height = bins.shape(1), width = bins.shape(2);
  const int16_t* const levels = bins.data();
  parallel(num_maps, threads, [&](Workspace& workspace, size_t n) {
    LevelImage& image = workspace.rules.image;
    image.resize(int(height), int(width));
    for (int y = 0; y < height; ++y) {
      const int16_t* from = levels + (n * height + y) * width;
      std::copy(from, from + width, image.row(y));
    }
    image.find_top();
    workspace.clock.end_of(kDigitizing, size_t(height) * width * 2 * sizeof(int16_t));
    visit(workspace, n);
  });
}

void rule_ious(const Array<int16_t>& bins, const Array<int16_t>& ranks, const Array<int32_t>& boxes,
               const Array<int64_t>& box_offsets, const RuleFields& fields, int contours, Array<double>& ious,
               int threads) {
  expect_shape("bins", bins, {-1, -1, -1});
  const py::ssize_t num_maps = bins.shape(0);
  expect_shape("ranks", ranks, {num_maps, -1});
  const py::ssize_t num_thresholds = ranks.shape(1);
  expect_boxes(boxes, box_offsets, num_maps);
  expect_shape("ious", ious, {contours == kWantBoth ? 2 : 1, num_maps, num_thresholds});
  const BoxRule rule = rule_of(fields);
  const std::span<const int64_t> offsets = span_of(box_offsets);
  const Box* const truth = reinterpret_cast<const Box*>(boxes.data());
  const int16_t* const wanted = ranks.data();
  double* const out = ious.mutable_data();
  const size_t num_pixels = size_t(bins.shape(1)) * bins.shape(2);
  each_level_image(bins, threads, [&](Workspace& workspace, size_t n) {
    const int top = workspace.rules.image.top;
    for (auto& each : workspace.ious) each.resize(top + 2);
    double* const by_largest = contours & kWantLargest ? workspace.ious[0].data() : nullptr;
    double* const by_all = contours & kWantAll ? workspace.ious[1].data() : nullptr;
    workspace.rules.best_ious(rule, {truth + offsets[n], size_t(offsets[n + 1] - offsets[n])}, by_largest, by_all);
    workspace.clock.end_of(kTree, num_pixels * sizeof(int16_t));
    double* to = out + n * num_thresholds;
    for (const double* from : {by_largest, by_all}) {
      if (!from) continue;
      for (py::ssize_t t = 0; t < num_thresholds; ++t)
        to[t] = from[std::clamp<int>(wanted[n * num_thresholds + t], 1, top + 1)];
      to += num_maps * num_thresholds;
    }
    workspace.clock.end_of(kGathering, num_thresholds * (sizeof *wanted + sizeof *to));
  });
}

void rule_localize(const Array<int16_t>& bins, const Array<int16_t>& ranks, const RuleFields& fields,
                   Array<int32_t>& boxes, Array<int32_t>& num_contours, int threads) {
  expect_shape("bins", bins, {-1, -1, -1});
  const py::ssize_t num_maps = bins.shape(0);
  expect_shape("ranks", ranks, {num_maps, -1});
  const py::ssize_t num_thresholds = ranks.shape(1);
  expect_shape("boxes", boxes, {num_maps, num_thresholds, 4});
  expect_shape("num_contours", num_contours, {num_maps, num_thresholds});
  const BoxRule rule = rule_of(fields);
  const int16_t* const wanted = ranks.data();
  Box* const out_boxes = reinterpret_cast<Box*>(boxes.mutable_data());
  int32_t* const out_numbers = num_contours.mutable_data();
  const size_t num_pixels = size_t(bins.shape(1)) * bins.shape(2);
  each_level_image(bins, threads, [&](Workspace& workspace, size_t n) {
    const int top = workspace.rules.image.top;
    std::vector<Box> found(top + 2);
    std::vector<int32_t> numbers(top + 2);
    workspace.rules.localize(rule, found.data(), numbers.data());
    workspace.clock.end_of(kTree, num_pixels * sizeof(int16_t));
    for (py::ssize_t t = 0; t < num_thresholds; ++t) {
      const int level = std::clamp<int>(wanted[n * num_thresholds + t], 1, top + 1);
      out_boxes[n * num_thresholds + t] = found[level];
      out_numbers[n * num_thresholds + t] = numbers[level];
    }
    workspace.clock.end_of(kGathering, num_thresholds * (sizeof *wanted + sizeof(Box)));
  });
}

// affine: of each map and normalization offset and divisor, 0 where there is no score map. sums: on the object, and
// all.
void energies(const Array<double>& maps, const Array<double>& affine, const Array<uint8_t>& parts, Array<int64_t>& sums,
              int threads) {
  expect_shape("maps", maps, {-1, -1, -1});
  const py::ssize_t num_maps = maps.shape(0);
  expect_shape("affine", affine, {num_maps, -1, 2});
  expect_shape("parts", parts, {num_maps, maps.shape(1), maps.shape(2)});
  const size_t num_normalizations = affine.shape(1), size = maps.shape(1) * maps.shape(2);
  expect_shape("sums", sums, {py::ssize_t(num_normalizations), num_maps, 2});
  const double *const from = maps.data(), *const how = affine.data();
  const uint8_t* const of = parts.data();
  int64_t* const to = sums.mutable_data();
  parallel(num_maps, threads, [&](Workspace&, size_t n) {
    for (size_t m = 0; m < num_normalizations; ++m) {
      const double *const each = how + (n * num_normalizations + m) * 2, divisor = each[1];
      const Energy found = divisor == 0 ? Energy{} : energy_of(from + n * size, of + n * size, size, each[0], divisor);
      int64_t* const out = to + (m * num_maps + n) * 2;
      out[0] = found.object;
      out[1] = found.all;
    }
  });
}

// (name, nanoseconds, bytes, maps) of every stage; most threads at once; int64 [S, 4] of which stage, which thread,
// begin and end in nanoseconds since the profile began; how many such spans there were, S or more.
py::tuple stop_stages() {
  StageProfile& profile = stage_profile();
  profile.stop();
  py::list totals;
  for (int s = 0; s < kNumStages; ++s) {
    const StageTotal& total = profile.totals[s];
    totals.append(py::make_tuple(kStageNames[s], total.nanoseconds, total.bytes, total.maps));
  }
  static_assert(sizeof(StageSpan) == 4 * sizeof(int64_t));
  Array<int64_t> spans({py::ssize_t(profile.spans.size()), py::ssize_t(4)});
  if (!profile.spans.empty()) std::memcpy(spans.mutable_data(), profile.spans.data(), spans.nbytes());
  return py::make_tuple(totals, profile.num_threads, spans, profile.num_spans);
}

std::vector<std::string> cpu_supports() {
  std::vector<std::string> supported;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
    supported.push_back("avx2");
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    supported.push_back("avx512");
#endif
  return supported;
}

}  // namespace

PYBIND11_MODULE(WSOLKERN_MODULE, module) {
  using py::arg;
  keep_locks_through_forks();
  module.doc() = "The native core of wsolkern; use wsolkern.ops.";
  module.attr("isa") = WSOLKERN_ISA;
  module.attr("constants") = py::dict(py::arg("NUM_LEVELS") = kScoreLevels, py::arg("MAX_SIDE") = kMaxSide,
                                      py::arg("MAX_IOU_THRESHOLDS") = kMaxIouThresholds, py::arg("RANK_ZERO") = kZero,
                                      py::arg("RANK_EXTREME") = kExtreme, py::arg("largest") = int(kWantLargest),
                                      py::arg("all") = int(kWantAll), py::arg("both") = int(kWantBoth));
  module.def("cpu_supports", &cpu_supports, "Instruction sets, of those wsolkern is built for, that this CPU has.");
  module.def(
      "scratch_bytes", [] { return pool().most_bytes(); },
      "The largest workspace of one thread, in bytes, since this was asked last.");
  module.def(
      "start_stages", [](bool with_spans) { stage_profile().start(with_spans); }, arg("with_spans"),
      "Times the stages of all maps from now on.");
  module.def("stop_stages", &stop_stages, "Ends that; gives what was found.");
  module.def(
      "stage_nanoseconds", [] { return stage_nanoseconds(); }, "The time this thread has spent in timed stages.");
  module.def("resize", &resize, arg("src").noconvert(), arg("out").noconvert(), arg("threads"));
  module.def("affine", &affine, arg("maps").noconvert(), arg("ranks").noconvert(), arg("out").noconvert(),
             arg("threads"));
  module.def("normalize", &normalize_maps, arg("maps").noconvert(), arg("affine").noconvert(), arg("out").noconvert(),
             arg("threads"));
  module.def("cut_points", &cut_points_of, arg("affine").noconvert(), arg("scores").noconvert(), arg("out").noconvert(),
             arg("threads"));
  module.def("digitize", &digitize, arg("maps").noconvert(), arg("cuts").noconvert(), arg("bins").noconvert(),
             arg("ranks").noconvert(), arg("threads"));
  module.def("box_hits", &box_hits, arg("maps").noconvert(), arg("size"), arg("ranks").noconvert(),
             arg("boxes").noconvert(), arg("box_offsets").noconvert(), arg("iou_thresholds").noconvert(),
             arg("thresholds").noconvert(), arg("contours"), arg("hits").noconvert(), arg("counts").noconvert(),
             arg("degenerate").noconvert(), arg("threads"));
  module.def("box_ious", &box_ious, arg("maps").noconvert(), arg("size"), arg("ranks").noconvert(),
             arg("boxes").noconvert(), arg("box_offsets").noconvert(), arg("thresholds").noconvert(), arg("contours"),
             arg("ious").noconvert(), arg("degenerate").noconvert(), arg("threads"));
  module.def("localize", &localize, arg("maps").noconvert(), arg("size"), arg("ranks").noconvert(),
             arg("thresholds").noconvert(), arg("boxes").noconvert(), arg("num_contours").noconvert(),
             arg("degenerate").noconvert(), arg("threads"));
  module.def("threshold_boxes", &threshold_boxes, arg("score_maps").noconvert(), arg("thresholds").noconvert(),
             arg("largest"), arg("threads"));
  module.def("rule_ious", &rule_ious, arg("bins").noconvert(), arg("ranks").noconvert(), arg("boxes").noconvert(),
             arg("box_offsets").noconvert(), arg("rule"), arg("contours"), arg("ious").noconvert(), arg("threads"));
  module.def("rule_localize", &rule_localize, arg("bins").noconvert(), arg("ranks").noconvert(), arg("rule"),
             arg("boxes").noconvert(), arg("num_contours").noconvert(), arg("threads"));
  module.def("energies", &energies, arg("maps").noconvert(), arg("affine").noconvert(), arg("parts").noconvert(),
             arg("sums").noconvert(), arg("threads"));
  module.def("pixel_histograms", &pixel_histograms, arg("maps").noconvert(), arg("size"), arg("ranks").noconvert(),
             arg("thresholds").noconvert(), arg("masks").noconvert(), arg("out").noconvert(), arg("total").noconvert(),
             arg("degenerate").noconvert(), arg("threads"));
}
