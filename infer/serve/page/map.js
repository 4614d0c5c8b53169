// The path seen from above: ahead is up, a dot is where the camera is and a stroke where it looks.

const MARGIN = 18;

export class PathMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.path = [];
    this.draw([0, 1]);
  }

  add(path, ahead) {
    this.path.push(...path);
    this.draw(ahead);
  }

  draw(ahead) {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    const points = this.path.length ? this.path : [[0, 0]];
    const [xs, zs] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const [left, right, near, far] = [Math.min(...xs), Math.max(...xs), Math.min(...zs), Math.max(...zs)];
    const span = Math.max((right - left) / (width - 2 * MARGIN), (far - near) / (height - 2 * MARGIN), 1 / height);
    const place = ([x, z]) => [width / 2 + (x - (left + right) / 2) / span, height / 2 - (z - (near + far) / 2) / span];
    const style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, width, height);
    context.strokeStyle = style.getPropertyValue("--dim");
    context.lineWidth = 2;
    context.beginPath();
    for (const point of points) context.lineTo(...place(point));
    context.stroke();
    const [x, y] = place(points.at(-1));
    context.strokeStyle = context.fillStyle = style.getPropertyValue("--lit");
    context.beginPath();
    context.arc(x, y, 4, 0, 7);
    context.fill();
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 16 * ahead[0], y - 16 * ahead[1]);
    context.stroke();
    context.fillText(`${((width - 2 * MARGIN) * span).toFixed(1)} m across`, 8, height - 8);
  }
}
