// What a launch costs, counted while its blocks run: issue slots, barriers, wavefronts of shared memory, sectors.
//
// In: the basic blocks that each thread of a block comes to, its accesses, where it waits for others. Out: a text of
// lines "kind number ...", which counting.py reads. Nothing is checked here: machine.h does that where nothing counts.
// Source: NVIDIA, CUDA C++ Programming Guide 13.0, "Compute Capabilities": 32 banks of 4 bytes, sectors of 32 bytes.
//
// The lanes of a warp run one after the other and are put together afterwards. Between two places at which all of them
// meet (a barrier of the block, or a warp instruction that names all lanes), the warp executes a basic block as often
// as the lane that executes it most often, and the k-th time that lanes come to an access is one request of all of
// them. That is exact where lanes that part come together again at once, and a lower bound where they do not: two lanes
// that come to the same branch in different rounds of a loop count as one.
//
// A request to global memory is waited for, or not: a write is not, nor is an atomic update whose result nobody reads.
// It is near if the block has loaded all of its sectors before and they are among the last it did (L1), else far.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_set>
#include <vector>

struct Share {  // of the issue slots of a basic block
  uint32_t block;
  uint32_t slots;              // of what its instructions at this place become in machine code
  uint32_t doubles, integers;  // those of float64, and of the integer units
  const char* place;           // file and line
};
extern const Share shares[];
extern const int num_shares;
extern const char* const kernels_of_blocks[];  // of each basic block
extern const int num_basic_blocks;

class Counter {
 public:
  struct Memory {  // where accesses that are not to shared memory are looked for
    uint64_t begin, end;
    std::vector<uint8_t> seen;  // of each sector: 1 read before anything was written there, 2 written
  };

  void begin_launch() { memory_.clear(); }
  void add_memory(const char* begin, const char* end) {
    const uint64_t first = uint64_t(begin) / kSector, last = (uint64_t(end) + kSector - 1) / kSector;
    memory_.push_back({first, last, std::vector<uint8_t>(last - first)});
  }
  void end_launch() {
    for (const Memory& each : memory_)
      for (const uint8_t seen : each.seen) sectors_read_ += seen & 1, sectors_written_ += seen >> 1;
    ++num_launches_;
  }

  void begin_block(uint32_t num_threads, size_t num_sites, size_t shared_bytes) {
    near_.clear();
    near_in_order_.clear();
    most_near_ = (shared_bytes < kMuchShared ? kNear : kNearBesideMuch) / kSector;
    lanes_.assign(num_threads, Lane());
    warps_.resize((num_threads + 31) / 32);
    for (Warp& warp : warps_) {
      warp.most.assign(size_t(num_basic_blocks), 0);
      warp.requests.resize(num_sites);
    }
    executions_.resize(size_t(num_basic_blocks));
    lane_executions_.resize(size_t(num_basic_blocks));
    slots_.assign(size_t(num_basic_blocks), 0);
    for (int i = 0; i < num_shares; ++i) slots_[shares[i].block] += shares[i].slots;
    times_.resize(std::max(size_t(num_basic_blocks), num_sites));
    accesses_.resize(num_sites);
    phases_.resize(num_sites);
    ++num_blocks_;
  }
  void enter(uint32_t thread, uint32_t block) { lanes_[thread].entered.push_back(block); }
  void access(uint32_t thread, uint32_t site, uint64_t address, uint32_t size, bool is_shared, bool writes,
              bool is_update, bool is_waited_for) {
    lanes_[thread].accessed.push_back({address, site, uint8_t(size), is_shared, writes, is_update, is_waited_for});
  }

  // A lane has come to where the others of its warp will.
  void close_lane(uint32_t thread) {
    Lane& lane = lanes_[thread];
    Warp& warp = warps_[thread / 32];
    for (const uint32_t block : lane.entered) ++times_[block];
    for (const uint32_t block : lane.entered) {
      if (!times_[block]) continue;
      lane_executions_[block] += times_[block];
      if (!warp.most[block]) warp.entered.push_back(block);
      warp.most[block] = std::max(warp.most[block], times_[block]);
      times_[block] = 0;
    }
    for (const Access& each : lane.accessed) {
      std::vector<Request>& requests = warp.requests[each.site];
      const uint32_t time = times_[each.site]++;
      if (requests.empty()) warp.accessed.push_back(each.site);
      if (requests.size() <= time) requests.push_back({each});
      requests[time].addresses[requests[time].count++] = each.address;
    }
    for (const Access& each : lane.accessed) times_[each.site] = 0;
    lane.entered.clear();
    lane.accessed.clear();
  }
  // All lanes have.
  void close_warp(uint32_t which) {
    Warp& warp = warps_[which];
    for (const uint32_t block : warp.entered) {
      warp.slots += uint64_t(warp.most[block]) * slots_[block];
      executions_[block] += warp.most[block];
      warp.most[block] = 0;
    }
    warp.entered.clear();
    for (const uint32_t site : warp.accessed) {
      for (const Request& request : warp.requests[site]) add(warp, site, request);
      warp.requests[site].clear();
    }
    warp.accessed.clear();
  }
  // The block's threads have all come to a barrier, or to their end: 0.
  void close_phase(uint32_t site) {
    for (uint32_t thread = 0; thread < lanes_.size(); ++thread) close_lane(thread);
    Phase& phase = phases_[site];
    uint64_t of_scheduler[4] = {}, longest[kPaths] = {};
    for (uint32_t which = 0; which < warps_.size(); ++which) {
      close_warp(which);
      Warp& warp = warps_[which];
      of_scheduler[which % 4] += warp.slots;
      phase.slots += warp.slots;
      const uint64_t path[kPaths] = {warp.slots, warp.num_shared, warp.num_near, warp.num_far};
      for (int i = 0; i < kPaths; ++i) longest[i] = std::max(longest[i], path[i]);
      warp.slots = warp.num_shared = warp.num_near = warp.num_far = 0;
    }
    ++phase.times;
    phase.cycles += *std::max_element(of_scheduler, of_scheduler + 4);
    for (int i = 0; i < kPaths; ++i) phase.longest[i] += longest[i];
  }

  // The lines; then counting begins anew.
  template <class Site>
  std::string take(const Site* sites) {
    std::string text;
    const auto line = [&](const std::string& kind, std::initializer_list<uint64_t> numbers, const std::string& where) {
      text += kind;
      for (const uint64_t each : numbers) text += " " + std::to_string(each);
      text += "\t" + where + "\n";
    };
    line("launches", {num_launches_, num_blocks_, sectors_read_, sectors_written_}, "");
    for (size_t i = 0; i < phases_.size(); ++i)
      if (const Phase& each = phases_[i]; each.times)
        line("phase",
             {i, each.times, each.cycles, each.slots, each.longest[0], each.longest[1], each.longest[2],
              each.longest[3]},
             std::string(sites[i].kernel) + "\t" + sites[i].text);
    for (size_t i = 0; i < executions_.size(); ++i)
      if (executions_[i]) line("block", {i, executions_[i], lane_executions_[i]}, kernels_of_blocks[i]);
    for (int i = 0; i < num_shares; ++i)
      if (const Share& each = shares[i]; executions_.size() > each.block && executions_[each.block])
        line("share", {each.block, each.slots, each.doubles, each.integers}, each.place);
    for (size_t i = 0; i < accesses_.size(); ++i)
      if (const Accesses& each = accesses_[i]; each.requests)
        line("access", {i, each.requests, each.wavefronts, each.sectors},
             std::string(sites[i].kernel) + "\t" + sites[i].text);
    *this = Counter();
    return text;
  }

 private:
  static constexpr uint64_t kSector = 32;
  static constexpr int kPaths = 4;
  // Of a block: four of them have the 192 KB of an A100 to themselves, and two that leave little of it to L1, little.
  static constexpr size_t kNear = 48 << 10, kNearBesideMuch = 12 << 10, kMuchShared = 48 << 10;
  struct Access {
    uint64_t address;
    uint32_t site;
    uint8_t size;
    bool is_shared, writes, is_update, is_waited_for;
  };
  struct Request {
    Access first;
    uint32_t count = 0;
    uint64_t addresses[32];
  };
  struct Lane {
    std::vector<uint32_t> entered;
    std::vector<Access> accessed;
  };
  struct Warp {
    std::vector<uint32_t> most;                  // of each basic block, the executions of the lane with most of them
    std::vector<std::vector<Request>> requests;  // of each site, one after the other
    std::vector<uint32_t> entered, accessed;
    uint64_t slots = 0, num_shared = 0, num_near = 0, num_far = 0;  // of the phase
  };
  struct Phase {
    uint64_t times = 0, cycles = 0, slots = 0, longest[kPaths] = {};
  };
  struct Accesses {
    uint64_t requests = 0, wavefronts = 0, sectors = 0;
  };

  void add(Warp& warp, uint32_t site, const Request& request) {
    Accesses& all = accesses_[site];
    ++all.requests;
    const Access& about = request.first;
    const uint64_t unit = about.is_shared ? 4 : kSector;
    uint64_t units[32 * 5];
    int count = 0;
    for (uint32_t i = 0; i < request.count; ++i)
      for (uint64_t each = request.addresses[i] / unit; each <= (request.addresses[i] + about.size - 1) / unit; ++each)
        units[count++] = each;
    std::sort(units, units + count);
    if (!about.is_update || !about.is_shared) count = int(std::unique(units, units + count) - units);
    if (about.is_shared) {  // a bank serves one word a wavefront, and one update of it
      uint32_t of_bank[32] = {};
      for (int i = 0; i < count; ++i) ++of_bank[units[i] % 32];
      all.wavefronts += *std::max_element(of_bank, of_bank + 32);
      ++warp.num_shared;
      return;
    }
    all.sectors += uint64_t(count);
    bool is_near = true;
    for (int i = 0; i < count; ++i) {
      if (about.is_update)
        near_.erase(units[i]);
      else if (!about.writes && near_.insert(units[i]).second)
        near_in_order_.push_back(units[i]), is_near = false;
    }
    for (; near_in_order_.size() > most_near_; near_in_order_.pop_front()) near_.erase(near_in_order_.front());
    if (about.is_waited_for) ++(is_near && !about.is_update ? warp.num_near : warp.num_far);
    for (int i = 0; i < count; ++i)
      for (Memory& each : memory_)
        if (units[i] >= each.begin && units[i] < each.end) {
          uint8_t& seen = each.seen[units[i] - each.begin];
          if (!seen && (!about.writes || about.is_update)) seen |= 1;
          if (about.writes) seen |= 2;
          break;
        }
  }

  std::vector<Lane> lanes_;
  std::vector<Warp> warps_;
  std::vector<Memory> memory_;
  std::unordered_set<uint64_t> near_;  // sectors that L1 has, of those in `near_in_order_`
  std::deque<uint64_t> near_in_order_;
  size_t most_near_ = 0;
  std::vector<uint32_t> times_, slots_;
  std::vector<uint64_t> executions_, lane_executions_;  // of warps, and of their lanes
  std::vector<Phase> phases_;                           // by the barrier that ends them
  std::vector<Accesses> accesses_;
  uint64_t num_launches_ = 0, num_blocks_ = 0, sectors_read_ = 0, sectors_written_ = 0;
};
