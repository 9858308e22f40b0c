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

/** Which colour, mark and dashes are whose. */
function legend(systems) {
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
  return element("ul", { class: "legend" }, ...systems.map(key));
}

/** A linear scale from [low, high] to [from, to], with round ticks inside. */
function scale([low, high], [from, to]) {
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
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

/** The frame of a chart: axes, ticks and names. `box` is its size, `x` and `y` have a domain, a name and how a tick is written. */
function frame(label, box, x, y) {
  const [left, right, top, bottom] = [52, box.width - 12, 12, box.height - 42];
  const [across, up] = [scale(x.domain, [left, right]), scale(y.domain, [bottom, top])];
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

/**
 * Two measures of systems against each other. Points have `system` (its number), `seed`, `x` and `y` (intervals), and `title`.
 * With several seeds each is a small mark, and the mean of a system's seeds a large one.
 */
function plane(label, x, y, points, systems) {
  const several = points.some((point) => point.seed !== points[0].seed);
  const domain = (axis) => {
    const ends = points.flatMap((point) => [point[axis].low, point[axis].high]);
    const [low, high] = range(ends);
    // No rate is below zero, and a mark at zero still needs room.
    return [Math.max(low, -(high - low) * 0.04), high];
  };
  const { drawing, across, up } = frame(label, { width: 460, height: 340 }, { ...x, domain: domain("x") }, { ...y, domain: domain("y") });
  for (const point of points) {
    const [at, height] = [across(point.x.estimate), up(point.y.estimate)];
    drawing.append(
      svg("path", {
        class: `interval ${style(point.system)}${several ? " one-seed" : ""}`,
        d: `M${across(point.x.low)} ${height}H${across(point.x.high)}M${at} ${up(point.y.low)}V${up(point.y.high)}`,
      }),
    );
  }
  for (const point of points) drawing.append(mark(point.system, across(point.x.estimate), up(point.y.estimate), several ? 3 : 6, point.title));
  const mean = (own, axis) => own.reduce((sum, point) => sum + point[axis].estimate, 0) / own.length;
  systems.forEach((name, index) => {
    const own = points.filter((point) => point.system === index);
    if (!several || own.length < 2) return;
    drawing.append(mark(index, across(mean(own, "x")), up(mean(own, "y")), 7, `${visible(name)}, mean of ${own.length} seeds`));
  });
  return drawing;
}
