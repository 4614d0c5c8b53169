// A clip's video with its depth over it, and the one clock that everything else of the clip follows.

import { get } from "./api.js";
import { h, number } from "./dom.js";

export class Player {
  // told: the clip as the server describes it.
  constructor(told) {
    this.told = told;
    this.fps = told.fps || 16;
    this.listeners = [];
    this.video = h("video", {
      src: `api/clip/${told.clip_id}/file/mp4`,
      preload: "auto",
      playsinline: true,
      muted: true,
      loop: true,
    });
    this.over = h("img", { class: "depth", alt: "", hidden: true });
    this.clock = h("output", { class: "clock" });
    this.bar = h("input", {
      type: "range",
      min: 0,
      max: Math.max(1, (told.frames ?? 1) - 1),
      value: 0,
      step: 1,
      "aria-label": "frame",
      oninput: () => this.seek(Number(this.bar.value)),
    });
    this.play = h("button", { class: "play", onclick: () => this.toggle() }, "play");
    this.opacity = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 0,
      "aria-label": "depth",
      oninput: () => this.drawDepth(),
    });
    this.depthNote = h("small", { class: "soft" });
    this.message = h("p", { class: "error", hidden: true });
    this.video.addEventListener("error", () => this.explain());
    for (const event of ["play", "pause"])
      this.video.addEventListener(event, () => {
        this.play.textContent = this.video.paused ? "play" : "pause";
      });
    for (const event of ["seeked", "timeupdate", "loadeddata"])
      this.video.addEventListener(event, () => this.tick());
    this.node = h(
      "div",
      { class: "player" },
      h("div", { class: "screen" }, this.video, this.over),
      this.message,
      h("div", { class: "controls" }, this.play, this.bar, this.clock),
      h("label", { class: "controls soft" }, "depth", this.opacity, this.depthNote),
    );
    this.frame = -1;
    this.running = true;
    const step = () => {
      if (this.running) {
        this.tick();
        requestAnimationFrame(step);
      }
    };
    requestAnimationFrame(step);
    this.loadDepth();
  }

  // A frame is shown from k / fps on; a little later, rounding cannot show the one before.
  seek(frame) {
    const last = (this.told.frames ?? 1) - 1;
    this.video.currentTime = Math.min(last, Math.max(0, frame)) / this.fps + 0.25 / this.fps;
    this.tick();
  }

  toggle() {
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }
  onframe(listener) {
    this.listeners.push(listener);
    listener(Math.max(0, this.frame));
  }

  tick() {
    const frame = Math.min(
      Math.max(0, (this.told.frames ?? 1) - 1),
      Math.floor(this.video.currentTime * this.fps + 1e-6),
    );
    if (frame === this.frame) return;
    this.frame = frame;
    this.bar.value = frame;
    this.clock.textContent = `${(frame / this.fps).toFixed(2)} s · frame ${frame}`;
    this.drawDepth();
    for (const listener of this.listeners) listener(frame);
  }

  async loadDepth() {
    if (!this.told.members.includes("depth.npz")) {
      this.opacity.disabled = true;
      this.depthNote.textContent = "this clip has none";
      return;
    }
    try {
      this.depth = await get(`clip/${this.told.clip_id}/depth`);
      if (this.depth.range)
        this.depthNote.textContent = `red ${number(this.depth.range[0])} to blue ${number(this.depth.range[1])}, of ${this.depth.frames.length} frames`;
      for (const listener of this.listeners) listener(Math.max(0, this.frame));
      this.drawDepth();
    } catch (error) {
      this.depthNote.textContent = error.message;
    }
  }

  drawDepth() {
    const share = Number(this.opacity.value) / 100;
    this.over.hidden = !share || !this.depth?.frames.length;
    if (this.over.hidden) return;
    let place = 0;
    this.depth.frames.forEach((at, i) => {
      if (Math.abs(at - this.frame) < Math.abs(this.depth.frames[place] - this.frame)) place = i;
    });
    const source = `api/clip/${this.told.clip_id}/depth/${place}.png`;
    if (this.over.getAttribute("src") !== source) this.over.src = source;
    this.over.style.opacity = share;
  }

  async explain() {
    let why = "this browser cannot play the video (H.264)";
    try {
      const response = await fetch(this.video.src, { headers: { range: "bytes=0-0" } });
      if (!response.ok) why = (await response.json()).message;
    } catch {
      why = "the server does not answer";
    }
    this.message.textContent = why;
    this.message.hidden = false;
  }

  close() {
    this.running = false;
    this.listeners = [];
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
