// Two clips side by side, played and sought together.

import { openClip } from "./clip.js";
import { h, number } from "./dom.js";

export async function show(main, [first, second]) {
  const views = await Promise.all([first, second].map((id) => openClip(id, true)));
  const [a, b] = views;
  const players = views.map((view) => view.player).filter(Boolean);
  const together = h(
    "button",
    {
      onclick: () => {
        const start = players.every((player) => player.video.paused);
        for (const player of players) if (player.video.paused === start) player.toggle();
      },
    },
    "play both",
  );
  let leading = null;
  for (const player of players) {
    const other = players.find((one) => one !== player);
    player.bar.addEventListener("input", () => other?.seek(Number(player.bar.value)));
    player.onframe((frame) => {
      if (!other || leading || !player.video.paused) return;
      leading = player;
      if (other.video.paused && other.frame !== frame) other.seek(frame);
      leading = null;
    });
  }
  const byName = (view) => new Map(view.told.rules.scores.map((line) => [line.score, line]));
  const [left, right] = [byName(a), byName(b)];
  const titles = new Map([...left, ...right].map(([name, line]) => [name, line.title]));
  const difference = (x, y) =>
    x?.value !== null && y?.value !== null && x && y && x.value
      ? `${number(100 * (y.value / x.value - 1), 2)} %`
      : "";
  main.append(
    h("div", { class: "tools" }, h("a", { class: "link", href: "#/clips" }, "← clips"), together),
    h(
      "div",
      { class: "pair" },
      views.map((view) =>
        h(
          "div",
          {},
          h(
            "h2",
            {},
            h("a", { class: "link", href: `#/clip/${view.told.clip_id}` }, view.told.clip_id.slice(0, 12)),
            " ",
            h("span", { class: view.told.final }, view.told.final),
          ),
          view.node,
        ),
      ),
    ),
    h(
      "section",
      {},
      h("h2", {}, "Scores"),
      h(
        "table",
        { class: "plain scores" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["score", "left", "right", "right beside left"].map((name) => h("th", {}, name)),
          ),
        ),
        h(
          "tbody",
          {},
          [...titles].map(([name, title]) =>
            h(
              "tr",
              {},
              h("td", {}, title),
              h("td", { class: left.get(name)?.why ? "rejected" : "" }, left.get(name)?.text ?? ""),
              h("td", { class: right.get(name)?.why ? "rejected" : "" }, right.get(name)?.text ?? ""),
              h("td", { class: "soft" }, difference(left.get(name), right.get(name))),
            ),
          ),
        ),
      ),
    ),
  );
  return () => views.forEach((view) => view.close());
}
