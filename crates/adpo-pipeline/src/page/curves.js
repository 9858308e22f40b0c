// What training measured, step by step: every training of every seed.

/** What is drawn of a training, and how its name reads. `group`: panels of one group share their vertical scale. `exact`: not to be smoothed. */
const PANELS = [
  { key: "loss", name: "Loss" },
  { key: "rewards/margins", name: "Margin, chosen minus rejected" },
  { key: "kl/chosen", name: "Log-ratio, chosen", group: "log-ratio" },
  { key: "kl/rejected", name: "Log-ratio, rejected", group: "log-ratio" },
  { key: "kl/toxic", name: "Log-ratio, toxic", group: "log-ratio" },
  { key: "logps/chosen", name: "Log-probability, chosen", group: "log-probability" },
  { key: "logps/rejected", name: "Log-probability, rejected", group: "log-probability" },
  { key: "logps/toxic", name: "Log-probability, toxic", group: "log-probability" },
  { key: "grad_norm", name: "Norm of the gradient" },
  { key: "learning_rate", name: "Learning rate", exact: true },
];

/** What a curve has at a step, on the line between two of its points; null beyond them and beside a gap. */
function valueAt({ steps, values }, key, step) {
  const next = steps.findIndex((one) => one >= step);
  if (next < 0) return null;
  if (steps[next] === step) return values[key][next];
  const [low, high] = [values[key][next - 1], values[key][next]];
  if (low == null || high == null) return null;
  return low + ((high - low) * (step - steps[next - 1])) / (steps[next] - steps[next - 1]);
}

/** The mean of a system's curves, as far as the shortest goes. */
function meanCurve(curves, key) {
  const { steps } = curves.reduce((shortest, curve) => (curve.steps.at(-1) < shortest.steps.at(-1) ? curve : shortest));
  const mean = (step) => {
    const all = curves.map((curve) => valueAt(curve, key, step));
    return all.some((value) => value == null) ? null : all.reduce((sum, value) => sum + value, 0) / all.length;
  };
  return { steps, values: steps.map(mean) };
}

/** Each value with its neighbours on both sides, their mean: a twelfth of the curve; a short curve is left as it is. */
function smoothed(values) {
  const side = Math.floor(values.length / 25);
  return values.map((value, at) => {
    if (value == null) return null;
    const near = values.slice(Math.max(0, at - side), at + side + 1).filter((one) => one != null);
    return near.reduce((sum, one) => sum + one, 0) / near.length;
  });
}

/** A line that has a gap where there is no number. */
function path(steps, values, across, up) {
  let pen = "M";
  let d = "";
  steps.forEach((step, at) => {
    if (values[at] == null) pen = "M";
    else {
      d += `${pen}${across(step).toFixed(1)} ${up(values[at]).toFixed(1)}`;
      pen = "L";
    }
  });
  return d;
}

function panel({ key, name, exact }, curves, domain, systems) {
  const last = Math.max(...curves.map((curve) => curve.steps.at(-1)));
  const first = Math.min(...curves.map((curve) => curve.steps[0]));
  const x = { name: "step", domain: [first, last > first ? last : first + 1], write: short, whole: true };
  const { drawing, across, up, left, right } = frame(`${name} by step`, { width: 360, height: 230 }, x, { domain, write: short });
  if (domain[0] < 0 && domain[1] > 0) drawing.append(svg("line", { class: "zero", x1: left, x2: right, y1: up(0), y2: up(0) }));
  const line = (kind, { steps, values }, title) => svg("path", { ...kind, d: path(steps, values, across, up) }, svg("title", {}, title));
  const thick = [];
  systems.forEach((system, index) => {
    const own = curves.filter((curve) => curve.training === system);
    if (!own.length) return;
    const mean = meanCurve(own, key);
    const values = exact ? mean.values : smoothed(mean.values);
    if (own.length > 1 || values.some((value, at) => value !== mean.values[at])) {
      const raw = (curve) => line({ class: `line ${style(index)} raw` }, { steps: curve.steps, values: curve.values[key] }, `${visible(system)}, seed ${curve.seed}`);
      drawing.append(...own.map(raw));
    }
    const title = own.length > 1 ? `${visible(system)}, mean of ${own.length} seeds` : visible(system);
    thick.push(line({ class: `line ${style(index)}`, "stroke-dasharray": dashes(index) }, { steps: mean.steps, values }, title));
  });
  drawing.append(...thick);
  return figure(name, drawing);
}

/** All panels of some trainings. */
function panels(curves, systems) {
  const of = (key) => curves.filter((curve) => curve.values[key]);
  const numbers = (key) => of(key).flatMap((curve) => curve.values[key].filter((value) => value != null));
  const shown = PANELS.filter(({ key }) => numbers(key).length);
  return shown.map((one) => {
    const together = one.group ? shown.filter((other) => other.group === one.group) : [one];
    return panel(one, of(one.key), range(together.flatMap(({ key }) => numbers(key))), systems);
  });
}

/** The same in numbers: the mean of the last tenth of each curve. */
function ends(curves, policies) {
  const shown = PANELS.filter(({ key }) => key !== "learning_rate" && curves.some((curve) => curve.values[key]));
  const end = (values) => {
    const known = (values ?? []).filter((value) => value != null);
    const last = known.slice(-Math.max(1, Math.round(known.length / 10)));
    return last.length ? short(last.reduce((sum, value) => sum + value, 0) / last.length) : "\u2013";
  };
  const rows = curves.map((curve) => [
    outside(curve.training),
    String(curve.seed),
    String(curve.steps.at(-1)),
    ...shown.map(({ key }) => end(curve.values[key])),
    ...(policies ? [policies(curve)] : []),
  ]);
  const heads = ["training", "seed", "steps", ...shown.map(({ name }) => name.toLowerCase()), ...(policies ? ["KL on own samples, nats per token"] : [])];
  return element("details", {}, element("summary", {}, "The numbers at the end of training"), table("Mean over the last tenth of the steps.", heads, rows));
}
