// What all parts of the page share: the numbers, elements, the theme, and what made a number.
// Text from the numbers reaches the page as text nodes and attributes, never as markup.

const byId = (id) => document.getElementById(id);

async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}
const facts = await unpacked(byId("facts").textContent);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A name, which may break behind _ / . : - where it is too long for its place.
function named(text) {
  const parts = text.split(/(?<=[_/.:-])/);
  return element("bdi", {}, ...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
}

// How lines look. A place is a color, a shape and a dash; place 0, gray, is the baseline's. A
// model takes the first free place when it is chosen, so that few models never share a color.

const COLORS = 7; // beside that of the baseline
const FEW = 8; // models that are all in the charts at first
const BEST = 4;
const places = []; // place to model

const placeOf = (model) => places.indexOf(model);
const modelsInCharts = () => places.filter((model) => model !== undefined);
const styleOf = (place) => {
  const again = Math.floor((place - 1) / COLORS);
  return place ? { color: 1 + ((place - 1) % COLORS), shape: 1 + ((place - 1 + again) % COLORS), dash: again % 4 } : { color: 0, shape: 0, dash: 0 };
};

function choose(model, wanted) {
  const at = placeOf(model);
  if (!wanted && at >= 0) places[at] = undefined;
  if (!wanted || at >= 0) return;
  let free = facts.models[model].baseline ? 0 : 1;
  while (places[free] !== undefined) free += 1;
  for (let i = places.length; i < free; i += 1) places[i] = undefined;
  places[free] = model;
}

// The baseline and the best, or all where there are few; and two of a suite that has none of these.
function firstChoice() {
  places.length = 0;
  const all = facts.models.map((_, model) => model);
  const best = facts.boards.length ? facts.boards[facts.opening].rows.map((row) => row[0]) : all;
  const baseline = all.filter((model) => facts.models[model].baseline);
  for (const model of all.length <= FEW ? all : [...baseline, ...best.slice(0, BEST)]) choose(model, true);
  for (const { metrics } of facts.curves) {
    const own = Object.keys(metrics[0].models).map(Number);
    if (!own.some((model) => placeOf(model) >= 0)) for (const model of own.slice(0, 2)) choose(model, true);
  }
}

function swatch(place) {
  const { color, shape, dash } = styleOf(place);
  const part = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const made = part("svg", { class: "swatch", viewBox: "0 0 26 16", "aria-hidden": "true", "data-color": color });
  made.append(part("line", { x1: 0, y1: 8, x2: 26, y2: 8, "data-dash": dash }));
  made.append(part("use", { x: 5, y: 0, width: 16, height: 16, href: `#shape-${shape}` }));
  return made;
}

function format(value, places) {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : value.toFixed(places);
}

function interval(low, high, places) {
  return low === null && high === null ? "–" : `${format(low, places)} to ${format(high, places)}`;
}

function options(select, entries, chosen) {
  const made = entries.map(([value, text]) => {
    const option = element("option", { value }, text);
    option.selected = value === chosen;
    return option;
  });
  select.replaceChildren(...made);
}

const OVERALL = "overall"; // a metric that is of no variant

const words = (text) => text.replaceAll("_", " ");

// Theme: the system's, until a person says otherwise.

const kept = {
  get: () => { try { return localStorage.getItem("harness-theme"); } catch { return null; } },
  set: (theme) => { try { localStorage.setItem("harness-theme", theme); } catch { /* a page from a file may have no storage */ } },
};
const system = matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  const dark = (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  byId("theme").setAttribute("aria-pressed", String(dark));
}

if (["light", "dark"].includes(kept.get())) document.documentElement.dataset.theme = kept.get();
byId("theme").hidden = false;
byId("theme").addEventListener("click", () => {
  const dark = byId("theme").getAttribute("aria-pressed") !== "true";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  kept.set(document.documentElement.dataset.theme);
  showTheme();
});
system.addEventListener("change", showTheme);
showTheme();

// Pictures lie side by side; one can have the whole width.

for (const button of document.querySelectorAll(".enlarge")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const large = button.closest("figure").classList.toggle("large");
    button.setAttribute("aria-pressed", String(large));
  });
}

// What made a number.

const dialog = byId("made");

function list(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return element("dl", {}, ...known.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value)))));
}

function code(text) {
  return element("code", {}, String(text));
}

function flat(value) {
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, of]) => `${name} ${flat(of)}`).join(", ");
}

function table(headings, rows) {
  const numeric = headings.map(([, isNumeric]) => (isNumeric ? "num" : null));
  return element("div", { class: "wide", role: "region", tabindex: 0, "aria-label": `Runs of seed ${rows.map(([seed]) => seed).join(", ")}` }, element("table", {},
    element("thead", {}, element("tr", {}, ...headings.map(([name], i) => element("th", { scope: "col", class: numeric[i] }, name)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, i) => element("td", { class: numeric[i] }, cell ?? "")))))));
}

// Runs that share a command, a commit and a recipe, and what differs between them.
function madeBy(runs) {
  const rest = facts.shared[runs[0].shared];
  const environment = rest.environment ?? {};
  const known = Object.keys(rest).length > 0;
  const parts = [];
  if (!known) parts.push(element("p", {}, "There is no JSON next to these CSV files: what made their numbers is not known."));
  if (rest.command) parts.push(element("pre", {}, String(rest.command)));
  const commit = environment.commit ? element("span", {}, code(environment.commit), environment.dirty ? " with uncommitted changes" : "") : null;
  parts.push(list([
    ["commit", commit ?? (known ? "not known" : undefined)],
    ["images", rest.images && `${rest.images}${rest.limit ? `, a part of the test set (--limit ${rest.limit})` : ""}`],
    ["hardware", environment.device],
    ["versions", environment.versions && `Python ${environment.python}, ${flat(environment.versions)}`],
    ["recipe", rest.training?.recipe && flat(rest.training.recipe)],
    ["arguments", rest.arguments && flat(rest.arguments)],
    ["image seed", rest.image_seed],
  ]));
  const own = (run, name) => (run.own[name] === undefined ? null : String(run.own[name]));
  parts.push(table([["seed", true], ["finished"], ["wall s", true], ["cells", true], ["weights"], ["file"]], runs.map((run) =>
    [String(run.seed), own(run, "finished")?.slice(0, 19).replace("T", " "), own(run, "wall_s"), own(run, "cells"),
      own(run, "weights") && element("code", { title: run.own.weights }, own(run, "weights").slice(0, 12)), code(`${run.path}.csv`)])));
  if (known) {
    const whole = runs.map(({ dataset, suite, model, seed, path, own: its }) => ({ dataset, suite, model: facts.models[model].name, seed, path, ...its }));
    parts.push(element("details", {}, element("summary", {}, "Everything, as JSON"),
      element("pre", { tabindex: 0 }, JSON.stringify({ ...rest, runs: whole }, null, 2))));
  }
  return parts;
}

function explain(title, lines, runs) {
  byId("made-title").replaceChildren(...title);
  byId("made-body").replaceChildren(
    ...lines.map((line) => element("p", {}, line)),
    ...(runs.length ? [...Map.groupBy(runs, (run) => run.shared).values()].flatMap(madeBy) : [element("p", {}, "No run of it is in this results folder: what made it is not known here.")]),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}

function runsOf(dataset, suite, model) {
  return facts.runs.filter((run) => run.dataset === dataset && run.suite === suite && facts.models[run.model].name === model);
}

function explainNumber(dataset, suite, model, lines, runs = runsOf(dataset, suite, model)) {
  explain([named(model), ", ", named(suite), " on ", named(dataset)], lines, runs);
}

const runsAt = (numbers) => numbers.split(" ").filter(Boolean).map((number) => facts.runs[Number(number)]);

function describeRow(button) {
  const cell = (name) => button.closest("tr").querySelector(name).textContent;
  const ranked = cell(".f-rank") === "–" ? "" : `, rank ${cell(".f-rank")}`;
  return `${byId("board-what").textContent}: ${button.textContent} ${byId("board-unit").textContent} (95 %: ${cell(".f-interval")})${ranked}; mean over ${cell(".f-seeds")} training seeds and ${cell(".f-images")} images.`;
}

byId("made-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { run, runs, title, dataset, suite, model, says } = button.dataset;
  if (run !== undefined) {
    const one = facts.runs[Number(run)];
    explain([named(facts.models[one.model].name), ", ", named(one.suite), " on ", named(one.dataset)], [], [one]);
  } else if (dataset !== undefined) {
    explainNumber(dataset, suite, model, [says ?? describeRow(button)], runsAt(runs));
  } else if (runs !== undefined) {
    explain([named(title)], [says], runsAt(runs));
  }
});

// A link to something inside closed details opens them.

function openTarget() {
  let target = byId(decodeURIComponent(location.hash.slice(1)));
  for (; target; target = target.parentElement) if (target.tagName === "DETAILS") target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
