// Stands in for cuda.cu: the same launches, of what nvcc made of it. A complaint is the message that a launch returns.
//
// Each block may touch its own piece of the scratch memory and of the sums and no other; what nobody wrote there in
// this launch must not be read. The device comes from the environment, as for csrc/gpu/emulated.cpp.
#include <list>

#include "gpu/launch.h"

namespace wsolkern {
namespace {

size_t setting(const char* name, size_t otherwise) {
  const char* const value = std::getenv(name);
  return value ? std::stoull(value) : otherwise;
}

const Kernel& kernel_of(const char* part) {
  for (int i = 0; i < num_kernels; ++i)
    if (std::strstr(kernels[i].name, part)) return kernels[i];
  std::fprintf(stderr, "no kernel has %s in its name\n", part);
  std::abort();
}

struct Regions {
  std::vector<Region> list;
  std::list<std::vector<u8>> written;

  template <class T>
  void constant(const T* at, size_t count) {
    char* const begin = reinterpret_cast<char*>(const_cast<T*>(at));
    if (at) list.push_back({begin, begin + count * sizeof(T), nullptr, -1, 1});
  }
  template <class T>
  void variable(T* at, size_t count, bool is_fresh, int block = -1) {
    if (!at) return;
    char* const begin = reinterpret_cast<char*>(at);
    u8* fresh = nullptr;
    if (is_fresh) fresh = written.emplace_back(count * sizeof(T)).data();
    list.push_back({begin, begin + count * sizeof(T), fresh, block});
  }

  // is_first: no launch before this one has written what it may read.
  explicit Regions(const BatchProblem& problem, bool is_first = true) {
    const size_t num_maps = size_t(problem.num_maps), sums = problem.num_sums();
    const size_t num_pixels = num_maps * size_t(problem.height) * size_t(problem.width);
    const size_t num_normalizations = size_t(problem.num_normalizations);
    constant(static_cast<const char*>(problem.images), num_pixels * (problem.is_8_bit() ? 1 : 2));
    constant(problem.box_offsets, num_maps + 1);
    if (problem.boxes) constant(problem.boxes, 4 * size_t(problem.box_offsets[num_maps]));
    constant(problem.iou_thresholds, size_t(problem.num_iou_thresholds));
    constant(problem.thresholds, size_t(problem.num_thresholds));
    constant(problem.ranks, num_maps * num_normalizations * kScoreLevels);
    constant(problem.affines, num_maps * num_normalizations * 2);
    variable(problem.hits, num_maps * sums, is_first);
    for (int block = 0; block < problem.num_blocks; ++block) {
      if (problem.scratch_bytes)
        variable(problem.scratch + size_t(block) * problem.scratch_bytes, problem.scratch_bytes, true, block);
      if (problem.sums) variable(problem.sums + size_t(block) * sums, sums, is_first, block);
    }
  }
};

template <class Work>
const char* start(const char* name, const Work& work, int num_blocks, size_t shared, const Regions& regions) {
  const Kernel& kernel = kernel_of(name);
  if (kernel.num_parameter_bytes != sizeof work) return "the kernel takes other parameters";
  return simulate(kernel, &work, u32(num_blocks), 1, shared, regions.list);
}

}  // namespace

const char* const kWorksOn = "cpu";

const char* describe_device(int, Device& device) {
  device = {int(setting("WSOLKERN_EMULATED_PROCESSORS", 2)), setting("WSOLKERN_EMULATED_SHARED", 227 << 10)};
  return "";
}

const char* check_device(int) { return ""; }

const char* launch(const BatchProblem& problem, const Plan& plan, int64_t* counts, int, void*) {
  if (problem.num_maps == 0) return "";
  if (plan.in_shared) {
    const BatchProblem first = first_of(problem, plan);
    *first.left_over = 0;
    Regions regions(first);
    regions.variable(first.left_over, size_t(problem.num_maps) + 1, false);
    const char* const report = start(problem.is_8_bit() ? "evaluate_bytes_kernel" : "evaluate_words_kernel", first,
                                     plan.num_blocks, plan.shared_bytes, regions);
    if (*report) return report;
  }
  const BatchProblem rest = left_over_of(problem, plan);
  Regions regions(rest, !plan.in_shared);
  if (rest.left_over) regions.constant(rest.left_over, size_t(problem.num_maps) + 1);
  const char* const report = start("evaluate_left_over_kernel", rest, plan.num_left_over, sizeof(Shared), regions);
  if (*report || !counts) return report;
  BatchProblem summed = problem;
  summed.num_blocks = plan.num_blocks;
  Regions sums(summed, false);
  for (Region& region : sums.list) region.block = -1;  // now every thread adds up what all blocks left
  sums.variable(counts, problem.num_sums(), false);
  struct {
    BatchProblem problem;
    int64_t* counts;
  } const work{summed, counts};
  return start("add_sums_kernel", work, int((problem.num_sums() + 255) / 256), 0, sums);
}

const char* launch(const BoxList& list, const Plan& plan, int, void*) {
  const BatchProblem& batch = list.batch;
  if (batch.num_maps == 0) return "";
  Regions regions(batch);
  const size_t num_levels = size_t(batch.num_maps) * kScoreLevels;
  regions.constant(list.begins, num_levels);
  regions.variable(list.counts, num_levels, false);
  static size_t num_boxes = 0;  // there is memory for as many as were counted before
  if (list.boxes) regions.variable(list.boxes, num_boxes, true);
  const char* const report = start("list_boxes_kernel", list, plan.num_blocks, sizeof(Shared), regions);
  num_boxes = 0;
  for (size_t i = 0; i < num_levels; ++i) num_boxes += list.counts[i];
  return report;
}

}  // namespace wsolkern
