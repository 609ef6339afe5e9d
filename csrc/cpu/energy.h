// The energy pointing game: how much of a score map's sum lies on the object (Wang et al., arXiv 1910.01279).
//
// A score counts as int(score * 2^36), so that sums are integers, the same in any order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/stop.h"

namespace wsolkern {

struct Energy {
  int64_t object = 0;
  int64_t all = 0;
};

// The sums over a map's scores clip((map - offset) / divisor, 0, 1). parts: of each pixel 0 where it does not count, 1
// beside the object, 2 on it.
inline Energy energy_of(const double* map, const uint8_t* parts, size_t n, double offset, double divisor) {
  poll(kStepsPerClock);
  Energy sums;
  for (size_t i = 0; i < n; ++i) {
    const double score = std::min(std::max((map[i] - offset) / divisor, 0.0), 1.0);
    const int64_t whole = int64_t(score * 0x1p36);
    sums.object += parts[i] == 2 ? whole : 0;
    sums.all += parts[i] != 0 ? whole : 0;
  }
  return sums;
}

}  // namespace wsolkern
