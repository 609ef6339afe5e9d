// Work on the maps of a batch on several threads. Each thread takes the next map when it is done with one, and has a
// workspace of its own; what they compute is integers per map, so the result does not depend on who took which.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/stop.h"

namespace wsolkern {

// Workspaces outlive the calls, so that small batches do not pay for fresh memory. A pool is never destroyed: threads
// may be at work when the process ends.
template <class Workspace>
class WorkspacePool {
 public:
  std::unique_ptr<Workspace> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Workspace>();
    std::unique_ptr<Workspace> workspace = std::move(idle_.back());
    idle_.pop_back();
    return workspace;
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    const size_t bytes = workspace->bytes();
    const std::lock_guard lock(mutex_);
    most_bytes_ = std::max(most_bytes_, bytes);
    if (bytes <= kKeep) idle_.push_back(std::move(workspace));
  }
  // While a process is forked, so that the child finds the pool unlocked, whatever other threads do.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }
  // The largest workspace since the last call of this.
  size_t most_bytes() {
    const std::lock_guard lock(mutex_);
    return std::exchange(most_bytes_, 0);
  }

 private:
  static constexpr size_t kKeep = size_t(64) << 20;  // larger ones go back to the system
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
  size_t most_bytes_ = 0;
};

// work(workspace, i) for i in [0, n), on at most `threads` threads; finish(workspace) once for each of their
// workspaces, one at a time. After an exception no further map is begun; when all threads have stopped it is thrown
// again here, of several the one of the first map, so that which one it is does not depend on the threads either.
//
// `asks`: whether to stop, for the thread that calls this alone (see stop.h). Then all threads stop in the midst of
// their maps, and Stopped is thrown.
template <class Workspace, class Work, class Finish>
void for_each_map(WorkspacePool<Workspace>& pool, size_t n, int threads, std::function<bool()> asks, Work&& work,
                  Finish&& finish) {
  std::atomic<size_t> next{0};
  std::mutex finishing;
  std::condition_variable finished;
  std::exception_ptr failure;
  size_t failed = SIZE_MAX;
  size_t num_running = 0;  // of the other threads
  StopSign sign(std::move(asks));
  const auto run = [&](bool may_ask) {
    const LookAt looking_at(sign, may_ask);
    std::unique_ptr<Workspace> workspace;
    size_t i = SIZE_MAX - 1;
    bool is_whole = true;  // else the workspace is in the midst of a map
    try {
      workspace = pool.take();
      workspace->begin();
      while ((i = next.fetch_add(1)) < n) {
        poll(kStepsPerClock);
        work(*workspace, i);
      }
      const std::lock_guard lock(finishing);
      finish(*workspace);
    } catch (const Stopped&) {
      next = n;
      is_whole = false;
    } catch (...) {
      next = n;
      is_whole = false;
      const std::lock_guard lock(finishing);
      if (i < failed) failure = std::current_exception(), failed = i;
    }
    if (!workspace) return;
    workspace->end();
    if (is_whole) pool.give_back(std::move(workspace));
  };
  const auto run_beside = [&] {
    run(false);
    const std::lock_guard lock(finishing);
    if (--num_running == 0) finished.notify_one();
  };
  std::vector<std::thread> others;
  try {
    for (size_t t = 1; t < std::min(n, size_t(std::max(threads, 1))); ++t) {
      const std::lock_guard lock(finishing);
      others.emplace_back(run_beside);
      ++num_running;
    }
  } catch (const std::system_error&) {
    // No more threads to be had: the ones there are do all the work.
  }
  run(true);
  std::unique_lock lock(finishing);
  while (num_running > 0) {
    if (finished.wait_for(lock, StopSign::kPatience) == std::cv_status::no_timeout) continue;
    lock.unlock();
    sign.ask();
    lock.lock();
  }
  lock.unlock();
  for (std::thread& other : others) other.join();
  if (sign.is_up()) throw Stopped{};
  if (failure) std::rethrow_exception(failure);
}

}  // namespace wsolkern
