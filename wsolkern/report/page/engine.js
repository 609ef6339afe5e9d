// The engine of the viewer: one class activation map to its contours' boxes and IoUs, equal to wsolkern's to the last box.
//
// In: a raw CAM, a normalization with any percentile, a threshold. Out: score levels, boxes x0 y0 x1 y1, IoUs.
// Source: Kim et al., arXiv 2107.13221, equations 3-6; MaxBoxAcc and MaxBoxAccV2, Choe et al., arXiv 2007.04178, section 4.2.
// No part of it knows of a page: it runs in one, in a worker and in node.
"use strict";

const wsolkern = (() => {
  const float32 = Math.fround;

  // The four source pixels of every pixel along one axis and their weights, computed in float32 as OpenCV's INTER_CUBIC does.
  function taps(numIn, numOut) {
    const scale = 1 / (numOut / numIn); // not numIn / numOut: they differ by an ulp for some sizes
    const index = [0, 1, 2, 3].map(() => new Int32Array(numOut));
    const weight = [0, 1, 2, 3].map(() => new Float64Array(numOut));
    const near = (x) => float32(float32(float32(float32(float32(1.25 * x) - 2.25) * x) * x) + 1);
    const far = (x) => float32(float32(float32(float32(float32(float32(-0.75 * x) + 3.75) * x) - 6) * x) + 3);
    for (let out = 0; out < numOut; out++) {
      const at = float32((out + 0.5) * scale - 0.5);
      const base = Math.floor(at);
      const t = float32(at - base);
      const weights = [far(float32(t + 1)), near(t), near(float32(1 - t))];
      weights.push(float32(float32(float32(1 - weights[0]) - weights[1]) - weights[2]));
      for (let tap = 0; tap < 4; tap++) {
        index[tap][out] = Math.min(Math.max(base - 1 + tap, 0), numIn - 1);
        weight[tap][out] = weights[tap];
      }
    }
    return { index, weight };
  }

  // A map of h x w values at height x width pixels: columns first, then rows, summed from left to right in float64.
  function resize(values, h, w, height, width) {
    if (h === height && w === width) return Float64Array.from(values);
    const columns = taps(w, width);
    const rows = taps(h, height);
    const wide = new Float64Array(h * width);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < width; x++) {
        let sum = values[y * w + columns.index[0][x]] * columns.weight[0][x];
        for (let tap = 1; tap < 4; tap++) sum += values[y * w + columns.index[tap][x]] * columns.weight[tap][x];
        wide[y * width + x] = sum;
      }
    }
    const out = new Float64Array(height * width);
    for (let y = 0; y < height; y++) {
      const [r0, r1, r2, r3] = rows.index.map((each) => each[y] * width);
      const [w0, w1, w2, w3] = rows.weight.map((each) => each[y]);
      for (let x = 0; x < width; x++) {
        out[y * width + x] = wide[r0 + x] * w0 + wide[r1 + x] * w1 + wide[r2 + x] * w2 + wide[r3 + x] * w3;
      }
    }
    return out;
  }

  // A normalization such as "minmax", "max", "pas:0.9", "ivr:0.45" or "ivr:0.45+pas:0.9": its name and percentiles.
  function parseNormalization(text) {
    const match = /^(minmax|max|pas|ivr)(?::([0-9.e-]+))?(?:\+pas:([0-9.e-]+))?$/.exec(text);
    if (match === null) throw new Error(`normalization ${text}: expected minmax, max, pas:P, ivr:P or ivr:P+pas:Q`);
    const [, name, p, q] = match;
    return { name, ivr: name === "ivr" ? Number(p) : null, pas: name === "pas" ? Number(p) : q ? Number(q) : null };
  }

  // The two numbers in S = clip((F - offset) / divisor, 0, 1), from the sorted map; null where there is no score map.
  function affine(sorted, normalization) {
    const n = sorted.length;
    const [lowest, highest] = [sorted[0], sorted[n - 1]];
    if (Number.isNaN(highest) || lowest === highest) return null; // NaN is sorted to the end
    const { name, ivr, pas } = normalization;
    const offset = name === "max" ? 0 : ivr === null ? lowest : sorted[Math.trunc(n * ivr)];
    const divisor = (pas === null ? highest : sorted[Math.trunc(n * pas)]) - offset;
    return Number.isFinite(offset) && Number.isFinite(divisor) && divisor > 0 ? { offset, divisor } : null;
  }

  // The 256 levels of a score map, floor(255 S); all 0 where there is no score map.
  function levels(map, scale) {
    const out = new Uint8Array(map.length);
    if (scale === null) return out;
    const { offset, divisor } = scale;
    for (let at = 0; at < map.length; at++) {
      out[at] = Math.min(Math.max((map[at] - offset) / divisor, 0), 1) * 255;
    }
    return out;
  }

  function highestOf(levelImage) {
    let highest = 0;
    for (const level of levelImage) if (level > highest) highest = level;
    return highest;
  }

  // A map with everything that does not depend on normalization and threshold.
  function prepare(values, h, w, height, width) {
    const map = resize(values, h, w, height, width);
    return { map, height, width, sorted: Float64Array.from(map).sort() };
  }

  // Its levels under a normalization; score maps that came normalized already are only multiplied.
  function normalized(prepared, text, areScoreMaps = false) {
    const scale = areScoreMaps ? { offset: 0, divisor: 1 } : affine(prepared.sorted, parseNormalization(text));
    const image = levels(prepared.map, scale);
    return { ...prepared, levels: image, highest: highestOf(image), degenerate: scale === null };
  }

  // The level that a threshold stands for: foreground is strictly above it.
  function levelOf(score, threshold) {
    return Math.trunc(threshold * score.highest);
  }

  // A binary image as runs of equal pixels along its rows, joined to components: foreground where runs of neighbouring rows
  // touch at an edge or a corner (8-connected), background where they touch at an edge (4-connected). The number of a
  // component is that of its first run in raster order.
  function components(image, level, height, width) {
    const firstOfRow = new Int32Array(height + 1);
    const [from, to, foreground, root] = [[], [], [], []];
    for (let y = 0; y < height; y++) {
      firstOfRow[y] = from.length;
      const row = y * width;
      let begin = 0;
      for (let x = 1; x <= width; x++) {
        if (x < width && image[row + x] > level === image[row + begin] > level) continue;
        from.push(begin);
        to.push(x - 1);
        foreground.push(image[row + begin] > level);
        root.push(root.length);
        begin = x;
      }
    }
    firstOfRow[height] = from.length;
    const find = (run) => {
      while (root[run] !== run) run = root[run] = root[root[run]];
      return run;
    };
    for (let y = 1; y < height; y++) {
      let above = firstOfRow[y - 1];
      for (let run = firstOfRow[y]; run < firstOfRow[y + 1]; run++) {
        while (to[above] + 1 < from[run]) above++; // ends before, and not even a corner touches
        for (let each = above; each < firstOfRow[y] && from[each] <= to[run] + 1; each++) {
          if (foreground[each] !== foreground[run]) continue;
          if (!foreground[run] && (to[each] < from[run] || from[each] > to[run])) continue; // a corner only
          const [a, b] = [find(each), find(run)];
          root[Math.max(a, b)] = Math.min(a, b);
        }
      }
    }
    for (let run = 0; run < root.length; run++) root[run] = find(run);
    return { firstOfRow, from, to, foreground, root };
  }

  // The extent of every component, by number: x0 y0 x1 y1, inclusive.
  function extents({ firstOfRow, from, to, root }) {
    const found = new Map();
    for (let y = 0; y + 1 < firstOfRow.length; y++) {
      for (let run = firstOfRow[y]; run < firstOfRow[y + 1]; run++) {
        const box = found.get(root[run]);
        if (box === undefined) {
          found.set(root[run], [from[run], y, to[run], y]);
        } else {
          if (from[run] < box[0]) box[0] = from[run];
          if (to[run] > box[2]) box[2] = to[run];
          box[3] = y;
        }
      }
    }
    return found;
  }

  // The boxes of the contours above a level, x0 y0 x1 y1 in one Int32Array: the outer borders of components and the borders
  // of their holes ("all", MaxBoxAccV2), or the contour of largest area ("largest", MaxBoxAcc). No foreground: one of zeros.
  function contourBoxes(score, level, contours = "all") {
    const { levels: image, height, width } = score;
    if (score.highest <= level) return Int32Array.of(0, 0, 0, 0);
    const found = components(image, level, height, width);
    const isHole = ([x0, y0, x1, y1]) => x0 > 0 && y0 > 0 && x1 < width - 1 && y1 < height - 1;
    const clipped = ([x0, y0, x1, y1]) => [x0, y0, Math.min(x1 + 1, width - 1), Math.min(y1 + 1, height - 1)];
    if (contours === "largest") return Int32Array.from(clipped(largest(found, isHole, height, width)));
    const boxes = [];
    for (const [number, box] of extents(found)) {
      if (found.foreground[number]) boxes.push(...clipped(box));
      else if (isHole(box)) boxes.push(...clipped([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]));
    }
    return Int32Array.from(boxes);
  }

  // The extent of the component that encloses most with its holes filled; of equals the one that begins last. Area is that
  // of the polygon through the border pixels' centres: 1 for each 2x2 square of pixels, 1/2 for three of its pixels.
  function largest(found, isHole, height, width) {
    const filled = new Uint8Array(height * width);
    const boxes = extents(found);
    paintRuns(found, width, (run) => (found.foreground[run] || isHole(boxes.get(found.root[run])) ? 1 : 0), filled);
    const whole = components(filled, 0, height, width);
    const label = paintRuns(whole, width, (run) => whole.root[run], new Int32Array(height * width));
    const twiceArea = new Float64Array(whole.root.length);
    for (let y = 0; y + 1 < height; y++) {
      for (let at = y * width; at + 1 < (y + 1) * width; at++) {
        const [a, b] = [filled[at], filled[at + 1]];
        const pixels = a + b + filled[at + width] + filled[at + width + 1];
        if (pixels >= 3) twiceArea[label[a ? at : at + 1]] += pixels - 2; // all of one component
      }
    }
    let best = null;
    for (const [number, box] of extents(whole)) { // in the order in which they begin
      if (whole.foreground[number] && (best === null || twiceArea[number] >= twiceArea[best.number])) best = { number, box };
    }
    return best.box;
  }

  function paintRuns({ firstOfRow, from, to }, width, valueOf, out) {
    for (let y = 0; y + 1 < firstOfRow.length; y++) {
      for (let run = firstOfRow[y]; run < firstOfRow[y + 1]; run++) {
        out.fill(valueOf(run), y * width + from[run], y * width + to[run] + 1);
      }
    }
    return out;
  }

  // IoU of two boxes with inclusive corners.
  function iou(boxes, b, truths, t) {
    const width = Math.min(boxes[b + 2], truths[t + 2]) - Math.max(boxes[b], truths[t]) + 1;
    const height = Math.min(boxes[b + 3], truths[t + 3]) - Math.max(boxes[b + 1], truths[t + 1]) + 1;
    const both = Math.max(width, 0) * Math.max(height, 0);
    const area = (each, at) => (each[at + 2] - each[at] + 1) * (each[at + 3] - each[at + 1] + 1);
    const either = area(boxes, b) + area(truths, t) - both;
    return either > 0 ? both / either : 0;
  }

  // The box nearest to a ground-truth box: its number and its IoU; the first of equals.
  function nearest(boxes, truths) {
    let [index, best] = [0, -1];
    for (let b = 0; b < boxes.length; b += 4) {
      for (let t = 0; t < truths.length; t += 4) {
        const found = iou(boxes, b, truths, t);
        if (found > best) [index, best] = [b / 4, found];
      }
    }
    return { index, iou: Math.max(best, 0) };
  }

  // IoU of the nearest box at every threshold: a level has one, and 1,000 thresholds are at most 255 levels.
  function curve(score, thresholds, truths, contours) {
    const known = new Map();
    return Float64Array.from(thresholds, (threshold) => {
      const level = levelOf(score, threshold);
      if (!known.has(level)) known.set(level, nearest(contourBoxes(score, level, contours), truths).iou);
      return known.get(level);
    });
  }

  // The curve of a raw map, from the beginning: what is asked of a worker.
  function curveOf({ values, h, w, height, width, normalization, areScoreMaps, thresholds, truths, contours }) {
    const score = normalized(prepare(values, h, w, height, width), normalization, areScoreMaps);
    return curve(score, thresholds, truths, contours);
  }

  return { curveOf, taps, resize, parseNormalization, affine, levels, prepare, normalized, levelOf, contourBoxes, iou, nearest, curve };
})();

if (typeof module !== "undefined") module.exports = wsolkern;
