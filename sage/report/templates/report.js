/* Sort tables by their headings, with the mouse or the keyboard: numbers as numbers, undefined entries last either way. Long tables can be searched: rows stay that hold every word. */
"use strict";

function value(row, column) {
  const cell = row.cells[column];
  if (!cell || cell.dataset.order === undefined) return null;
  const number = Number(cell.dataset.order);
  return Number.isNaN(number) || cell.dataset.order === "" ? cell.dataset.order : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sort(table, column, heading) {
  const falling = heading.getAttribute("aria-sort") === "ascending" || (!heading.hasAttribute("aria-sort") && heading.classList.contains("n"));
  const sign = falling ? -1 : 1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [value(row, column), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  body.append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, column, heading));
  });
}

/* What asks something of the rows of a table: by name, functions that say whether a row fits. */
const asked = new Map();

/* Show the rows that fit all that is asked; returns how many, in words. */
function show(table, who, fits) {
  const tests = asked.get(table) ?? {};
  asked.set(table, { ...tests, [who]: fits });
  const rows = Array.from(table.tBodies[0].rows);
  for (const row of rows) row.hidden = !Object.values(asked.get(table)).every((test) => test(row));
  return `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
}

function search(table, words, count) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = show(table, "search", (row) => {
    const text = row.textContent.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
  count.textContent = wanted.length ? `${shown} rows` : "";
}

for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0].rows.length < 8) continue;
  const line = document.createElement("p");
  line.className = "search";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Search rows";
  field.setAttribute("aria-label", `Search rows of: ${table.getAttribute("aria-label")}`);
  const count = document.createElement("span");
  count.className = "beside";
  count.setAttribute("role", "status");
  field.addEventListener("input", () => search(table, field.value, count));
  line.append(field, " ", count);
  table.closest(".scroll").before(line);
}

/* Of a table with columns called model, architecture and L0. */
function filter(table, form) {
  const wanted = Object.fromEntries(new FormData(form));
  const names = Array.from(table.tHead.rows[0].cells, (heading) => heading.textContent.trim());
  const shown = show(table, "filter", (row) => {
    const [model, architecture, l0] = ["model", "architecture", "L0"].map((name) => row.cells[names.indexOf(name)]?.dataset.order);
    if (wanted.model && wanted.model !== model) return false;
    if (wanted.architecture && wanted.architecture !== architecture) return false;
    return !(wanted.low && !(Number(l0) >= Number(wanted.low))) && !(wanted.high && !(Number(l0) <= Number(wanted.high)));
  });
  form.querySelector("output").textContent = `${shown} shown`;
}

for (const form of document.querySelectorAll("form.filters")) {
  const table = document.querySelector("table.sortable");
  form.hidden = false;
  form.addEventListener("input", () => filter(table, form));
  form.addEventListener("submit", (event) => event.preventDefault());
  // A browser that comes back to the page puts in again what was chosen, after this has run.
  window.addEventListener("pageshow", () => filter(table, form));
}

for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") menu.open = false;
  });
}

window.addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
});
