// What there is, from where, under which terms, what became of it, and how fast it went.

import { get } from "./api.js";
import { count, duration, h, number, percent } from "./dom.js";
import { setFilter } from "./state.js";

const goTo = (filter) => (event) => {
  event.preventDefault();
  setFilter(filter);
  location.hash = "#/clips";
};

function tile(value, text, name = "") {
  return h("div", { class: `tile ${name}` }, h("b", {}, value), h("span", {}, text));
}

function funnel(told) {
  let left = told.rows;
  const lines = told.steps.map((step) => {
    left -= step.count;
    const mark =
      step.kind === "clip" && step.verdict !== "failed"
        ? null
        : h("i", { class: step.verdict }, step.verdict === "failed" ? "failed" : step.kind);
    return h(
      "a",
      {
        href: "#/clips",
        onclick: goTo({ kind: step.kind, rule: step.rule === "no reason given" ? "" : step.rule }),
        title: `${step.title} ${count(step.named)} name it at all`,
      },
      h("span", { class: "rule" }, step.rule, mark),
      h(
        "span",
        { class: "bar" },
        h("span", { class: "left", style: `width:${(100 * left) / told.rows}%` }),
        h("span", { class: step.verdict, style: `width:${(100 * step.count) / told.rows}%` }),
      ),
      h("span", { class: "count" }, count(step.count)),
      h("span", { class: "share" }, percent(step.count, told.rows)),
    );
  });
  const end = h(
    "a",
    { href: "#/clips", onclick: goTo({ final: "kept" }) },
    h("span", { class: "rule" }, h("b", {}, "kept")),
    h(
      "span",
      { class: "bar" },
      h("span", { class: "kept", style: `width:${(100 * told.kept) / told.rows}%` }),
    ),
    h("span", { class: "count" }, count(told.kept)),
    h("span", { class: "share" }, percent(told.kept, told.rows)),
  );
  return h(
    "section",
    {},
    h("h2", {}, "What became of it"),
    h(
      "p",
      { class: "hint" },
      `${count(told.rows)} pieces of ${count(told.videos)} videos came in; each is counted at the first rule that took it. Click a rule to see its clips.`,
    ),
    h("div", { class: "funnel" }, lines, end),
  );
}

function shares(title, rows, key) {
  if (!rows.length) return null;
  return h(
    "section",
    {},
    h("h2", {}, title),
    h(
      "table",
      { class: "plain" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["", "clips", "kept", "video kept"].map((name) => h("th", {}, name)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            h(
              "td",
              {},
              key
                ? h(
                    "a",
                    { class: "link", href: "#/clips", onclick: goTo({ [key]: row.name ?? "" }) },
                    row.name || "not stated",
                  )
                : (row.name ?? "unknown"),
            ),
            h("td", {}, count(row.clips)),
            h("td", {}, percent(row.kept, row.clips)),
            h("td", {}, duration(row.kept_seconds)),
          ),
        ),
      ),
    ),
  );
}

function pace(told) {
  const spent = told.stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const run = told.run;
  const facts = [];
  if (run) {
    facts.push(["last run", `${run.run} (${run.state})`], ["command", run.command]);
    if (run.seconds && run.rows)
      facts.push(
        ["took", `${duration(run.seconds)}, ${count(run.rows)} new rows`],
        ["rows an hour", number((3600 * run.rows) / run.seconds)],
      );
    if (run.first_clip_s) facts.push(["first clip after", duration(run.first_clip_s)]);
  }
  if (spent) facts.push(["video per worker second", `${number(told.seconds / spent)} s`]);
  return h(
    "section",
    {},
    h("h2", {}, "How fast it went"),
    spent
      ? h(
          "div",
          { class: "stack" },
          told.stages.map((stage, i) =>
            h("span", {
              class: `s${Math.min(i, 5)}`,
              style: `width:${(100 * stage.seconds) / spent}%`,
              title: `${stage.stage} ${stage.text}`,
            }),
          ),
        )
      : null,
    h(
      "table",
      { class: "plain" },
      h(
        "tbody",
        {},
        told.stages.map((stage, i) =>
          h(
            "tr",
            {},
            h("td", {}, h("span", { class: `dot s${Math.min(i, 5)}` }), stage.stage),
            h("td", {}, `${stage.text} of workers`),
            h("td", {}, percent(stage.seconds, spent)),
          ),
        ),
        facts.map(([name, value]) => h("tr", {}, h("td", {}, name), h("td", { colspan: 2 }, value))),
      ),
    ),
  );
}

export async function show(main) {
  const told = await get("overview");
  const said = told.said;
  const judged = said.keep + said.reject;
  main.append(
    h(
      "p",
      { class: "lead" },
      h("b", {}, count(said.final_kept)),
      ` of ${count(told.clips)} clips kept, `,
      h("b", {}, duration(said.final_seconds)),
      ` of video from ${count(told.videos)} videos.`,
    ),
    h(
      "div",
      { class: "tiles" },
      tile(count(told.kept), "kept by the thresholds", "kept"),
      tile(count(told.rejected), "rejected", "rejected"),
      tile(count(told.failed), "failed", "failed"),
      tile(duration(told.seconds), "of video looked at"),
      tile(
        count(judged),
        judged ? `judged by people, ${count(said.against)} against the thresholds` : "judged by people",
      ),
      tile(count(said.trouble), "in damaged or missing shards", said.trouble ? "failed" : ""),
    ),
    h("div", { class: "columns" }, funnel(told), h("div", {}, pace(told))),
    h(
      "div",
      { class: "columns even" },
      shares("Sources", told.sources, "source"),
      shares("Licences", told.licences, "licence"),
      shares("Camera motion", told.motions, "motion"),
      shares("Scale", told.scales, null),
    ),
  );
}
