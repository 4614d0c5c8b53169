// One score's histogram with a line for each limit. Lines are dragged, or moved with the arrow keys; one that is
// dragged beyond the edge of the chart is off.

import { count, h, number } from "./dom.js";

const [W, H, BASE] = [300, 104, 82];

export class Histogram {
  // moved(side, value, finished): a line went to a value of the score, or off (null).
  constructor(told, bound, moved, chosen) {
    Object.assign(this, { told, bound, moved });
    this.low = this.scale(told.edges[0]);
    this.high = this.scale(told.edges.at(-1));
    this.bars = h("g");
    this.lines = {};
    this.svg = h(
      "svg",
      { viewBox: `0 0 ${W} ${H}`, class: "histogram", role: "img", "aria-label": told.title },
      this.bars,
      h("line", { class: "axis", x1: 0, x2: W, y1: BASE, y2: BASE }),
      h("text", { x: 0, y: H - 6 }, this.text(told.edges[0])),
      h("text", { x: W, y: H - 6, "text-anchor": "end" }, this.text(told.edges.at(-1))),
    );
    this.inputs = {};
    const sides = told.bounded ? ["min", "max"] : [];
    for (const side of sides) this.addLine(side);
    this.note = h("span", { class: "soft" });
    this.edge = h("div", { class: "edge" });
    this.node = h(
      "figure",
      { class: "score", dataset: { score: told.score } },
      h(
        "figcaption",
        {},
        told.title,
        " ",
        h("code", {}, told.score),
        told.unit ? h("small", {}, ` ${told.unit}`) : null,
      ),
      this.svg,
      h(
        "p",
        { class: "read" },
        sides.map((side) => h("label", {}, side === "min" ? "≥" : "≤", this.inputs[side])),
        this.note,
        h("button", { class: "quiet", onclick: () => chosen(this) }, "clips at the limits"),
      ),
      this.edge,
    );
    this.fill(told);
    this.setBound(bound);
  }

  scale(value) {
    return this.told.log ? Math.log(value) : value;
  }
  unscale(place) {
    return this.told.log ? Math.exp(place) : place;
  }
  x(value) {
    return this.told.log && value <= 0
      ? 0
      : Math.min(W, Math.max(0, ((this.scale(value) - this.low) / (this.high - this.low)) * W));
  }
  text(value) {
    return number(value * this.told.factor);
  }

  addLine(side) {
    const line = h("line", { y1: 2, y2: BASE });
    const grip = h("circle", { cy: 8, r: 5 });
    const label = h("text", { y: 11 });
    const handle = h(
      "g",
      {
        class: `limit ${side}`,
        tabindex: 0,
        role: "slider",
        "aria-label": `${this.told.title}, ${side}`,
        dataset: { side },
      },
      h("rect", { x: -8, y: 0, width: 16, height: BASE, fill: "transparent" }),
      line,
      grip,
      label,
    );
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      event.preventDefault();
      handle.focus();
      const drag = (now) => this.go(side, now, false);
      const drop = (now) => {
        handle.removeEventListener("pointermove", drag);
        this.go(side, now, true);
      };
      handle.addEventListener("pointermove", drag);
      handle.addEventListener("pointerup", drop, { once: true });
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const at = this.bound[side] ?? (side === "min" ? this.told.edges[0] : this.told.edges.at(-1));
      this.put(side, this.x(at) + step * (event.shiftKey ? 10 : 1), true);
    });
    this.lines[side] = { handle, label };
    this.inputs[side] = h("input", {
      type: "number",
      step: "any",
      "aria-label": `${this.told.title}, ${side}`,
      onchange: (event) => {
        const typed = event.target.value === "" ? null : Number(event.target.value) / this.told.factor;
        this.setBound({ ...this.bound, [side]: typed });
        this.moved(side, typed, true);
      },
    });
    this.svg.append(handle);
  }

  go(side, event, finished) {
    const box = this.svg.getBoundingClientRect();
    this.put(side, ((event.clientX - box.left) / box.width) * W, finished);
  }

  put(side, x, finished) {
    const off = side === "min" ? x <= 0 : x >= W;
    const exact = this.unscale(this.low + (Math.min(W, Math.max(0, x)) / W) * (this.high - this.low));
    const value = off ? null : Number((exact * this.told.factor).toPrecision(3)) / this.told.factor;
    this.setBound({ ...this.bound, [side]: value });
    this.moved(side, value, finished);
  }

  setBound(bound) {
    this.bound = bound;
    for (const [side, { handle, label }] of Object.entries(this.lines)) {
      const value = bound[side];
      const off = value === null || value === undefined;
      const x = off ? (side === "min" ? 0 : W) : this.x(value);
      handle.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
      handle.classList.toggle("off", off);
      handle.setAttribute("aria-valuetext", off ? "off" : this.text(value));
      label.textContent = off ? "" : this.text(value);
      label.setAttribute("x", x > W - 60 ? -8 : 8);
      label.setAttribute("text-anchor", x > W - 60 ? "end" : "start");
      if (document.activeElement !== this.inputs[side])
        this.inputs[side].value = off ? "" : Number((value * this.told.factor).toPrecision(6));
    }
  }

  fill(told) {
    this.told = told;
    const all = told.stay.map((n, i) => n + told.go[i]);
    const top = Math.max(1, ...all);
    const step = W / all.length;
    const bar = (name, i, n, below) =>
      n &&
      h(
        "rect",
        {
          class: name,
          x: (i * step + 0.3).toFixed(1),
          width: (step - 0.6).toFixed(1),
          y: (BASE - ((below + n) / top) * (BASE - 14)).toFixed(1),
          height: Math.max((n / top) * (BASE - 14), 0.8).toFixed(1),
        },
        h("title", {}, `${this.text(told.edges[i])} to ${this.text(told.edges[i + 1])}: ${count(n)}`),
      );
    this.bars.replaceChildren(
      ...all
        .flatMap((_, i) => [bar("stay", i, told.stay[i], 0), bar("go", i, told.go[i], told.stay[i])])
        .filter(Boolean),
    );
    if (this.note) this.note.textContent = told.missing ? `not measured: ${count(told.missing)}` : "";
  }
}
