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

function search(table, words, count) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  count.textContent = wanted.length ? `${shown} of ${table.tBodies[0].rows.length} rows` : "";
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

/* Of a table whose first columns are the model, the architecture and, after the suite, its L0. */
function filter(table, form) {
  const wanted = new FormData(form);
  const low = wanted.get("low") === "" ? -Infinity : Number(wanted.get("low"));
  const high = wanted.get("high") === "" ? Infinity : Number(wanted.get("high"));
  const rows = Array.from(table.tBodies[0].rows);
  let shown = 0;
  for (const row of rows) {
    const [model, architecture, l0] = [0, 1, 3].map((place) => row.cells[place]?.dataset.order);
    const fits = (name, given) => !wanted.get(name) || wanted.get(name) === given;
    row.hidden = !(fits("model", model) && fits("architecture", architecture) && Number(l0) >= low && Number(l0) <= high);
    shown += row.hidden ? 0 : 1;
  }
  form.querySelector("output").textContent = `${shown} of ${rows.length} shown`;
}

for (const form of document.querySelectorAll("form.filters")) {
  const table = document.querySelector("table.sortable");
  form.hidden = false;
  form.addEventListener("input", () => filter(table, form));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(table, form);
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
