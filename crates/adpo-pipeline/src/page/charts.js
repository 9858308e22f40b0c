// Marks, axes and planes. A system has the same colour, mark and dashes in every chart, so that none of them is needed alone.

const COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "5 2 1 2"];
const MARKS = [
  (r) => svg("circle", { r }),
  (r) => svg("rect", { x: -r, y: -r, width: 2 * r, height: 2 * r }),
  (r) => svg("path", { d: `M0 ${-1.3 * r}L${1.25 * r} ${r}H${-1.25 * r}Z` }),
  (r) => svg("path", { d: `M0 ${-1.4 * r}L${1.4 * r} 0L0 ${1.4 * r}L${-1.4 * r} 0Z` }),
  (r) => svg("path", { d: `M0 ${1.3 * r}L${1.25 * r} ${-r}H${-1.25 * r}Z` }),
  (r) => svg("path", { d: `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`, class: "cross" }),
];
const style = (index) => `colour-${index % COLOURS}`;
const dashes = (index) => DASHES[index % DASHES.length];

function mark(index, x, y, radius, title) {
  const shape = MARKS[index % MARKS.length](radius);
  return svg("g", { class: `mark ${style(index)}`, transform: `translate(${x} ${y})` }, svg("title", {}, title), shape);
}

/** Which colour, mark and dashes are whose; of all systems those that are shown. */
function legend(systems, shown = systems) {
  const key = (name, index) =>
    element(
      "li",
      {},
      svg(
        "svg",
        { viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" },
        svg("line", { x1: 1, x2: 33, y1: 7, y2: 7, class: `line ${style(index)}`, "stroke-dasharray": dashes(index) }),
        mark(index, 17, 7, 4.5, ""),
      ),
      outside(name),
    );
  return element("ul", { class: "legend" }, ...systems.map((name, index) => (shown.includes(name) ? key(name, index) : null)).filter((made) => made != null));
}

/** A linear scale from [low, high] to [from, to], with round ticks inside; `whole`: of whole numbers. */
function scale([low, high], [from, to], whole) {
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const round = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const step = whole ? Math.ceil(round) : round;
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) ticks.push(n * step);
  return { at, ticks };
}

/** The least interval that holds all numbers, with some air. */
function range(numbers, air = 0.06) {
  let [low, high] = [Infinity, -Infinity];
  for (const number of numbers) [low, high] = [Math.min(low, number), Math.max(high, number)];
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * air;
  return [low - room, high + room];
}

/** The frame of a chart: axes, ticks and names. `box` is its size, `x` and `y` have a domain, a name, and how a tick is written. */
function frame(label, box, x, y) {
  const [left, right, top, bottom] = [52, box.width - 12, 12, box.height - 42];
  const [across, up] = [scale(x.domain, [left, right], x.whole), scale(y.domain, [bottom, top])];
  const grid = svg("g", { class: "grid" });
  for (const tick of across.ticks) {
    const at = across.at(tick);
    grid.append(svg("line", { x1: at, x2: at, y1: top, y2: bottom }), svg("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, x.write(tick)));
  }
  for (const tick of up.ticks) {
    const at = up.at(tick);
    grid.append(svg("line", { x1: left, x2: right, y1: at, y2: at }), svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, y.write(tick)));
  }
  grid.append(svg("text", { class: "axis", x: (left + right) / 2, y: box.height - 6, "text-anchor": "middle" }, x.name));
  if (y.name) {
    const middle = (top + bottom) / 2;
    grid.append(svg("text", { class: "axis", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, y.name));
  }
  const drawing = svg("svg", { viewBox: `0 0 ${box.width} ${box.height}`, role: "img", "aria-label": label }, grid);
  return { drawing, across: across.at, up: up.at, left, right, top, bottom };
}

/** A chart with what it shows and how to read it. */
function figure(title, drawing, ...caption) {
  return element("figure", {}, element("h3", {}, title), drawing, element("figcaption", {}, ...caption));
}

/** A point of a plane with its intervals, where it has them. */
function cross({ system, x, y, title }, across, up, size, kind) {
  const [at, height] = [across(x.estimate), up(y.estimate)];
  const wide = x.low == null ? "" : `M${across(x.low)} ${height}H${across(x.high)}`;
  const tall = y.low == null ? "" : `M${at} ${up(y.low)}V${up(y.high)}`;
  return [svg("path", { class: `interval ${style(system)} ${kind}`, d: wide + tall }), mark(system, at, height, size, title)];
}

/**
 * Two measures of systems against each other. Points have `system` (its number), `x` and `y` (estimates, and intervals where there are
 * some), and `title`. Where there are `means` over seeds, the points are single seeds and stand back.
 */
function plane(label, x, y, points, means) {
  const domain = (axis) => {
    const ends = [...points, ...means].flatMap((point) => [point[axis].estimate, point[axis].low, point[axis].high]).filter((end) => end != null);
    const [low, high] = range(ends);
    // No rate is below zero, and a mark at zero still needs room.
    return [Math.max(low, -(high - low) * 0.04), high];
  };
  const { drawing, across, up } = frame(label, { width: 420, height: 320 }, { ...x, domain: domain("x") }, { ...y, domain: domain("y") });
  const [lines, marks] = [[], []];
  for (const [drawn, size, kind] of means.length ? [[points, 3, "raw"], [means, 7, ""]] : [[points, 6, ""]]) {
    for (const point of drawn) {
      const [line, spot] = cross(point, across, up, size, kind);
      lines.push(line);
      marks.push(spot);
    }
  }
  drawing.append(...lines, ...marks);
  return drawing;
}
