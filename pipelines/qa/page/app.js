// Which view is shown. A view is a function (main, rest of the address) that fills `main` and may return what
// is to be done when it is left.

import { get } from "./api.js";
import { h, toast } from "./dom.js";
import { keep, loadThresholds, state } from "./state.js";

const views = {
  "": () => import("./overview.js"),
  scores: () => import("./scores.js"),
  clips: () => import("./clips.js"),
  clip: () => import("./clip.js"),
  compare: () => import("./compare.js"),
  map: () => import("./map.js"),
  live: () => import("./live.js"),
};

const main = document.getElementById("main");
let leave = null;
let shown = 0;

async function show() {
  const turn = ++shown;
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  leave?.();
  leave = null;
  for (const link of document.querySelectorAll("nav a")) {
    const here =
      link.dataset.view === name ||
      (name === "clip" && link.dataset.view === "clips") ||
      (name === "compare" && link.dataset.view === "clips");
    link.toggleAttribute("aria-current", here);
  }
  try {
    const view = await (views[name] ?? views[""])();
    await started;
    if (turn !== shown) return;
    // A view that is left before it is there fills a place that nobody sees, and is ended at once.
    const place = h("div");
    main.replaceChildren(place);
    const end = (await view.show(place, rest)) ?? null;
    if (turn === shown) leave = end;
    else end?.();
  } catch (error) {
    if (turn === shown) main.replaceChildren(h("p", { class: "error" }, error.message));
  }
}

export function tellNotices(notices) {
  document.getElementById("notices").replaceChildren(...notices.map((notice) => h("p", {}, notice)));
}

async function start() {
  const told = await get("overview");
  state.data = told.data;
  state.reviewer ||= told.reviewer;
  document.title = told.data.split("/").filter(Boolean).pop() ?? "Data set";
  document.getElementById("where").textContent = told.data;
  tellNotices(told.notices);
  const who = document.getElementById("reviewer");
  who.value = state.reviewer;
  who.addEventListener("change", () => {
    state.reviewer = who.value.trim() || told.reviewer;
    who.value = state.reviewer;
    keep();
  });
  await loadThresholds();
}

if (new URLSearchParams(location.search).has("token"))
  history.replaceState(null, "", location.pathname + location.hash);
const started = start();
started.catch((error) => toast(error.message, true));
addEventListener("hashchange", show);
show();
