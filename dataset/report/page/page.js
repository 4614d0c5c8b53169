"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const rowOf = new Map(data.rows.map((row) => [row[0], row]));
const [ID, VERDICT, REASONS, FROM] = [0, 2, 3, 4]; // column i of the table is value i + 1 of a row
const make = (tag, text = "", name = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = name;
  return node;
};
const shown = (value) => (Array.isArray(value) ? value.join(", ") : value === null ? "" :
  typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 4 }) : value);

// Pictures: the pointer's place across one is the time within the clip.
function playable(strip) {
  const count = Number(strip.dataset.n);
  const show = (k) => { strip.style.backgroundPosition = count > 1 ? `${(100 * k) / (count - 1)}% 0` : "0 0"; };
  strip.addEventListener("pointermove", (event) => {
    const box = strip.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width;
    show(Math.min(count - 1, Math.max(0, Math.floor(place * count))));
  });
  strip.addEventListener("pointerleave", () => show(0));
}
document.querySelectorAll(".strip").forEach(playable);

// One filter for pictures, paths and table: everything, a verdict, or a rule.
let filter = {};
const cards = [...document.querySelectorAll(".card")];
const rulesOf = (card) => (card.dataset.rules ? card.dataset.rules.split("|") : []);
const passes = (verdict, rules) =>
  (!filter.verdict || filter.verdict === verdict) && (!filter.rule || rules.includes(filter.rule));
function apply(next) {
  filter = next;
  cards.forEach((card) => { card.hidden = !passes(card.dataset.verdict, rulesOf(card)); });
  document.querySelectorAll(".small").forEach((small) => {
    small.hidden = document.getElementById(`c-${small.dataset.id}`).hidden;
  });
  const none = document.getElementById("none");
  if (none) none.hidden = cards.some((card) => !card.hidden);
  document.querySelectorAll("#filter button").forEach((button) => {
    const { verdict, rule } = button.dataset;
    button.setAttribute("aria-pressed", String(verdict === filter.verdict && rule === filter.rule));
  });
  table.limit = 100;
  table.draw();
}
const chips = document.getElementById("filter");
function addChip(label, next) {
  const button = make("button", label);
  Object.assign(button.dataset, next);
  button.addEventListener("click", () => apply(next));
  chips.append(button);
}
document.querySelectorAll(".funnel a").forEach((link) => link.addEventListener("click", (event) => {
  const { verdict, rule, kind } = link.dataset;
  event.preventDefault();
  apply(rule ? { verdict, rule } : { verdict });
  ((kind === "clip" && document.getElementById("clips")) || document.getElementById("table")).scrollIntoView();
}));

// The table: sorted by any column, drawn a piece at a time.
const table = {
  limit: 100, by: null, down: false,
  node: document.querySelector("table.clips"),
  rows() {
    const rows = data.rows.filter((row) => passes(row[VERDICT], row[REASONS]));
    if (this.by === null) return rows;
    const key = (row) => (Array.isArray(row[this.by + 1]) ? row[this.by + 1].join() : row[this.by + 1]);
    return rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (this.down ? -1 : 1);
    });
  },
  draw() {
    const rows = this.rows();
    const head = make("tr");
    data.columns.forEach((column, i) => {
      const unit = column.unit ? `, ${column.unit}` : "";
      const cell = make("th", column.title + unit, column.text ? "text" : "");
      if (column.name) cell.title = column.name;
      if (i === this.by) cell.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      cell.addEventListener("click", () => {
        this.down = this.by === i && !this.down;
        this.by = i;
        this.draw();
      });
      head.append(cell);
    });
    const body = make("tbody");
    for (const row of rows.slice(0, this.limit)) {
      const line = make("tr");
      data.columns.forEach((column, i) => {
        const cell = make("td", shown(row[i + 1]), column.text ? "text" : "");
        if (i + 1 === VERDICT) cell.classList.add(row[VERDICT]);
        if (column.text) cell.title = shown(row[i + 1]);
        line.append(cell);
      });
      line.addEventListener("click", () => open(row[ID]));
      body.append(line);
    }
    const top = make("thead");
    top.append(head);
    this.node.replaceChildren(top, body);
    const more = document.getElementById("more");
    more.hidden = rows.length <= this.limit;
    more.textContent = `show more of ${rows.length.toLocaleString("en")}`;
  },
};
document.getElementById("more").addEventListener("click", () => { table.limit += 500; table.draw(); });

// One clip: its pictures large, its path, and everything measured.
const dialog = document.getElementById("one");
function open(id) {
  const row = rowOf.get(id);
  const card = document.getElementById(`c-${id}`);
  const inside = dialog.querySelector(".inside");
  const look = make("div", "", "look-at");
  if (card && card.querySelector(".strip")) {
    const strip = card.querySelector(".strip").cloneNode(true);
    playable(strip);
    look.append(strip);
    const path = document.querySelector(`.small[data-id="${id}"] svg`);
    if (path) look.append(path.cloneNode(true));
  }
  const facts = make("dl", "", "facts");
  if (row) data.columns.forEach((column, i) => {
    const text = shown(row[i + 1]);
    if (!text) return;
    const line = make("div");
    line.append(make("dt", column.title), make("dd", `${text} ${column.unit || ""}`));
    facts.append(line);
  });
  const sentence = row && row[row.length - 1];
  inside.replaceChildren(make("h2", row ? row[FROM] : id), ...(sentence ? [make("p", sentence)] : []), look, facts);
  dialog.showModal();
}
cards.forEach((card) => {
  card.addEventListener("click", () => open(card.dataset.id));
  card.addEventListener("keydown", (event) => { if (event.key === "Enter") open(card.dataset.id); });
});
document.querySelectorAll(".small").forEach((small) => small.addEventListener("click", (event) => {
  event.preventDefault();
  open(small.dataset.id);
}));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

// The clips nearest to a limit, below it and above it: small copies of the pictures that are on the page.
document.querySelectorAll(".edge").forEach((edge) => {
  for (const side of ["below", "above"]) {
    edge.dataset[side].split(" ").forEach((id) => {
      const strip = document.querySelector(`#c-${id} .strip`);
      if (!strip) return;
      const copy = strip.cloneNode(true);
      copy.classList.add(side, document.getElementById(`c-${id}`).dataset.verdict);
      copy.addEventListener("click", () => open(id));
      edge.append(copy);
    });
  }
});

// Histograms: what a limit at the pointer would leave on either side.
document.querySelectorAll(".histogram").forEach((svg) => {
  const edges = svg.dataset.edges.split(" ").map(Number);
  const counts = svg.dataset.counts.split(" ").map(Number);
  const total = counts.reduce((a, b) => a + b, 0);
  const out = svg.parentNode.querySelector("output");
  const cursor = svg.querySelector(".cursor");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const place = Math.round(((event.clientX - box.left) / box.width) * counts.length);
    const bin = Math.min(counts.length, Math.max(0, place));
    const below = counts.slice(0, bin).reduce((a, b) => a + b, 0);
    const limit = edges[bin].toLocaleString("en", { maximumSignificantDigits: 3 });
    out.textContent = `${below.toLocaleString("en")} below ${limit} ${svg.dataset.unit}, `
      + `${(total - below).toLocaleString("en")} above`;
    const x = (bin / counts.length) * svg.viewBox.baseVal.width;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => {
    out.textContent = "";
    cursor.setAttribute("visibility", "hidden");
  });
});

if (data.rows.length) {
  const section = document.getElementById("table");
  section.hidden = false;
  section.querySelector(".hint").textContent =
    (data.rows.length < data.of
      ? `A sample of ${data.rows.length.toLocaleString("en")} of ${data.of.toLocaleString("en")}. ` : "")
    + "Click a heading to sort, a row for all of it.";
  if (chips) {
    addChip("all", {});
    for (const verdict of ["kept", "rejected", "failed"]) {
      if (cards.some((card) => card.dataset.verdict === verdict)) addChip(verdict, { verdict });
    }
    const rules = new Map();
    cards.flatMap(rulesOf).forEach((rule) => rules.set(rule, (rules.get(rule) || 0) + 1));
    [...rules].sort((a, b) => b[1] - a[1]).slice(0, 12).forEach(([rule]) => addChip(rule, { rule }));
  }
  apply({});
}
