// Every prompt with what each system said to it. Rows are made as they are asked for; searching, filters and sorting act on all.

const CHUNK = 50;
const SCORES = ["toxicity", "evasiveness", "coherence"];

/** What a response can be, as report.md counts it. */
function verdicts({ toxicity, evasiveness, coherence }) {
  const is = {
    toxic: ({ scores }) => scores != null && scores.toxicity >= toxicity,
    evasive: ({ scores }) => scores != null && scores.evasiveness >= evasiveness,
    incoherent: ({ scores }) => scores != null && scores.coherence < coherence,
    degenerate: ({ scores }) => scores != null && scores.degenerate,
    unscored: ({ scores }) => scores == null,
  };
  is.helpful = (response) => !["toxic", "evasive", "incoherent", "degenerate", "unscored"].some((name) => is[name](response));
  return is;
}

/** Text that a reader may not want to see, behind a click. */
function behindClick(text, open, what) {
  const words = text.split(/\s+/).filter(Boolean).length;
  const length = `${words} ${words === 1 ? "word" : "words"}`;
  const place = element("span", { class: "covered" });
  const draw = (shown) => {
    const toggle = element("button", { type: "button", "aria-expanded": String(shown), onclick: () => draw(!shown) }, shown ? "hide" : `show ${length}${what}`);
    const had = place.contains(document.activeElement);
    place.replaceChildren(...(shown ? [outside(text), " ", toggle] : [toggle]));
    if (had) toggle.focus();
  };
  draw(open);
  return place;
}

/** The turns of a prompt: the last is shown, those before it are folded. */
function promptCell(prompt, open) {
  const text = (turn) => (prompt.cover ? behindClick(turn.content, open, "") : outside(turn.content));
  const earlier = prompt.turns.slice(0, -1).map((turn) => element("p", {}, element("b", {}, outside(turn.role)), ": ", text(turn)));
  const facts = [prompt.id, prompt.category, prompt.harmful ? "marked harmful" : null].filter((fact) => fact != null);
  return [
    text(prompt.turns.at(-1)),
    earlier.length ? element("details", {}, element("summary", {}, `${earlier.length} earlier ${earlier.length === 1 ? "turn" : "turns"}`), ...earlier) : null,
    element("p", { class: "facts" }, ...facts.flatMap((fact, at) => (at ? [" \u00b7 ", outside(fact)] : [outside(fact)]))),
  ];
}

function scoreCells(response, is) {
  const { scores } = response;
  if (!scores) return [element("td", { colspan: 3, class: "score" }, "not scored")];
  const said = { toxicity: is.toxic(response) && "toxic", evasiveness: is.evasive(response) && "evasive", coherence: is.incoherent(response) && "not coherent" };
  const words = SCORES.map((name) => said[name] || null);
  if (scores.degenerate) words[2] = "degenerate";
  return SCORES.map((name, at) => element("td", { class: words[at] ? "score said" : "score", "data-name": name }, scores[name].toFixed(2), words[at] && element("span", {}, words[at])));
}

/** A list to choose from: `options` are values with their names. */
function choice(label, options, onchange) {
  const list = element("select", { onchange }, ...options.map(([value, name]) => element("option", { value }, visible(name))));
  return { list, control: element("label", {}, label, list) };
}

/** The controls and the table of all prompts. */
function responseTable({ prompts, responses, systems, seeds, baseline, thresholds }) {
  const is = verdicts(thresholds);
  const haystack = (texts) => texts.join("\n").normalize("NFKC").toLowerCase();
  const all = prompts.map((prompt, order) => ({ ...prompt, order, asked: haystack([prompt.id, ...prompt.turns.map((turn) => turn.content)]), responses: [] }));
  for (const response of responses) all[response.prompt].responses.push({ ...response, said: haystack([response.text]) });

  const state = { sort: "order", down: false, shown: 0, found: all };
  const changed = () => select();
  const search = element("input", { type: "search", oninput: changed, placeholder: "words of a prompt or response" });
  const seed = choice("Seed", [...seeds.map((one) => [one, String(one)]), ...(seeds.length > 1 ? [["", "all"]] : [])], changed);
  const system = choice("System", [["", "any"], ...systems.map((name, at) => [at, name])], changed);
  const other = baseline == null ? [] : [["gone", `toxic in ${baseline}, not here`], ["new", `toxic here, not in ${baseline}`]];
  const kinds = [["", "anything"], ["toxic", "toxic"], ["evasive", "evasive"], ["incoherent", "not coherent"], ["degenerate", "degenerate"], ["helpful", "none of these"], ["unscored", "not scored"]];
  const kind = choice("Response is", [...kinds, ...other], changed);
  const marked = choice("Prompts", [["", "all"], ["yes", "marked harmful"], ["no", "not marked harmful"]], changed);
  const categories = [...new Set(prompts.map((prompt) => prompt.category).filter((category) => category != null))].sort();
  const category = choice("Category", [["", "all"], ...categories.map((name, at) => [at, name])], changed);
  const open = element("input", { type: "checkbox", onchange: changed });
  const controls = element(
    "form",
    { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() },
    element("label", { class: "search" }, "Search", search),
    system.control,
    kind.control,
    marked.control,
    ...(categories.length ? [category.control] : []),
    ...(seeds.length > 1 ? [seed.control] : []),
    element("label", { class: "check" }, open, "show covered text"),
  );

  /** The responses of a prompt that the choice of seed and system leaves; `beside`: and those of one more system. */
  const those = (prompt, beside = null) =>
    prompt.responses.filter((response) => (seed.list.value === "" || response.seed === Number(seed.list.value)) && (system.list.value === "" || response.system === Number(system.list.value) || response.system === beside));
  const base = systems.indexOf(baseline);
  const toxicInBaseline = (prompt, response) => prompt.responses.some((one) => one.system === base && one.seed === response.seed && is.toxic(one));
  const fits = (prompt, response) => {
    if (kind.list.value === "gone") return !is.toxic(response) && response.scores != null && toxicInBaseline(prompt, response);
    if (kind.list.value === "new") return is.toxic(response) && !toxicInBaseline(prompt, response);
    return kind.list.value === "" || is[kind.list.value](response);
  };
  const value = (prompt) => {
    const scores = those(prompt).filter((response) => response.scores).map((response) => response.scores[state.sort]);
    return scores.length ? Math.max(...scores) : -1;
  };

  const heads = new Map();
  const head = (key, name) => {
    const cell = element("th", { scope: "col" }, element("button", { type: "button", onclick: () => sortBy(key) }, name));
    heads.set(key, cell);
    return cell;
  };
  const caption = element("caption", {});
  const count = element("p", { role: "status", class: "count" });
  const bodies = element("table", { class: "responses" }, caption, element("thead", {}, element("tr", {}, head("order", "prompt"), element("th", { scope: "col" }, "system"), element("th", { scope: "col" }, "response"), ...SCORES.map((name) => head(name, name)))));
  const printed = element("p", { class: "on-paper" });
  const more = element("button", { type: "button", class: "more", onclick: () => fill(state.shown + CHUNK) });

  /** One prompt with its responses: a group of rows. */
  function group(prompt) {
    const rows = those(prompt, ["gone", "new"].includes(kind.list.value) ? base : null);
    const cell = element("th", { scope: "rowgroup", rowspan: Math.max(1, rows.length), class: "prompt" }, ...promptCell(prompt, open.checked));
    const several = seed.list.value === "" && seeds.length > 1;
    const row = (response) => [
      element("th", { scope: "row", class: style(response.system) }, outside(systems[response.system]), several ? ` (${response.seed})` : null),
      element("td", { class: "text" }, is.toxic(response) || is.unscored(response) ? behindClick(response.text, open.checked, is.toxic(response) ? ", toxic" : ", not scored") : response.text.trim() ? outside(response.text) : "[nothing]"),
      ...scoreCells(response, is),
    ];
    const lines = rows.map((response, at) => element("tr", {}, at ? null : cell, ...row(response)));
    return element("tbody", {}, ...(lines.length ? lines : [element("tr", {}, cell, element("td", { colspan: 5 }, "no response"))]));
  }

  function fill(upTo) {
    for (const prompt of state.found.slice(state.shown, upTo)) bodies.append(group(prompt));
    state.shown = Math.min(upTo, state.found.length);
    const left = state.found.length - state.shown;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(CHUNK, left)} more of ${left}`;
    printed.textContent = `Printed are ${state.shown} of them: those that the browser had shown. Covered text stays covered.`;
  }

  function select() {
    const wanted = search.value.normalize("NFKC").toLowerCase().trim();
    const holds = (prompt) => wanted === "" || prompt.asked.includes(wanted) || those(prompt).some((response) => response.said.includes(wanted));
    const found = all.filter((prompt) => {
      if (marked.list.value !== "" && (marked.list.value === "yes") !== prompt.harmful) return false;
      if (category.list.value !== "" && prompt.category !== categories[category.list.value]) return false;
      if ((kind.list.value !== "" || system.list.value !== "") && !those(prompt).some((response) => fits(prompt, response))) return false;
      return holds(prompt);
    });
    const keyed = found.map((prompt) => [state.sort === "order" ? prompt.order : value(prompt), prompt]);
    const sign = state.down ? -1 : 1;
    keyed.sort(([a, one], [b, two]) => sign * (a - b) || one.order - two.order);
    state.found = keyed.map(([, prompt]) => prompt);
    for (const [key, cell] of heads) cell.setAttribute("aria-sort", key !== state.sort ? "none" : state.down ? "descending" : "ascending");
    caption.textContent = `Every prompt with all responses. A click on a head sorts the prompts by the highest score among ${system.list.value === "" ? "their responses" : `the responses of ${visible(systems[system.list.value])}`}.`;
    count.textContent = `${state.found.length} of ${all.length} prompts`;
    for (const body of [...bodies.tBodies]) body.remove();
    state.shown = 0;
    fill(CHUNK);
  }

  function sortBy(key) {
    state.down = state.sort === key ? !state.down : key !== "order";
    state.sort = key;
    select();
  }

  select();
  if (typeof IntersectionObserver === "function") new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && !more.hidden && fill(state.shown + CHUNK), { rootMargin: "400px" }).observe(more);
  return [controls, count, printed, element("div", { class: "wide" }, bodies), more];
}
