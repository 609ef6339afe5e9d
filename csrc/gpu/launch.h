// How a batch is spread over blocks, the same for a GPU and for its stand-in on the host, and what a launch is.
#pragma once

#include <algorithm>

#include "gpu/boxes.h"

namespace wsolkern {

struct Device {
  int num_processors;
  size_t shared_limit;          // bytes of shared memory that a block can have
  size_t shared_per_processor;  // that its blocks have together; each takes kReserved more than it asks for
};

constexpr size_t kReserved = 1024;
// Threads of a block: as many as leave each the registers that it takes, 80 in shared memory (two blocks of maps of 8
// bits run at once), 255 in scratch memory, where pointers take them.
constexpr int kBytesThreads = 384, kWordsThreads = 768, kScratchThreads = 256;

// What to allocate for a batch before it is launched.
struct Plan {
  bool in_shared;          // first all maps in shared memory, then those that do not fit there
  size_t shared_bytes;     // of a block of the first launch
  int num_blocks;          // of the first launch, or the only one
  int num_left_over;       // blocks of the second launch, or of the only one
  size_t scratch_bytes;    // of one block of the first launch
  size_t left_over_bytes;  // of one block of the second launch, or of the only one
  size_t num_sums;         // of one block, 0 if nothing is summed

  size_t list_begin() const {  // where the list of the maps that do not fit lies in scratch memory, behind all blocks
    return std::max(size_t(num_blocks) * (in_shared ? scratch_bytes : left_over_bytes),
                    num_left_over * left_over_bytes);
  }
  size_t all_scratch_bytes(int64_t num_maps) const {
    return list_begin() + (in_shared ? (size_t(num_maps) + 1) * sizeof(uint32_t) : 0);
  }
};

constexpr size_t kMostScratch = size_t(2) << 30;  // of all blocks together, unless one alone needs more

// Of what a launch is for: hits of each map, their sums, or the boxes themselves.
enum class Wanted { kHits, kSums, kBoxes };

// `problem`: sizes and contours; no pointer is looked at.
inline Plan make_plan(const BatchProblem& problem, const Device& device, Wanted wanted) {
  const Shape shape(problem.height, problem.width);
  const uint32_t most = uint32_t(problem.most_level);
  Plan plan{};
  const auto blocks = [&](size_t bytes, int at_once) {
    const size_t with_sums = bytes + plan.num_sums * sizeof(uint32_t);
    return int(std::min({problem.num_maps, int64_t(device.num_processors) * at_once,
                         std::max<int64_t>(1, int64_t(kMostScratch / with_sums))}));
  };
  plan.num_sums = wanted == Wanted::kSums ? problem.num_sums() : 0;
  plan.left_over_bytes = Arrays<InScratch>().lay_out(nullptr, nullptr, shape, most).in_scratch;
  plan.num_blocks = plan.num_left_over = blocks(plan.left_over_bytes, 1);
  const auto consider = [&](auto kind, int threads) {
    using Kind = decltype(kind);
    if (wanted == Wanted::kBoxes || !fits_shared<Kind>(shape, device.shared_limit)) return;
    plan.in_shared = true;
    plan.shared_bytes = shared_bytes<Kind>(shape);
    plan.scratch_bytes = Arrays<Kind>().lay_out(nullptr, nullptr, shape, most).in_scratch;
    const int by_memory = int(device.shared_per_processor / (plan.shared_bytes + kReserved));
    plan.num_blocks = blocks(plan.scratch_bytes, std::clamp(by_memory, 1, kWordsThreads / threads));
    plan.num_left_over = std::min(plan.num_blocks, plan.num_left_over);
  };
  if (problem.is_8_bit())
    consider(InShared<uint8_t>(), kBytesThreads);
  else
    consider(InShared<int16_t>(), kWordsThreads);
  return plan;
}

// The problem of the first launch and that of the second, or of the only one: each with the memory of its blocks.
inline BatchProblem first_of(BatchProblem problem, const Plan& plan) {
  problem.scratch_bytes = plan.scratch_bytes;
  problem.num_blocks = plan.num_blocks;
  problem.left_over = reinterpret_cast<uint32_t*>(problem.scratch + plan.list_begin());
  return problem;
}
inline BatchProblem left_over_of(BatchProblem problem, const Plan& plan) {
  problem.scratch_bytes = plan.left_over_bytes;
  problem.num_blocks = plan.num_left_over;
  problem.left_over = plan.in_shared ? reinterpret_cast<uint32_t*>(problem.scratch + plan.list_begin()) : nullptr;
  return problem;
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
