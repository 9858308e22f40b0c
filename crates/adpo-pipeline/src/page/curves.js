// What training measured, step by step: every training of every seed.

/** What is drawn of a training, and how its name reads. `group`: panels of one group share their vertical scale. */
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
  { key: "learning_rate", name: "Learning rate" },
];

/** Points of curves with one x each: where all curves of a system have the same steps, their mean. */
function meanCurve(curves, key) {
  const steps = curves[0].steps;
  if (curves.length < 2 || curves.some((curve) => curve.steps.length !== steps.length || curve.steps.some((step, at) => step !== steps[at]))) return null;
  const all = curves.map((curve) => curve.values[key]);
  return { steps, values: steps.map((_, at) => (all.some((values) => values[at] == null) ? null : all.reduce((sum, values) => sum + values[at], 0) / all.length)) };
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

function panel({ key, name }, curves, domain, systems) {
  const last = Math.max(...curves.map((curve) => curve.steps.at(-1)));
  const first = Math.min(...curves.map((curve) => curve.steps[0]));
  const x = { name: "step", domain: [first, last > first ? last : first + 1], write: short };
  const { drawing, across, up, left, right } = frame(`${name} by step`, { width: 360, height: 230 }, x, { domain, write: short });
  if (domain[0] < 0 && domain[1] > 0) drawing.append(svg("line", { class: "zero", x1: left, x2: right, y1: up(0), y2: up(0) }));
  systems.forEach((system, index) => {
    const own = curves.filter((curve) => curve.training === system);
    if (!own.length) return;
    const mean = meanCurve(own, key);
    const line = (steps, values, title, thin) =>
      svg(
        "path",
        { class: `line ${style(index)}${thin ? " one-seed" : ""}`, "stroke-dasharray": thin ? "" : dashes(index), d: path(steps, values, across, up) },
        svg("title", {}, title),
      );
    for (const curve of own) drawing.append(line(curve.steps, curve.values[key], `${visible(system)}, seed ${curve.seed}`, mean != null));
    if (mean) drawing.append(line(mean.steps, mean.values, `${visible(system)}, mean of ${own.length} seeds`, false));
  });
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
