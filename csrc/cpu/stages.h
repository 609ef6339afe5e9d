// Where the time of a map goes: a clock per thread that is read at the border of two stages, while a profile is taken.
//
// In: the ends of stages, as evaluate.h and module.cpp pass them. Out: nanoseconds, bytes and maps a stage, summed over
// threads, and when each thread was in which stage. Without a profile the end of a stage is one predictable branch.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace wsolkern {

enum Stage { kResizing, kStatistics, kDigitizing, kTree, kGathering, kReducing, kNumStages };
constexpr std::array<const char*, kNumStages> kStageNames = {"resize", "statistics", "digitize",
                                                             "tree",   "gather",     "reduce"};

struct StageTotal {
  int64_t nanoseconds = 0;
  int64_t bytes = 0;  // read and written, where each is counted once; they may be in a cache
  int64_t maps = 0;

  StageTotal& operator+=(const StageTotal& other) {
    nanoseconds += other.nanoseconds;
    bytes += other.bytes;
    maps += other.maps;
    return *this;
  }
};

// One thread was in one stage; nanoseconds since the profile began. Threads that work at once have different lanes.
struct StageSpan {
  int64_t stage, lane, begin, end;
};

inline int64_t nanoseconds_now() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

// What all threads' clocks add up to.
class StageProfile {
 public:
  static constexpr size_t kMostSpans = 200'000;

  // As of stop().
  std::array<StageTotal, kNumStages> totals{};
  std::vector<StageSpan> spans;  // the first kMostSpans
  int64_t num_spans = 0;         // all of them
  size_t num_threads = 0;        // most that were at work at once

  void start(bool with_spans) {
    const std::lock_guard lock(mutex_);
    totals = {};
    spans.clear();
    num_spans = 0;
    num_threads = 0;
    with_spans_ = with_spans;
    began_ = nanoseconds_now();
    on_ = true;
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    on_ = false;
  }
  bool on() const { return on_.load(std::memory_order_relaxed); }
  // While a process is forked; see WorkspacePool.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  friend class StageClock;
  std::atomic<bool> on_ = false;
  std::mutex mutex_;
  bool with_spans_ = false;
  int64_t began_ = 0;
  std::vector<bool> lanes_;  // which are taken
};

inline StageProfile& stage_profile() {
  static StageProfile& the_profile = *new StageProfile;  // threads may be at work when the process ends
  return the_profile;
}

// The time that this thread has spent in stages, so that a caller can leave it out of a time of its own.
inline int64_t& stage_nanoseconds() {
  thread_local int64_t nanoseconds = 0;
  return nanoseconds;
}

// A thread's clock. The time between two ends of stages belongs to the second one.
class StageClock {
 public:
  void start() {
    StageProfile& profile = stage_profile();
    if (!profile.on()) return;
    const std::lock_guard lock(profile.mutex_);
    if (!(on_ = profile.on())) return;
    with_spans_ = profile.with_spans_;
    began_ = profile.began_;
    std::vector<bool>& lanes = profile.lanes_;
    lane_ = std::find(lanes.begin(), lanes.end(), false) - lanes.begin();
    if (lane_ == lanes.size()) lanes.push_back(false);
    lanes[lane_] = true;
    profile.num_threads = std::max(profile.num_threads, lane_ + 1);
    spent_ = {};
    spans_.clear();
    last_ = nanoseconds_now();
  }

  void end_of(Stage stage, size_t bytes, size_t maps = 1) {
    if (on_) [[unlikely]]
      add(stage, bytes, maps);
  }

  void stop() {
    if (!std::exchange(on_, false)) return;
    for (const StageTotal& each : spent_) stage_nanoseconds() += each.nanoseconds;
    StageProfile& profile = stage_profile();
    const std::lock_guard lock(profile.mutex_);
    profile.lanes_[lane_] = false;
    if (!profile.on() || profile.began_ != began_) return;  // that profile is over
    for (int s = 0; s < kNumStages; ++s) profile.totals[s] += spent_[s];
    profile.num_spans += spans_.size();
    const size_t room = std::min(spans_.size(), StageProfile::kMostSpans - profile.spans.size());
    profile.spans.insert(profile.spans.end(), spans_.begin(), spans_.begin() + room);
  }

 private:
  bool on_ = false, with_spans_ = false;
  int64_t last_ = 0, began_ = 0;
  size_t lane_ = 0;
  std::array<StageTotal, kNumStages> spent_;
  std::vector<StageSpan> spans_;

  // Not inlined, so that the code of the stages stays as compact as without a clock.
  [[gnu::cold, gnu::noinline]] void add(Stage stage, size_t bytes, size_t maps) {
    const int64_t now = nanoseconds_now();
    spent_[stage] += {now - last_, int64_t(bytes), int64_t(maps)};
    if (with_spans_) spans_.push_back({stage, int64_t(lane_), last_ - began_, now - began_});
    last_ = now;
  }
};

}  // namespace wsolkern
