// The run that is writing the data set, as its traces show it.

import { get } from "./api.js";
import { tellNotices } from "./app.js";
import { count, duration, h, number, toast } from "./dom.js";

const [W, H] = [600, 90];

function chart(pace) {
  const top = Math.max(...pace.map((one) => one.clips), 1);
  const step = W / 60;
  return h(
    "svg",
    {
      viewBox: `0 0 ${W} ${H}`,
      class: "pace",
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": "clips over time",
    },
    pace.flatMap((one) => {
      const [all, kept] = [(one.clips / top) * (H - 6), (one.kept / top) * (H - 6)];
      const title = () =>
        h(
          "title",
          {},
          `${new Date(1000 * one.from).toLocaleString()}: ${count(one.clips)} clips, ${count(one.kept)} kept`,
        );
      return [
        h(
          "rect",
          { class: "rejected", x: one.bucket * step + 0.5, width: step - 1, y: H - all, height: all },
          title(),
        ),
        h(
          "rect",
          { class: "kept", x: one.bucket * step + 0.5, width: step - 1, y: H - kept, height: kept },
          title(),
        ),
      ];
    }),
  );
}

export async function show(main) {
  let stop = false;
  const place = h("div");
  main.append(place);
  async function look() {
    if (stop) return;
    try {
      const told = await get("live");
      tellNotices(told.notices);
      place.replaceChildren(...draw(told));
    } catch (error) {
      toast(error.message, true);
    }
    if (!stop) setTimeout(look, 2000);
  }
  await look();
  return () => {
    stop = true;
  };
}

function draw({ holder, run, work, pace, rows }) {
  const clips = pace.reduce((sum, one) => sum + one.clips, 0);
  const span = pace.length ? pace.at(-1).from + pace.at(-1).length - pace[0].from : 0;
  const seconds = pace.reduce((sum, one) => sum + one.seconds, 0);
  const fact = (name, value) => h("tr", {}, h("td", {}, name), h("td", {}, value));
  return [
    h(
      "p",
      { class: "lead" },
      holder ? [h("b", { class: "kept" }, "Writing: "), holder] : "Nobody is writing this data set.",
    ),
    run && run.videos
      ? h("progress", { max: run.videos, value: run.state === "finished" ? run.videos : Math.min(work.finished, run.videos) })
      : "",
    h(
      "div",
      { class: "columns even" },
      h(
        "section",
        {},
        h("h2", {}, "The newest run"),
        run
          ? h(
              "table",
              { class: "plain" },
              h(
                "tbody",
                {},
                fact(
                  "run",
                  `${run.run} (${run.state === "begun" && !holder ? "broke off; the same command continues it" : run.state})`,
                ),
                fact("command", run.command),
                fact("videos", `${count(run.videos)}, of which ${count(run.begun)} were to do when it began`),
              ),
            )
          : h("p", { class: "hint" }, "No run has left a record."),
      ),
      h(
        "section",
        {},
        h("h2", {}, "Under way"),
        h(
          "table",
          { class: "plain" },
          h(
            "tbody",
            {},
            fact("rows in the index", count(rows)),
            fact("videos begun", count(work.videos)),
            fact("rows cut and not committed", count(work.rows)),
            Object.entries(work.stages).map(([stage, n]) => fact(`clips through ${stage}`, count(n))),
          ),
        ),
      ),
    ),
    h(
      "section",
      {},
      h("h2", {}, "Clips over time"),
      pace.length
        ? [
            h(
              "p",
              { class: "hint" },
              `${count(clips)} clips in ${duration(span)}: ${number((3600 * clips) / span)} an hour, ${number(seconds / span)} s of video per second.`,
            ),
            chart(pace),
          ]
        : h("p", { class: "hint" }, "No clip is committed yet."),
    ),
  ];
}
