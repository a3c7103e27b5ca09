// What the gallery is put together of: elements, lines of text, photos.
// Names come from files and from the web, so text only ever goes in as textContent.

// Pixels between tiles, of a line of text, and of a tile's edge around its photo.
const GAP = 6;
const TEXT_LINE = 18;
const TILE_EDGE = 14;
const KEPT_TILES = 400;
// So many letters at the end of a name that is cut stay.
const TAIL = 7;
// As `core.naming` has it: controls, separators, and the direction of what follows.
const MOVES_TEXT =
  /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A line that is cut in its middle where it is too long: its end stays, the style cuts its head.
function line(className, text) {
  // A name may hold line breaks, which the style would keep, and marks that turn what follows.
  const letters = Array.from(text.replace(MOVES_TEXT, " ").trim());
  const split = letters.length - Math.min(TAIL, Math.floor(letters.length / 2));
  const made = element("div", `fgvc-line ${className}`);
  made.append(
    element("span", "fgvc-head", letters.slice(0, split).join("")),
    element("span", "fgvc-tail", letters.slice(split).join("")),
  );
  made.title = text;
  return made;
}

function captionOf(text) {
  const made = element("div", "fgvc-texts");
  made.append(...text.split("\n").map((part) => line("fgvc-caption", part)));
  return made;
}

// The JPEGs of a message; null where there is none.
function pictures(sizes, buffer) {
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  let at = 0;
  return sizes.map((size) => {
    const part = bytes.slice(at, (at += size));
    return size ? new Blob([part], { type: "image/jpeg" }) : null;
  });
}

// A canvas and no <img>: browsers keep decoded images long after the last one is gone, which adds
// up to hundreds of megabytes over ten thousand photos.
function photo(image, jpeg) {
  if (!jpeg) {
    const placeholder = element("div", "fgvc-photo fgvc-missing");
    placeholder.append(
      element("div", "fgvc-problem", image.problem),
      element("div", "fgvc-name", image.name),
    );
    placeholder.title = `${image.problem}: ${image.name}`;
    return placeholder;
  }
  const made = element("canvas", "fgvc-photo");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", image.name);
  made.title = image.name;
  createImageBitmap(jpeg).then((bitmap) => {
    made.width = bitmap.width;
    made.height = bitmap.height;
    made.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    made.classList.add("fgvc-drawn");
  });
  return made;
}

// The parts of a gallery that are always there, one in another.
function skeleton(setup) {
  const root = element("div", "fgvc-gallery");
  root.tabIndex = 0;
  root.style.setProperty("--fgvc-side", `${setup.side}px`);
  const top = element("div", "fgvc-top");
  const progress = element("span", "fgvc-progress");
  progress.setAttribute("role", "status");
  const bar = element("div", "fgvc-bar");
  const done = element("div", "fgvc-done");
  bar.append(done);
  top.append(element("span", "fgvc-title", setup.title), progress);
  const keys = element("div", "fgvc-keys");
  const status = element("span", "fgvc-status");
  status.setAttribute("role", "status");
  const order = element("div", "fgvc-order");
  const likeness = element("div", "fgvc-likes");
  const body = element("div", "fgvc-body");
  const scroller = element("div", "fgvc-scroller");
  const canvas = element("div", setup.rows ? "fgvc-canvas fgvc-rows" : "fgvc-canvas");
  canvas.setAttribute("role", "listbox");
  canvas.setAttribute("aria-multiselectable", "true");
  canvas.setAttribute("aria-label", setup.title);
  const nothing = element("div", "fgvc-nothing", "nothing to show here");
  scroller.append(canvas, nothing);
  body.append(scroller);
  const beside = element("div", "fgvc-panel");
  if (setup.panel) body.append(beside);
  body.classList.toggle("fgvc-with-panel", setup.panel);
  const note = element("div", "fgvc-note");
  root.append(top, bar, keys, order, ...(setup.likes ? [likeness] : []), body, note);
  const seen = { scroller, canvas, nothing, beside, likeness, note };
  return { root, progress, done, keys, status, order, ...seen };
}

// Something kept for a while, the oldest thrown away first.
class Kept {
  constructor(most) {
    this.most = most;
    this.map = new Map();
  }
  get(key) {
    return this.map.get(key);
  }
  has(key) {
    return this.map.has(key);
  }
  set(key, value, spare = () => false) {
    this.map.delete(key);
    this.map.set(key, value);
    for (const old of this.map.keys()) {
      if (this.map.size <= this.most) break;
      if (!spare(old)) this.map.delete(old);
    }
  }
  clear() {
    this.map.clear();
  }
}
