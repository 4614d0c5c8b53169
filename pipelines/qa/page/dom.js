// Elements, numbers for people, and "only the latest question counts".

const SVG = new Set(["svg", "g", "rect", "line", "polyline", "polygon", "path", "text", "circle", "title"]);

export function h(tag, props = {}, ...children) {
  const node = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name === "value" || name === "checked" || name === "muted") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

export const count = (n) => Number(n).toLocaleString("en");
export const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-4 && size < 1e7)) {
    return value.toLocaleString("en", {
      maximumSignificantDigits: size >= 1000 ? Math.ceil(Math.log10(size)) : digits,
    });
  }
  return value.toExponential(1);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 100) return `${number(seconds)} s`;
  if (seconds < 6000) return `${(seconds / 60).toFixed(1)} min`;
  return `${count(Math.round(seconds / 360) / 10)} h`;
}

// Runs one question at a time; of those asked meanwhile only the latest follows.
export function latest(run) {
  let busy = false;
  let next = null;
  return async function ask(...given) {
    if (busy) {
      next = given;
      return;
    }
    busy = true;
    try {
      await run(...given);
    } finally {
      busy = false;
      if (next) {
        const after = next;
        next = null;
        ask(...after);
      }
    }
  };
}

let timer = 0;
export function toast(text, bad = false) {
  const node = document.getElementById("toast");
  node.textContent = text;
  node.className = bad ? "bad" : "";
  node.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(
    () => {
      node.hidden = true;
    },
    bad ? 9000 : 2200,
  );
}

export function save(name, text, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A clip's key frames in one picture; moving over it goes through them.
export function strip(clipId, pictures, alt = "") {
  const image = h("img", {
    src: `api/clip/${clipId}/strip/${pictures}.jpg`,
    alt,
    loading: "lazy",
    draggable: "false",
  });
  const box = h("span", { class: "strip", "data-pictures": pictures }, image);
  image.addEventListener("load", () => {
    box.style.aspectRatio = `${image.naturalWidth / pictures} / ${image.naturalHeight}`;
  });
  image.addEventListener("error", () => box.classList.add("broken"));
  if (pictures > 1) {
    box.addEventListener("pointermove", (event) => {
      const place = (event.clientX - box.getBoundingClientRect().left) / box.clientWidth;
      image.style.left = `-${100 * Math.min(pictures - 1, Math.max(0, Math.floor(place * pictures)))}%`;
    });
    box.addEventListener("pointerleave", () => {
      image.style.left = "0";
    });
  }
  image.style.width = `${100 * pictures}%`;
  return box;
}
