// The viewer of a report's page: a grid of images, and each of them large under any normalization and threshold.
//
// In: the JSON of encoding.py, the engine of engine.js. Out: what is seen; nothing is sent or stored anywhere.
// Boxes and IoUs of the large view are computed here, by the engine; the grid's are those that came with the file.
"use strict";

(async () => {
  const byId = (id) => document.getElementById(id);
  const element = (name, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);
    return made;
  };
  const ARRAYS = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u2: Uint16Array, u1: Uint8Array };

  // ---- what came with the file ------------------------------------------------------------------------------------

  async function unpack({ kind, data }) {
    const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new ARRAYS[kind](await new Response(stream).arrayBuffer());
  }

  const startsOf = (counts) => {
    const starts = new Int32Array(counts.length + 1);
    for (let at = 0; at < counts.length; at++) starts[at + 1] = starts[at] + counts[at];
    return starts;
  };

  const namesOf = async (packed) => {
    if (packed === null) return null;
    const of = await unpack(packed.of);
    return { names: packed.names, at: (image) => packed.names[of[image]] };
  };

  async function readView(packed) {
    const { num, begin, value } = packed.curves;
    const names = ["boxes", "ious", "bestIous", "numContours", "degenerate"];
    const view = { chosen: packed.chosen, errors: await namesOf(packed.errors) };
    for (const name of names) view[name] = await unpack(packed[name]);
    view.curveStarts = startsOf(await unpack(num));
    [view.curveBegins, view.curveValues] = [await unpack(begin), await unpack(value)];
    return view;
  }

  async function readRun(packed) {
    const shapes = await unpack(packed.shapes);
    const sizes = Int32Array.from({ length: shapes.length / 2 }, (_, at) => shapes[2 * at] * shapes[2 * at + 1]);
    const views = [];
    for (const each of packed.views) views.push(await readView(each));
    const { name, areScoreMaps } = packed;
    return { name, areScoreMaps, shapes, starts: startsOf(sizes), maps: await unpack(packed.maps), views, predicted: await namesOf(packed.predicted) };
  }

  const data = JSON.parse(byId("data").textContent);
  const [height, width] = data.size;
  const numImages = data.ids.length;
  const numIous = data.iouThresholds.length;
  const middle = Math.floor(numIous / 2); // images are told apart at the middle IoU threshold
  const thresholds = await unpack(data.thresholds);
  const truths = await unpack(data.truths);
  const truthStarts = startsOf(await unpack(data.numTruths));
  const imageSizes = await unpack(data.imageSizes);
  const classes = await namesOf(data.classes);
  const runs = [];
  for (const each of data.runs) runs.push(await readRun(each));
  // Copies, since what is sent to a worker takes all of its buffer along.
  const truthsOf = (image) => truths.slice(4 * truthStarts[image], 4 * truthStarts[image + 1]);
  const rawMap = (run, image) => ({
    values: run.maps.slice(run.starts[image], run.starts[image + 1]),
    h: run.shapes[2 * image],
    w: run.shapes[2 * image + 1],
  });
  const iouOf = (run, view, image, iou = middle) => runs[run].views[view].ious[image * numIous + iou];
  const isRight = (run, view, image) => iouOf(run, view, image) >= data.iouThresholds[middle];
  const pictureOf = (image) => {
    const thumbnail = data.thumbnails && data.thumbnails[image];
    return thumbnail ? `data:image/jpeg;base64,${thumbnail}` : data.links && data.links[image];
  };

  // ---- drawing ----------------------------------------------------------------------------------------------------

  // Blue to yellow over grey, readable without red and green; lightness rises all the way.
  const STOPS = [[0, 32, 77], [38, 60, 112], [87, 92, 109], [124, 123, 120], [166, 157, 117], [211, 193, 100], [255, 234, 70]];
  const COLOURS = Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return STOPS[low].map((each, channel) => Math.round(each + (at - low) * (STOPS[low + 1][channel] - each)));
  });

  // Levels as a picture; with `opacity` less than 1, to lie over another one.
  function paint(canvas, levels, w, h, opacity = 1) {
    const picture = new ImageData(w, h);
    for (let at = 0; at < levels.length; at++) {
      picture.data.set(COLOURS[levels[at]], 4 * at);
      picture.data[4 * at + 3] = 255 * opacity;
    }
    [canvas.width, canvas.height] = [w, h];
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  function paintRaw(canvas, run, image) {
    const { values, h, w } = rawMap(run, image);
    paint(canvas, wsolkern.normalized(wsolkern.prepare(values, h, w, h, w), "minmax").levels, w, h);
  }

  const SVG = "http://www.w3.org/2000/svg";
  const drawn = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  // A box has inclusive corners: it covers the pixels from x0 to x1.
  const rectangle = (kind, [x0, y0, x1, y1]) => drawn("rect", { class: kind, x: x0, y: y0, width: x1 - x0 + 1, height: y1 - y0 + 1 });

  // ---- the grid: which images, in which order; only what is in sight exists -----------------------------------------

  const grid = byId("grid");
  const filters = byId("filters");
  let shown = []; // numbers of the images that pass the filters
  let active = 0; // the place among them that arrow keys move

  const option = (value, text = value) => element("option", { value, textContent: text });
  const orders = [["file", "as in the data set"], ["low", "lowest IoU first"], ["high", "highest IoU first"], ["best", "lowest best IoU first"], ["contours", "most contours first"], ["class", "by class"]];
  if (runs.length === 2) orders.push(["differ", "differ most first"], ["first", "first run better first"], ["second", "second run better first"]);
  byId("order").append(...orders.filter(([value]) => value !== "class" || classes).map(([value, text]) => option(value, text)));
  byId("listed").append(...data.normalizations.map((name, at) => option(String(at), name)));
  const choices = runs.flatMap((run, r) => data.normalizations.map((name, m) => option(`${r},${m}`, runs.length > 1 ? `${run.name}, ${name}` : name)));
  for (const id of ["right", "wrong"]) byId(id).append(option("", "any"), ...choices.map((each) => each.cloneNode(true)));
  const errorNames = [...new Set(runs.flatMap((run) => run.views.flatMap((view) => (view.errors ? view.errors.names : []))))].sort();
  byId("error").append(option("", "any"), ...errorNames.map((name) => option(name)));

  function choose() {
    const view = Number(byId("listed").value);
    const text = byId("text").value.trim().toLowerCase();
    const [lowest, highest] = [Number(byId("lowest").value), byId("highest").value === "" ? 1 : Number(byId("highest").value)];
    const [right, wrong] = ["right", "wrong"].map((id) => byId(id).value && byId(id).value.split(",").map(Number));
    const error = byId("error").value;
    const degenerate = byId("degenerate").checked;
    const passes = (image) => {
      const iou = iouOf(0, view, image);
      return (
        iou >= lowest &&
        iou <= highest &&
        (!text || data.ids[image].toLowerCase().includes(text) || (classes && classes.at(image).toLowerCase().includes(text))) &&
        (!right || isRight(...right, image)) &&
        (!wrong || !isRight(...wrong, image)) &&
        (!error || runs.some((run) => run.views[view].errors && run.views[view].errors.at(image) === error)) &&
        (!degenerate || runs.some((run) => run.views[view].degenerate[image]))
      );
    };
    const difference = (image) => iouOf(0, view, image) - iouOf(1, view, image);
    const first = runs[0].views[view];
    const keys = {
      low: (image) => iouOf(0, view, image),
      high: (image) => -iouOf(0, view, image),
      best: (image) => first.bestIous[image],
      contours: (image) => -first.numContours[image],
      differ: (image) => -Math.abs(difference(image)),
      first: (image) => -difference(image),
      second: difference,
    };
    shown = Array.from(data.ids.keys()).filter(passes);
    const order = byId("order").value;
    if (order === "class") shown.sort((a, b) => classes.at(a).localeCompare(classes.at(b)) || a - b);
    else if (keys[order]) shown.sort((a, b) => keys[order](a) - keys[order](b) || a - b);
    active = 0;
    byId("count").textContent = `${shown.length.toLocaleString("en")} of ${numImages.toLocaleString("en")} images; IoU at the threshold chosen for ${data.iouThresholds[middle]}`;
    layOut(true);
  }

  const cells = new Map(); // place -> the button that stands there
  let columns = 1;
  const CELL = { width: 132, height: 168 };

  function cellOf(place) {
    const image = shown[place];
    const view = Number(byId("listed").value);
    const ious = runs.map((_, run) => iouOf(run, view, image).toFixed(3));
    const right = runs.map((_, run) => isRight(run, view, image));
    const verdict = right.map((each) => (each ? "✓" : "✗"));
    const name = `${data.ids[image]}${classes ? `, ${classes.at(image)}` : ""}, IoU ${ious.join(" and ")}, ${right.map((each) => (each ? "right" : "wrong")).join(" and ")}`;
    const source = data.thumbnails && data.thumbnails[image] ? pictureOf(image) : null;
    const picture = source ? element("img", { src: source, alt: "" }) : element("canvas");
    if (!source) paintRaw(picture, runs[0], image);
    const figures = element("span", { className: "figures", textContent: ious.map((iou, run) => `${verdict[run]} ${iou}`).join("  ") });
    const button = element("button", { type: "button", title: data.ids[image] }, picture, figures, element("span", { className: "id", textContent: data.ids[image] }));
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => open(place));
    button.addEventListener("focus", () => { active = place; });
    const cell = element("div", { className: right.every(Boolean) ? "cell right" : "cell wrong" }, button);
    cell.setAttribute("role", "listitem");
    cell.setAttribute("aria-setsize", shown.length);
    cell.setAttribute("aria-posinset", place + 1);
    cell.dataset.image = image;
    return cell;
  }

  function layOut(anew = false) {
    columns = Math.max(1, Math.floor(grid.clientWidth / CELL.width));
    grid.style.height = `${Math.ceil(shown.length / columns) * CELL.height}px`;
    const top = -grid.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / CELL.height) - 2) * columns;
    const to = Math.min(shown.length, Math.max(0, Math.ceil((top + window.innerHeight) / CELL.height) + 2) * columns);
    for (const [place, cell] of cells) {
      if (anew || place < from || place >= to) {
        cell.remove();
        cells.delete(place);
      }
    }
    for (let place = from; place < to; place++) {
      if (!cells.has(place)) {
        cells.set(place, cellOf(place));
        grid.append(cells.get(place));
      }
      cells.get(place).style.transform = `translate(${(place % columns) * CELL.width}px, ${Math.floor(place / columns) * CELL.height}px)`;
    }
    for (const [place, cell] of cells) cell.firstChild.tabIndex = place === Math.min(Math.max(active, from), to - 1) ? 0 : -1;
  }

  let waiting = false;
  const layOutSoon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      layOut();
    });
  };

  function focusPlace(place) {
    active = Math.min(Math.max(place, 0), shown.length - 1);
    const top = grid.getBoundingClientRect().top + Math.floor(active / columns) * CELL.height;
    if (top < 0 || top + CELL.height > window.innerHeight) window.scrollBy(0, top - (window.innerHeight - CELL.height) / 2);
    layOut();
    if (cells.has(active)) cells.get(active).firstChild.focus({ preventScroll: true });
  }

  // ---- one image, large -------------------------------------------------------------------------------------------

  const large = byId("large");
  let place = 0; // which of the shown images it is
  let panels = []; // one a run
  let normalization = data.normalizations[0];
  let divisorPercentile = 0.9; // of PaS beside IVR
  const imageAt = () => shown[place];
  const listedAt = () => data.normalizations.indexOf(normalization);
  const threshold = () => thresholds[Number(byId("threshold").value)];

  // A worker computes curves of normalizations that did not come with the file; where there is none, the page does. Of
  // the questions of a panel it has one at a time: while a slider moves, those between the first and the last are dropped.
  const asked = new Map(); // panel's number -> {question, resolve}: what the worker is at, and what comes next
  let worker = null;
  try {
    const answer = "onmessage = ({ data: { key, question } }) => postMessage({ key, curve: wsolkern.curveOf(question) });";
    worker = new Worker(URL.createObjectURL(new Blob([byId("engine").textContent, answer], { type: "text/javascript" })));
    worker.onmessage = ({ data: { key, curve } }) => {
      const { now, next } = asked.get(key);
      asked.set(key, { now: next });
      if (next) worker.postMessage({ key, question: next.question });
      else now.resolve(curve);
    };
  } catch {
    worker = null;
  }
  const askCurve = (key, question) =>
    new Promise((resolve) => {
      if (worker === null) {
        resolve(wsolkern.curveOf(question));
        return;
      }
      const { now } = asked.get(key) || {};
      asked.set(key, now ? { now, next: { question, resolve } } : { now: { question, resolve } });
      if (!now) worker.postMessage({ key, question });
    });

  function listedCurve(run, view, image) {
    const { curveStarts, curveBegins, curveValues } = run.views[view];
    const curve = new Float64Array(thresholds.length);
    for (let at = curveStarts[image]; at < curveStarts[image + 1]; at++) {
      const end = at + 1 < curveStarts[image + 1] ? curveBegins[at + 1] : thresholds.length;
      curve.fill(curveValues[at], curveBegins[at], end);
    }
    return curve;
  }

  const heightOf = (iou) => 240 - 220 * iou; // in a curve 260 high

  function makePanel(run) {
    const figure = element("figure", { className: "panel" });
    const stage = element("div", { className: "stage" });
    const picture = element("img", { alt: "", hidden: true });
    const overlay = element("canvas");
    const boxes = drawn("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
    stage.append(picture, overlay, boxes);
    const curve = drawn("svg", { viewBox: "0 0 1000 260", class: "curve", role: "img", preserveAspectRatio: "none" });
    const caption = element("figcaption");
    const list = element("details", {}, element("summary"), element("ol"));
    const best = element("p", { className: "best-iou" });
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((at) => element("span", { textContent: at }));
    const levels = data.iouThresholds.map((iou) => element("span", { textContent: iou, style: `top: ${heightOf(iou) / 2.6}%` }));
    const plot = element("div", { className: "plot" }, element("div", { className: "levels" }, ...levels), curve, element("div", { className: "ticks" }, ...ticks));
    const about = element("p", { className: "hint", textContent: "IoU over the threshold; across: the IoU thresholds; dashed: the thresholds chosen for them" });
    figure.append(element("h3", { textContent: run.name }), stage, caption, plot, best, about, list);
    return { run, figure, stage, picture, overlay, boxes, curve, best, caption, list };
  }

  function drawCurve(panel, values) {
    const x = (t) => 1000 * t;
    let path = "";
    values.forEach((iou, at) => {
      const next = at + 1 < values.length ? thresholds[at + 1] : 1;
      path += `${at ? "L" : "M"}${x(thresholds[at])} ${heightOf(iou)}L${x(next)} ${heightOf(iou)}`;
    });
    const lines = data.iouThresholds.map((iou) => drawn("line", { class: "level", x1: 0, x2: 1000, y1: heightOf(iou), y2: heightOf(iou) }));
    const view = listedAt();
    const best = view < 0 ? [] : panel.run.views[view].chosen.map((at) => drawn("line", { class: "best", x1: x(thresholds[at]), x2: x(thresholds[at]), y1: 10, y2: 250 }));
    panel.cursor = drawn("line", { class: "cursor", y1: 0, y2: 260 });
    panel.curve.replaceChildren(...lines, ...best, drawn("path", { d: path }), panel.cursor);
    const highest = values.reduce((a, b) => Math.max(a, b), 0);
    panel.best.textContent = `best IoU ${highest.toFixed(4)} at threshold ${thresholds[values.indexOf(highest)].toFixed(3)}`;
    panel.curve.setAttribute("aria-label", `IoU over the threshold under ${normalization}: ${panel.best.textContent}`);
    moveCursor(panel);
  }

  function moveCursor(panel) {
    if (!panel.cursor) return;
    for (const end of ["x1", "x2"]) panel.cursor.setAttribute(end, 1000 * threshold());
  }

  function tellFacts(image) {
    const facts = [`${place + 1} of ${shown.length}`, `${imageSizes[2 * image + 1]} × ${imageSizes[2 * image]} pixels`];
    if (classes) facts.push(classes.at(image));
    for (const run of runs) if (run.predicted) facts.push(`predicted${runs.length > 1 ? ` by ${run.name}` : ""}: ${run.predicted.at(image) || "not known"}`);
    const view = listedAt();
    if (view >= 0) for (const run of runs) if (run.views[view].errors) facts.push(run.views[view].errors.at(image));
    byId("image-facts").textContent = facts.join(" · ");
  }

  // New map or normalization: levels, overlay and curve.
  function renew() {
    const image = imageAt();
    tellFacts(image);
    for (const panel of panels) {
      panel.score = wsolkern.normalized(panel.prepared, normalization, panel.run.areScoreMaps);
      paint(panel.overlay, panel.score.levels, width, height, panel.picture.hidden ? 1 : 0.55);
      const view = listedAt();
      if (view >= 0) {
        drawCurve(panel, listedCurve(panel.run, view, image));
      } else {
        panel.curve.replaceChildren();
        panel.cursor = null;
        panel.best.textContent = "";
        const about = `${image} ${normalization}`;
        const how = { height, width, thresholds, contours: data.contours, areScoreMaps: panel.run.areScoreMaps };
        const question = { ...rawMap(panel.run, image), ...how, normalization, truths: truthsOf(image) };
        askCurve(panels.indexOf(panel), question).then((curve) => { if (`${imageAt()} ${normalization}` === about) drawCurve(panel, curve); });
      }
    }
    update();
  }

  // New threshold: boxes and IoU.
  function update() {
    const begin = performance.now();
    const truth = truthsOf(imageAt());
    byId("threshold-value").textContent = threshold().toFixed(3);
    for (const panel of panels) {
      const boxes = wsolkern.contourBoxes(panel.score, wsolkern.levelOf(panel.score, threshold()), data.contours);
      const found = wsolkern.nearest(boxes, truth);
      const all = Array.from({ length: boxes.length / 4 }, (_, at) => boxes.slice(4 * at, 4 * at + 4));
      const others = all.filter((_, at) => at !== found.index).map((box) => rectangle("other", box));
      const real = Array.from({ length: truth.length / 4 }, (_, at) => rectangle("truth", truth.subarray(4 * at, 4 * at + 4)));
      panel.boxes.replaceChildren(...others, ...real, rectangle("nearest", all[found.index]));
      const right = data.iouThresholds.filter((iou) => found.iou >= iou);
      const contours = `${all.length} ${all.length === 1 ? "contour" : "contours"}`;
      panel.caption.textContent = `IoU ${found.iou.toFixed(4)}, ${right.length ? `right at ${right.join(", ")}` : "wrong"}; ${contours}; box ${[...all[found.index]].join(" ")}${panel.score.degenerate ? "; degenerate" : ""}`;
      panel.boxes.setAttribute("aria-label", `Boxes at threshold ${threshold().toFixed(3)} under ${normalization}: ${panel.caption.textContent}`);
      panel.list.firstChild.textContent = `${contours}: boxes`;
      panel.list.lastChild.replaceChildren(...all.slice(0, 500).map((box) => element("li", { textContent: [...box].join(" ") })));
      Object.assign(panel.figure.dataset, { iou: found.iou, boxes: JSON.stringify(Array.from(boxes)), level: wsolkern.levelOf(panel.score, threshold()) });
      moveCursor(panel);
    }
    large.dataset.milliseconds = performance.now() - begin;
  }

  function showImage() {
    const image = imageAt();
    byId("image-title").textContent = data.ids[image];
    for (const panel of panels) {
      const { values, h, w } = rawMap(panel.run, image);
      panel.prepared = wsolkern.prepare(values, h, w, height, width);
      const source = pictureOf(image);
      panel.picture.hidden = !source;
      if (source) panel.picture.src = source;
      panel.stage.style.setProperty("--ratio", (imageSizes[2 * image + 1] || width) / (imageSizes[2 * image] || height));
    }
    renew();
  }

  // The controls follow the normalization.
  function setNormalization(name) {
    normalization = name;
    if (!data.runs[0].areScoreMaps) {
      const { name: kind, ivr, pas } = wsolkern.parseNormalization(name);
      byId("kind").value = ivr !== null && pas !== null ? "ivr+pas" : kind;
      if (ivr !== null && pas !== null) divisorPercentile = pas;
      const percentile = ivr === null ? pas : ivr;
      byId("percentile").max = Math.max(0.95, percentile === null ? 0 : percentile); // a listed one may be above
      byId("percentile").disabled = percentile === null;
      if (percentile !== null) byId("percentile").value = percentile;
      byId("percentile-value").textContent = percentile === null ? "" : String(percentile);
    }
    byId("marks").replaceChildren(...data.normalizations.map((each) => {
      const button = element("button", { type: "button", textContent: each });
      button.setAttribute("aria-pressed", each === normalization);
      button.addEventListener("click", () => choosePreset(each));
      return button;
    }));
  }

  function choosePreset(name) {
    setNormalization(name);
    const view = listedAt();
    byId("threshold").value = runs[0].views[view].chosen[middle];
    showImage();
  }

  function open(at) {
    place = at;
    panels = panels.length ? panels : runs.map(makePanel);
    byId("panels").replaceChildren(...panels.map((each) => each.figure));
    const listed = data.normalizations[Number(byId("listed").value)];
    if (!large.open) {
      large.showModal();
      setNormalization(listed);
      byId("threshold").max = thresholds.length - 1;
      byId("threshold").value = runs[0].views[listedAt()].chosen[middle];
    }
    showImage();
    byId("threshold").focus();
  }

  const turn = (step) => {
    place = (place + step + shown.length) % shown.length;
    showImage();
  };

  function fromControls() {
    const kind = byId("kind").value;
    const percentile = byId("percentile").value;
    const name = { minmax: kind, max: kind, "ivr+pas": `ivr:${Number(percentile)}+pas:${divisorPercentile}` }[kind] || `${kind}:${Number(percentile)}`;
    setNormalization(name);
    renew();
  }

  let scheduled = false;
  byId("threshold").addEventListener("input", () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      update();
    });
  });
  byId("kind").addEventListener("change", fromControls);
  byId("percentile").addEventListener("input", fromControls);
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("close").addEventListener("click", () => large.close());
  large.addEventListener("close", () => focusPlace(place));
  large.addEventListener("keydown", (event) => {
    const inControl = ["INPUT", "SELECT"].includes(event.target.tagName);
    if (event.key === "n" || event.key === "N") {
      choosePreset(data.normalizations[(listedAt() + 1) % data.normalizations.length]);
    } else if (!inControl && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      turn(event.key === "ArrowLeft" ? -1 : 1);
      event.preventDefault();
    } else if (event.key === "PageUp" || event.key === "PageDown") {
      turn(event.key === "PageUp" ? -1 : 1);
      event.preventDefault();
    }
  });
  grid.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -shown.length, End: shown.length };
    if (event.key in steps) {
      focusPlace(active + steps[event.key]);
      event.preventDefault();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !large.open && !["INPUT", "SELECT"].includes(event.target.tagName)) {
      byId("text").focus();
      event.preventDefault();
    }
  });
  filters.addEventListener("input", choose);
  filters.addEventListener("reset", () => setTimeout(choose));
  filters.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("scroll", layOutSoon, { passive: true });
  window.addEventListener("resize", layOutSoon);
  for (const id of ["controls-kind", "percentile", "percentile-label"]) byId(id).hidden = data.runs[0].areScoreMaps;
  choose();
  document.documentElement.dataset.ready = "yes";
})();
