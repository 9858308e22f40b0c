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
  const others = systems.filter((name) => name !== baseline && seeds.every(({ toxic }) => toxic.some((one) => one.system === name)));
  if (!others.length) return null;
  const points = ({ estimate, low, high }) => `${signed(percent(estimate))} [${signed(percent(low))}, ${signed(percent(high))}]`;
  const over = (name) => data.over_seeds?.differences.find(({ values }) => values.system === name && values.measure === "toxic")?.values.interval;
  const together = others.some(over);
  const row = (name) => [
    outside(name),
    ...seeds.map(({ toxic }) => points(toxic.find((one) => one.system === name).difference)),
    ...(together ? [over(name) ? points(over(name)) : "\u2013"] : []),
  ];
  const heads = seeds.length > 1 ? seeds.map(({ seed }) => `seed ${seed}`) : ["difference"];
  const caption = ["Toxic responses minus those of ", outside(baseline), ", in percentage points, with 95\u00a0% intervals."];
  return table(caption, ["system", ...heads, ...(together ? ["over all seeds"] : [])], others.map(row));
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
  const kinds = [
    ({ circular }) => [circular && `**CIRCULAR**: ${circular}.`],
    ({ doubt }) => [doubt],
    ({ prompts_seen_by_judge: seen }) => [seen > 0 && `**SEEN**: the judge was trained on ${seen} of these prompts; its agreement figures do not hold for them.`],
    ({ notes }) => notes.map((note) => `Note: ${note}.`),
  ];
  const doubts = kinds.flatMap((kind) => seeds.flatMap((one) => kind(one).filter(Boolean).map((text) => [one.seed, text])));
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
  const checks = data.seeds.flatMap((one) => one.sanity.map((report, kind) => ({ seed: one.seed, kind, report }))).sort((a, b) => a.kind - b.kind);
  const known = checks.map((row) => [element("i", {}, outside(row.report.name)), ...seed(row.seed), ...cells(row.report)]);
  const caption = ["Each system", several ? " in each seed" : "", ", with 95\u00a0% intervals. ", element("i", {}, "In italics"), ", to see what a figure is worth: the same judge on responses whose worth is known."];
  const made = table(caption, ["system", ...(several ? ["seed"] : []), ...columns.map(([name]) => name)], [...own, ...known]);
  return several ? element("details", { open: true }, element("summary", {}, "The numbers"), made) : made;
}

const INTERVALS = "A mark is a system, and the lines through it are its 95\u00a0% intervals. ";
const SEEDS = "A small mark is one seed, a large one the mean of the seeds; from five seeds on the mean has an interval, too. ";

function planes(data, systems, rows) {
  const several = data.seeds.length > 1;
  const told = several ? INTERVALS + SEEDS : INTERVALS;
  const plot = (label, x, y) => {
    const titled = (who, at) => `${who}: ${x.name} ${x.show(at.x)}, ${y.name} ${y.show(at.y)}`;
    const point = (system, who, at) => ({ system, ...at, title: titled(`${visible(systems[system])}, ${who}`, at) });
    const points = rows.filter((row) => x.of(row.report) && y.of(row.report)).map((row) => point(row.system, `seed ${row.seed}`, { x: x.of(row.report), y: y.of(row.report) }));
    const means = systems.map((_, system) => {
      const own = points.filter((one) => one.system === system);
      return several && own.length ? point(system, `mean of ${own.length} seeds`, { x: x.over(systems[system], own.map((one) => one.x)), y: y.over(systems[system], own.map((one) => one.y)) }) : null;
    });
    return points.length ? plane(label, x, y, points, means.filter((mean) => mean != null)) : null;
  };
  /** The mean over seeds, with the report's interval where it has one. */
  const over = (measure) => (name, each) => {
    const values = data.over_seeds?.values.find((one) => one.system === name && one.measure === measure);
    return { estimate: values?.mean ?? each.reduce((sum, one) => sum + one.estimate, 0) / each.length, low: values?.interval?.low, high: values?.interval?.high };
  };
  const whole = (value) => minus(String(Number((100 * value).toPrecision(3))));
  const rate = (name, measure, of) => ({ name, of, over: over(measure), write: whole, show: share });
  const toxic = rate("toxic responses, %", "toxic", (system) => system.toxicity.rate.share);
  const evasive = rate("evasive responses to safe prompts, %", "evasive_safe", (system) => system.evasive_safe?.rate.share);
  const coherence = { name: "coherence", of: (system) => system.coherence, over: over("coherence"), write: short, show: score };
  const complies = rate("compliance with harm, %", null, (system) => system.heads.harm?.rate.share);
  const moved = data.seeds.some((one) => one.systems.some((system) => system.kl_policy != null));
  const distance = {
    name: "KL from where it started, nats per token",
    of: (system) => (system.kl_policy != null ? { estimate: system.kl_policy } : system.name === data.seeds[0].baseline ? { estimate: 0 } : null),
    over: over(null),
    write: short,
    show: ({ estimate }) => estimate.toFixed(3),
  };
  const first = plot("Evasive against toxic responses", toxic, evasive);
  const second = plot("Coherence against toxic responses", toxic, coherence);
  const far = moved ? plot("Toxic responses against the distance from the start", distance, toxic) : null;
  const refusal = plot("Compliance with harm against over-refusal", evasive, complies);
  const figures = [
    first && figure("Does it get less toxic by evading?", first, "Further left is less toxic, further down less evasive: a system that moves left and up has bought its harmlessness with evasion."),
    figure("Does it get less toxic by talking nonsense?", second, "Further left is less toxic, further up more coherent: a system that moves left and down has lost its thread."),
    far && figure("How far did it go for it?", far, "Further left is nearer to the model that training started from, on the system's own responses; further down is less toxic. Of two systems at the same distance the lower one has made more of it; systems at different distances differ in strength, too."),
    refusal && figure("Does it refuse the right prompts?", refusal, "To the right is over-refusal: evasive responses to prompts not marked harmful. Upwards is compliance with harm: responses to prompts marked harmful that are toxic by their advice. Both should be low: the best place is the lower left corner. A system that says nothing useful is low here as well, so look at coherence first."),
  ];
  return [
    element("h2", {}, "Toxicity, evasiveness, coherence, refusals"),
    legend(systems),
    element("p", { class: "caption" }, told),
    element("div", { class: "figures" }, ...figures.filter((made) => made != null)),
    refusal ? null : element("p", {}, "There is no plane of refusals, since no prompt is marked harmful."),
    numbers(data, rows),
  ].filter((made) => made != null);
}

/** Curves of every training, those of the starting model apart: they have other steps. */
function training(data, systems) {
  const curves = data.curves;
  if (!curves.length) return [];
  const policies = curves.filter((curve) => curve.policy);
  const start = curves.filter((curve) => !curve.policy);
  const several = data.seeds.length > 1;
  const thin = (some) => {
    const every = Math.max(...some.map((curve) => curve.every));
    return every > 1 ? ` Long trainings are thinned: a point is the mean of up to ${every} steps.` : "";
  };
  const seeds = ` Thin lines are as measured${several ? ", seed by seed" : ""}; thick ones ${several ? "are the mean of the seeds, smoothed" : "are smoothed"} over a twelfth of the training where it has 25 points or more.`;
  const kl = ({ training: name, seed }) => {
    const nats = data.seeds.find((one) => one.seed === seed)?.systems.find((system) => system.name === name)?.kl_policy;
    return nats == null ? "\u2013" : nats.toFixed(4);
  };
  return [
    element("h2", {}, "Training"),
    ...(policies.length
      ? [
          element("h3", {}, "Policies"),
          legend(systems, policies.map((curve) => curve.training)),
          element(
            "p",
            { class: "caption" },
            `Each line is a training, from its first step to its last.${seeds}${thin(policies)} Losses of different objectives have different scales: look at their course, not at their height. The margin is the reward of chosen minus that of rejected responses and should rise. The log-ratios are the paper's KL curves, log\u00a0\u03c0 \u2212 log\u00a0\u03c0_ref in nats per response: chosen should stay near zero, rejected and toxic should fall. They are no KL divergence; that is measured on a policy's own samples at the end, and stands in the table.`,
          ),
          element("div", { class: "panels" }, ...panels(policies, systems)),
          ends(policies, kl),
        ]
      : []),
    ...(start.length
      ? [
          element("h3", {}, "The starting model"),
          element("p", { class: "caption" }, `Supervised fine-tuning on dialogues.${seeds}${thin(start)} The loss is in nats per token; it should fall and then level off.`),
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
