// The kernels, and how they are launched. All that they do is in block_evaluate.h.
#include "launch.h"

namespace wsolkern {

namespace {

// Threads of a block; all registers of a multiprocessor then give each 64. For 12.0 that is not enough: a few would be
// spilled.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int kThreads = 768;
#else
constexpr int kThreads = kMostThreads;
#endif

template <bool kInShared>
__global__ void __launch_bounds__(kThreads, 1) evaluate_batch_kernel(const __grid_constant__ BatchProblem problem) {
  extern __shared__ __align__(16) char memory[];
  evaluate_batch<kInShared>(Block(), problem, blockIdx.x, memory);
}

__global__ void add_sums_kernel(const __grid_constant__ BatchProblem problem, int64_t* counts) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < problem.num_sums()) add_sums(problem, counts, i);
}

const char* message(cudaError_t error) { return error == cudaSuccess ? "" : cudaGetErrorString(error); }

}  // namespace

const char* describe_device(int index, Device& device) {
  int processors = 0, shared = 0;
  cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  device = {processors, size_t(shared)};
  return message(error);
}

const char* launch(const BatchProblem& problem, const Plan& plan, int64_t* counts, int device, void* stream) {
  if (problem.num_maps == 0) return "";
  cudaError_t error = cudaSetDevice(device);
  if (error != cudaSuccess) return message(error);
  const auto kernel = plan.in_shared ? evaluate_batch_kernel<true> : evaluate_batch_kernel<false>;
  cudaFuncAttributes attributes;
  error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return message(error);
  const size_t bytes = plan.in_shared ? shared_bytes(Shape(problem.height, problem.width)) : sizeof(Shared);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
  if (error != cudaSuccess) return message(error);
  const auto on = static_cast<cudaStream_t>(stream);
  kernel<<<plan.num_blocks, attributes.maxThreadsPerBlock, bytes, on>>>(problem);
  if (counts && cudaPeekAtLastError() == cudaSuccess) {
    constexpr unsigned kFew = 256;
    add_sums_kernel<<<unsigned((problem.num_sums() + kFew - 1) / kFew), kFew, 0, on>>>(problem, counts);
  }
  return message(cudaGetLastError());
}

}  // namespace wsolkern
