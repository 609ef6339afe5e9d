// Stands in for the CUDA runtime: writes down what the host side of csrc/cuda.cu asks of it, and launches nothing.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace {
std::string calls;
thread_local int current = 0;
cudaError_t note(const std::string& call) {
  calls += call + "\n";
  const char* const fails = std::getenv("WSOLKERN_FAILING_CALL");
  return fails && call.rfind(fails, 0) == 0 ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}
}  // namespace

extern "C" {
__attribute__((visibility("default"))) const char* taken_calls() {
  static std::string taken;
  taken = calls;
  calls.clear();
  return taken.c_str();
}

cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  current = device;
  return note("set device " + std::to_string(device));
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : 232448;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  std::memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  return note("look at a kernel on device " + std::to_string(current));
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  return note("allow " + std::to_string(value) + " bytes");
}
cudaError_t cudaLaunchKernel(const void*, dim3 grid, dim3 block, void**, size_t shared, cudaStream_t) {
  return note("launch " + std::to_string(grid.x) + " x " + std::to_string(block.x) + " with " +
              std::to_string(shared) + " bytes on device " + std::to_string(current));
}
cudaError_t cudaMemsetAsync(void*, int, size_t count, cudaStream_t) {
  return note("clear " + std::to_string(count) + " bytes");
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "no kernel image is available for execution on the device"; }

static struct {
  dim3 grid, block;
  size_t shared;
  void* stream;
} configuration;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  configuration = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = configuration.grid, *block = configuration.block, *shared = configuration.shared;
  *static_cast<void**>(stream) = configuration.stream;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(nullptr, grid, block, arguments, shared, stream);
}
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*) { return cudaSuccess; }
void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*) {}
char __cudaInitModule(void**) { return 0; }
}
