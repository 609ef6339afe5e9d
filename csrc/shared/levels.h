// The numbers that every part of the native core agrees on, with each other and with Python (a test compares them).
#pragma once

#include <cstddef>
#include <cstdint>

namespace wsolkern {

constexpr int kScoreLevels = 255;      // foreground tests of a normalization are "8-bit level > t", t = 0 ... 254
constexpr int kMaxSide = 4096;         // pixels of a side of a map
constexpr int kMaxIouThresholds = 32;  // of one call: one bit each
enum WantedContours { kWantLargest = 1, kWantAll = 2, kWantBoth = 3 };  // MaxBoxAcc, MaxBoxAccV2, both

}  // namespace wsolkern
