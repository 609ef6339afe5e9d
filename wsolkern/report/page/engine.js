// The engine of the viewer: one class activation map to its contours' boxes and IoUs, equal to wsolkern's to the last box.
//
// In: a raw CAM, a normalization with any percentile, a threshold. Out: score levels, boxes x0 y0 x1 y1, IoUs.
// Source: Kim et al., arXiv 2107.13221, equations 3-6; MaxBoxAcc and MaxBoxAccV2, Choe et al., arXiv 2007.04178, section 4.2.
// No part of it knows of a page: it runs in one, in a worker and in node.
"use strict";

const wsolkern = (() => {
  const float32 = Math.fround;
  const [BACKGROUND, FOREGROUND, OUTSIDE, SEEN, MEASURED] = [0, 1, 2, 3, 4]; // what a pixel of a labelled map is

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

  // The boxes of the contours above a level, x0 y0 x1 y1 in one Int32Array: outer borders and hole borders of the 8-connected
  // components ("all", MaxBoxAccV2), or the contour of largest area ("largest", MaxBoxAcc). Without foreground one of zeros.
  function contourBoxes(score, level, contours = "all") {
    const { levels: image, height, width } = score;
    const wide = width + 2; // a frame of background around the map
    const label = new Uint8Array(wide * (height + 2));
    let any = false;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (image[y * width + x] > level) {
          label[(y + 1) * wide + x + 1] = FOREGROUND;
          any = true;
        }
      }
    }
    if (!any) return Int32Array.of(0, 0, 0, 0);
    const fours = [-wide, -1, 1, wide];
    const eights = [-wide - 1, -wide, -wide + 1, -1, 1, wide - 1, wide, wide + 1];
    const stack = new Int32Array(label.length);

    // Marks the component of a pixel and gives its extent.
    function flood(start, from, to, neighbours) {
      let [x0, y0, x1, y1, depth] = [wide, height + 2, 0, 0, 0];
      label[start] = to;
      stack[depth++] = start;
      while (depth > 0) {
        const at = stack[--depth];
        const y = Math.trunc(at / wide);
        const x = at - y * wide;
        if (x < x0) x0 = x;
        if (x > x1) x1 = x;
        if (y < y0) y0 = y;
        if (y > y1) y1 = y;
        for (const step of neighbours) {
          if (label[at + step] === from) { // beyond the ends it is undefined
            label[at + step] = to;
            stack[depth++] = at + step;
          }
        }
      }
      return [x0 - 1, y0 - 1, x1 - 1, y1 - 1];
    }

    const boxes = [];
    const add = (x0, y0, x1, y1) => boxes.push(x0, y0, Math.min(x1 + 1, width - 1), Math.min(y1 + 1, height - 1));
    flood(0, BACKGROUND, OUTSIDE, fours);
    if (contours === "largest") {
      for (let at = 0; at < label.length; at++) if (label[at] === BACKGROUND) label[at] = FOREGROUND; // holes are filled
      let most = -1;
      for (let at = 0; at < label.length; at++) {
        if (label[at] !== FOREGROUND) continue;
        const box = flood(at, FOREGROUND, SEEN, eights);
        const area = twiceArea(box);
        if (area >= most) {
          most = area; // of equals the one that is met last
          boxes.length = 0;
          add(...box);
        }
        for (let y = box[1] + 1; y <= box[3] + 1; y++) {
          for (let x = box[0] + 1; x <= box[2] + 1; x++) if (label[y * wide + x] === SEEN) label[y * wide + x] = MEASURED;
        }
      }
      return Int32Array.from(boxes);
    }
    for (let at = 0; at < label.length; at++) {
      if (label[at] === FOREGROUND) {
        add(...flood(at, FOREGROUND, SEEN, eights));
      } else if (label[at] === BACKGROUND) {
        const [x0, y0, x1, y1] = flood(at, BACKGROUND, OUTSIDE, fours);
        add(x0 - 1, y0 - 1, x1 + 1, y1 + 1); // a hole's border is one pixel around it
      }
    }
    return Int32Array.from(boxes);

    // Twice the area that the contour of the component encloses: 2 for each full 2x2 square, 1 for each of three pixels.
    function twiceArea([x0, y0, x1, y1]) {
      let area = 0;
      for (let y = y0 + 1; y <= y1; y++) {
        for (let x = x0 + 1; x <= x1; x++) {
          const at = y * wide + x;
          const pixels =
            (label[at] === SEEN) + (label[at + 1] === SEEN) + (label[at + wide] === SEEN) + (label[at + wide + 1] === SEEN);
          area += pixels === 4 ? 2 : pixels === 3 ? 1 : 0;
        }
      }
      return area;
    }
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

  return { taps, resize, parseNormalization, affine, levels, prepare, normalized, levelOf, contourBoxes, iou, nearest, curve };
})();

if (typeof module !== "undefined") module.exports = wsolkern;
