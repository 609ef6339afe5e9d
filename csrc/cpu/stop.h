// Whether the call that a thread works for is to stop, asked for in the midst of the work.
//
// In: what the thread that called hears of signals. Out: the exception Stopped, in all threads of that call. Steps that
// can take long poll; so often that a call stops within 100 ms, and so seldom that it costs nothing: without a
// clock most times, and with the question itself, for which the GIL is taken, every kPatience only.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

namespace wsolkern {

struct Stopped {};

class StopSign {
 public:
  static constexpr std::chrono::milliseconds kPatience{50};

  // asks: whether the call is to stop; called by the thread that called alone. Once it says so it is not asked again.
  explicit StopSign(std::function<bool()> asks) : asks_(std::move(asks)), asked_(Clock::now()) {}

  bool is_up() const { return up_.load(std::memory_order_relaxed); }
  bool ask() {
    if (!is_up()) up_ = asks_();
    asked_ = Clock::now();
    return is_up();
  }
  bool is_due() const { return Clock::now() - asked_ >= kPatience; }

 private:
  using Clock = std::chrono::steady_clock;
  std::function<bool()> asks_;
  Clock::time_point asked_;
  std::atomic<bool> up_ = false;
};

// The sign that this thread looks at; null outside of calls.
struct Looking {
  StopSign* sign = nullptr;
  bool may_ask = false;
  unsigned steps = 0;
};
constinit inline thread_local Looking looking;

// Makes a thread look at a sign, until the end of the block. A signal's handler may call again: then the former
// sign comes back.
class LookAt {
 public:
  LookAt(StopSign& sign, bool may_ask) : before_(looking) { looking = {&sign, may_ask}; }
  ~LookAt() { looking = before_; }
  LookAt(const LookAt&) = delete;
  LookAt& operator=(const LookAt&) = delete;

 private:
  Looking before_;
};

constexpr unsigned kStepsPerClock = 64;

// `steps`: how much was done since the last time; kStepsPerClock takes about a millisecond at most.
[[gnu::noinline]] inline void poll(unsigned steps = 1) {
  Looking& mine = looking;
  if (!mine.sign) return;
  if (mine.sign->is_up()) throw Stopped{};
  if (!mine.may_ask || (mine.steps += steps) < kStepsPerClock) return;
  mine.steps = 0;
  if (mine.sign->is_due() && mine.sign->ask()) throw Stopped{};
}

}  // namespace wsolkern
