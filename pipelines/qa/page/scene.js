// The camera's path in space with the current frustum, by plotly. Shown with y up: world axes are OpenCV's.

import { get } from "./api.js";
import { h, number } from "./dom.js";

let loading = null;
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = h("script", { src: "plotly.js" });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () =>
      reject(new Error("the 3-D view needs plotly: pip install plotly")),
    );
    document.head.append(script);
  });
  return loading;
}

const shown = ([x, y, z]) => [x, z, -y];
const columns = (points) => [0, 1, 2].map((axis) => points.map((p) => (p === null ? null : p[axis])));
const at = (pose, [x, y, z]) =>
  [0, 1, 2].map((r) => pose[4 * r] * x + pose[4 * r + 1] * y + pose[4 * r + 2] * z + pose[4 * r + 3]);
const centre = (pose) => (pose ? shown([pose[3], pose[7], pose[11]]) : null);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Scene {
  constructor(path, told, player) {
    Object.assign(this, { path, told, player });
    this.box = h("div", { class: "scene" });
    this.points = h("button", { class: "quiet", onclick: () => this.addPoints() }, "points of the depth");
    this.note = h("small", { class: "soft" });
    this.node = h("div", {}, this.box, h("p", { class: "controls" }, this.points, this.note));
  }

  async draw() {
    const line = this.path.c2w.map(centre);
    const known = line.filter(Boolean);
    if (this.path.failure || known.length < 1) {
      this.box.replaceChildren(h("p", { class: "error" }, this.path.failure ?? "no frame has a pose"));
      this.points.hidden = true;
      return;
    }
    const reach = Math.max(
      ...[0, 1, 2].map(
        (axis) => Math.max(...known.map((p) => p[axis])) - Math.min(...known.map((p) => p[axis])),
      ),
    );
    this.size = reach > 1e-6 ? 0.14 * reach : 0.2;
    const Plotly = await plotly();
    const trace = (points, more) => {
      const [x, y, z] = columns(points);
      return { type: "scatter3d", mode: "lines", hoverinfo: "skip", showlegend: false, x, y, z, ...more };
    };
    const traces = [
      trace(line, { name: "path", line: { color: colour("--kept"), width: 5 } }),
      trace(this.frustum(0), { name: "camera", line: { color: colour("--rejected"), width: 5 } }),
      trace([known[0]], { name: "start", mode: "markers", marker: { size: 5, color: colour("--ink") } }),
    ];
    if (this.path.truth)
      traces.push(
        trace(this.path.truth.map(shown), {
          name: "true path",
          line: { color: colour("--soft"), width: 9 },
          opacity: 0.35,
        }),
      );
    const axis = {
      showbackground: false,
      gridcolor: colour("--line"),
      zerolinecolor: colour("--line"),
      color: colour("--soft"),
      title: { text: "" },
      tickfont: { size: 10 },
    };
    await Plotly.newPlot(
      this.box,
      traces,
      {
        margin: { l: 0, r: 0, t: 0, b: 0 },
        paper_bgcolor: "rgba(0,0,0,0)",
        uirevision: "keep",
        showlegend: false,
        scene: {
          aspectmode: "data",
          xaxis: axis,
          yaxis: axis,
          zaxis: axis,
          camera: { eye: { x: 1.1, y: -1.75, z: 1 } },
        },
      },
      { displayModeBar: false, responsive: true },
    );
    if (!this.box.isConnected) {
      Plotly.purge(this.box);
      return;
    }
    this.Plotly = Plotly;
    this.note.textContent = `in ${this.path.unit === "engine" ? "units of the engine" : this.path.unit}${this.path.truth ? ", pale: the true path" : ""}`;
    this.player.onframe((frame) => this.show(frame));
  }

  // The view's corners at a fixed distance, drawn in one stroke from the centre; nothing where there is no pose.
  frustum(frame) {
    const pose = this.path.c2w[frame];
    if (!pose) return [];
    const [fx, fy, cx, cy] = this.path.intrinsics[frame];
    const [height, width] = this.path.size;
    const d = this.size;
    const corner = (u, v) => shown(at(pose, [((u - cx) / fx) * d, ((v - cy) / fy) * d, d]));
    const [a, b, c, e, o] = [
      corner(0, 0),
      corner(width, 0),
      corner(width, height),
      corner(0, height),
      centre(pose),
    ];
    return [
      o,
      a,
      b,
      c,
      e,
      a,
      o,
      b,
      null,
      c,
      o,
      e,
      null,
      a,
      shown(at(pose, [0, -0.75 * d * (height / width), d])),
      b,
    ];
  }

  show(frame) {
    if (frame === this.frame || !this.Plotly || !this.box.isConnected) return;
    this.frame = frame;
    const [x, y, z] = columns(this.frustum(frame));
    this.Plotly.restyle(this.box, { x: [x], y: [y], z: [z] }, [1]);
    this.box.dataset.frame = frame;
  }

  async addPoints() {
    this.points.disabled = true;
    try {
      const told = await get(`clip/${this.told.clip_id}/cloud`);
      if (!told.points.length) {
        this.note.textContent = "the clip has no depth with cameras";
        return;
      }
      const [x, y, z] = columns(told.points.map(shown));
      await this.Plotly.addTraces(this.box, {
        type: "scatter3d",
        mode: "markers",
        hoverinfo: "skip",
        showlegend: false,
        x,
        y,
        z,
        marker: { size: 1.3, color: told.frames, colorscale: "Viridis", opacity: 0.8 },
      });
      this.note.textContent = `${number(told.points.length, 6)} points, coloured by the frame that saw them: wrong poses smear`;
    } catch (error) {
      this.note.textContent = error.message;
    }
  }

  close() {
    this.Plotly?.purge(this.box);
    this.Plotly = null;
  }
}
