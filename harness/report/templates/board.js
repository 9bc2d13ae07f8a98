// The leaderboard: one column at a time, its rows sorted and filtered by DataTables.

const BASIS = {
  images: "per-image outcomes",
  rates: "rates: without per-image outcomes they are wider",
  seeds: "the seeds only",
  nothing: "a single number: there is no interval",
};
const VALUE_COLUMN = 1;

function fill(row, numbers, column, place) {
  const [model, value, low, high, seeds, images, rankLow, rankHigh, mde, , runs] = numbers;
  const at = (v) => `${(100 * (v - column.axis[0])) / (column.axis[1] - column.axis[0])}%`;
  const part = (name) => row.querySelector(`.f-${name}`);
  const of = facts.models[model];
  row.dataset.at = model;
  part("model").replaceChildren(named(of.name));
  part("baseline").textContent = of.baseline ? "baseline" : "";
  part("value").textContent = format(value, column.places);
  Object.assign(part("value").dataset, { runs: runs.join(" "), dataset: column.dataset, suite: column.suite, model: of.name });
  for (const cell of row.querySelectorAll(".f-interval")) cell.textContent = interval(low, high, column.places);
  if (typeof value === "number") part("track").style.setProperty("--at", at(value));
  if (typeof low === "number" && typeof high === "number") {
    part("track").style.setProperty("--from", at(low));
    part("track").style.setProperty("--to", at(high));
  }
  part("rank").textContent = rankLow === null ? "–" : rankLow === rankHigh ? rankLow : `${rankLow}–${rankHigh}`;
  if (rankLow !== null && rankHigh !== null) {
    part("ranks").style.setProperty("--from", `${(100 * (rankLow - 1)) / column.rows.length}%`);
    part("ranks").style.setProperty("--to", `${(100 * rankHigh) / column.rows.length}%`);
  }
  part("mde").textContent = format(mde, column.places);
  part("seeds").textContent = seeds ?? "";
  part("images").textContent = images === null ? "" : images.toLocaleString("en");
  sortable(row, numbers, place);
  return row;
}

// What the cells of a row are sorted by, whatever their text.
function sortable(row, [, value, low, , , , rankLow], place) {
  const number = (of) => (typeof of === "number" ? of : { "∞": 1e300, "−∞": -1e300 }[of] ?? -1e301);
  row.querySelector(".value").dataset.order = number(value);
  row.querySelector(".interval").dataset.order = number(low);
  row.querySelector(".rank").dataset.order = (rankLow ?? 1e6) * 1e6 + place;
}

const bestFirst = (column) => [[VALUE_COLUMN, column.better < 0 ? "asc" : "desc"]];

// Rows of models that are in the charts carry the mark of their line.
function markRows() {
  for (const row of document.querySelectorAll("#board tbody tr[data-at]")) {
    const place = placeOf(Number(row.dataset.at));
    row.querySelector(".f-swatch").replaceChildren(...(place >= 0 && facts.curves.length ? [swatch(place)] : []));
  }
}

function basisOf(column) {
  const found = [...new Set(column.rows.map((row) => row[9]))].filter((basis) => basis in BASIS);
  return found.length ? `Intervals are computed from ${found.map((basis) => BASIS[basis]).join("; and from ")}.` : "";
}

function showBoard(table) {
  const parts = { suite: byId("board-suite"), metric: byId("board-metric"), variant: byId("board-variant"), group: byId("board-group") };
  const suiteOf = (column) => `${column.dataset}\n${column.suite}`;
  const opening = facts.boards[facts.opening];
  const distinct = (entries) => [...new Map(entries)];
  const capital = (text) => (text === text.toLowerCase() ? text[0].toUpperCase() + text.slice(1) : text);

  // Choose in each menu what was chosen before, else the first that there is; return the column.
  const select = (suite, ...wanted) => {
    options(parts.suite, distinct(facts.boards.map((c) => [suiteOf(c), `${c.suite} on ${c.dataset}`])), suite);
    let left = facts.boards.filter((c) => suiteOf(c) === suite);
    const menus = [
      [parts.metric, (c) => [c.metric, c.title]], [parts.variant, (c) => [c.variant, c.variant || OVERALL]],
      [parts.group, (c) => [c.group, c.conditions.replace(/^(on|under) /, "")]],
    ];
    menus.forEach(([menu, entry], i) => {
      const entries = distinct(left.map(entry));
      const usual = entries.find(([value]) => ["common", "noise+blur", "clean"].includes(value)) ?? entries[0];
      const value = entries.some(([known]) => known === wanted[i]) ? wanted[i] : usual[0];
      options(menu, entries, value);
      menu.parentElement.hidden = menu === parts.variant && entries.length === 1 && value === "";
      left = left.filter((c) => entry(c)[0] === value);
    });
    return left[0];
  };

  const show = (column) => {
    const [whole, template] = [document.createDocumentFragment(), byId("board-row").content.querySelector("tr")];
    const rows = column.rows.map((row, place) => fill(template.cloneNode(true), row, column, place));
    whole.append(...rows);
    byId("board-what").textContent = `${capital(column.title)}${column.variant && `, ${column.variant}`} ${column.conditions}`;
    byId("board-where").textContent = `(${column.suite} on ${column.dataset}). ${column.says}`;
    byId("board-metric-name").textContent = column.title;
    byId("board-unit").textContent = column.unit;
    byId("axis-low").textContent = String(column.axis[0]);
    byId("axis-high").textContent = String(column.axis[1]);
    byId("rank-high").textContent = String(rows.length);
    byId("board-basis").textContent = basisOf(column);
    table.clear().rows.add(rows).order(bestFirst(column)).draw();
  };

  select(suiteOf(opening), opening.metric, opening.variant, opening.group);
  byId("board-basis").textContent = basisOf(opening);
  for (const part of Object.values(parts)) {
    part.addEventListener("change", () => show(select(parts.suite.value, parts.metric.value, parts.variant.value, parts.group.value)));
  }
  byId("board-search").addEventListener("input", () => table.search(byId("board-search").value).draw());
  byId("board-controls").addEventListener("submit", (event) => event.preventDefault());
  byId("board-controls").hidden = false;
}

const pagesOf = (table, what) => table.table().container().querySelector("nav")?.setAttribute("aria-label", `Pages of ${what}`);
const paged = (rows, length) => ({ paging: rows > length, pageLength: length, lengthChange: false, autoWidth: false });
const quietly = { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: "paging" };

if (facts.boards.length) {
  const opening = facts.boards[facts.opening];
  const most = Math.max(...facts.boards.map((column) => column.rows.length));
  document.querySelectorAll("#board tbody tr").forEach((row, place) => sortable(row, opening.rows[place], place));
  firstChoice();
  const table = new DataTable("#board", {
    ...paged(most, 50), order: bestFirst(opening), layout: { ...quietly, bottomStart: most > 50 ? "info" : null },
    columnDefs: [{ targets: VALUE_COLUMN, orderSequence: ["desc", "asc"] }, { targets: "_all", orderSequence: ["asc", "desc"] }, { targets: 0, searchable: true }, { targets: [3, 5], orderable: false }, { targets: "_all", searchable: false }], // the first that speaks of a column wins
    language: { info: "_START_ to _END_ of _TOTAL_ models", infoFiltered: "(of _MAX_)", infoEmpty: "no model", zeroRecords: "No model has this name." },
  });
  table.on("draw", markRows);
  pagesOf(table, "models");
  showBoard(table);
  markRows();
}
const runRows = document.querySelectorAll("#runs-table tbody tr").length;
if (runRows > 12) {
  const table = new DataTable("#runs-table", {
    ...paged(runRows, 25), order: [],
    layout: { ...quietly, topStart: { search: { placeholder: "", text: "Find a run _INPUT_" } } },
    language: { info: "_START_ to _END_ of _TOTAL_ runs", infoFiltered: "(of _MAX_)", infoEmpty: "no run", zeroRecords: "No run has this name." },
  });
  pagesOf(table, "runs");
}
