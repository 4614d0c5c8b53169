// What the views share: thresholds being tried, the filter, the clips in line for review, the reviewer.
// Thresholds and filter live as long as the tab; what people said of clips lives on the server alone.

import { get } from "./api.js";

const remembered = (key, otherwise) => {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
};

export const state = {
  thresholds: null,
  stored: null,
  presets: [],
  data: "",
  filter: remembered("filter", { kind: "clip" }),
  queue: remembered("queue", []),
  reviewer: localStorage.getItem("reviewer") ?? "",
};

export async function loadThresholds() {
  if (state.stored) return;
  const told = await get("thresholds");
  state.stored = told.stored;
  state.presets = told.presets;
  const mine = remembered("thresholds", null);
  state.thresholds = mine && mine.data === state.data ? mine.values : structuredClone(told.stored);
}

export function keep() {
  sessionStorage.setItem("thresholds", JSON.stringify({ data: state.data, values: state.thresholds }));
  sessionStorage.setItem("filter", JSON.stringify(state.filter));
  sessionStorage.setItem("queue", JSON.stringify(state.queue));
  localStorage.setItem("reviewer", state.reviewer);
}

export function setFilter(filter) {
  state.filter = { kind: "clip", ...filter };
  keep();
}

// What the server's filter takes: empty fields are left out.
export function asked(filter = state.filter) {
  return Object.fromEntries(
    Object.entries(filter).filter(
      ([key, value]) =>
        value !== undefined && value !== null && (value !== "" || key === "source" || key === "licence"),
    ),
  );
}
