// The page: asks for a drive with a form, then speaks over one socket until the drive is over.

import { Keys } from "./keys.js";
import { PathMap } from "./map.js";
import { Player } from "./player.js";

const REPORT_MS = 200;
const $ = (id) => document.getElementById(id);
const limits = await (await fetch("limits")).json();
const map = new PathMap($("map"));
let live = null; // the drive that goes on

$("screen").width = limits.size[1];
$("screen").height = limits.size[0];
$("prompt").maxLength = limits.prompt_characters;
$("action").maxLength = limits.action_characters;
new Keys($("keys"), limits.controls, (key) => say("press", { key }), (key) => say("release", { key }));

function say(kind, more = {}) {
  if (live?.socket.readyState === WebSocket.OPEN) live.socket.send(JSON.stringify({ kind, ...more }));
}

function tell(status) {
  $("status").textContent = status;
}

function complain(message) {
  $("message").textContent = message ?? "";
  $("message").hidden = !message;
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  complain();
  const file = $("image").files[0];
  if (file.size > limits.image_mb * 1e6) {
    return complain(`The picture has ${(file.size / 1e6).toFixed(1)} MB, allowed ${limits.image_mb}; choose a smaller one.`);
  }
  $("start").disabled = true;
  tell("Sending the picture …");
  try {
    const answer = await fetch("drives", { method: "POST", body: new FormData($("ask")) });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.message);
    open(found.name, found.lens);
  } catch (error) {
    complain(error.message);
    tell("Not started.");
    $("start").disabled = false;
  }
});

function open(name, lens) {
  const address = new URL(`drives/${name}/live`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  if (live) {
    clearInterval(live.report);
    live.player.close();
  }
  live = { name, lens, socket, player: new Player($("screen"), limits.fps), running: 0, first: null, last: 0,
           intervals: [], due: 0, length: 0, over: false };
  const drive = live;
  map.clear();
  for (const id of ["result", "driven"]) $(id).hidden = true;
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(drive, JSON.parse(data)) : drive.player.add(data.slice(4)));
  socket.onclose = () => drive.over || finish(drive, "The connection was lost.", false);
  drive.report = setInterval(() => report(drive), REPORT_MS);
  for (const id of ["stop", "play"]) $(id).disabled = false;
}

function hear(drive, said) {
  if (said.kind === "waiting") tell(`Waiting: place ${said.place} in the queue.`);
  if (said.kind === "running") {
    drive.running = performance.now();
    tell("Making the first chunk …");
    document.activeElement.blur();
  }
  if (said.kind === "chunk") count(drive, said);
  if (said.kind === "refused") complain(said.message);
  if (said.kind === "over") finish(drive, said.message, said.video);
}

function count(drive, chunk) {
  const now = performance.now();
  if (drive.first === null) {
    drive.first = now - drive.running;
    tell(`Driving: hold the keys. (View of the picture: ${drive.lens}.)`);
  } else {
    drive.intervals.push(now - drive.last);
  }
  drive.last = now;
  drive.due += chunk.due_s;
  drive.length += chunk.frames / limits.fps;
  map.add(chunk.path, chunk.ahead);
  $("record").value = chunk.action;
  $("driven").hidden = false;
  figures(drive);
}

function figures(drive) {
  const ordered = [...drive.intervals].sort((a, b) => a - b);
  const share = (part) => (ordered.length ? seconds(ordered[Math.ceil(ordered.length * part) - 1]) : "–");
  $("first").textContent = drive.first === null ? "–" : seconds(drive.first);
  $("p50").textContent = share(0.5);
  $("p95").textContent = share(0.95);
  $("rate").textContent = drive.due ? (drive.length / drive.due).toFixed(2) : "–";
  $("underruns").textContent = drive.player.underruns;
  $("shown").textContent = `${drive.player.shown} / ${drive.player.received}`;
}

function seconds(ms) {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function report(drive) {
  const { shown, underruns, received } = drive.player;
  figures(drive);
  if (!drive.over && shown !== drive.reported) {
    drive.reported = shown;
    say("shown", { frames: shown, underruns });
  }
  if (drive.over && shown >= received) clearInterval(drive.report);
}

function finish(drive, why, hasVideo) {
  drive.over = true;
  drive.player.end();
  tell(`Over: ${why}`);
  for (const id of ["stop", "play"]) $(id).disabled = true;
  $("start").disabled = false;
  $("video").href = `drives/${drive.name}/video.mp4`;
  $("camera").href = `drives/${drive.name}/camera.npz`;
  $("result").hidden = !hasVideo;
}

$("stop").addEventListener("click", () => {
  live.player.end();
  say("stop");
});
$("type").addEventListener("submit", (event) => {
  event.preventDefault();
  complain();
  say("play", { action: $("action").value });
  $("action").blur(); // so that keys drive again
});
