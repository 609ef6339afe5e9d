// The Python module of the device code. Memory, sizes and the stream cross as integers: PyTorch owns all of it.
//
// Compiled with cuda.cu it is wsolkern._cuda; with emulated.cpp it is what the tests run on the host.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "gil.h"
#include "launch.h"

namespace py = pybind11;

namespace wsolkern {
namespace {

template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void expect(const char* message) {
  if (*message) throw std::runtime_error(std::string("CUDA: ") + message);
}

BatchProblem problem_of(int64_t num_maps, int height, int width, int most_level, int num_normalizations,
                        int num_iou_thresholds, int num_thresholds, int contours) {
  BatchProblem problem{};
  problem.num_maps = num_maps;
  problem.height = height;
  problem.width = width;
  problem.most_level = most_level;
  problem.num_normalizations = num_normalizations;
  problem.num_iou_thresholds = num_iou_thresholds;
  problem.num_thresholds = num_thresholds;
  problem.contours = contours;
  return problem;
}

Plan plan_of(const BatchProblem& problem, Wanted wanted, int device) {
  Device properties;
  expect(describe_device(device, properties));
  return make_plan(problem, properties, wanted);
}

// What keeps the kernels from running on a device; empty if nothing does.
std::string fault(int device) { return check_device(device); }

// What to allocate: bytes of scratch memory and of sums, for all blocks.
py::tuple plan(int64_t num_maps, int height, int width, int most_level, int num_normalizations, int num_iou_thresholds,
               int num_thresholds, int contours, bool is_summed, int device) {
  const Plan plan = plan_of(
      problem_of(num_maps, height, width, most_level, num_normalizations, num_iou_thresholds, num_thresholds, contours),
      is_summed ? Wanted::kSums : Wanted::kHits, device);
  return py::make_tuple(plan.num_blocks * plan.scratch_bytes, plan.num_blocks * plan.num_sums * sizeof(uint32_t));
}

// What a block of a GPU takes of shared memory for maps of this size if it has that much, and what otherwise.
py::tuple shared_memory(int height, int width) {
  return py::make_tuple(shared_bytes(Shape(height, width)), sizeof(Shared));
}

void box_hits(uintptr_t images, int64_t num_maps, int height, int width, int most_level, uintptr_t boxes,
              uintptr_t box_offsets, uintptr_t iou_thresholds, int num_iou_thresholds, uintptr_t thresholds,
              int num_thresholds, uintptr_t ranks, uintptr_t affines, int num_normalizations, int contours,
              uintptr_t hits, uintptr_t counts, uintptr_t scratch, uintptr_t sums, int device, uintptr_t stream) {
  BatchProblem problem =
      problem_of(num_maps, height, width, most_level, num_normalizations, num_iou_thresholds, num_thresholds, contours);
  const Plan plan = plan_of(problem, counts ? Wanted::kSums : Wanted::kHits, device);
  problem.images = pointer<const void>(images);
  problem.boxes = pointer<const int32_t>(boxes);
  problem.box_offsets = pointer<const int64_t>(box_offsets);
  problem.iou_thresholds = pointer<const double>(iou_thresholds);
  problem.thresholds = pointer<const double>(thresholds);
  problem.ranks = pointer<const int16_t>(ranks);
  problem.affines = pointer<const double>(affines);
  problem.hits = pointer<uint8_t>(hits);
  problem.sums = counts ? pointer<uint32_t>(sums) : nullptr;
  problem.scratch = pointer<char>(scratch);
  problem.scratch_bytes = plan.scratch_bytes;
  problem.num_blocks = plan.num_blocks;
  without_gil(
      [&](PyThreadState*) { expect(launch(problem, plan, pointer<int64_t>(counts), device, pointer<void>(stream))); });
}

BatchProblem box_problem_of(int64_t num_maps, int height, int width, int num_thresholds, bool largest) {
  return problem_of(num_maps, height, width, kScoreLevels, 1, 0, num_thresholds, largest ? kWantLargest : kWantAll);
}

// What to allocate for threshold_boxes: bytes of scratch memory, for all blocks.
size_t box_plan(int64_t num_maps, int height, int width, int num_thresholds, bool largest, int device) {
  const Plan plan = plan_of(box_problem_of(num_maps, height, width, num_thresholds, largest), Wanted::kBoxes, device);
  return plan.num_blocks * plan.scratch_bytes;
}

void threshold_boxes(uintptr_t images, int64_t num_maps, int height, int width, uintptr_t thresholds,
                     int num_thresholds, bool largest, uintptr_t counts, uintptr_t begins, uintptr_t boxes,
                     uintptr_t scratch, int device, uintptr_t stream) {
  BoxList list{box_problem_of(num_maps, height, width, num_thresholds, largest), pointer<uint32_t>(counts),
               pointer<const int64_t>(begins), pointer<Box>(boxes)};
  const Plan plan = plan_of(list.batch, Wanted::kBoxes, device);
  list.batch.images = pointer<const void>(images);
  list.batch.thresholds = pointer<const double>(thresholds);
  list.batch.scratch = pointer<char>(scratch);
  list.batch.scratch_bytes = plan.scratch_bytes;
  list.batch.num_blocks = plan.num_blocks;
  without_gil([&](PyThreadState*) { expect(launch(list, plan, device, pointer<void>(stream))); });
}

}  // namespace
}  // namespace wsolkern

PYBIND11_MODULE(WSOLKERN_MODULE, module) {
  using namespace wsolkern;
  using py::arg;
  module.doc() = "The device core of wsolkern; use wsolkern.ops.";
  module.def("fault", &fault, arg("device"));
  module.def("shared_memory", &shared_memory, arg("height"), arg("width"));
  module.def("plan", &plan, py::kw_only(), arg("num_maps"), arg("height"), arg("width"), arg("most_level"),
             arg("num_normalizations"), arg("num_iou_thresholds"), arg("num_thresholds"), arg("contours"),
             arg("is_summed"), arg("device"));
  module.def("box_hits", &box_hits, py::kw_only(), arg("images"), arg("num_maps"), arg("height"), arg("width"),
             arg("most_level"), arg("boxes"), arg("box_offsets"), arg("iou_thresholds"), arg("num_iou_thresholds"),
             arg("thresholds"), arg("num_thresholds"), arg("ranks"), arg("affines"), arg("num_normalizations"),
             arg("contours"), arg("hits"), arg("counts"), arg("scratch"), arg("sums"), arg("device"), arg("stream"));
  module.def("box_plan", &box_plan, py::kw_only(), arg("num_maps"), arg("height"), arg("width"), arg("num_thresholds"),
             arg("largest"), arg("device"));
  module.def("threshold_boxes", &threshold_boxes, py::kw_only(), arg("images"), arg("num_maps"), arg("height"),
             arg("width"), arg("thresholds"), arg("num_thresholds"), arg("largest"), arg("counts"), arg("begins"),
             arg("boxes"), arg("scratch"), arg("device"), arg("stream"));
}
