// Keys of the keyboard, and the same on the screen: told when they go down and up, wherever that happened.

export class Keys {
  // place: where the buttons go    controls: {forward: "ws", ...}, the key that drives forth and the one back
  constructor(place, controls, press, release) {
    this.held = new Map(); // key: what holds it down
    this.buttons = new Map();
    this.press = press;
    this.release = release;
    const { forward, yaw, pitch, right } = controls;
    const meanings = {
      [forward[0]]: "forward", [forward[1]]: "back", [yaw[1]]: "turn", [yaw[0]]: "turn",
      [pitch[0]]: "look up", [pitch[1]]: "down", [right[1]]: "left", [right[0]]: "right",
    };
    const pads = [["", forward[0], "", yaw[1], forward[1], yaw[0]], ["", pitch[0], "", right[1], pitch[1], right[0]]];
    place.replaceChildren(...pads.map((keys) => this.pad(meanings, keys)));
    addEventListener("keydown", (event) => this.keyboard(event, true));
    addEventListener("keyup", (event) => this.keyboard(event, false));
    addEventListener("blur", () => this.letGo());
    document.addEventListener("visibilitychange", () => document.hidden && this.letGo());
  }

  pad(meanings, keys) {
    const pad = document.createElement("div");
    pad.className = "pad";
    for (const key of keys) {
      const button = document.createElement(key ? "button" : "span");
      pad.append(button);
      if (!key) continue;
      button.type = "button";
      button.dataset.key = key;
      button.append(key.toUpperCase(), Object.assign(document.createElement("small"), { textContent: meanings[key] }));
      button.addEventListener("pointerdown", (event) => {
        button.setPointerCapture(event.pointerId);
        this.down(key, "pointer");
      });
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
        button.addEventListener(end, () => this.up(key, "pointer"));
      }
      this.buttons.set(key, button);
    }
    return pad;
  }

  keyboard(event, isDown) {
    // Where the keyboard writes other letters, those of the same place count.
    const letter = event.key.toLowerCase();
    const key = this.buttons.has(letter) ? letter : event.code.replace("Key", "").toLowerCase();
    if (!this.buttons.has(key)) return;
    if (!isDown) return this.up(key, "keyboard");
    const typing = event.target.matches?.("input, textarea") && !event.target.readOnly;
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!event.repeat) this.down(key, "keyboard");
  }

  down(key, by) {
    if (this.held.has(key)) return;
    this.held.set(key, by);
    this.buttons.get(key).classList.add("held");
    this.press(key);
  }

  up(key, by) {
    if (this.held.get(key) !== by) return;
    this.held.delete(key);
    this.buttons.get(key).classList.remove("held");
    this.release(key);
  }

  letGo() {
    for (const [key, by] of [...this.held]) this.up(key, by);
  }
}
