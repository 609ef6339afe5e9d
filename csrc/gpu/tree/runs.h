// Step 1: every row is cut into unimodal runs.
//
// In: levels. Out: cuts and the run that each word begins in, from which run_of() tells a pixel's run; start, crest and
// row of each run.
//
// As in csrc/cpu/tree/runs.h, a run never falls and then never rises: at any level its pixels are one interval, so that
// all later steps work on runs. A smooth 224 x 224 map has 500-1100 of them in place of 50,176 pixels.
#pragma once

#include "gpu/tree/tree.h"

namespace wsolkern {

// Of a word, from where its pixels rise and fall. `falling`: whether the row's last step that was not level went down;
// before, and then behind the word.
WSOLKERN_DEVICE Turns turns(uint32_t rises, uint32_t falls, uint32_t& falling) {
  // "Falling before this pixel" is handed on from bit to bit through level steps, set by falls and cleared by rises:
  // exactly the carry of (falls | level) + falls. The last step that is not level is a fall if the highest bit of both
  // is one of falls.
  const uint32_t was_falling = (~rises + falls + falling) ^ ~rises ^ falls;
  falling = rises | falls ? falls > rises : falling;
  return {rises & was_falling, falls & ~was_falling};
}

// cuts, crests, word_run (counted from the row's first run) and row_begin[y + 1] (the number of the row's runs), by one
// look at the levels. `with_complement`: the same of the complement, which rises where the foreground falls, to where
// take_complement() finds it.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE void find_turns(const Tree<Kind, kHoles>& tree, bool with_complement) {
  using Id = typename Kind::Id;
  const Arrays<Kind>& arrays = tree.arrays;
  const uint32_t width = uint32_t(tree.shape.width), num_words = tree.shape.num_words;
  tree.block.for_each_warp(uint32_t(tree.shape.height), [&](const Warp& warp, uint32_t y) {
    uint32_t falling = 0, count = 0, other_falling = 0, other_count = 0;
    for (uint32_t begin = 0; begin < num_words; begin += kLanes) {
      const uint32_t num = num_words - begin < kLanes ? num_words - begin : kLanes;
      PerLane<Turns> mine, others;  // a word a lane, so that they are stored at once
      PerLane<uint32_t> runs, other_runs;
      for (uint32_t w = 0; w < num; ++w) {
        PerLane<int> step;
        warp.each([&](uint32_t lane) {
          const uint32_t x = (begin + w) * kLanes + lane, pixel = tree.pixel(y, x);
          step[lane] = x > 0 && x < width ? tree.level(pixel) - tree.level(pixel - 1) : 0;
        });
        const uint32_t rises = warp.ballot([&](uint32_t lane) { return step[lane] > 0; });
        const uint32_t falls = warp.ballot([&](uint32_t lane) { return step[lane] < 0; });
        const Turns here = turns(rises, falls, falling);
        warp.each([&](uint32_t lane) {
          if (lane != w) return;
          mine[lane] = here;
          runs[lane] = count;
        });
        count += count_bits(here.cuts);
        if (!with_complement) continue;
        const Turns there = turns(falls, rises, other_falling);
        warp.each([&](uint32_t lane) {
          if (lane != w) return;
          others[lane] = there;
          other_runs[lane] = other_count;
        });
        other_count += count_bits(there.cuts);
      }
      warp.each([&](uint32_t lane) {
        if (lane >= num) return;
        const uint32_t word = y * num_words + begin + lane;
        arrays.cuts[word] = mine[lane].cuts;
        arrays.crests[word] = mine[lane].crests;
        arrays.word_run[word] = Id(runs[lane]);
        if (!with_complement) return;
        arrays.complement[word] = others[lane];
        arrays.complement_run[word] = other_runs[lane];
      });
    }
    warp.once([&] {
      arrays.row_begin[y + 1] = Id(count + 1);
      if (y == 0) arrays.row_begin[0] = 0;
      if (with_complement) arrays.complement_count[y] = other_count + 1;
    });
  });
}

template <class Kind>
WSOLKERN_DEVICE void take_complement(const Tree<Kind, true>& tree) {
  using Id = typename Kind::Id;
  const Arrays<Kind>& arrays = tree.arrays;
  const uint32_t height = uint32_t(tree.shape.height);
  tree.block.for_each(height * tree.shape.num_words, [&](uint32_t word) {
    arrays.cuts[word] = arrays.complement[word].cuts;
    arrays.crests[word] = arrays.complement[word].crests;
    arrays.word_run[word] = Id(arrays.complement_run[word]);
    if (word < height) arrays.row_begin[word + 1] = Id(arrays.complement_count[word]);
    if (word == 0) arrays.row_begin[0] = 0;
  });
}

// False if there is no room for the runs. `is_shared`: one look at the levels is for the foreground and then for the
// complement.
template <class Kind, bool kHoles>
WSOLKERN_DEVICE bool find_runs(const Tree<Kind, kHoles>& tree, bool is_shared) {
  using Id = typename Kind::Id;
  const Arrays<Kind>& arrays = tree.arrays;
  const uint32_t width = uint32_t(tree.shape.width), height = uint32_t(tree.shape.height);
  const uint32_t num_words = tree.shape.num_words;
  if constexpr (kHoles) {
    if (is_shared)
      take_complement(tree);
    else
      find_turns(tree, false);
  } else {
    find_turns(tree, is_shared);
  }
  tree.block.for_each_warp(1, [&](const Warp& warp, uint32_t) {
    uint32_t before = 0;
    for (uint32_t base = 1; base <= height; base += kLanes) {
      PerLane<uint32_t> ends;
      warp.each([&](uint32_t lane) { ends[lane] = base + lane <= height ? arrays.row_begin[base + lane] : 0; });
      const uint32_t sum = warp.scan(ends, [](uint32_t a, uint32_t b) { return a + b; });
      warp.each([&](uint32_t lane) {
        if (base + lane <= height) arrays.row_begin[base + lane] = Id(before + ends[lane]);
      });
      before += sum;
    }
    warp.once([&] { tree.shared.num_runs = before; });  // which may be more than an Id holds
  });
  if (tree.shared.num_runs > Arrays<Kind>::num_runs(tree.shape)) return false;
  // Each run of a row has one crest, which lies before it falls: that of a bit is in the run that the bit is in. A run
  // that rises to the end of the row has no bit.
  tree.block.for_each(height * num_words, [&](uint32_t word) {
    const uint32_t y = word / num_words, first = arrays.row_begin[y] + arrays.word_run[word];
    arrays.word_run[word] = Id(first);
    const auto begin = [&](uint32_t run, uint32_t x) {
      arrays.start[run] = uint16_t(x);
      arrays.row[run] = uint16_t(y);
      arrays.crest[run] = uint16_t(width - 1);
    };
    if (word % num_words == 0) begin(first, 0);
    uint32_t run = first;
    for (uint32_t rest = arrays.cuts[word]; rest; rest &= rest - 1)
      begin(++run, first_bit(rest) + word % num_words * kLanes);
  });
  tree.block.for_each(height * num_words, [&](uint32_t word) {
    const uint32_t cuts = arrays.cuts[word];
    for (uint32_t rest = arrays.crests[word]; rest; rest &= rest - 1) {
      const uint32_t bit = first_bit(rest);
      arrays.crest[arrays.word_run[word] + count_bits(cuts & ((2u << bit) - 1))] =
          uint16_t(word % num_words * kLanes + bit - 1);
    }
  });
  return true;
}

}  // namespace wsolkern
