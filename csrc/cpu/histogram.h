// Score histograms of object and background pixels (PxAP), for all normalizations of a map at once.
//
// With the bin edges as cut points the digitized map tells for every pixel which edges its score reaches under every
// normalization; so the pixels are counted once, per bin of that image, and each normalization reads off how many reach
// its edges. The counts are those of numpy.histogram over the float64 score map with the edges
// thresholds, 1, 2, 3 (Choe et al., arXiv 2007.04178, section 4.3).
#pragma once

#include "cpu/digitize.h"
#include "cpu/stop.h"

namespace wsolkern {

enum MaskValue : uint8_t { kBackground = 0, kObject = 1 };  // any other value is ignored

class PixelHistogram {
 public:
  // Counts of pixels per bin of the digitized map, made cumulative from the top: reach(kind, r) pixels have bin >= r.
  void count(const int16_t* bins, const uint8_t* mask, size_t n, size_t num_cuts) {
    poll(kStepsPerClock);
    // Counters for background, object and ignored, twice, taken in turn: neighbours often share a bin, and would wait
    // for each other. With the missing branch this saves 0.04 of 0.25 ms a map.
    const size_t stride = num_cuts + 2;
    counts_.assign(2 * 3 * stride, 0);
    const auto counter = [&](size_t i) { return std::min<unsigned>(mask[i], 2) * stride + bins[i]; };
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
      ++counts_[counter(i)];
      ++counts_[3 * stride + counter(i + 1)];
    }
    if (i < n) ++counts_[counter(i)];
    for (const MaskValue kind : {kBackground, kObject}) {
      reaching_[kind].assign(stride, 0);
      for (size_t bin = num_cuts + 1; bin-- > 0;)
        reaching_[kind][bin] =
            reaching_[kind][bin + 1] + counts_[kind * stride + bin] + counts_[(3 + kind) * stride + bin];
    }
  }

  // Adds one normalization's histogram. ranks: of its edges, the thresholds and 1. No score reaches the edges 2 and 3.
  void add(std::span<const int16_t> ranks, int64_t* object, int64_t* background) const {
    for (const auto& [kind, out] : {std::pair{kObject, object}, std::pair{kBackground, background}}) {
      const std::vector<int64_t>& reaching = reaching_[kind];
      for (size_t t = 0; t + 1 < ranks.size(); ++t) out[t] += reaching[ranks[t]] - reaching[ranks[t + 1]];
      out[ranks.size() - 1] += reaching[ranks.back()];
    }
  }

  size_t bytes() const { return (reaching_[0].capacity() + reaching_[1].capacity()) * 8 + counts_.capacity() * 4; }

 private:
  std::vector<uint32_t> counts_;
  std::vector<int64_t> reaching_[2];  // per mask value and bin
};

}  // namespace wsolkern
