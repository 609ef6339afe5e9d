// How a batch is spread over blocks, the same for a GPU and for its stand-in on the host, and what a launch is.
#pragma once

#include <algorithm>

#include "gpu/boxes.h"

namespace wsolkern {

struct Device {
  int num_processors;   // blocks that can run at once, at least
  size_t shared_limit;  // bytes of shared memory that a block can have
};

// What to allocate for a batch before it is launched.
struct Plan {
  bool in_shared;  // levels and links stay in shared memory
  int num_blocks;
  size_t scratch_bytes;  // of one block
  size_t num_sums;       // of one block, 0 if nothing is summed
};

constexpr size_t kMostScratch = size_t(2) << 30;  // of all blocks together, unless one alone needs more

// Of what a launch is for: hits of each map, their sums, or the boxes themselves.
enum class Wanted { kHits, kSums, kBoxes };

// `problem`: sizes and contours; no pointer is looked at.
inline Plan make_plan(const BatchProblem& problem, const Device& device, Wanted wanted) {
  const Shape shape(problem.height, problem.width);
  Plan plan;
  plan.in_shared = wanted != Wanted::kBoxes && fits_shared(shape, device.shared_limit);
  plan.scratch_bytes = Scratch().lay_out(nullptr, shape, uint32_t(problem.most_level), plan.in_shared);
  plan.num_sums = wanted == Wanted::kSums ? problem.num_sums() : 0;
  const size_t bytes = plan.scratch_bytes + plan.num_sums * sizeof(uint32_t);
  const int64_t most = std::max<int64_t>(1, int64_t(kMostScratch / bytes));
  plan.num_blocks = int(std::min({problem.num_maps, int64_t(device.num_processors), most}));
  return plan;
}

// In cuda.cu, and in emulated.cpp for the host.
extern const char* const kWorksOn;  // whose memory they take, as PyTorch calls the device
// They return a message, empty if all went well; no map: nothing happens.
const char* describe_device(int index, Device& device);
const char* check_device(int index);  // whether its driver and its architecture run the kernels
// counts: int64 [C, M, D, T], to which the sums are added; or null.
const char* launch(const BatchProblem& problem, const Plan& plan, int64_t* counts, int device, void* stream);
const char* launch(const BoxList& list, const Plan& plan, int device, void* stream);

}  // namespace wsolkern
