// Histograms of every score with the limits as lines, and what stays under them.

import { get, post, text } from "./api.js";
import { count, duration, h, latest, percent, save, strip, toast } from "./dom.js";
import { Histogram } from "./histogram.js";
import { asked, keep, state } from "./state.js";

const OTHER = {
  pose: "cameras were found",
  trust: "no second engine contradicts the cameras",
  motions: "camera motions rejected",
  scale: "unit of the translations",
  caption: "there is a caption, and it does not speak of the camera",
};
const isBound = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const signed = (n) => (n > 0 ? `+${count(n)}` : n < 0 ? `−${count(-n)}` : "±0");

function totals(told) {
  const change = told.kept - told.stored;
  return [
    h("b", { id: "kept", dataset: { kept: told.kept } }, count(told.kept)),
    ` of ${count(told.clips)} clips stay (${percent(told.kept, told.clips)}), `,
    h("b", {}, duration(told.kept_seconds)),
    " of video. ",
    h(
      "span",
      { class: "soft" },
      change || told.gained || told.lost
        ? `Beside the stored verdicts: ${signed(change)} clips (${count(told.gained)} come, ${count(told.lost)} go).`
        : "As the stored verdicts.",
    ),
  ];
}

export async function show(main) {
  const values = state.thresholds;
  const head = h("p", { class: "lead totals" });
  const rules = h("tbody");
  const charts = new Map();
  const grid = h("div", { class: "histograms" });

  const ask = latest(async (withCharts) => {
    try {
      const body = { thresholds: values, filter: asked() };
      const told = await post("tally", body);
      head.replaceChildren(...totals(told));
      const taking = told.rules.filter((rule) => rule.takes).sort((a, b) => b.takes - a.takes);
      const worst = Math.max(1, ...told.rules.map((rule) => rule.takes));
      rules.replaceChildren(
        ...taking.map((rule) =>
          h(
            "tr",
            {},
            h("td", {}, h("code", {}, rule.rule)),
            h(
              "td",
              { class: "wide" },
              h(
                "span",
                { class: "bar" },
                h("span", { class: "rejected", style: `width:${(100 * rule.takes) / worst}%` }),
              ),
            ),
            h("td", {}, count(rule.takes)),
            h("td", {}, count(rule.alone)),
          ),
        ),
      );
      if (!taking.length)
        rules.append(h("tr", {}, h("td", { colspan: 4, class: "soft" }, "no rule takes any clip")));
      if (withCharts) for (const one of await post("histograms", body)) charts.get(one.score)?.fill(one);
    } catch (error) {
      toast(error.message, true);
    }
  });

  function moved(score, side, value, finished) {
    values[score] = { ...values[score], [side]: value };
    keep();
    ask(true);
    if (finished) showEdges(charts.get(score));
  }

  const showEdges = latest(async (chart) => {
    const rows = [];
    for (const side of ["min", "max"]) {
      const limit = chart.bound[side];
      if (limit === null || limit === undefined) continue;
      const found = await post("edge", {
        score: chart.told.score,
        limit,
        upper: side === "max",
        filter: asked(),
      });
      const picture = (one, stays) =>
        h(
          "a",
          {
            href: `#/clip/${one.clip_id}`,
            class: stays ? "stays" : "goes",
            title: `${chart.text(one.value)} · ${one.final}`,
          },
          strip(one.clip_id, 1),
          h("small", {}, chart.text(one.value)),
        );
      rows.push(
        h(
          "div",
          { class: "edge-row" },
          found.below.map((one) => picture(one, side === "max")),
          h("span", { class: "at" }, `${side === "min" ? "≥" : "≤"} ${chart.text(limit)}`),
          found.above.map((one) => picture(one, side === "min")),
        ),
      );
    }
    chart.edge.replaceChildren(
      ...(rows.length ? rows : [h("p", { class: "hint" }, "Neither limit is set.")]),
    );
  });

  function fill(next) {
    for (const key of Object.keys(values)) delete values[key];
    Object.assign(values, structuredClone(next));
    keep();
    for (const [score, chart] of charts) chart.setBound(values[score] ?? {});
    drawOthers();
    ask(true);
  }

  const others = h("div", { class: "others" });
  function drawOthers() {
    others.replaceChildren(
      ...Object.entries(values)
        .filter(([key, value]) => !isBound(value))
        .map(([key, value]) => {
          const change = (next) => {
            values[key] = next;
            keep();
            ask(true);
          };
          let field;
          if (typeof value === "boolean")
            field = h("input", {
              type: "checkbox",
              checked: value,
              onchange: (e) => change(e.target.checked),
            });
          else if (Array.isArray(value))
            field = h("input", {
              value: value.join(", "),
              size: 24,
              onchange: (e) =>
                change(
                  e.target.value
                    .split(",")
                    .map((v) => v.trim())
                    .filter(Boolean),
                ),
            });
          else {
            const choices = key === "missing" ? ["reject", "ignore"] : ["any", "consistent", "metric"];
            field = h(
              "select",
              { value, onchange: (e) => change(e.target.value) },
              choices.map((name) => h("option", { selected: name === value }, name)),
            );
          }
          return h(
            "label",
            {},
            h("code", {}, key),
            field,
            h(
              "small",
              {},
              OTHER[key] ?? (key === "missing" ? "a score a rule asks for and nobody measured" : ""),
            ),
          );
        }),
    );
  }

  const preset = h(
    "select",
    {
      id: "preset",
      onchange: async (event) => {
        const name = event.target.value;
        if (name)
          try {
            fill(name === "*" ? state.stored : await get(`thresholds/${name}`));
          } catch (error) {
            toast(error.message, true);
          }
        event.target.value = "";
      },
    },
    h("option", { value: "" }, "take limits from …"),
    h("option", { value: "*" }, "this data set"),
    state.presets.map((name) => h("option", { value: name }, name)),
  );
  const download = h(
    "button",
    {
      id: "download",
      onclick: async () => {
        try {
          save("mine.yaml", await text("thresholds.yaml", { thresholds: values }), "text/yaml");
        } catch (error) {
          toast(error.message, true);
        }
      },
    },
    "save as filter file",
  );

  const scope =
    Object.keys(asked()).length > 1
      ? h("p", { class: "hint" }, `Only clips of the filter set under Clips: ${JSON.stringify(asked())}`)
      : null;
  main.append(
    h("div", { class: "sticky" }, head, h("div", { class: "tools" }, preset, download)),
    scope ?? "",
    h(
      "div",
      { class: "columns" },
      h("section", {}, h("h2", {}, "Rules without a scale"), others),
      h(
        "section",
        {},
        h("h2", {}, "What each rule takes"),
        h(
          "table",
          { class: "plain rules" },
          h(
            "thead",
            {},
            h("tr", {}, h("th", {}, "rule"), h("th", {}), h("th", {}, "clips"), h("th", {}, "it alone")),
          ),
          rules,
        ),
      ),
    ),
    h(
      "section",
      {},
      h("h2", {}, "Scores"),
      h(
        "p",
        { class: "hint" },
        "Drag a line, type a number, or move a line with the arrow keys; dragged off the chart it is off. The outermost bars also hold what lies beyond. ",
        h("span", { class: "key kept" }),
        "stays ",
        h("span", { class: "key rejected" }),
        "goes, by this or another rule or a person's verdict",
      ),
      grid,
    ),
  );
  drawOthers();
  const told = await post("histograms", { thresholds: values, filter: asked() });
  for (const one of told) {
    const chart = new Histogram(
      one,
      values[one.score] ?? {},
      (side, value, finished) => moved(one.score, side, value, finished),
      showEdges,
    );
    charts.set(one.score, chart);
    grid.append(chart.node);
  }
  if (!told.length) grid.append(h("p", { class: "hint" }, "No clip has a score yet."));
  await ask(false);
}
