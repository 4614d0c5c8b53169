// A clip over time: several small plots under one time cursor; a click or drag on any of them seeks.

import { h, number } from "./dom.js";

const [W, H] = [600, 58];

export class Plots {
  constructor(path, player) {
    Object.assign(this, { path, player });
    this.cursors = [];
    this.count = path.times.length;
    this.node = h("div", { class: "plots" });
    const unit = path.unit === "engine" ? "units of the engine" : path.unit;
    this.add("speed", path.speed, `${unit}/s`);
    this.add("rotation", path.turn, "°/s");
    this.add("focal length", path.focal, "px");
    this.add("scale", this.scale(), path.scale_status === "relative" ? "" : "m per unit", path.scale_sigma);
    this.add("1 σ of position", path.sigma_position, unit);
    player.onframe((frame) => this.show(frame));
  }

  // A clip has one scale; where there is none the plot says so.
  scale() {
    return this.path.scale === null ? [] : this.path.times.map(() => this.path.scale);
  }

  add(title, values, unit, sigmaLog = null) {
    const known = values.filter((v) => v !== null);
    const out = h("output");
    const label = h("p", {}, h("b", {}, title), " ", h("small", {}, unit), out);
    if (!known.length) {
      out.textContent =
        title === "scale" ? `no metric scale (${this.path.scale_status ?? "unknown"})` : "not known";
      this.node.append(h("div", { class: "plot" }, label));
      return;
    }
    const band = sigmaLog ? [known[0] * Math.exp(-sigmaLog), known[0] * Math.exp(sigmaLog)] : [];
    let low = Math.min(...known, ...band);
    let high = Math.max(...known, ...band);
    const flat = high - low < 1e-9 * Math.max(Math.abs(high), 1e-9);
    if (flat) {
      low -= Math.abs(low) * 0.1 || 1;
      high += Math.abs(high) * 0.1 || 1;
    }
    const x = (k) => (this.count > 1 ? (k / (this.count - 1)) * W : 0);
    const y = (v) => H - 4 - ((v - low) / (high - low)) * (H - 8);
    const svg = h("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none" });
    if (band.length)
      svg.append(
        h("rect", { class: "band", x: 0, width: W, y: y(band[1]), height: y(band[0]) - y(band[1]) }),
      );
    for (const run of runs(values))
      svg.append(
        h("polyline", { points: run.map((k) => `${x(k).toFixed(1)},${y(values[k]).toFixed(1)}`).join(" ") }),
      );
    const cursor = h("line", { class: "cursor", y1: 0, y2: H });
    svg.append(cursor);
    const seek = (event) => {
      const box = svg.getBoundingClientRect();
      this.player.seek(Math.round(((event.clientX - box.left) / box.width) * (this.count - 1)));
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      seek(event);
    });
    svg.addEventListener("pointermove", (event) => {
      if (event.buttons) seek(event);
    });
    this.cursors.push((frame) => {
      cursor.setAttribute("x1", x(frame));
      cursor.setAttribute("x2", x(frame));
      const error = sigmaLog ? ` ± ${(100 * sigmaLog).toFixed(0)} %` : "";
      out.textContent =
        values[frame] === null || values[frame] === undefined ? "–" : number(values[frame]) + error;
    });
    this.node.append(
      h(
        "div",
        { class: "plot" },
        label,
        svg,
        flat
          ? null
          : [h("small", { class: "top" }, number(high)), h("small", { class: "bottom" }, number(low))],
      ),
    );
  }

  show(frame) {
    for (const move of this.cursors) move(Math.min(frame, this.count - 1));
  }
}

// Stretches of frames that follow each other and have a value.
function runs(values) {
  const found = [];
  values.forEach((value, k) => {
    if (value === null) return;
    if (k && values[k - 1] !== null) found.at(-1).push(k);
    else found.push([k]);
  });
  return found;
}
