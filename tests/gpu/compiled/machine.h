// A block of a GPU on the host, for PTX that ptx.py turned into C++: every thread is a fiber, and every access is
// checked.
//
// In: kernels as functions of one thread, their parameters, the regions of memory they may touch. Out: a text that says
// what was wrong, empty if nothing was. Reported are, to the byte: two threads that access the same byte with no
// barrier between them, one of them writing, unless both do it by atomic operations (two blocks: unless these are not
// limited to a block); bytes read that nobody wrote; addresses outside of every region or not a multiple of the
// access's size; barriers and warp instructions that some of their threads do not come to; kernels that do not end.
// Source: PTX ISA 9.0, chapters "Memory Consistency Model" and "Parallel Synchronization and Communication
// Instructions".
//
// An access that is reported as outside is not carried out, so that a broken kernel does not break the process that
// watches it. Threads run in an order drawn anew at every barrier, and give way at some atomic operations.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef WSOLKERN_COUNTS  // then launches are counted instead of checked
#include "counting.h"
constexpr bool kCounts = true;
#else
constexpr bool kCounts = false;
#endif

#ifndef __x86_64__
#error "fibers are switched in the machine code of x86-64"
#endif

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;

// What PTX computes and C++ leaves open

template <class To, class From>
To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
template <class F>
F ptx_min(F x, F y) {
  return x != x ? y : y != y ? x : x < y ? x : y < x ? y : std::signbit(x) ? x : y;
}
template <class F>
F ptx_max(F x, F y) {
  return x != x ? y : y != y ? x : x > y ? x : y > x ? y : std::signbit(x) ? y : x;
}
template <class T, class F>
T truncated(F x) {
  using Limits = std::numeric_limits<T>;
  if (x != x) return 0;
  if (x <= F(Limits::min())) return Limits::min();
  return x >= F(Limits::max()) ? Limits::max() : T(x);
}
template <class T>
T shifted_left(T x, u32 by) {
  return by >= sizeof(T) * 8 ? T(0) : T(x << by);
}
template <class T>
T shifted_right(T x, u32 by) {  // of signed numbers arithmetic
  constexpr u32 kBits = sizeof(T) * 8;
  if (by < kBits) return T(x >> by);
  return std::is_signed_v<T> ? T(x >> (kBits - 1)) : T(0);
}
template <class T>
T high_product(T x, T y) {
  using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
  return T((Wide(x) * Wide(y)) >> (sizeof(T) * 8));
}
template <class T>
T quotient(T x, T y) {  // a division by zero has no exception on a device
  return y == 0 ? T(-1) : T(x / y);
}
template <class T>
T remainder_of(T x, T y) {
  return y == 0 ? x : T(x % y);
}
template <class T>
T inserted_bits(T field, T into, u32 at, u32 count) {
  for (u32 i = 0; i < (count & 255) && (at & 255) + i < sizeof(T) * 8; ++i) {
    const T bit = T(1) << ((at & 255) + i);
    into = T((into & ~bit) | ((field >> i & 1) ? bit : 0));
  }
  return into;
}
template <class T>
T extracted_bits(T x, u32 at, u32 count) {
  using U = std::make_unsigned_t<T>;
  constexpr u32 kBits = sizeof(T) * 8;
  at &= 255, count &= 255;
  if (count == 0) return 0;
  const bool sign = std::is_signed_v<T> && (U(x) >> std::min(at + count - 1, kBits - 1) & 1);
  U found = 0;
  for (u32 i = 0; i < kBits; ++i) found |= U(i < count && at + i < kBits ? U(x) >> (at + i) & 1 : sign) << i;
  return T(found);
}
inline u32 permuted_bytes(u32 low, u32 high, u32 selectors) {
  const u64 both = u64(high) << 32 | low;
  u32 found = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 selector = selectors >> (4 * i) & 15;
    u32 byte = u32(both >> (8 * (selector & 7))) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    found |= byte << (8 * i);
  }
  return found;
}
inline u32 by_truth_table(u32 a, u32 b, u32 c, u32 table) {
  u32 found = 0;
  for (int i = 0; i < 8; ++i)
    if (table >> i & 1) found |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return found;
}
inline u32 reversed_bits(u32 x) {
  u32 found = 0;
  for (int i = 0; i < 32; ++i) found |= (x >> i & 1) << (31 - i);
  return found;
}
template <class T>
u32 leading_zeros(T x) {
  return x ? u32(__builtin_clzll(x)) - (64 - u32(sizeof(T)) * 8) : u32(sizeof(T)) * 8;
}

// Memory

// Per byte and kind of access, the last one: epoch 22 bits, thread 10, several threads 1, several warps 1, warp's epoch
// 14, instruction 16. An epoch is what lies between two barriers of a block; it never comes again in a launch.
struct Cell {
  u64 last[4];
  // While a barrier is deleted: atomic operations on either side of it. Epoch 32 bits, several threads 1, one of them
  // writes 1, instruction 16, thread 10.
  u64 sides[2];
};
// Bits: writes 1, atomic 2, reads 4. The lower two tell kinds of accesses in a cell.
enum Kind : u32 { kWrite = 1, kAtomicWrite = 3, kRead = 4, kAtomicRead = 6, kAtomicUpdate = 7 };

struct Region {
  char* begin;
  char* end;
  u8* written;         // of each byte whether something was written there; null: all of it was before the launch
  int32_t block = -1;  // the only block that may come here; -1: all may
  u32 is_constant = 0;
  Cell* cells = nullptr;
};

struct Site {
  const char* text;
  bool is_device_wide;  // an atomic operation that other blocks see as one
  const char* kernel;
  bool is_waited_for;  // something comes of it that is used
};

struct Thread;
struct Kernel {
  const char* name;
  void (*run)(Thread&);
  u32 num_parameter_bytes;
  u32 num_threads;
};
extern const Kernel kernels[];
extern const int num_kernels;
extern const Site sites[];
extern const int num_sites;

struct Settings {
  u64 seed = 1;
  u64 most_accesses = 4'000'000'000;  // of one launch
  u64 most_complaints = 1000;
  u32 turns = 16;  // about so many atomic operations, and another thread has its turn
  int32_t deleted_barrier = -1;
  // In shared memory several threads may write the same value by the same instruction: Triton's reductions do.
  bool may_write_the_same = false;
};

extern "C" void switch_fiber(void** from, void* to);

// Instructions of which one is before and one behind the deleted barrier: atomic operations of two threads on the same
// byte. That is no race; what comes of their order only a result can tell.
inline std::set<std::pair<u32, u32>> met_across;

struct Block;
struct Meeting {  // of lanes of a warp that name each other in a mask
  u32 mask;
  u32 site;
  u32 arrived = 0;
  u32 generation = 0;
  u32 values[2][32] = {};
};
struct Warp {
  std::deque<Meeting> meetings;
  u32 epoch = 0;
};

enum class State { kReady, kAtBarrier, kAtMeeting, kDone };
enum class Shuffle { bfly, up, down, idx };

struct Thread {
  u32 rank, size, block_x, block_y, blocks_x, blocks_y;
  char* shared;
  const char* parameters;
  Block* block;
  void* stack_pointer;
  State state;
  u32 site;
  Meeting* meeting;
  u32 generation;
  u32 passed = 0;  // how often it came through the deleted barrier

  // Where an access of `size` bytes takes place; a place of no consequence if it may not.
  // `value`: what a write will put there. `unread`: a bit a byte that a vector comes with and nobody looks at.
  char* access(Kind kind, u64 address, u32 size, u32 site, const void* value = nullptr, u32 unread = 0);
  void barrier(u32 site);
  void enter(u32 basic_block);  // where launches are counted
  // The values that the lanes named in the mask bring to the same instruction.
  const u32* meet(u32 mask, u32 value, u32 site, bool orders_memory = false);
  u32 shuffle(Shuffle mode, u32 value, u32 b, u32 c, u32 mask, u32 site, bool& in_range);
  void wait(State because);
};

struct Block {
  Settings settings;
  std::vector<Region> regions;  // the first is shared memory
  std::vector<u64>* reached;    // how often each barrier was, by all threads of a block
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<u64> complaints;  // a bit a kind of complaint, for each site
  std::string report;
  const Kernel* kernel = nullptr;
  void* stack_pointer = nullptr;
  Thread* current = nullptr;
  Region* nearest = nullptr;
  u64 random = 1, num_accesses = 0, num_complaints = 0;
  u32 epoch = 1, begin_of_block = 1;
  u32 block_x = 0, block_y = 0;
  bool is_given_up = false;
  alignas(64) char nowhere[64];

  u32 draw() {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return u32(random >> 33);
  }

  void complain(int kind, const char* what, u32 site, u32 other, long thread, long other_thread, const char* p) {
    ++num_complaints;
    if (complaints.size() <= site) complaints.resize(site + 1);
    if (complaints[site] >> kind & 1 || report.size() > 3000) return;
    complaints[site] |= u64(1) << kind;
    char line[700], where[80] = "";
    for (size_t i = 0; p && i < regions.size(); ++i)
      if (p >= regions[i].begin && p < regions[i].end)
        snprintf(where, sizeof where, ", byte %lld of %s %zu", (long long)(p - regions[i].begin),
                 i ? "region" : "shared memory, region", i);
    snprintf(line, sizeof line, "%s: %s: thread %ld of block %u,%u at `%s`%s", kernel->name, what, thread, block_x,
             block_y, sites[site].text, where);
    report += line;
    if (other_thread >= 0) {
      snprintf(line, sizeof line, ", thread %ld at `%s`", other_thread, sites[other].text);
      report += line;
    }
    report += '\n';
  }

  void give_up() {
    is_given_up = true;
    current->state = State::kDone;
    switch_fiber(&current->stack_pointer, stack_pointer);
  }

  Region* region_of(const char* p, u32 size) {
    if (nearest && p >= nearest->begin && p + size <= nearest->end) return nearest;
    for (Region& region : regions)
      if (p >= region.begin && p + size <= region.end && (region.block < 0 || u32(region.block) == block_x))
        return nearest = &region;
    return nullptr;
  }

  static bool reads(u32 kind) { return kind & 4; }
  static bool writes(u32 kind) { return kind & 1; }
  static bool is_atomic(u32 kind) { return kind & 2; }

  // Whether `now`, an access of this thread, and one that came before are in an order.
  // `is_the_same`: it writes what is there already.
  void check_byte(Cell& cell, u32 kind, const Thread& thread, u32 site, const char* p, bool is_the_same) {
    const u32 warp = thread.rank / 32, warp_epoch = warps[warp].epoch & 16383;
    for (u32 other = 0; other < 4; ++other) {
      const u64 last = cell.last[other];
      if (!last || !(writes(kind) || writes(other))) continue;
      const u32 their_epoch = u32(last >> 42), their_site = u32(last & 65535);
      const long their_thread = long(last >> 32 & 1023);
      if (their_epoch < begin_of_block) {
        const bool both = is_atomic(kind) && is_atomic(other) && sites[site].is_device_wide;
        if (!(both && sites[their_site].is_device_wide))
          complain(0, "race with another block", site, their_site, thread.rank, their_thread, p);
        continue;
      }
      if (their_epoch != epoch || (is_atomic(kind) && is_atomic(other))) continue;
      const bool is_mine = their_thread == long(thread.rank) && !(last >> 31 & 1);
      const bool in_warp = u32(their_thread) / 32 == warp && !(last >> 30 & 1);
      if (is_mine || (in_warp && (last >> 16 & 16383) != warp_epoch)) continue;
      if (is_the_same && other == kWrite && their_site == site) continue;
      complain(1, "race", site, their_site, thread.rank, their_thread, p);
    }
    if (settings.deleted_barrier >= 0 && is_atomic(kind)) note_side(cell, kind, thread, site);
    u64& mine = cell.last[kind & 3];
    const u64 last = mine;
    u64 several = 0;
    if (u32(last >> 42) == epoch) {
      const u32 their_thread = u32(last >> 32 & 1023);
      const bool is_ordered = their_thread / 32 == warp && (last >> 16 & 16383) != warp_epoch;
      if (!is_ordered) several = (last >> 30 & 3) | (their_thread != thread.rank) << 1 | (their_thread / 32 != warp);
    }
    mine = u64(epoch) << 42 | u64(thread.rank) << 32 | several << 30 | u64(warp_epoch) << 16 | (site & 65535);
  }

  void note_side(Cell& cell, u32 kind, const Thread& thread, u32 site) {
    const u64 theirs = cell.sides[~thread.passed & 1];
    u64& mine = cell.sides[thread.passed & 1];
    if (theirs >> 32 == epoch && (theirs >> 31 & 1 || (theirs & 1023) != thread.rank) &&
        (writes(kind) || theirs >> 30 & 1))
      met_across.insert({std::min(site, u32(theirs >> 10 & 65535)), std::max(site, u32(theirs >> 10 & 65535))});
    u64 before = 0;
    if (mine >> 32 == epoch) before = (mine >> 30 & 3) | ((mine & 1023) != thread.rank) << 1;
    mine = u64(epoch) << 32 | (before | writes(kind)) << 30 | u64(site & 65535) << 10 | thread.rank;
  }

  // Blocks run one after the other; each begins with shared memory that nobody wrote.
  void run(u32 x, u32 y, u32 blocks_x, u32 blocks_y, const void* parameters);
};

#ifdef WSOLKERN_COUNTS
inline Counter counter;
inline void Thread::enter(u32 basic_block) { counter.enter(rank, basic_block); }
#endif

inline char* Thread::access(Kind kind, u64 address, u32 size, u32 site, const void* value, u32 unread) {
  Block& b = *block;
  char* const p = reinterpret_cast<char*>(address);
#ifdef WSOLKERN_COUNTS
  const bool is_shared = p >= b.regions[0].begin && p < b.regions[0].end;
  counter.access(rank, site, is_shared ? address - u64(shared) : address, size, is_shared, Block::writes(kind),
                 kind == kAtomicUpdate, sites[site].is_waited_for);
  return p;
#endif
  if (b.num_complaints >= b.settings.most_complaints) b.give_up();
  if (++b.num_accesses > b.settings.most_accesses) {
    b.complain(2, "does not end", site, 0, rank, -1, nullptr);
    b.give_up();
  }
  if (address % size) b.complain(3, "not aligned", site, 0, rank, -1, p);
  Region* const region = b.region_of(p, size);
  const bool writes = Block::writes(kind);
  if (!region || (writes && region->is_constant)) {
    b.complain(4, region ? "writes what is constant" : "outside of its memory", site, 0, rank, -1, p);
    memset(b.nowhere, 0x5a, sizeof b.nowhere);
    return b.nowhere;
  }
  const size_t offset = size_t(p - region->begin);
  if (!region->is_constant) {
    for (u32 i = 0; i < size; ++i) {
      if (unread >> i & 1) continue;
      if (Block::reads(kind) && region->written && !region->written[offset + i])
        b.complain(5, "reads what nobody wrote", site, 0, rank, -1, p + i);
      const bool is_the_same = b.settings.may_write_the_same && value && static_cast<const char*>(value)[i] == p[i];
      b.check_byte(region->cells[offset + i], kind, *this, site, p + i, is_the_same && region == &b.regions[0]);
      if (writes && region->written) region->written[offset + i] = 1;
    }
  }
  if (Block::is_atomic(kind) && b.settings.turns && b.draw() % b.settings.turns == 0) wait(State::kReady);
  return p;
}

inline void Thread::wait(State because) {
  state = because;
  switch_fiber(&stack_pointer, block->stack_pointer);
}

inline void Thread::barrier(u32 barrier_site) {
  if (int32_t(barrier_site) == block->settings.deleted_barrier) {
    ++passed;
    return;
  }
  site = barrier_site;
  wait(State::kAtBarrier);
}

inline const u32* Thread::meet(u32 mask, u32 value, u32 where, bool orders_memory) {
  Warp& warp = block->warps[rank / 32];
  const u32 lane = rank % 32;
  const u32 there = size - rank / 32 * 32 >= 32 ? ~0u : (1u << (size - rank / 32 * 32)) - 1;
  mask &= there;
  if (!(mask >> lane & 1)) {
    block->complain(6, "is not in the mask that it names", where, 0, rank, -1, nullptr);
    mask |= 1u << lane;
  }
  Meeting* found = nullptr;
  for (Meeting& each : warp.meetings)
    if (each.mask == mask) found = &each;
  if (!found) found = &warp.meetings.emplace_back(Meeting{mask, where});
  if (!found->arrived) found->site = where;
  if (found->site != where) block->complain(7, "meets lanes elsewhere", where, found->site, rank, 0, nullptr);
  u32* const values = found->values[found->generation & 1];
  values[lane] = value;
  found->arrived |= 1u << lane;
#ifdef WSOLKERN_COUNTS
  if (mask == there) counter.close_lane(rank);
  if (mask == there && found->arrived == mask) counter.close_warp(rank / 32);
#endif
  if (found->arrived == mask) {
    found->arrived = 0;
    ++found->generation;
    if (orders_memory && mask == there) ++warp.epoch;
  } else {
    meeting = found;
    generation = found->generation;
    site = where;
    wait(State::kAtMeeting);
  }
  return values;
}

inline u32 Thread::shuffle(Shuffle mode, u32 value, u32 b, u32 c, u32 mask, u32 where, bool& in_range) {
  const u32 lane = rank % 32, segment = c >> 8 & 31, clamp = c & 31;
  const u32* const values = meet(mask, value, where);
  const u32 low = lane & segment, most = low | (clamp & ~segment);
  u32 from = lane;
  b &= 31;
  switch (mode) {
    case Shuffle::up:
      from = lane - b;
      in_range = int32_t(from) >= int32_t(most);
      break;
    case Shuffle::down:
      from = lane + b;
      in_range = from <= most;
      break;
    case Shuffle::bfly:
      from = lane ^ b;
      in_range = from <= most;
      break;
    case Shuffle::idx:
      from = low | (b & ~segment);
      in_range = from <= most;
      break;
  }
  if (!in_range) from = lane;
  if (!(mask >> from & 1)) block->complain(8, "reads a lane outside of its mask", where, 0, rank, -1, nullptr);
  return values[from & 31];
}

// Fibers

asm(R"(
.text
.weak switch_fiber
.hidden switch_fiber
.type switch_fiber,@function
switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size switch_fiber, .-switch_fiber
)");

inline thread_local Block* block_that_runs;

inline void begin_fiber() {
  Thread& thread = *block_that_runs->current;
  thread.block->kernel->run(thread);
  thread.wait(State::kDone);
  abort();  // a fiber that is done has no more turns
}

inline void Block::run(u32 x, u32 y, u32 blocks_x, u32 blocks_y, const void* parameters) {
  constexpr size_t kStack = 256 << 10;
  static thread_local std::vector<char*> stacks;
  const u32 size = kernel->num_threads;
  while (stacks.size() < size)
    stacks.push_back(static_cast<char*>(
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)));
  block_that_runs = this;
  block_x = x, block_y = y;
  begin_of_block = ++epoch;
  nearest = nullptr;
  Region& shared = regions[0];
  memset(shared.begin, 0x5a, shared.end - shared.begin);
  memset(shared.written, 0, shared.end - shared.begin);
#ifdef WSOLKERN_COUNTS
  counter.begin_block(size, size_t(num_sites), size_t(shared.end - shared.begin));
#else
  memset(static_cast<void*>(shared.cells), 0, (shared.end - shared.begin) * sizeof(Cell));  // each block has its own
#endif
  threads.assign(size, Thread{});
  warps.assign((size + 31) / 32, Warp{});
  std::vector<u32> turn(size);
  for (u32 i = 0; i < size; ++i) {
    u64* top = reinterpret_cast<u64*>(stacks[i] + kStack - 64);
    *--top = 0;  // so that the stack lies as after a call
    *--top = reinterpret_cast<u64>(&begin_fiber);
    for (int saved = 0; saved < 6; ++saved) *--top = 0;
    threads[i] = {
        i,   size,          x, y,       blocks_x, blocks_y, shared.begin, static_cast<const char*>(parameters), this,
        top, State::kReady, 0, nullptr, 0};
    turn[i] = i;
  }
  while (!is_given_up) {
    for (u32 i = size - 1; i > 0 && !kCounts; --i) std::swap(turn[i], turn[draw() % (i + 1)]);
    for (bool goes_on = true; goes_on && !is_given_up;) {
      goes_on = false;
      for (const u32 i : turn) {
        Thread& thread = threads[i];
        if (thread.state == State::kAtMeeting && thread.meeting->generation != thread.generation)
          thread.state = State::kReady;
        if (thread.state != State::kReady) continue;
        current = &thread;
        switch_fiber(&stack_pointer, thread.stack_pointer);
        goes_on = true;
        if (is_given_up) break;
      }
    }
    if (is_given_up) break;
    const Thread* some = nullptr;
    const Thread* another = nullptr;  // that is elsewhere
    bool is_all_done = true;
    for (const Thread& thread : threads) {
      if (thread.state != State::kDone) is_all_done = false;
      if (!some || (some->state == State::kDone && thread.state != State::kDone)) some = &thread;
    }
#ifdef WSOLKERN_COUNTS
    counter.close_phase(some->site);
#endif
    if (is_all_done) break;
    for (const Thread& thread : threads)
      if (thread.state != some->state || thread.site != some->site) another = &thread;
    if (some->state == State::kAtMeeting) {
      complain(9, "waits for lanes that do not come", some->site, 0, some->rank, -1, nullptr);
      is_given_up = true;
      break;
    }
    if (another) {
      complain(10, "divergent barrier", some->site, another->site, some->rank, another->rank, nullptr);
      is_given_up = true;
      break;
    }
    ++(*reached)[some->site];
    for (Thread& thread : threads) thread.state = State::kReady;
    if (++epoch >> 22) {
      complain(2, "does not end", some->site, 0, some->rank, -1, nullptr);
      is_given_up = true;
    }
  }
}

// Runs a kernel's blocks, and says what was wrong; regions begin with the one after shared memory.
inline std::string simulate(const Kernel& kernel, const void* parameters, u32 blocks_x, u32 blocks_y,
                            size_t shared_bytes, const std::vector<Region>& regions, const Settings& settings, u64 turn,
                            std::vector<u64>& reached) {
  std::vector<std::pair<void*, size_t>> mapped;
  const auto zeros = [&](size_t bytes) {
    bytes = std::max<size_t>(bytes, 1);
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) abort();
    mapped.emplace_back(at, bytes);
    return at;
  };
  Block block;
  block.settings = settings;
  block.reached = &reached;
  block.random = settings.seed * 1000003 + turn;
  block.kernel = &kernel;
  char* const shared = static_cast<char*>(zeros(shared_bytes));
  block.regions = {{shared, shared + shared_bytes, static_cast<u8*>(zeros(shared_bytes))}};
  block.regions.insert(block.regions.end(), regions.begin(), regions.end());
#ifdef WSOLKERN_COUNTS
  counter.begin_launch();
  for (const Region& region : regions) counter.add_memory(region.begin, region.end);
#endif
  for (Region& region : block.regions)
    if (!region.is_constant && !kCounts)
      region.cells = static_cast<Cell*>(zeros((region.end - region.begin) * sizeof(Cell)));
  char* const own = const_cast<char*>(static_cast<const char*>(parameters));
  block.regions.push_back({own, own + kernel.num_parameter_bytes, nullptr, -1, 1});
  for (u32 y = 0; y < blocks_y && !block.is_given_up; ++y)
    for (u32 x = 0; x < blocks_x && !block.is_given_up; ++x) block.run(x, y, blocks_x, blocks_y, parameters);
  for (const auto& [at, bytes] : mapped) munmap(at, bytes);
#ifdef WSOLKERN_COUNTS
  counter.end_launch();
#endif
  return block.report;
}

// What Python sets and reads; this header belongs into one file of a library.

#define EXPORTED extern "C" __attribute__((visibility("default")))

inline Settings settings;
inline std::vector<u64> barriers_reached;
inline std::string last_report;

inline const char* simulate(const Kernel& kernel, const void* parameters, u32 blocks_x, u32 blocks_y,
                            size_t shared_bytes, const std::vector<Region>& regions) {
  static u64 num_launches = 0;
  barriers_reached.resize(num_sites);
  last_report = simulate(kernel, parameters, blocks_x, blocks_y, shared_bytes, regions, settings, ++num_launches,
                         barriers_reached);
  return last_report.c_str();
}

EXPORTED void configure(u64 seed, u32 turns, int32_t deleted_barrier, u64 most_accesses, u64 most_complaints) {
  if (deleted_barrier != settings.deleted_barrier) met_across.clear();
  settings = {seed, most_accesses, most_complaints, turns, deleted_barrier, settings.may_write_the_same};
}
EXPORTED int count_sites() { return num_sites; }
EXPORTED const char* site_text(int site) { return sites[site].text; }
EXPORTED const char* site_kernel(int site) { return sites[site].kernel; }
EXPORTED u64 times_reached(int site) { return size_t(site) < barriers_reached.size() ? barriers_reached[site] : 0; }
EXPORTED const char* met() {  // a line a pair
  last_report.clear();
  for (const auto& [one, other] : met_across)
    last_report += std::string(sites[one].text) + ", " + sites[other].text + '\n';
  return last_report.c_str();
}
#ifdef WSOLKERN_COUNTS
EXPORTED const char* take_counts() {
  last_report = counter.take(sites);
  return last_report.c_str();
}
#endif
