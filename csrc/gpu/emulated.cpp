// Stands in for cuda.cu on the host: blocks of real threads, all at once, with memory of exactly the planned size. For
// tests: under AddressSanitizer it checks offsets and sizes, under ThreadSanitizer that threads meet only at barriers
// and atomics. The device and the order of work come from the environment.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gpu/launch.h"

namespace wsolkern {

namespace {

size_t setting(const char* name, size_t otherwise) {
  const char* const value = std::getenv(name);
  return value ? std::stoull(value) : otherwise;
}

// Calls work(block, which, memory) in each thread of each block.
template <class Work>
void run_blocks(int num_blocks, size_t bytes, Work&& work) {
  static std::atomic<uint64_t> num_launches = 0;
  const uint64_t seed = setting("WSOLKERN_EMULATED_SEED", 0) * 1000003 + ++num_launches;
  const int num_threads = int(setting("WSOLKERN_EMULATED_THREADS", 3));
  std::vector<std::unique_ptr<std::barrier<>>> barriers;
  std::vector<std::unique_ptr<char[]>> memories;
  std::vector<std::thread> threads;
  for (int which = 0; which < num_blocks; ++which) {
    barriers.push_back(std::make_unique<std::barrier<>>(num_threads));
    memories.push_back(std::make_unique<char[]>(bytes));
    std::memset(memories[which].get(), 0x5a, bytes);
    for (int rank = 0; rank < num_threads; ++rank)
      threads.emplace_back(
          [&, which, rank, num_threads, memory = memories[which].get(), barrier = barriers[which].get()] {
            work(Block(rank, num_threads, *barrier, seed + which), which, memory);
          });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

const char* const kWorksOn = "cpu";

const char* describe_device(int, Device& device) {
  const size_t shared = setting("WSOLKERN_EMULATED_SHARED", 227 << 10);
  device = {int(setting("WSOLKERN_EMULATED_PROCESSORS", 2)), shared, shared + kReserved};
  return "";
}

const char* check_device(int) { return ""; }

const char* launch(const BatchProblem& problem, const Plan& plan, int64_t* counts, int, void*) {
  if (problem.num_maps == 0) return "";
  if (plan.in_shared) {
    const BatchProblem first = first_of(problem, plan);
    *first.left_over = 0;
    run_blocks(plan.num_blocks, plan.shared_bytes, [&](const Block& block, int which, char* memory) {
      if (problem.is_8_bit())
        evaluate_batch<InShared<uint8_t>>(block, first, uint32_t(which), memory);
      else
        evaluate_batch<InShared<int16_t>>(block, first, uint32_t(which), memory);
    });
  }
  const BatchProblem left_over = left_over_of(problem, plan);
  run_blocks(plan.num_left_over, sizeof(Shared), [&](const Block& block, int which, char* memory) {
    evaluate_left_over(block, left_over, uint32_t(which), memory);
  });
  BatchProblem summed = problem;
  summed.num_blocks = plan.num_blocks;
  for (size_t i = 0; counts && i < problem.num_sums(); ++i) add_sums(summed, counts, i);
  return "";
}

const char* launch(const BoxList& list, const Plan& plan, int, void*) {
  if (list.batch.num_maps == 0) return "";
  run_blocks(plan.num_blocks, sizeof(Shared),
             [&](const Block& block, int which, char* memory) { list_boxes(block, list, which, memory); });
  return "";
}

}  // namespace wsolkern
