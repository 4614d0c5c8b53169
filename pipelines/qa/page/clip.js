// One clip: video and path together, plots under one cursor, scores with their verdict and why, provenance, and
// what people say of it, by key.

import { get, post } from "./api.js";
import { count, duration, h, number, toast } from "./dom.js";
import { Player } from "./player.js";
import { Plots } from "./plots.js";
import { Scene } from "./scene.js";
import { keep, state } from "./state.js";

// Notes that were begun and not saved, by clip: leaving a clip does not lose them.
const draft = new Map();

export async function openClip(clipId, compact = false) {
  const told = await post(`clip/${clipId}`, { thresholds: state.thresholds });
  const view = {
    told,
    node: h("article", { class: `clip ${compact ? "compact" : ""}`, dataset: { id: clipId } }),
    parts: [],
  };
  const playable = told.members.includes("mp4");
  const player = playable ? new Player(told) : null;
  view.player = player;
  if (player) view.parts.push(player);
  const beside = h("div", { class: "beside" });
  const over = h("div");
  view.node.append(
    h(
      "div",
      { class: "watch" },
      player ? player.node : h("p", { class: "error" }, "This row has no video."),
      beside,
    ),
    over,
  );
  if (player && told.members.includes("camera.npz")) {
    get(`clip/${clipId}/path`)
      .then(async (path) => {
        const scene = new Scene(path, told, player);
        view.parts.push(scene);
        beside.append(scene.node);
        over.append(new Plots(path, player).node);
        await scene.draw();
      })
      .catch((error) => {
        beside.append(h("p", { class: "error" }, error.message));
      });
  }
  view.close = () => view.parts.forEach((part) => part.close());
  return view;
}

function verdictLine(told) {
  return h(
    "p",
    { class: "verdict" },
    h("b", { class: told.final, id: "final" }, told.final),
    told.judged
      ? h(
          "span",
          {},
          ` said ${told.reviewer}, ${new Date(told.judged_at).toLocaleString()}; the thresholds: ${told.verdict}`,
        )
      : " by the stored thresholds",
    told.rules.verdict !== told.verdict
      ? h("span", { class: "soft" }, `; those being tried: ${told.rules.verdict}`)
      : null,
  );
}

function scores(told) {
  const where = (name) =>
    told.percentiles[name] === undefined ? "" : `${Math.round(100 * told.percentiles[name])} %`;
  return h(
    "table",
    { class: "plain scores" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["score", "value", "lower clips", "limits", "why"].map((name) => h("th", {}, name)),
      ),
    ),
    h(
      "tbody",
      {},
      told.rules.scores.map((line) =>
        h(
          "tr",
          { class: line.why ? "fails" : line.bounded ? "passes" : "" },
          h("td", { title: line.score }, line.title),
          h("td", {}, line.text),
          h("td", { class: "soft" }, where(line.score)),
          h("td", { class: "soft" }, line.limits),
          h("td", {}, line.why ?? (line.bounded ? "✓" : "")),
        ),
      ),
    ),
  );
}

function facts(entries) {
  return h(
    "dl",
    { class: "facts" },
    entries.map(([name, value]) =>
      h(
        "div",
        {},
        h("dt", {}, name.replaceAll("_", " ")),
        h("dd", {}, typeof value === "number" ? number(value, 5) : String(value)),
      ),
    ),
  );
}

async function health(clipId, node) {
  try {
    const report = await get(`clip/${clipId}/health`);
    node.replaceChildren(
      ...report.map((one) =>
        h(
          "li",
          { class: one.fault ? "error" : "" },
          h("code", {}, one.member),
          ` ${count(one.size)} bytes`,
          one.fault ? `: ${one.fault}` : " ✓",
        ),
      ),
    );
    if (!report.length) node.replaceChildren(h("li", {}, "This row has no files."));
  } catch (error) {
    node.replaceChildren(h("li", { class: "error" }, error.message));
  }
}

export async function show(main, [clipId]) {
  const view = await openClip(clipId);
  let told = view.told;
  const place = state.queue.indexOf(clipId);
  const step = (by) => {
    const next = state.queue[place + by];
    if (place >= 0 && next) location.hash = `#/clip/${next}`;
    else toast(by > 0 ? "that was the last one" : "that was the first one");
  };
  const line = h("div");
  const note = h("textarea", { id: "note", rows: 2, placeholder: "note (N)", value: draft.get(clipId) ?? told.note ?? "" });
  note.addEventListener("input", () => draft.set(clipId, note.value));
  const judge = async (verdict, move) => {
    try {
      Object.assign(
        told,
        await post("verdict", { clip_id: clipId, verdict, note: note.value, reviewer: state.reviewer }),
      );
      draft.delete(clipId);
      told.final = { keep: "kept", reject: "rejected" }[told.judged] ?? told.verdict;
      drawVerdict();
      toast(`${clipId.slice(0, 8)}: ${told.judged ?? "no verdict"}${told.note ? ", noted" : ""}`);
      if (move && main.isConnected && place >= 0 && place + 1 < state.queue.length) step(1);
    } catch (error) {
      toast(`not saved: ${error.message}`, true);
    }
  };
  function drawVerdict() {
    line.replaceChildren(verdictLine(told));
    for (const button of buttons.querySelectorAll("button"))
      button.setAttribute(
        "aria-pressed",
        String((told.judged ?? "") === button.dataset.verdict && button.dataset.verdict !== ""),
      );
  }
  const button = (verdict, name) =>
    h("button", { dataset: { verdict }, onclick: () => judge(verdict || null, Boolean(verdict)) }, name);
  const buttons = h(
    "div",
    { class: "judge" },
    button("keep", "keep (K)"),
    button("reject", "reject (R)"),
    button("", "withdraw (U)"),
    h(
      "button",
      { id: "save-note", dataset: { verdict: "" }, onclick: () => judge(told.judged, false) },
      "save note",
    ),
  );
  note.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") note.blur();
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      judge(told.judged, false);
      note.blur();
    }
  });
  const keys = (event) => {
    const field = event.target.closest("input, textarea, select");
    const typing = field && (field.type !== "range" || event.key.startsWith("Arrow"));
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      k: () => judge("keep", true),
      r: () => judge("reject", true),
      u: () => judge(null, false),
      n: () => note.focus(),
      " ": () => view.player?.toggle(),
      ",": () => view.player?.seek(view.player.frame - 1),
      ".": () => view.player?.seek(view.player.frame + 1),
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      Escape: () => {
        location.hash = "#/clips";
      },
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) {
      event.preventDefault();
      // A key that is held down steps on, but judges one clip alone.
      if (!event.repeat || /^([,.]|Arrow.*)$/.test(event.key)) act();
    }
  };
  document.addEventListener("keydown", keys);

  const files = h("ul", { class: "files" }, h("li", {}, "reading …"));
  const other = h(
    "button",
    {
      class: "quiet",
      onclick: () => {
        if (place >= 0 && state.queue[place + 1])
          location.hash = `#/compare/${clipId}/${state.queue[place + 1]}`;
      },
    },
    "beside the next one",
  );
  main.append(
    h(
      "div",
      { class: "tools" },
      h("a", { class: "link", href: "#/clips" }, "← clips"),
      h("h1", {}, h("code", { title: clipId }, clipId.slice(0, 12))),
      h("button", { class: "quiet", onclick: () => step(-1) }, "←"),
      h("span", { class: "soft" }, place >= 0 ? `${place + 1} of ${state.queue.length}` : ""),
      h("button", { class: "quiet", onclick: () => step(1) }, "→"),
      place >= 0 && state.queue[place + 1] ? other : null,
    ),
    told.trouble ? h("p", { class: "error" }, `Its shard is damaged: ${told.trouble}.`) : "",
    view.node,
    h(
      "div",
      { class: "columns even" },
      h(
        "section",
        {},
        h("h2", {}, "Verdict"),
        line,
        told.reasons.length ? h("p", { class: "why" }, told.reasons.join(", ")) : null,
        told.why.map((why) => h("p", { class: "error" }, why)),
        buttons,
        note,
        h(
          "p",
          { class: "hint" },
          "K keep, R reject, U withdraw, N note, ← → other clips, space play, comma and full stop step a frame",
        ),
        h("h2", {}, "Caption"),
        h("p", { class: told.caption ? "" : "soft" }, told.caption ?? "none"),
        h("h2", {}, "Files"),
        files,
        h("h2", {}, "Provenance"),
        facts(Object.entries(told.provenance)),
        h("h2", {}, "Engines"),
        facts(
          Object.entries(told.engines).map(([name, value]) => [
            name,
            typeof value === "object" ? JSON.stringify(value) : value,
          ]),
        ),
        facts(
          Object.entries(told.stage_seconds).map(([name, value]) => [`time of ${name}`, duration(value)]),
        ),
      ),
      h("section", {}, h("h2", {}, "Scores"), scores(told)),
    ),
  );
  drawVerdict();
  health(clipId, files);
  return () => {
    document.removeEventListener("keydown", keys);
    view.close();
    keep();
  };
}
