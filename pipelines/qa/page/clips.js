// The table of clips: filtered, sorted, a piece at a time; a random sample for review; two clips to compare.

import { get, post, text } from "./api.js";
import { count, duration, h, latest, number, save, strip, toast } from "./dom.js";
import { asked, keep, setFilter, state } from "./state.js";

const PIECE = 60;
const FIXED = [
  "clip_id",
  "kind",
  "final",
  "verdict",
  "reasons",
  "judged",
  "note",
  "reviewer",
  "judged_at",
  "trouble",
  "source",
  "licence",
  "uri",
  "caption",
  "motion",
  "scale_status",
  "start_s",
  "seconds",
  "width",
  "height",
  "annotated_at",
  "detail",
];
const TEXT = [
  ["final", "verdict"],
  ["reasons", "reasons"],
  ["judged", "said"],
  ["source", "source"],
  ["motion", "motion"],
  ["scale_status", "scale"],
  ["seconds", "length, s"],
];

export async function show(main) {
  const overview = await get("overview");
  let sort = "";
  let down = false;
  let rows = [];
  let total = 0;
  const picked = new Set();
  const head = h("thead");
  const body = h("tbody");
  const summary = h("p", { class: "summary", id: "summary" });
  const more = h("button", { onclick: () => load(true) }, "more");
  const compare = h(
    "button",
    {
      disabled: true,
      onclick: () => {
        location.hash = `#/compare/${[...picked].join("/")}`;
      },
    },
    "compare two",
  );

  const load = latest(async (further = false) => {
    try {
      const told = await post("rows", {
        filter: asked(),
        sort,
        down,
        offset: further ? rows.length : 0,
        limit: PIECE,
      });
      rows = further ? rows.concat(told.rows) : told.rows;
      total = told.total;
      summary.textContent = `${count(total)} ${total === 1 ? "row" : "rows"}, ${duration(told.seconds)} of video`;
      summary.dataset.total = total;
      draw();
    } catch (error) {
      toast(error.message, true);
    }
  });

  function draw() {
    const scores = rows.length ? Object.keys(rows[0]).filter((name) => !FIXED.includes(name)) : [];
    const heading = (column, title, name = "") =>
      h(
        "th",
        {
          class: name,
          "aria-sort": column === sort ? (down ? "descending" : "ascending") : null,
          title: column,
          onclick: () => {
            down = column === sort ? !down : false;
            sort = column;
            load();
          },
        },
        title,
      );
    head.replaceChildren(
      h(
        "tr",
        {},
        h("th"),
        h("th", {}, "clip"),
        TEXT.map(([column, title]) => heading(column, title, "text")),
        scores.map((name) => heading(name, name.replaceAll("_", " "))),
      ),
    );
    body.replaceChildren(...rows.map((row) => line(row, scores)));
    more.hidden = rows.length >= total;
  }

  function line(row, scores) {
    const isClip = row.kind === "clip";
    const check = h("input", {
      type: "checkbox",
      "aria-label": "pick for comparing",
      checked: picked.has(row.clip_id),
      onclick: (event) => {
        event.stopPropagation();
        picked[event.target.checked ? "add" : "delete"](row.clip_id);
        compare.disabled = picked.size !== 2;
      },
    });
    const go = () => {
      state.queue = rows.filter((one) => one.kind === "clip").map((one) => one.clip_id);
      keep();
      location.hash = `#/clip/${row.clip_id}`;
    };
    return h(
      "tr",
      {
        dataset: { id: row.clip_id },
        tabindex: isClip ? 0 : null,
        onclick: isClip ? go : null,
        onkeydown: (event) => {
          if (event.key === "Enter" && isClip) go();
        },
      },
      h("td", {}, isClip ? check : null),
      h(
        "td",
        { class: "picture" },
        row.trouble
          ? h("span", { class: "strip broken", title: row.trouble }, row.trouble)
          : isClip
            ? strip(row.clip_id, 6)
            : h("span", { class: "soft" }, row.kind),
        h("code", {}, row.clip_id.slice(0, 8)),
      ),
      h(
        "td",
        { class: `text ${row.final}` },
        row.final,
        row.final !== row.verdict ? h("s", {}, row.verdict) : null,
      ),
      h("td", { class: "text why", title: row.detail ?? row.reasons.join(", ") }, row.reasons.join(", ")),
      h(
        "td",
        { class: "text", title: row.note ?? "" },
        row.judged ? `${row.judged} (${row.reviewer})` : "",
        row.note ? " ✎" : "",
      ),
      h("td", { class: "text", title: row.uri }, row.source),
      h("td", { class: "text" }, row.motion ?? ""),
      h("td", { class: "text" }, row.scale_status ?? ""),
      h("td", {}, number(row.seconds)),
      scores.map((name) => h("td", {}, row[name] === null ? "" : number(row[name]))),
    );
  }

  const change = (key, value) => {
    const next = { ...state.filter, [key]: value };
    if (value === undefined || value === null || value === false) delete next[key];
    setFilter(next);
    load();
  };
  const select = (key, title, options) =>
    h(
      "label",
      {},
      title,
      h(
        "select",
        { id: `f-${key}`, onchange: (e) => change(key, e.target.value === "*" ? undefined : e.target.value) },
        options.map(([value, name]) =>
          h("option", { value, selected: (state.filter[key] ?? "*") === value }, name),
        ),
      ),
    );
  const input = (key, title, hint, size) =>
    h(
      "label",
      {},
      title,
      h("input", {
        id: `f-${key}`,
        value: state.filter[key] ?? "",
        placeholder: hint,
        size,
        onchange: (e) => change(key, e.target.value),
      }),
    );
  const rules = [...new Set(overview.steps.map((step) => step.rule))];
  const filters = h(
    "div",
    { class: "filters" },
    select("kind", "kind", [
      ["clip", "clips"],
      ["span", "spans"],
      ["video", "videos"],
    ]),
    select("final", "verdict", [
      ["*", "any"],
      ["kept", "kept"],
      ["rejected", "rejected"],
      ["failed", "failed"],
    ]),
    select("rule", "rule", [["*", "any"], ...rules.map((rule) => [rule, rule])]),
    select("judged", "people", [
      ["*", "anything"],
      ["none", "not judged"],
      ["any", "judged or noted"],
      ["keep", "keep"],
      ["reject", "reject"],
      ["noted", "noted"],
      ["against", "against the machine"],
    ]),
    select("source", "source", [
      ["*", "any"],
      ...overview.sources.map((one) => [one.name ?? "", one.name || "not stated"]),
    ]),
    select("licence", "licence", [
      ["*", "any"],
      ...overview.licences.map((one) => [one.name ?? "", one.name || "not stated"]),
    ]),
    select("motion", "motion", [
      ["*", "any"],
      ...overview.motions.filter((one) => one.name).map((one) => [one.name, one.name]),
    ]),
    h(
      "label",
      { class: "inline" },
      h("input", {
        id: "f-trouble",
        type: "checkbox",
        checked: state.filter.trouble,
        onchange: (e) => change("trouble", e.target.checked),
      }),
      "damaged",
    ),
    input("text", "contains", "caption, address, id", 16),
    input("where", "SQL", "flow_dis > 5 and caption is null", 30),
    h(
      "button",
      {
        class: "quiet",
        onclick: () => {
          setFilter({});
          location.reload();
        },
      },
      "clear",
    ),
  );

  const size = h("input", {
    type: "number",
    value: 50,
    min: 1,
    max: 2000,
    "aria-label": "clips in the sample",
  });
  const seed = h("input", { type: "number", value: 0, "aria-label": "seed" });
  const drawn = () =>
    post("sample", { filter: asked(), count: Number(size.value), seed: Number(seed.value) });
  const review = h(
    "button",
    {
      id: "review",
      onclick: async () => {
        try {
          state.queue = await drawn();
          keep();
          if (state.queue.length) location.hash = `#/clip/${state.queue[0]}`;
          else toast("no clip with files is in view", true);
        } catch (error) {
          toast(error.message, true);
        }
      },
    },
    "review",
  );
  const sample = h(
    "button",
    {
      id: "csv",
      onclick: async () => {
        try {
          save("sample.csv", await text("clips.csv", { ids: await drawn() }), "text/csv");
        } catch (error) {
          toast(error.message, true);
        }
      },
    },
    "save as CSV",
  );
  main.append(
    filters,
    h(
      "div",
      { class: "tools" },
      summary,
      compare,
      h("span", { class: "group" }, "random sample of ", size, " seed ", seed, review, sample),
    ),
    h("div", { class: "scroll" }, h("table", { class: "clips" }, head, body)),
    more,
  );
  await load();
}
