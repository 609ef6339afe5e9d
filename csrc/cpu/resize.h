// Bicubic resize of a float64 map, bit-identical to OpenCV's cv2.resize(..., INTER_CUBIC).
//
// Half-pixel centres, A = -0.75, border pixels repeated. The source coordinate, its fraction and the four weights are
// float32 (the last weight is 1 minus the others), products and sums are float64, added from left to right, the
// horizontal pass first. Nothing may be contracted into fused multiply-adds: build with -ffp-contract=off.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "cpu/simd.h"
#include "cpu/stop.h"

namespace wsolkern {

class Resize {
 public:
  Resize(int from_height, int from_width, int to_height, int to_width)
      : from_height_(from_height),
        from_width_(from_width),
        to_height_(to_height),
        to_width_(to_width),
        rows_(taps(from_height, to_height)) {
    const bool is_square = from_height == from_width && to_height == to_width;
    const std::vector<Taps> columns = is_square ? rows_ : taps(from_width, to_width);
    for (auto& weights : column_weights_) weights.resize(to_width);
    for (int x = 0; x < to_width; ++x) {
      const Taps& tap = columns[x];
      for (int j = 0; j < 4; ++j) column_weights_[j][x] = tap.weight[j];
      if (x == 0 || !std::equal(tap.index, tap.index + 4, columns[x - 1].index))
        stretches_.push_back({x, {tap.index[0], tap.index[1], tap.index[2], tap.index[3]}});
    }
  }

  // `filtered` is scratch, kept between calls: four horizontally resized rows.
  void operator()(const double* from, double* to, AlignedVector<double>& filtered) const {
    if (from_height_ == to_height_ && from_width_ == to_width_) {
      std::copy(from, from + size_t(to_height_) * to_width_, to);
      return;
    }
    filtered.resize(size_t(4) * to_width_);
    int held[4] = {-1, -1, -1, -1};  // which source row each scratch row holds
    for (int y = 0; y < to_height_; ++y) {
      if (y % 64 == 63) poll(kStepsPerClock);
      const double* source[4];
      for (int tap = 0; tap < 4; ++tap) {
        const int row = rows_[y].index[tap];
        double* out = filtered.data() + size_t(row & 3) * to_width_;  // four neighbours never share one
        if (std::exchange(held[row & 3], row) != row) filter_row(from + size_t(row) * from_width_, out);
        source[tap] = out;
      }
      combine(source, rows_[y].weight, to + size_t(y) * to_width_);
    }
  }

 private:
  struct Taps {
    int index[4];
    float weight[4];
  };
  struct Stretch {  // columns that are made of the same four source pixels
    int begin, index[4];
  };
  int from_height_, from_width_, to_height_, to_width_;
  std::vector<Taps> rows_;
  AlignedVector<double> column_weights_[4];
  std::vector<Stretch> stretches_;

  static std::vector<Taps> taps(int from, int to) {
    std::vector<Taps> all(to);
    const double scale = 1 / (double(to) / from);  // as OpenCV rounds it; from / to differs for sizes like 3165 to 4096
    constexpr float A = -0.75f;
    for (int i = 0; i < to; ++i) {
      float x = float((i + 0.5) * scale - 0.5);
      const int whole = int(std::floor(x));
      x -= float(whole);
      Taps& tap = all[i];
      for (int j = 0; j < 4; ++j) tap.index[j] = std::clamp(whole - 1 + j, 0, from - 1);
      tap.weight[0] = ((A * (x + 1) - 5 * A) * (x + 1) + 8 * A) * (x + 1) - 4 * A;
      tap.weight[1] = ((A + 2) * x - (A + 3)) * x * x + 1;
      tap.weight[2] = ((A + 2) * (1 - x) - (A + 3)) * (1 - x) * (1 - x) + 1;
      tap.weight[3] = 1.f - tap.weight[0] - tap.weight[1] - tap.weight[2];
    }
    return all;
  }

  // Column by column 14 x 14 CAMs take 22 us in all in place of 16 (AVX-512).
  void filter_row(const double* from, double* out) const {
    const double* const weights[4] = {column_weights_[0].data(), column_weights_[1].data(), column_weights_[2].data(),
                                      column_weights_[3].data()};
    for (size_t i = 0; i < stretches_.size(); ++i) {
      const auto& [begin, index] = stretches_[i];
      const int end = i + 1 < stretches_.size() ? stretches_[i + 1].begin : to_width_;
      const double source[4] = {from[index[0]], from[index[1]], from[index[2]], from[index[3]]};
      int x = begin;
      for (; x + kLanes64 <= end; x += kLanes64)
        store(out + x, load(weights[0] + x) * source[0] + load(weights[1] + x) * source[1] +
                           load(weights[2] + x) * source[2] + load(weights[3] + x) * source[3]);
      for (; x < end; ++x)
        out[x] = source[0] * weights[0][x] + source[1] * weights[1][x] + source[2] * weights[2][x] +
                 source[3] * weights[3][x];
    }
  }

  void combine(const double* const source[4], const float weight[4], double* out) const {
    const f64v w0 = splat(double(weight[0])), w1 = splat(double(weight[1]));
    const f64v w2 = splat(double(weight[2])), w3 = splat(double(weight[3]));
    int x = 0;
    for (; x + kLanes64 <= to_width_; x += kLanes64)
      store(out + x,
            load(source[0] + x) * w0 + load(source[1] + x) * w1 + load(source[2] + x) * w2 + load(source[3] + x) * w3);
    for (; x < to_width_; ++x)
      out[x] =
          source[0][x] * weight[0] + source[1][x] * weight[1] + source[2][x] * weight[2] + source[3][x] * weight[3];
  }
};

}  // namespace wsolkern
