// A Triton kernel, as Python calls it. In: which of the library's, its parameters, its grid, the memory of its tensors.
// Out: what was wrong.
struct Memory {
  char* begin;
  char* end;
  u8* written;  // of each byte, or null: all of it was before
};

EXPORTED const char* run(const void* parameters, u32 blocks_x, u32 blocks_y, size_t shared_bytes, const Memory* memory,
                         int count, int which) {
  settings.may_write_the_same = true;
  std::vector<Region> regions;
  for (int i = 0; i < count; ++i) regions.push_back({memory[i].begin, memory[i].end, memory[i].written});
  return simulate(kernels[which], parameters, blocks_x, blocks_y, shared_bytes, regions);
}
