// Curves: one small chart a condition (or a model), drawn by Vega-Lite.

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
      if (value !== null && x !== null && x !== undefined && !(suite.log && x <= 0)) rows.push({ model, condition, level, x, value, low, high });
    });
  }
  return rows;
}

function spec(suite, metric, rows, up, across) {
  const severity = suite.x.startsWith("severity");
  const axis = { title: null, labelFontSize: 10, tickSize: 3, labelPadding: 3, domainColor: "var(--rule)", tickColor: "var(--rule)", labelColor: "var(--muted)", gridColor: "var(--rule)", gridOpacity: 0.6 };
  const x = { field: "x", type: "quantitative", axis: { ...axis, grid: false, format: ".4~r", labelFlush: true, ...(severity ? { values: [0, 1, 2, 3, 4, 5] } : suite.at && suite.log ? { values: DOUBLES } : { tickCount: 5 }) }, scale: { type: suite.log ? "log" : "linear", nice: false, domain: across } };
  const y = (field) => ({ field, type: "quantitative", axis: { ...axis, tickCount: 4, format: ".4~r", domain: false, ticks: false }, scale: { nice: false, domain: up } });
  const color = { field: "color", type: "nominal", scale: null };
  const unit = metric.unit ? `${metric.title} ${metric.unit}` : metric.title;
  return {
    width: "container", height: "container", background: "transparent", autosize: { type: "fit", contains: "padding" },
    padding: { left: 0, right: 6, top: 4, bottom: 0 },
    data: { name: "points", values: rows },
    layer: [
      { transform: [{ filter: "isValid(datum.low)" }], mark: suite.at ? { type: "rule", opacity: 0.35, clip: true } : { type: "area", opacity: 0.14, clip: true }, encoding: { x, y: y("low"), y2: { field: "high" }, color, detail: { field: "line" } } },
      { mark: { type: "line", clip: true, strokeWidth: 1.6 }, encoding: { x, y: y("value"), color, detail: { field: "line" }, strokeDash: { field: "dash", scale: null }, order: { field: "level" } } },
      { mark: { type: "point", filled: true, size: 26, opacity: 1, clip: true, cursor: "pointer" }, encoding: { x, y: y("value"), color, shape: { field: "shape", scale: null }, tooltip: [
        { field: "model_name", title: "model" }, { field: "condition_name", title: "condition" }, { field: "level", title: severity ? "severity" : "level" },
        ...(suite.at ? [{ field: "x", title: "NFE", format: ".4~g" }] : []), { field: "value", title: unit, format: `.${metric.places}f` }, { field: "interval", title: "95 %" },
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

// Where the numbers and the intervals over images are, and not where one of few seeds reaches.
function domains(suite, metric, rows) {
  const rate = metric.unit === "%";
  const values = rows.flatMap((row) => (rate && row.low !== null ? [row.value, row.low, row.high] : [row.value]));
  let up = extent(values, 0.06);
  if (rate) up = extent([Math.max(0, up[0]), Math.min(100, up[1])], 0.03); // whole marks at 0 and 100
  const xs = rows.map((row) => row.x);
  const across = suite.log ? [Math.min(...xs) / 1.1, Math.max(...xs) * 1.1] : extent(xs, 0.04);
  return { up, across };
}

class Suite {
  constructor(section) {
    this.section = section;
    this.facts = facts.curves[Number(section.dataset.suite)];
    this.metricSelect = section.querySelector("select.metric");
    this.facetSelect = section.querySelector("select.facet");
    this.panels = section.querySelector(".panels");
    this.lines = section.querySelector(".lines");
    this.numbers = section.querySelector("details.numbers");
    for (const select of [this.metricSelect, this.facetSelect]) select.addEventListener("change", () => this.draw());
    this.numbers.addEventListener("toggle", () => this.tabulate());
    section.querySelector("form").hidden = false;
    this.turn = 0;
  }

  get metric() { return this.facts.metrics[Number(this.metricSelect.value)]; }

  models() { return drawnModels().filter((model) => this.metric.models[model]); }

  async draw() {
    const turn = ++this.turn;
    const byModel = this.facetSelect.value === "model";
    const rows = points(this.facts, this.metric, this.models()).map((row) => this.styled(row, byModel));
    this.section.querySelector(".up").textContent = this.metric.unit ? `${this.metric.title}, ${this.metric.unit}` : this.metric.title;
    const { everywhere } = this.facts;
    const inside = (row, i) => (byModel ? row.model : row.condition) === i;
    const panels = (byModel ? this.models() : this.facts.conditions.map((_, i) => i)).filter((i) => rows.some((row) => inside(row, i) && row.condition !== everywhere));
    this.panels.classList.toggle("few", panels.length <= 3);
    this.section.querySelector(".bands").textContent = this.bands();
    const made = panels.map((i) => this.panel(i, byModel, rows.filter((row) => inside(row, i) || row.condition === everywhere)));
    this.panels.replaceChildren(...made.map(([figure]) => figure));
    this.lines.hidden = !byModel;
    this.lines.replaceChildren(...this.facts.conditions.flatMap((condition, i) => (i === everywhere ? [] : [element("span", {}, swatch(i + 1), named(spoken(condition))), " "])));
    if (!rows.length) this.panels.append(element("p", { class: "legend" }, "None of the chosen models has these numbers."));
    if (this.numbers.open) this.tabulate();
    if (!rows.length) return;
    const { up, across } = domains(this.facts, this.metric, rows);
    for (const [figure, its] of made) {
      if (turn !== this.turn) return; // another choice was made meanwhile
      await this.chart(figure, its, up, across);
      await new Promise((done) => setTimeout(done)); // the page answers between two charts
    }
  }

  bands() {
    const { seeds, images } = this.facts;
    if (this.metric.unit === "%") return `over the ${images.map((n) => n.toLocaleString("en")).join(" or ")} images; they leave out the choice of seed`;
    return seeds.length > 1 ? "over the seeds" : "over the seeds, and there is none of a single one";
  }

  styled(row, byModel) {
    const beside = byModel && row.condition === this.facts.everywhere; // gray, and called by its name
    const style = styleOf(beside ? 0 : byModel ? row.condition + 1 : placeOf(row.model));
    return {
      ...row, line: byModel ? (beside ? `model ${row.model}` : row.condition) : row.model, label: beside ? facts.models[row.model].name : "", color: `var(--c${style.color})`, shape: SHAPES[style.shape], dash: DASHES[style.dash],
      model_name: facts.models[row.model].name, condition_name: spoken(this.facts.conditions[row.condition]),
      interval: interval(row.low, row.high, this.metric.places),
    };
  }

  panel(i, byModel, rows) {
    const title = byModel ? facts.models[i].name : spoken(this.facts.conditions[i]);
    // The drawing has a place of its own, since Vega names the place that it draws in.
    const chart = element("div", { class: "chart", role: "img", "aria-label": this.summary(title, rows, byModel) }, element("div", { "aria-hidden": "true" }));
    return [element("figure", {}, element("figcaption", {}, named(title)), chart), rows];
  }

  summary(title, rows, byModel) {
    const lines = new Map();
    for (const row of rows) {
      const name = byModel && !row.label ? row.condition_name : row.model_name;
      lines.set(name, [...(lines.get(name) ?? []), row]);
    }
    const told = [...lines].slice(0, FEW).map(([name, of]) => `${name} from ${shown(of[0].value, this.metric.places)} to ${shown(of.at(-1).value, this.metric.places)}`);
    return `${title}: ${this.metric.title} ${this.metric.unit} by ${this.facts.x}; ${told.join("; ")}. The numbers are in the table below.`;
  }

  async chart(figure, rows, up, across) {
    const chart = figure.querySelector(".chart > div");
    const { view } = await vegaEmbed(chart, spec(this.facts, this.metric, rows, up, across), { actions: false, renderer: "svg", ast: true, tooltip: { theme: "none", disableDefaultStyle: true } });
    view.addEventListener("click", (_, item) => { if (item?.datum?.model_name) this.explain(item.datum); });
    figure.view = view;
  }

  explain(row) {
    explainNumber(this.facts.dataset, this.facts.suite, row.model_name, [this.says(row)]);
  }

  says(row) {
    const { title, unit, places } = this.metric;
    return `${title} ${shown(row.value, places)}${unit && ` ${unit}`} (95 %: ${row.interval}), ${row.condition_name} ${row.level}, the mean over seeds.`;
  }

  tabulate() {
    if (!this.numbers.open) return;
    const models = this.models();
    const rows = points(this.facts, this.metric, models).map((row) => this.styled(row, false));
    const found = new Map(rows.map((row) => [`${row.model} ${row.condition} ${row.level}`, row]));
    const head = element("tr", {}, element("th", { scope: "col" }, "condition"), element("th", { scope: "col", class: "num" }, this.facts.x.startsWith("severity") ? "severity" : "level"),
      ...models.map((model) => element("th", { scope: "col", class: "num" }, swatch(placeOf(model)), named(facts.models[model].name))));
    const body = this.facts.cells.filter(([condition, level]) => models.some((model) => found.has(`${model} ${condition} ${level}`))).map(([condition, level]) =>
      element("tr", {}, element("th", { scope: "row" }, named(spoken(this.facts.conditions[condition]))), element("td", { class: "num" }, String(level)),
        ...models.map((model) => element("td", { class: "num" }, this.cell(found.get(`${model} ${condition} ${level}`))))));
    const caption = element("caption", {}, `${this.metric.title}${this.metric.unit && `, ${this.metric.unit}`}, with 95 % intervals`);
    this.numbers.querySelector(".wide").replaceChildren(element("table", { class: "plain" }, caption, element("thead", {}, head), element("tbody", {}, ...body)));
  }

  cell(row) {
    if (!row) return "–";
    const { dataset, suite } = this.facts;
    const button = element("button", { type: "button", class: "number", "data-dataset": dataset, "data-suite": suite, "data-model": row.model_name, "data-says": this.says(row) }, shown(row.value, this.metric.places));
    return element("span", {}, button, row.low === null ? "" : element("span", { class: "tag" }, ` ${row.interval}${this.facts.at ? `, at ${shown(row.x, 1)}` : ""}`));
  }
}

// Which models are drawn.

function showDrawn() {
  const models = drawnModels();
  byId("drawn").replaceChildren(...models.flatMap((model) => [element("span", {}, swatch(placeOf(model)), named(facts.models[model].name)), " "]));
  if (!models.length) byId("drawn").textContent = "no model";
  for (const box of byId("chooser-list").querySelectorAll("input")) box.checked = placeOf(Number(box.value)) >= 0;
  markRows();
}

let waiting = 0;
async function drawAll() {
  delete document.documentElement.dataset.drawn;
  for (const suite of suites) await suite.draw();
  document.documentElement.dataset.drawn = "true";
}
function redraw() {
  showDrawn();
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 60);
}

if (facts.curves.length) {
  if (!drawnModels().length) firstChoice();
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
  for (const section of document.querySelectorAll("section.suite")) suites.push(new Suite(section));
  showDrawn();
}
drawAll();
