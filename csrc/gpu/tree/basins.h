// Pixels to basins: every pixel is led to the top that it lies below, and where basins touch is an edge (steps 1, 2).
//
// In: levels. Out: links[pixel], a pixel of its basin; scratch.roots and scratch.edges, lists of basins and edges.
#pragma once

#include "gpu/tree/tree.h"

namespace wsolkern {

enum Direction : uint32_t { kEast, kSouth, kSouthEast, kSouthWest, kToFrame = kSouthEast };

template <class Link, bool kHoles>
WSOLKERN_DEVICE void find_basins(const Tree<Link, kHoles>& tree) {
  const int width = tree.shape.width, height = tree.shape.height;
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    const int x = tree.shape.column(pixel), y = tree.shape.row(pixel);
    uint32_t to = pixel;
    int highest = tree.level(pixel) - 1;
    const auto consider = [&](bool is_inside, uint32_t neighbour) {
      if (!is_inside) return;
      const int theirs = tree.level(neighbour);
      if (theirs > highest) {
        highest = theirs;
        to = neighbour;
      }
    };
    const bool west = x > 0, east = x + 1 < width, north = y > 0, south = y + 1 < height;
    consider(east, pixel + 1);
    consider(south, pixel + width);
    if (!kHoles) {
      consider(south && east, pixel + width + 1);
      consider(south && west, pixel + width - 1);
    }
    consider(west, pixel - 1);
    if (!kHoles) consider(north && east, pixel - width + 1);
    consider(north, pixel - width);
    if (!kHoles) consider(north && west, pixel - width - 1);
    store(tree.links + pixel, Link(to));
  });
  // Only equals can point at each other, and only in pairs: edges between equals are ordered by their upper end and
  // direction, and each pixel takes its last.
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    const uint32_t to = load(tree.links + pixel);
    if (to > pixel && load(tree.links + to) == pixel) store(tree.links + pixel, Link(pixel));
  });
  tree.until_unchanged([&] {
    tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
      const uint32_t begin = load(tree.links + pixel);
      uint32_t to = begin;
      for (int hop = 0; hop < kHops; ++hop) {
        const uint32_t next = load(tree.links + to);
        if (next == to) break;
        to = next;
      }
      if (to == begin) return;
      store(tree.links + pixel, Link(to));
      store(&tree.shared.changed, 1u);
    });
  });
  tree.block.once([&] { tree.shared.num_roots = tree.shared.num_edges = 0; });
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    if (tree.links[pixel] == pixel) tree.scratch.roots[add(&tree.shared.num_roots, 1)] = pixel;
  });
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE void find_edges(const Tree<Link, kHoles>& tree) {
  const int width = tree.shape.width, height = tree.shape.height;
  const auto keep = [&](uint32_t pixel, Direction direction) {
    tree.scratch.edges[add(&tree.shared.num_edges, 1)] = pixel * 4 + direction;
  };
  tree.block.for_each(tree.shape.num_pixels, [&](uint32_t pixel) {
    const int mine = tree.level(pixel);
    if (mine == 0) return;  // level 0 is never foreground
    const int x = tree.shape.column(pixel), y = tree.shape.row(pixel);
    const bool west = x > 0, east = x + 1 < width, south = y + 1 < height;
    const uint32_t basin = tree.links[pixel];
    const auto leads_out = [&](uint32_t neighbour) {
      return tree.links[neighbour] != basin && tree.level(neighbour) > 0;
    };
    if (east && leads_out(pixel + 1)) keep(pixel, kEast);
    if (south && leads_out(pixel + width)) keep(pixel, kSouth);
    if constexpr (kHoles) {
      if (!west || !east || y == 0 || !south) keep(pixel, kToFrame);
    } else {
      // A step aside that is not lower than the ends of a diagonal connects them just as well.
      const auto is_needed = [&](uint32_t across, uint32_t one_side, uint32_t other_side) {
        const int theirs = tree.level(across), both = theirs < mine ? theirs : mine;
        return tree.level(one_side) < both && tree.level(other_side) < both;
      };
      const uint32_t below = pixel + width;
      if (south && east && leads_out(below + 1) && is_needed(below + 1, pixel + 1, below)) keep(pixel, kSouthEast);
      if (south && west && leads_out(below - 1) && is_needed(below - 1, pixel - 1, below)) keep(pixel, kSouthWest);
    }
  });
}

template <class Link, bool kHoles>
WSOLKERN_DEVICE uint32_t far_end(const Tree<Link, kHoles>& tree, uint32_t edge) {  // a pixel, or the frame
  const uint32_t pixel = edge / 4, direction = edge % 4;
  if (direction == kEast) return pixel + 1;
  if (direction == kSouth) return pixel + tree.shape.width;
  if (kHoles) return tree.frame;
  return pixel + tree.shape.width + (direction == kSouthEast ? 1 : -1);
}

}  // namespace wsolkern
