// Shows frames at their own pace: JPEGs come in chunks, wait here, and are drawn at `fps`. Each time there is
// nothing to draw while the drive goes on is one underrun.

const DECODED = 6; // frames unpacked ahead of time

export class Player {
  constructor(canvas, fps) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.period = 1000 / fps;
    this.waiting = []; // JPEGs
    this.unpacked = []; // promises of bitmaps
    this.shown = 0;
    this.received = 0;
    this.underruns = 0;
    this.dry = true; // nothing to draw, and counted
    this.ended = false;
    this.due = 0;
    this.drawing = false;
    this.request = requestAnimationFrame((now) => this.tick(now));
  }

  add(jpeg) {
    this.received += 1;
    this.waiting.push(jpeg);
    this.unpack();
  }

  // No more frames will come.
  end() {
    this.ended = true;
  }

  close() {
    cancelAnimationFrame(this.request);
    for (const bitmap of this.unpacked) bitmap.then((found) => found.close(), () => {});
    this.waiting = this.unpacked = [];
  }

  unpack() {
    while (this.unpacked.length < DECODED && this.waiting.length) {
      const bitmap = createImageBitmap(new Blob([this.waiting.shift()], { type: "image/jpeg" }));
      bitmap.catch(() => {});
      this.unpacked.push(bitmap);
    }
  }

  tick(now) {
    this.request = requestAnimationFrame((later) => this.tick(later));
    if (!this.unpacked.length) {
      if (!this.dry && !this.ended && now >= this.due) {
        this.dry = true;
        this.underruns += 1;
      }
      return;
    }
    if (this.dry) {
      this.dry = false;
      this.due = now;
    }
    if (now < this.due || this.drawing) return;
    // A page that was hidden goes on where it was, at its own pace.
    this.due = Math.max(this.due + this.period, now - this.period);
    this.drawing = true;
    this.unpacked.shift().then((bitmap) => this.draw(bitmap), () => this.count());
    this.unpack();
  }

  draw(bitmap) {
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
    }
    this.context.drawImage(bitmap, 0, 0);
    bitmap.close();
    this.count();
  }

  count() {
    this.drawing = false;
    this.shown += 1;
  }
}
