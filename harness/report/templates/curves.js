// Curves: one small chart for each condition, model or score, drawn by Vega-Lite.

const SHAPES = [
  "circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left",
];
const DASHES = [[1, 0], [5, 2], [2, 2], [7, 2, 2, 2]];
const DOUBLES = [...Array(16).keys()].map((i) => 2 ** i); // evaluations double with steps
const suites = [];

function points(suite, metric, models) {
  const rows = [];
  for (const model of models) {
    const line = metric.models[model];
    if (!line) continue;
    suite.cells.forEach(([condition, level], cell) => {
      const [value, low, high] = line.slice(3 * cell, 3 * cell + 3);
      const x = suite.at ? suite.at[model]?.[cell] : level;
      if (value !== null && x !== null && x !== undefined && !(suite.log && x <= 0)) rows.push({ model, condition, level, cell, x, value, low, high });
    });
  }
  return rows;
}

const withUnit = (metric) => `${metric.title}${metric.variant && `, ${metric.variant}`}${metric.unit && `, ${metric.unit}`}`;

function spec(suite, { metric, rows, up, across }) {
  const severity = suite.x.startsWith("severity");
  const levels = [...new Set(rows.map((row) => row.level))];
  const many = levels.length > 12; // too many points for bars and marks
  const values = severity ? [0, 1, 2, 3, 4, 5] : suite.at && suite.log ? DOUBLES : suite.x === "epoch" && !many ? levels : null;
  const axis = { title: null, labelFontSize: 10, tickSize: 3, labelPadding: 3, domainColor: "var(--rule)", tickColor: "var(--rule)", labelColor: "var(--muted)", gridColor: "var(--rule)", gridOpacity: 0.6 };
  const x = { field: "x", type: "quantitative", axis: { ...axis, grid: false, format: ".4~r", labelFlush: true, ...(values ? { values } : { tickCount: 5 }) }, scale: { type: suite.log ? "log" : "linear", nice: false, domain: across } };
  const y = (field) => ({ field, type: "quantitative", axis: { ...axis, tickCount: 4, format: ".4~r", domain: false, ticks: false }, scale: { nice: false, domain: up } });
  const color = { field: "color", type: "nominal", scale: null };
  return {
    width: "container", height: "container", background: "transparent", autosize: { type: "fit", contains: "padding" },
    padding: { left: 0, right: 6, top: 4, bottom: 0 },
    data: { name: "points", values: rows },
    layer: [
      { transform: [{ filter: "isValid(datum.low)" }], mark: many ? { type: "area", opacity: 0.14, clip: true } : { type: "rule", opacity: 0.5, clip: true }, encoding: { x, y: y("low"), y2: { field: "high" }, color, detail: { field: "line" } } },
      { mark: { type: "line", clip: true, strokeWidth: 1.6 }, encoding: { x, y: y("value"), color, detail: { field: "line" }, strokeDash: { field: "dash", scale: null }, order: { field: "level" } } },
      { mark: { type: "point", filled: true, size: many ? 6 : 26, opacity: 1, clip: true, cursor: "pointer" }, encoding: { x, y: y("value"), color, shape: { field: "shape", scale: null }, tooltip: [
        { field: "model_name", title: "model" }, { field: "condition_name", title: "condition" }, { field: "level", title: severity ? "severity" : suite.x === "epoch" ? "epoch" : "level" },
        ...(suite.at ? [{ field: "x", title: suite.x, format: ".4~g" }] : []), { field: "value", title: withUnit(metric), format: `.${metric.places}f` }, { field: "interval", title: suite.x === "epoch" ? "seeds" : "95 %" },
      ] } },
      { transform: [{ filter: "datum.label" }], mark: { type: "text", align: "right", baseline: "top", dx: -4, dy: 3, fontSize: 10, limit: 110 }, encoding: { x, y: y("value"), text: { field: "label" }, color: { value: "var(--muted)" } } },
    ],
    config: { view: { stroke: null } },
  };
}

function extent(values, share) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = share * (high - low || Math.abs(high) || 1);
  return [low - room, high + room];
}

// Where the numbers are, and their intervals as far as these do not make the lines flat.
function domains(suite, metric, rows) {
  const values = rows.map((row) => row.value);
  const [least, most] = extent(values, 0.5);
  const ends = rows.flatMap((row) => (row.low === null || row.high === null ? [] : [Math.max(row.low, least), Math.min(row.high, most)]));
  let up = extent([...values, ...ends], 0.06);
  if (metric.unit === "%") up = extent([Math.max(0, up[0]), Math.min(100, up[1])], 0.03); // whole marks at 0 and 100
  const xs = rows.map((row) => row.x);
  const across = suite.log ? [Math.min(...xs) / 1.1, Math.max(...xs) * 1.1] : extent(xs, 0.04);
  return { up, across };
}

// Models side by side at each level of a linear axis, so that their bars do not hide each other.
function spread(suite, rows) {
  const xs = [...new Set(rows.map((row) => row.x))].sort((a, b) => a - b);
  if (suite.log || suite.at || xs.length > 12) return rows;
  const step = Math.min(...xs.slice(1).map((x, i) => x - xs[i]), 1e300);
  const lines = [...new Set(rows.map((row) => row.line))];
  const apart = xs.length > 1 ? Math.min(0.08, 0.5 / lines.length) * step : 0;
  return rows.map((row) => ({ ...row, x: row.x + (lines.indexOf(row.line) - (lines.length - 1) / 2) * apart }));
}

class Suite {
  constructor(section) {
    const { suite, training } = section.dataset;
    this.section = section;
    this.facts = training === undefined ? facts.curves[Number(suite)] : facts.training[Number(training)];
    this.facet = training === undefined ? "condition" : "metric";
    [this.metric] = this.facts.metrics;
    this.panels = section.querySelector(".panels");
    this.lines = section.querySelector(".lines");
    this.numbers = section.querySelector("details.table");
    this.turn = 0;
    section.addEventListener("toggle", () => { if (section.open) this.draw(); });
    if (training === undefined) this.offer();
  }

  // The menus: a metric, then a variant of it, and what a panel is of.
  offer() {
    const { metrics } = this.facts;
    const [metric, variant, facet] = ["metric", "variant", "facet"].map((name) => this.section.querySelector(`select.${name}`));
    const distinct = (entries) => [...new Map(entries)];
    const opening = metrics.find((m) => m.metric === "accuracy" && !m.variant) ?? metrics[0];
    const choose = (name, part) => {
      const own = metrics.filter((m) => m.metric === name);
      this.metric = own.find((m) => m.variant === part) ?? own[0];
      options(metric, distinct(metrics.map((m) => [m.metric, m.title])), name);
      options(variant, own.map((m) => [m.variant, m.variant || OVERALL]), this.metric.variant);
      variant.parentElement.hidden = own.length === 1 && !own[0].variant;
      this.facet = facet.value;
    };
    choose(opening.metric, opening.variant);
    for (const menu of [metric, variant, facet]) menu.addEventListener("change", () => { choose(metric.value, variant.value); this.draw(); });
    const across = this.section.querySelector("select.across");
    across?.addEventListener("change", () => {
      Object.assign(this.facts, this.facts.axes[Number(across.value)]);
      this.section.querySelector(".x").textContent = this.facts.x;
      this.draw();
    });
    this.numbers.addEventListener("toggle", () => this.tabulate());
    this.section.querySelector("form").hidden = false;
  }

  models(metric) { return modelsInCharts().filter((model) => metric.models[model]); }

  rows(metric, byModel) { return points(this.facts, metric, this.models(metric)).map((row) => this.styled(row, metric, byModel)); }

  // What each panel shows: { title, metric, rows, up, across }.
  layout() {
    if (this.facet === "metric") {
      return this.facts.metrics.map((metric) => ({ title: withUnit(metric), metric, rows: this.rows(metric, false) }))
        .filter(({ rows }) => rows.length).map((panel) => ({ ...panel, ...domains(this.facts, panel.metric, panel.rows) }));
    }
    const { metric } = this;
    const { conditions, everywhere } = this.facts;
    const byModel = this.facet === "model";
    const rows = spread(this.facts, this.rows(metric, byModel));
    const inside = (row, i) => (byModel ? row.model : row.condition) === i;
    const which = (byModel ? this.models(metric) : conditions.map((_, i) => i)).filter((i) => rows.some((row) => inside(row, i) && row.condition !== everywhere));
    const shared = rows.length ? domains(this.facts, metric, rows) : {};
    return which.map((i) => ({
      title: byModel ? facts.models[i].name : words(conditions[i]), metric, ...shared,
      rows: rows.filter((row) => inside(row, i) || row.condition === everywhere),
    }));
  }

  async draw() {
    const turn = ++this.turn;
    if (!this.section.open) return;
    const byModel = this.facet === "model";
    const panels = this.layout();
    this.section.querySelector(".up")?.replaceChildren(withUnit(this.metric));
    this.panels.classList.toggle("few", panels.length <= 3);
    const figures = panels.map((panel) => this.figure(panel, byModel));
    this.panels.replaceChildren(...figures);
    this.lines.hidden = this.facet === "condition";
    this.lines.replaceChildren(...this.legend(byModel));
    if (!panels.length) this.panels.append(element("p", { class: "legend" }, "The chosen models have no such numbers."));
    if (this.numbers?.open) this.tabulate();
    for (const [i, figure] of figures.entries()) {
      if (turn !== this.turn) return; // another choice was made meanwhile
      await this.chart(figure, panels[i]);
      await new Promise((done) => setTimeout(done)); // the page answers between two charts
    }
  }

  legend(byModel) {
    const { conditions, everywhere, metrics } = this.facts;
    const entries = byModel ? conditions.flatMap((condition, i) => (i === everywhere ? [] : [[i + 1, words(condition)]]))
      : this.models(metrics[0]).map((model) => [placeOf(model), facts.models[model].name]);
    return entries.flatMap(([place, text]) => [element("span", {}, swatch(place), named(text)), " "]);
  }

  styled(row, metric, byModel) {
    const beside = byModel && row.condition === this.facts.everywhere; // gray, and called by its name
    const style = styleOf(beside ? 0 : byModel ? row.condition + 1 : placeOf(row.model));
    return {
      ...row, line: byModel ? (beside ? `model ${row.model}` : row.condition) : row.model, label: beside ? facts.models[row.model].name : "", color: `var(--c${style.color})`, shape: SHAPES[style.shape], dash: DASHES[style.dash],
      model_name: facts.models[row.model].name, condition_name: words(this.facts.conditions[row.condition]),
      interval: interval(row.low, row.high, metric.places),
    };
  }

  figure({ title, metric, rows }, byModel) {
    // The drawing has a place of its own, since Vega names the place that it draws in.
    const label = this.summary(title, metric, rows, byModel);
    const chart = element("div", { class: "chart", role: "img", "aria-label": label }, element("div", { "aria-hidden": "true" }));
    return element("figure", {}, element("figcaption", {}, named(title)), chart);
  }

  summary(title, metric, rows, byModel) {
    const lines = new Map();
    for (const row of rows) {
      const name = byModel && !row.label ? row.condition_name : row.model_name;
      lines.set(name, [...(lines.get(name) ?? []), row]);
    }
    const ends = [...lines].slice(0, FEW).map(([name, of]) => `${name} from ${format(of[0].value, metric.places)} to ${format(of.at(-1).value, metric.places)}`);
    const where = this.numbers ? " The numbers are in the table below." : "";
    const what = [metric.title, metric.variant, metric.unit].filter(Boolean).join(" ");
    return `${title}: ${what} by ${this.facts.x}; ${ends.join("; ")}.${where}`;
  }

  async chart(figure, panel) {
    const chart = figure.querySelector(".chart > div");
    const { view } = await vegaEmbed(chart, spec(this.facts, panel), { actions: false, renderer: "svg", ast: true, tooltip: { theme: "none", disableDefaultStyle: true } });
    view.addEventListener("click", (_, item) => { if (item?.datum?.model_name) this.explain(panel.metric, item.datum); });
    figure.view = view;
  }

  explain(metric, row) {
    const { dataset, suite } = this.facts;
    if (this.facet !== "metric") return explainNumber(dataset, suite, row.model_name, [this.describe(metric, row)], this.runs(metric, row));
    const own = facts.runs.filter((run) => run.dataset === dataset && run.model === row.model); // of these weights, whatever they were measured on
    const line = `${withUnit(metric)}: ${format(row.value, metric.places)} (seeds: ${row.interval}) at epoch ${row.level}.`;
    return explain([named(row.model_name), ", training on ", named(dataset)], [line], own);
  }

  // The runs that a point is the mean of: all of the model, but where one lacks this condition.
  runs(metric, row) {
    const own = metric.runs?.[row.model]?.[row.cell];
    return own ? own.map((number) => facts.runs[number]) : runsOf(this.facts.dataset, this.facts.suite, row.model_name);
  }

  describe(metric, row) {
    const { title, variant, unit, places } = metric;
    return `${title}${variant && ` (${variant})`} ${format(row.value, places)}${unit && ` ${unit}`} (95 %: ${row.interval}), ${row.condition_name} ${row.level}; mean over seeds.`;
  }

  tabulate() {
    if (!this.numbers.open) return;
    const { metric } = this;
    const models = this.models(metric);
    const found = new Map(this.rows(metric, false).map((row) => [`${row.model} ${row.condition} ${row.level}`, row]));
    const head = element("tr", {}, element("th", { scope: "col" }, "condition"), element("th", { scope: "col", class: "num" }, this.facts.x.startsWith("severity") ? "severity" : "level"),
      ...models.map((model) => element("th", { scope: "col", class: "num" }, swatch(placeOf(model)), named(facts.models[model].name))));
    const body = this.facts.cells.filter(([condition, level]) => models.some((model) => found.has(`${model} ${condition} ${level}`))).map(([condition, level]) =>
      element("tr", {}, element("th", { scope: "row" }, named(words(this.facts.conditions[condition]))), element("td", { class: "num" }, String(level)),
        ...models.map((model) => element("td", { class: "num" }, this.cell(metric, found.get(`${model} ${condition} ${level}`))))));
    const caption = element("caption", {}, `${withUnit(metric)}, with 95 % intervals`);
    this.numbers.querySelector(".wide").replaceChildren(element("table", { class: "plain" }, caption, element("thead", {}, head), element("tbody", {}, ...body)));
  }

  cell(metric, row) {
    if (!row) return "–";
    const { dataset, suite } = this.facts;
    const button = element("button", { type: "button", class: "number", "data-runs": this.runs(metric, row).map((run) => facts.runs.indexOf(run)).join(" "), "data-dataset": dataset, "data-suite": suite, "data-model": row.model_name, "data-says": this.describe(metric, row) }, format(row.value, metric.places));
    return element("span", {}, button, row.low === null ? "" : element("span", { class: "tag" }, ` ${row.interval}${this.facts.at ? `, at ${format(row.x, 1)}` : ""}`));
  }
}

// Which models are in the charts.

function showChosen() {
  const models = modelsInCharts();
  byId("chosen").replaceChildren(...models.flatMap((model) => [element("span", {}, swatch(placeOf(model)), named(facts.models[model].name)), " "]));
  if (!models.length) byId("chosen").textContent = "no model";
  for (const box of byId("chooser-list").querySelectorAll("input")) box.checked = placeOf(Number(box.value)) >= 0;
  markRows();
}

let waiting = 0;
async function drawAll() {
  delete document.documentElement.dataset.ready;
  for (const suite of suites) await suite.draw();
  document.documentElement.dataset.ready = "true";
}
function redraw() {
  showChosen();
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 60);
}

if (!modelsInCharts().length) firstChoice();
if (facts.curves.length) {
  byId("chooser-list").append(...facts.models.map((model, i) =>
    element("li", {}, element("label", {}, element("input", { type: "checkbox", value: i }), " ", named(model.name)))));
  byId("chooser-list").addEventListener("change", (event) => {
    choose(Number(event.target.value), event.target.checked);
    redraw();
  });
  byId("chooser-search").addEventListener("input", () => {
    const sought = byId("chooser-search").value.toLowerCase();
    for (const item of byId("chooser-list").children) item.hidden = !item.textContent.toLowerCase().includes(sought);
  });
  byId("chooser-best").addEventListener("click", () => { firstChoice(); redraw(); });
  byId("chooser-none").addEventListener("click", () => { places.length = 0; redraw(); });
  byId("chooser").hidden = false;
  showChosen();
}
for (const section of document.querySelectorAll("details.suite")) suites.push(new Suite(section));
drawAll();
