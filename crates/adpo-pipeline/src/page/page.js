// The page from top to bottom: what came out, the systems, refusals, training, and every response.

/** Systems in the order of the report, with what each seed measured of one of them. */
function measured(data) {
  const names = data.seeds[0].systems.map((system) => system.name);
  const rows = data.seeds.flatMap(({ seed, systems }) => systems.map((system) => ({ seed, system: names.indexOf(system.name), report: system })));
  return { systems: names, rows: rows.filter((row) => row.system >= 0).sort((a, b) => a.system - b.system) };
}

/** The difference of each system from the baseline in toxic responses, with its interval. */
function differences(data, systems) {
  const { seeds } = data;
  const { baseline } = seeds[0];
  const line = (name) => {
    const each = seeds.flatMap(({ seed, toxic }) => toxic.filter((one) => one.system === name).map((one) => ({ seed, ...one })));
    if (!each.length) return null;
    const points = ({ estimate, low, high }) => `${signed(percent(estimate))} points [${signed(percent(low))}, ${signed(percent(high))}]`;
    const told = each.map((one) => (each.length > 1 ? `${points(one.difference)} in seed ${one.seed}` : points(one.difference)));
    return element("li", {}, outside(name), `: ${listed(told)}`);
  };
  const lines = systems.filter((name) => name !== baseline).map(line).filter((made) => made != null);
  if (!lines.length) return null;
  return element("div", {}, element("p", {}, "Toxic responses, minus those of ", outside(baseline), ", with the 95\u00a0% interval of the difference:"), element("ul", {}, ...lines));
}

/** What is said of seeds, each text once with the seeds that it is said of: `[seed, text]` in order. */
function together(said, several) {
  const seeds = new Map();
  for (const [seed, text] of said) seeds.set(text, [...(seeds.get(text) ?? []), seed]);
  const where = (of) => (several ? `${of.length > 1 ? "Seeds" : "Seed"} ${listed(of)}. ` : "");
  return [...seeds].map(([text, of]) => element("p", { class: "doubt" }, where(of), ...sentence(text)));
}

/** What came out, and what speaks against it. */
function headline(data, systems) {
  const { seeds } = data;
  const several = seeds.length > 1;
  const name = several ? `${visible(data.recipe)}: ${seeds.length} seeds` : visible(seeds[0].title);
  document.title = `${name} \u2013 ADPO report`;
  const doubts = seeds.flatMap(({ seed, circular, doubt, prompts_seen_by_judge: seen, notes }) => {
    const told = [
      circular && `**CIRCULAR**: ${circular}.`,
      doubt,
      seen > 0 && `**SEEN**: the judge was trained on ${seen} of these prompts; its agreement figures do not hold for them.`,
      ...notes.map((note) => `Note: ${note}.`),
    ];
    return told.filter(Boolean).map((text) => [seed, text]);
  });
  const { systems: [scope], judge, environment } = seeds[0];
  const known = ["weights", "temperature", "commit", "device", "time"].filter((name) => environment[name] != null);
  const facts = known.map((name) => `${name} ${visible(environment[name])}`);
  return element(
    "header",
    {},
    element("h1", {}, name),
    element("p", { class: "result" }, ...sentence(data.result)),
    differences(data, systems),
    ...(several ? [element("h2", {}, "Within each seed"), ...seeds.map((one) => element("p", {}, `Seed ${one.seed}. `, ...sentence(one.result.replace("**Result.** ", ""))))] : []),
    ...together(doubts, several),
    element("p", { class: "facts" }, `${scope.prompts} prompts (${scope.harmful_prompts} marked harmful), ${systems.length} systems. Judge: ${visible(judge.name)}, fingerprint ${visible(judge.fingerprint)}. ${facts.join(" \u00b7 ")}. report.md has the tests, the judge's errors and the instruments; report.json has every figure.`),
  );
}

const COLUMNS = [
  ["toxic %", (system) => share(system.toxicity.rate.share)],
  ["evasive %", (system) => system.evasive_safe && share(system.evasive_safe.rate.share)],
  ["evasive %, harmful", (system) => system.evasive_harmful && share(system.evasive_harmful.rate.share)],
  ["complies with harm %", (system) => system.heads.harm && share(system.heads.harm.rate.share)],
  ["helpful %", (system) => system.helpful && share(system.helpful.share)],
  ["coherence", (system) => score(system.coherence)],
  ["degenerate %", (system) => share(system.degenerate.share)],
];

/** The numbers behind the planes. */
function numbers(data, rows) {
  const several = data.seeds.length > 1;
  const columns = COLUMNS.filter(([, cell]) => rows.some(({ report }) => cell(report)));
  const cells = (report) => columns.map(([, cell]) => cell(report) ?? "\u2013");
  const seed = (of) => (several ? [String(of)] : []);
  const own = rows.map((row) => [outside(row.report.name), ...seed(row.seed), ...cells(row.report)]);
  const known = data.seeds.flatMap((one) => one.sanity.map((report) => [element("i", {}, outside(report.name)), ...seed(one.seed), ...cells(report)]));
  const caption = ["Each system", several ? " in each seed" : "", ", with 95\u00a0% intervals. ", element("i", {}, "In italics"), ", to see what a figure is worth: the same judge on responses whose worth is known."];
  const made = table(caption, ["system", ...(several ? ["seed"] : []), ...columns.map(([name]) => name)], [...own, ...known]);
  return several ? element("details", { open: true }, element("summary", {}, "The numbers"), made) : made;
}

const INTERVALS = "A mark is a system, and the lines through it are its 95\u00a0% intervals. ";
const SEEDS = "With several seeds, a small mark is one seed and a large one the mean of the seeds; the mean has no interval here. ";

function planes(data, systems, rows) {
  const told = data.seeds.length > 1 ? INTERVALS + SEEDS : INTERVALS;
  const plot = (label, x, y) => {
    const has = rows.filter((row) => x.of(row.report) && y.of(row.report));
    const title = (row) => `${visible(row.report.name)}, seed ${row.seed}: ${x.name} ${x.show(x.of(row.report))}, ${y.name} ${y.show(y.of(row.report))}`;
    const points = has.map((row) => ({ system: row.system, seed: row.seed, x: x.of(row.report), y: y.of(row.report), title: title(row) }));
    return points.length ? plane(label, x, y, points, systems) : null;
  };
  const whole = (value) => minus(String(Number((100 * value).toPrecision(3))));
  const rate = (name, of) => ({ name, of, write: whole, show: share });
  const toxic = rate("toxic responses, %", (system) => system.toxicity.rate.share);
  const evasive = rate("evasive responses to safe prompts, %", (system) => system.evasive_safe?.rate.share);
  const coherence = { name: "coherence", of: (system) => system.coherence, write: short, show: score };
  const complies = rate("compliance with harm, %", (system) => system.heads.harm?.rate.share);
  const first = plot("Evasive against toxic responses", toxic, evasive);
  const second = plot("Coherence against toxic responses", toxic, coherence);
  const refusal = plot("Compliance with harm against over-refusal", evasive, complies);
  return [
    element("h2", {}, "Toxicity, evasiveness, coherence"),
    legend(systems),
    element(
      "div",
      { class: "figures" },
      first && figure("Does it get less toxic by evading?", first, told, "Further left is less toxic, further down less evasive: a system that moves left and up has bought its harmlessness with evasion."),
      figure("Does it get less toxic by talking nonsense?", second, told, "Further left is less toxic, further up more coherent: a system that moves left and down has lost its thread."),
    ),
    numbers(data, rows),
    element("h2", {}, "Refusals"),
    refusal
      ? element("div", { class: "figures" }, figure("Does it refuse the right prompts?", refusal, told, "To the right is over-refusal: evasive responses to prompts not marked harmful. Upwards is compliance with harm: responses to prompts marked harmful that are toxic by their advice. Both should be low: the best place is the lower left corner. A system that says nothing useful is low here as well, so look at coherence first."))
      : element("p", {}, "No prompt is marked harmful: harmful compliance is not looked for, and all evasion counts as over-refusal."),
  ];
}

/** Curves of every training, those of the starting model apart: they have other steps. */
function training(data, systems) {
  const curves = data.curves;
  if (!curves.length) return [];
  const policies = curves.filter((curve) => curve.policy);
  const start = curves.filter((curve) => !curve.policy);
  const several = data.seeds.length > 1;
  const every = Math.max(...curves.map((curve) => curve.every));
  const thin = every > 1 ? ` Long trainings are thinned: a point is the mean of up to ${every} steps.` : "";
  const seeds = several ? " Thin lines are single seeds, the thick line is their mean." : "";
  const kl = ({ training: name, seed }) => {
    const nats = data.seeds.find((one) => one.seed === seed)?.systems.find((system) => system.name === name)?.kl_policy;
    return nats == null ? "\u2013" : nats.toFixed(4);
  };
  return [
    element("h2", {}, "Training"),
    ...(policies.length
      ? [
          element("h3", {}, "Policies"),
          legend(systems),
          element(
            "p",
            { class: "caption" },
            `Each line is a training, from its first step to its last.${seeds}${thin} Losses of different objectives have different scales: look at their course, not at their height. The margin is the reward of chosen minus that of rejected responses and should rise. The log-ratios are the paper's KL curves, log\u00a0\u03c0 \u2212 log\u00a0\u03c0_ref in nats per response: chosen should stay near zero, rejected and toxic should fall. They are no KL divergence; that is measured on a policy's own samples at the end, and stands in the table.`,
          ),
          element("div", { class: "panels" }, ...panels(policies, systems)),
          ends(policies, kl),
        ]
      : []),
    ...(start.length
      ? [
          element("h3", {}, "The starting model"),
          element("p", { class: "caption" }, `Supervised fine-tuning on dialogues.${seeds}${thin} The loss is in nats per token; it should fall and then level off.`),
          element("div", { class: "panels" }, ...panels(start, systems)),
          ends(start),
        ]
      : []),
  ];
}

function draw(data) {
  const { systems, rows } = measured(data);
  const { baseline, judge } = data.seeds[0];
  const responses = responseTable({
    prompts: data.prompts,
    responses: data.responses,
    systems,
    seeds: data.seeds.map((one) => one.seed),
    baseline,
    thresholds: judge.thresholds,
  });
  document.getElementById("page").append(
    headline(data, systems),
    ...planes(data, systems, rows),
    ...training(data, systems),
    element("h2", {}, "Responses"),
    element("p", { class: "caption" }, "Scores are the judge's, from 0 to 1; a word under a score says that it is on the wrong side of the judge's threshold. Covered until you click: toxic responses, responses without a score, and prompts that are marked harmful or toxic themselves."),
    ...responses,
  );
}

draw(JSON.parse(document.getElementById("data").textContent));
