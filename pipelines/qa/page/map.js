// All clips as points of a plane, after their scores; what lies far out, and what looks alike.

import { bytes, get } from "./api.js";
import { count, h, number, strip, toast } from "./dom.js";
import { state, keep } from "./state.js";

const colours = ["--failed", "--rejected", "--kept"];

class Plane {
  constructor(axes, xy, rows, states) {
    Object.assign(this, { xy, rows, states });
    this.canvas = h("canvas", { class: "map", tabindex: 0, "aria-label": "clips by their scores" });
    this.tip = h("div", { class: "tip" });
    this.node = h(
      "div",
      { class: "plane" },
      this.canvas,
      h("p", { class: "axis-x soft" }, axes[0], " →"),
      h("p", { class: "axis-y soft" }, axes[1], " →"),
      this.tip,
    );
    this.fit();
    this.canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(event);
      },
      { passive: false },
    );
    let from = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY, ...this.middle];
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      this.middle = [
        from[2] - (event.clientX - from[0]) / this.scale,
        from[3] + (event.clientY - from[1]) / this.scale,
      ];
      this.draw();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const moved = from && Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 4;
      from = null;
      if (!moved) this.pick(event);
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  // The middle 98 % of the points fill the view at first; the rest is a turn of the wheel away.
  fit() {
    const middle = (axis) => {
      const values = Array.from(
        { length: Math.min(4000, this.rows.length) },
        (_, i) => this.xy[2 * Math.floor((i * this.rows.length) / Math.min(4000, this.rows.length)) + axis],
      ).sort((a, b) => a - b);
      return [
        values[Math.floor(values.length * 0.01)] ?? 0,
        values[Math.ceil(values.length * 0.99) - 1] ?? 0,
      ];
    };
    const [x, y] = [middle(0), middle(1)];
    this.middle = [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2];
    this.reach = Math.max(x[1] - x[0], y[1] - y[0], 1e-6) * 1.15;
    this.scale = 0;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    this.scale ||= Math.min(width, height) / this.reach;
    const ratio = devicePixelRatio || 1;
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const dot = this.rows.length > 20000 ? 1.5 * ratio : this.rows.length > 500 ? 3 * ratio : 8 * ratio;
    context.globalAlpha = this.rows.length > 20000 ? 0.45 : 0.85;
    // Piece by piece, so that no verdict lies on top of all others.
    for (let from = 0; from < this.rows.length; from += 500) {
      const to = Math.min(from + 500, this.rows.length);
      for (const wanted of [0, 1, 2]) {
        context.fillStyle = style.getPropertyValue(colours[wanted]);
        for (let i = from; i < to; i++) {
          if (this.states[this.rows[i]] !== wanted) continue;
          const [x, y] = this.place(i, width, height);
          if (x > -5 && y > -5 && x < width + 5 && y < height + 5)
            context.fillRect(x * ratio - dot / 2, y * ratio - dot / 2, dot, dot);
        }
      }
    }
  }

  place(i, width, height) {
    return [
      (this.xy[2 * i] - this.middle[0]) * this.scale + width / 2,
      height / 2 - (this.xy[2 * i + 1] - this.middle[1]) * this.scale,
    ];
  }

  zoom(event) {
    const box = this.canvas.getBoundingClientRect();
    const [dx, dy] = [event.clientX - box.left - box.width / 2, box.height / 2 - (event.clientY - box.top)];
    const factor = Math.exp(-event.deltaY / 400);
    this.middle = [
      this.middle[0] + (dx / this.scale) * (1 - 1 / factor),
      this.middle[1] + (dy / this.scale) * (1 - 1 / factor),
    ];
    this.scale *= factor;
    this.draw();
  }

  async pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1;
    let nearest = 12 ** 2;
    for (let i = 0; i < this.rows.length; i++) {
      const [x, y] = this.place(i, box.width, box.height);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < nearest) {
        nearest = distance;
        best = i;
      }
    }
    this.tip.replaceChildren();
    if (best < 0) return;
    try {
      const { clip_id: id } = await get(`map/row/${this.rows[best]}`);
      this.tip.style.left = `${Math.min(px + 12, box.width - 180)}px`;
      this.tip.style.top = `${py + 12}px`;
      this.tip.replaceChildren(
        h("a", { href: `#/clip/${id}` }, strip(id, 6), h("code", {}, id.slice(0, 12))),
      );
    } catch (error) {
      toast(error.message, true);
    }
  }
}

export async function show(main) {
  const [told, points, states] = await Promise.all([get("map"), bytes("map/points"), bytes("map/states")]);
  const xy = new Float32Array(points, 0, 2 * told.count);
  const plane = new Plane(told.axes, xy, new Uint32Array(points, 8 * told.count), new Uint8Array(states));
  const outliers = h("div", { class: "cards" });
  const pairs = h("div", { class: "cards wide" }, h("p", { class: "soft" }, "comparing …"));
  main.append(
    h(
      "section",
      {},
      h("h2", {}, `${count(told.count)} clips by their scores`),
      h(
        "p",
        { class: "hint" },
        "Along the two directions in which they differ most. Wheel: closer; drag: move; click: the clip. ",
        h("span", { class: "key kept" }),
        "kept ",
        h("span", { class: "key rejected" }),
        "rejected ",
        h("span", { class: "key failed" }),
        "failed",
      ),
      plane.node,
    ),
    h(
      "section",
      {},
      h("h2", {}, "Farthest out"),
      h("p", { class: "hint" }, "Clips whose scores are least like the others', and which scores."),
      outliers,
    ),
    h(
      "section",
      {},
      h("h2", {}, "Look alike"),
      h(
        "p",
        { class: "hint" },
        "Pairs that the annotation marked as duplicates, then those whose pictures score most alike, those first whose first frames agree. Of one video they may be neighbours in time.",
      ),
      pairs,
    ),
  );
  plane.draw();
  get("outliers")
    .then((found) => {
      const ids = found.map((one) => one.clip_id);
      outliers.append(
        ...found.map((one) =>
          h(
            "a",
            {
              class: "card",
              href: `#/clip/${one.clip_id}`,
              onclick: () => {
                state.queue = ids;
                keep();
              },
            },
            strip(one.clip_id, 6),
            h("small", {}, one.why.join(", ") || `${number(one.distance, 2)} σ in the mean`),
          ),
        ),
      );
      if (!found.length) outliers.append(h("p", { class: "hint" }, "There are no scores to compare."));
    })
    .catch((error) => outliers.append(h("p", { class: "error" }, error.message)));
  get("pairs")
    .then((found) => {
      pairs.replaceChildren(
        ...found.map((pair) =>
          h(
            "a",
            { class: "card", href: `#/compare/${pair.a}/${pair.b}` },
            h("span", { class: "two" }, strip(pair.a, 1), strip(pair.b, 1)),
            h(
              "small",
              {},
              pair.bits === null ? "pictures cannot be read" : `pictures differ in ${pair.bits} of 64 bits`,
              pair.same_video ? ", same video" : "",
              pair.declared ? ", marked as duplicates" : "",
            ),
          ),
        ),
      );
      if (!found.length) pairs.append(h("p", { class: "hint" }, "There are not two clips to compare."));
    })
    .catch((error) => pairs.replaceChildren(h("p", { class: "error" }, error.message)));
}
