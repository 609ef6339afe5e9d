// The kernels, and how they are launched. All that they do is in evaluate.h and boxes.h.
#include "gpu/launch.h"

namespace wsolkern {

namespace {

// A 12.0 needs a few registers more than the others.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int kBytes = 256, kWords = 512;
#else
constexpr int kBytes = kBytesThreads, kWords = kWordsThreads;
#endif

extern __shared__ __align__(16) char memory[];

__global__ void __launch_bounds__(kBytes, 2) evaluate_bytes_kernel(const __grid_constant__ BatchProblem problem) {
  evaluate_batch<InShared<uint8_t>>(Block(), problem, blockIdx.x, memory);
}

__global__ void __launch_bounds__(kWords, 1) evaluate_words_kernel(const __grid_constant__ BatchProblem problem) {
  evaluate_batch<InShared<int16_t>>(Block(), problem, blockIdx.x, memory);
}

__global__ void __launch_bounds__(kScratchThreads, 1)
    evaluate_left_over_kernel(const __grid_constant__ BatchProblem problem) {
  evaluate_left_over(Block(), problem, blockIdx.x, memory);
}

__global__ void __launch_bounds__(kScratchThreads, 1) list_boxes_kernel(const __grid_constant__ BoxList list) {
  list_boxes(Block(), list, blockIdx.x, memory);
}

__global__ void add_sums_kernel(const __grid_constant__ BatchProblem problem, int64_t* counts) {
  const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < problem.num_sums()) add_sums(problem, counts, i);
}

// Makes a device the current one of this thread, until it goes out of scope.
struct OnDevice {
  cudaError_t error;
  explicit OnDevice(int device) : device_(device) {
    error = cudaGetDevice(&before_);
    if (error == cudaSuccess && before_ != device) error = cudaSetDevice(device);
  }
  ~OnDevice() {
    if (error == cudaSuccess && before_ != device_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  const int device_;
};

// A kernel with as many threads a block as it was compiled for. It is allowed all shared memory that there is rather
// than what this launch takes: another thread may launch it for larger maps in between.
template <class Work>
cudaError_t start(void (*kernel)(Work), const Work& work, int num_blocks, size_t shared_bytes, int device,
                  void* stream) {
  cudaFuncAttributes attributes;
  cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  int limit = 0;
  error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  limit -= int(attributes.sharedSizeBytes);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, limit);
  if (error != cudaSuccess) return error;
  kernel<<<num_blocks, attributes.maxThreadsPerBlock, shared_bytes, static_cast<cudaStream_t>(stream)>>>(work);
  return cudaGetLastError();
}

const char* message(cudaError_t error) { return error == cudaSuccess ? "" : cudaGetErrorString(error); }

}  // namespace

const char* const kWorksOn = "cuda";

const char* describe_device(int index, Device& device) {
  int processors = 0, shared = 0, together = 0;
  cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&together, cudaDevAttrMaxSharedMemoryPerMultiprocessor, index);
  device = {processors, size_t(shared), size_t(together)};
  return message(error);
}

const char* check_device(int index) {
  const OnDevice there(index);
  if (there.error != cudaSuccess) return message(there.error);
  cudaFuncAttributes attributes;
  return message(cudaFuncGetAttributes(&attributes, list_boxes_kernel));
}

const char* launch(const BatchProblem& problem, const Plan& plan, int64_t* counts, int device, void* stream) {
  if (problem.num_maps == 0) return "";
  const OnDevice there(device);
  if (there.error != cudaSuccess) return message(there.error);
  cudaError_t error = cudaSuccess;
  if (plan.in_shared) {
    const BatchProblem first = first_of(problem, plan);
    error = cudaMemsetAsync(first.left_over, 0, sizeof(uint32_t), static_cast<cudaStream_t>(stream));
    if (error == cudaSuccess)
      error = start(problem.is_8_bit() ? evaluate_bytes_kernel : evaluate_words_kernel, first, plan.num_blocks,
                    plan.shared_bytes, device, stream);
  }
  if (error == cudaSuccess)
    error = start(evaluate_left_over_kernel, left_over_of(problem, plan), plan.num_left_over, sizeof(Shared), device,
                  stream);
  if (counts && error == cudaSuccess) {
    BatchProblem summed = problem;
    summed.num_blocks = plan.num_blocks;
    constexpr unsigned kFew = 256;
    const unsigned num_blocks = unsigned((problem.num_sums() + kFew - 1) / kFew);
    add_sums_kernel<<<num_blocks, kFew, 0, static_cast<cudaStream_t>(stream)>>>(summed, counts);
    return message(cudaGetLastError());
  }
  return message(error);
}

const char* launch(const BoxList& list, const Plan& plan, int device, void* stream) {
  if (list.batch.num_maps == 0) return "";
  const OnDevice there(device);
  if (there.error != cudaSuccess) return message(there.error);
  return message(start(list_boxes_kernel, list, plan.num_blocks, sizeof(Shared), device, stream));
}

}  // namespace wsolkern
