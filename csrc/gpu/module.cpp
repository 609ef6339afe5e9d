// The Python module of the device code. Memory, sizes and the stream cross as integers: PyTorch owns all of it.
//
// Compiled with cuda.cu it is wsolkern._cuda; with emulated.cpp it is what the tests run on the host.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "gpu/launch.h"
#include "shared/gil.h"

// Which sources this was compiled from; see wsolkern/building.py. What tests compile is used at once and needs none.
#ifndef WSOLKERN_FINGERPRINT
#define WSOLKERN_FINGERPRINT ""
#endif

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

Plan plan_of(const BatchProblem& problem, Wanted wanted, int device) {
  Device properties;
  expect(describe_device(device, properties));
  return make_plan(problem, properties, wanted);
}

// What keeps the kernels from running on a device; empty if nothing does.
std::string fault(int device) { return check_device(device); }

// What to allocate: bytes of scratch memory and of sums, for all blocks.
py::tuple plan(const BatchProblem& problem, bool is_summed, int device) {
  const Plan plan = plan_of(problem, is_summed ? Wanted::kSums : Wanted::kHits, device);
  return py::make_tuple(plan.all_scratch_bytes(problem.num_maps), plan.num_blocks * plan.num_sums * sizeof(uint32_t));
}

// What a block of a GPU takes of shared memory for maps of this size if it has that much: of 8 bits, of 16 bits, and
// otherwise.
py::tuple shared_memory(int height, int width) {
  const Shape shape(height, width);
  return py::make_tuple(shared_bytes<InShared<uint8_t>>(shape), shared_bytes<InShared<int16_t>>(shape), sizeof(Shared));
}

void box_hits(const BatchProblem& problem, uintptr_t counts, int device, uintptr_t stream) {
  const Plan plan = plan_of(problem, counts ? Wanted::kSums : Wanted::kHits, device);
  without_gil(
      [&](PyThreadState*) { expect(launch(problem, plan, pointer<int64_t>(counts), device, pointer<void>(stream))); });
}

// What to allocate for threshold_boxes: bytes of scratch memory, for all blocks.
size_t box_plan(const BatchProblem& problem, int device) {
  const Plan plan = plan_of(problem, Wanted::kBoxes, device);
  return plan.all_scratch_bytes(problem.num_maps);
}

void threshold_boxes(const BatchProblem& problem, uintptr_t counts, uintptr_t begins, uintptr_t boxes, int device,
                     uintptr_t stream) {
  const Plan plan = plan_of(problem, Wanted::kBoxes, device);
  const BoxList list{left_over_of(problem, plan), pointer<uint32_t>(counts), pointer<const int64_t>(begins),
                     pointer<Box>(boxes)};
  without_gil([&](PyThreadState*) { expect(launch(list, plan, device, pointer<void>(stream))); });
}

// Python sees addresses as integers.
template <class T>
void def_address(py::class_<BatchProblem>& problem, const char* name, T* BatchProblem::* field) {
  problem.def_property(
      name, [field](const BatchProblem& self) { return reinterpret_cast<uintptr_t>(self.*field); },
      [field](BatchProblem& self, uintptr_t address) { self.*field = reinterpret_cast<T*>(address); });
}

}  // namespace
}  // namespace wsolkern

PYBIND11_MODULE(WSOLKERN_MODULE, module) {
  using namespace wsolkern;
  using py::arg;
  module.doc() = "The device core of wsolkern; use wsolkern.ops.";
  module.attr("works_on") = kWorksOn;
  module.attr("fingerprint") = WSOLKERN_FINGERPRINT;
  module.attr("constants") = py::dict(arg("NUM_LEVELS") = kScoreLevels, arg("MAX_SIDE") = kMaxSide,
                                      arg("MAX_IOU_THRESHOLDS") = kMaxIouThresholds, arg("largest") = int(kWantLargest),
                                      arg("all") = int(kWantAll), arg("both") = int(kWantBoth));
  // The fields' meanings are in evaluate.h.
  py::class_<BatchProblem> problem(module, "BatchProblem", py::module_local());  // the stand-in has one, too
  problem.def(py::init<>())
      .def_readwrite("num_maps", &BatchProblem::num_maps)
      .def_readwrite("height", &BatchProblem::height)
      .def_readwrite("width", &BatchProblem::width)
      .def_readwrite("most_level", &BatchProblem::most_level)
      .def_readwrite("num_iou_thresholds", &BatchProblem::num_iou_thresholds)
      .def_readwrite("num_thresholds", &BatchProblem::num_thresholds)
      .def_readwrite("num_normalizations", &BatchProblem::num_normalizations)
      .def_readwrite("contours", &BatchProblem::contours);
  def_address(problem, "images", &BatchProblem::images);
  def_address(problem, "boxes", &BatchProblem::boxes);
  def_address(problem, "box_offsets", &BatchProblem::box_offsets);
  def_address(problem, "iou_thresholds", &BatchProblem::iou_thresholds);
  def_address(problem, "thresholds", &BatchProblem::thresholds);
  def_address(problem, "ranks", &BatchProblem::ranks);
  def_address(problem, "affines", &BatchProblem::affines);
  def_address(problem, "hits", &BatchProblem::hits);
  def_address(problem, "sums", &BatchProblem::sums);
  def_address(problem, "scratch", &BatchProblem::scratch);
  module.def("fault", &fault, arg("device"));
  module.def("shared_memory", &shared_memory, arg("height"), arg("width"));
  module.def("plan", &plan, arg("problem"), arg("is_summed"), arg("device"));
  module.def("box_hits", &box_hits, arg("problem"), arg("counts"), arg("device"), arg("stream"));
  module.def("box_plan", &box_plan, arg("problem"), arg("device"));
  module.def("threshold_boxes", &threshold_boxes, arg("problem"), arg("counts"), arg("begins"), arg("boxes"),
             arg("device"), arg("stream"));
}
