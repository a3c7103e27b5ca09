// Draws the tiles in sight and sends what is pressed. It never draws a decision by itself: the
// kernel writes the journal first and then sends what is decided (`now`).
// Names come from files and from the web, so text only ever goes in as textContent.

const GAP = 6;
const TEXT_LINE = 18;
const TILE_EDGE = 14;
const KEPT_TILES = 400;
const KEPT_LOOKS = 24;
// So many letters at the end of a name that is cut stay.
const TAIL = 7;

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A line that is cut in its middle where it is too long: its end stays, the style cuts its head.
function line(className, text) {
  const letters = Array.from(text);
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
  const made = element("div", "fgvc-caption");
  made.append(...text.split("\n").map((part) => line("", part)));
  return made;
}

function inOneLine(caption) {
  return caption.replaceAll("\n", " · ");
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

function render({ model, el }) {
  const setup = model.get("setup");
  const me = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
  const colours = new Map(setup.choices.map((c) => [c.decision, c.colour]));
  if (!colours.has("relabel")) colours.set("relabel", setup.relabel_colour);
  const suggests = setup.suggests;
  const tileWidth = setup.side + TILE_EDGE;
  const tileHeight = setup.side + TILE_EDGE + setup.lines * TEXT_LINE;

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
  const body = element("div", "fgvc-body");
  const scroller = element("div", "fgvc-scroller");
  const canvas = element("div", setup.rows ? "fgvc-canvas fgvc-rows" : "fgvc-canvas");
  canvas.setAttribute("role", "listbox");
  canvas.setAttribute("aria-multiselectable", "true");
  canvas.setAttribute("aria-label", setup.title);
  const nothing = element("div", "fgvc-nothing", "nothing to show here");
  const band = element("div", "fgvc-band");
  scroller.append(canvas, nothing);
  body.append(scroller);
  const panel = element("div", "fgvc-panel");
  if (setup.panel) body.append(panel);
  body.classList.toggle("fgvc-with-panel", setup.panel);
  const note = element("div", "fgvc-note");
  root.append(top, bar, keys, order, body, note);
  el.append(root);

  let now = model.get("now");
  let view = -1;
  let cursor = 0;
  let anchor = 0;
  const picked = new Set();
  let tiles = new Map(); // place in view → its element, for those near the window
  const known = new Kept(KEPT_TILES);
  const looks = new Kept(KEPT_LOOKS);
  let asking = new Map(); // id of a request → the places it will bring
  let sent = 0;
  let waitingFor = null; // the id of the action that the kernel has not answered yet
  let patience = 0;
  let wanted = null; // an arrangement that was chosen meanwhile
  let waitingKeys = []; // pressed meanwhile; each belongs to what is chosen once it is answered
  let overlay = null;
  let search = null;
  let zoomed = null;
  let helping = false;
  let lookTimer = 0;
  let hidden = false; // nothing could be laid out when it was last tried

  // What goes to the kernel.

  function pass(message) {
    try {
      model.send(message);
      return true;
    } catch {
      tell("not saved: the kernel was restarted, run this cell again", true);
      return false;
    }
  }

  function act(message) {
    const id = `${me}/${(sent += 1)}`;
    clearTimeout(patience);
    if (!pass({ ...message, id, view, cursor })) return;
    waitingFor = id;
    tell("saving …");
    patience = setTimeout(() => {
      tell("no answer yet: the kernel is busy, or was restarted (then run this cell again)");
    }, 5000);
  }

  function ask(message) {
    const id = `${me}/${(sent += 1)}`;
    return pass({ ...message, ask: id, view }) ? id : null;
  }

  function tell(text, isError = false) {
    status.classList.toggle("fgvc-error", isError);
    status.textContent = text;
  }

  // Where tiles lie.

  function columns() {
    if (setup.rows) return 1;
    return Math.max(1, Math.floor((canvas.clientWidth + GAP) / (tileWidth + GAP)));
  }

  function spot(place) {
    const across = columns();
    return {
      x: (place % across) * (tileWidth + GAP),
      y: Math.floor(place / across) * (tileHeight + GAP),
    };
  }

  function inSight(margin) {
    const across = columns();
    const step = tileHeight + GAP;
    const first = Math.max(0, Math.floor((scroller.scrollTop - margin) / step));
    const last = Math.ceil((scroller.scrollTop + scroller.clientHeight + margin) / step);
    return [first * across, Math.min(now.count, last * across)];
  }

  function layOut() {
    // JupyterLab hides outputs for moments, while its theme changes for one: nothing has a size.
    if (scroller.clientHeight === 0 || canvas.clientWidth === 0) {
      hidden = true;
      return;
    }
    const across = columns();
    const rows = Math.ceil(now.count / across);
    canvas.style.height = `${Math.max(0, rows * (tileHeight + GAP) - GAP)}px`;
    nothing.hidden = now.count > 0;
    const [from, to] = inSight(tileHeight);
    for (const [place, tile] of tiles) {
      if (place >= from && place < to) continue;
      tile.remove();
      tiles.delete(place);
    }
    for (let place = from; place < to; place += 1) {
      if (!tiles.has(place)) tiles.set(place, newTile(place));
      const { x, y } = spot(place);
      tiles.get(place).style.transform = `translate(${x}px, ${y}px)`;
    }
    fetchMissing(from, to);
  }

  function fetchMissing(from, to) {
    const coming = new Set();
    for (const [begin, end] of asking.values()) {
      for (let place = begin; place < end; place += 1) coming.add(place);
    }
    const missing = [];
    for (let place = from; place < to; place += 1) {
      if (!known.has(place) && !coming.has(place)) missing.push(place);
    }
    // Two requests on their way are enough: what is scrolled past meanwhile is not asked for.
    if (missing.length === 0 || asking.size >= 2) return;
    const range = [missing[0], Math.min(missing[missing.length - 1] + 1, missing[0] + 60)];
    const id = ask({ type: "tiles", from: range[0], to: range[1] });
    if (id) asking.set(id, range);
  }

  function newTile(place) {
    const tile = element("div", "fgvc-tile");
    tile.style.width = setup.rows ? "100%" : `${tileWidth}px`;
    tile.style.height = `${tileHeight}px`;
    tile.setAttribute("role", "option");
    canvas.append(tile);
    fill(place, tile);
    return tile;
  }

  function fill(place, tile) {
    const told = known.get(place);
    if (!told) {
      tile.classList.add("fgvc-waiting");
      return;
    }
    tile.classList.remove("fgvc-waiting");
    tile.dataset.item = told.item;
    const photos = element("div", "fgvc-photos");
    told.images.forEach((image, i) => photos.append(photo(image, told.jpegs[i])));
    if (told.more) photos.append(element("div", "fgvc-more", `+${told.more}`));
    tile.replaceChildren(photos, captionOf(told.caption));
    if (told.suggested && !setup.rows) {
      const suggested = element("div", "fgvc-suggested");
      suggested.append(line("", told.suggested), element("span", "fgvc-score", told.score));
      tile.append(suggested);
    }
    tile.append(element("div", "fgvc-mark"));
    mark(place);
  }

  function mark(place) {
    const tile = tiles.get(place);
    if (!tile) return;
    tile.classList.toggle("fgvc-selected", place === cursor);
    tile.classList.toggle("fgvc-picked", picked.has(place));
    tile.setAttribute("aria-selected", String(picked.has(place) || place === cursor));
    const told = known.get(place);
    if (!told || !tile.querySelector(".fgvc-mark")) return;
    const { decision, label, disputed } = told.now;
    tile.classList.toggle("fgvc-decided", decision !== "");
    tile.classList.toggle("fgvc-disputed", disputed !== "");
    const colour = decision ? (colours.get(decision) ?? "#888") : disputed ? "#b00020" : "";
    tile.style.setProperty("--fgvc-colour", colour);
    const text = label ? `${decision} → ${label}` : decision;
    const marked = disputed ? `${text || "disputed"} ≠` : text;
    tile.querySelector(".fgvc-mark").textContent = marked;
    tile.querySelector(".fgvc-mark").title = disputed;
    const read = [inOneLine(told.caption), told.suggested, told.score, marked || "undecided"];
    tile.setAttribute("aria-label", read.filter(Boolean).join(", "));
  }

  function markAll() {
    for (const place of tiles.keys()) mark(place);
  }

  // Cursor and selection.

  function bringIntoSight(place) {
    const { y } = spot(place);
    const height = scroller.clientHeight;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    else if (y + tileHeight > scroller.scrollTop + height) {
      scroller.scrollTop = Math.min(y, y + tileHeight - height);
    }
    layOut();
    // The notebook itself scrolls only for who works here.
    if (root.contains(document.activeElement) && tiles.has(place)) {
      tiles.get(place).scrollIntoView({ block: "nearest" });
    }
  }

  function select(place) {
    if (now.count === 0) return;
    const before = cursor;
    cursor = Math.min(Math.max(place, 0), now.count - 1);
    bringIntoSight(cursor);
    mark(before);
    mark(cursor);
    clearTimeout(lookTimer);
    lookTimer = setTimeout(look, 60);
    if (overlay && zoomed !== null) zoom();
  }

  function pickOnly(places) {
    picked.clear();
    for (const place of places) picked.add(place);
    markAll();
    countPicked();
  }

  function pickRange(from, to) {
    const places = [];
    for (let i = Math.min(from, to); i <= Math.max(from, to); i += 1) places.push(i);
    pickOnly(places);
  }

  function countPicked() {
    if (waitingFor === null) tell(picked.size ? `${picked.size} chosen` : "");
  }

  function chosen() {
    return picked.size ? [...picked].sort((a, b) => a - b) : [cursor];
  }

  function decide(decision, more = {}) {
    if (now.count === 0) return;
    if (picked.size === 0 && !known.has(cursor)) {
      tell("this photo is not here yet; nothing was decided");
      return;
    }
    const places = chosen();
    picked.clear();
    markAll();
    act({ type: "decide", places, decision, ...more });
  }

  // Keys.

  // Every key that has a meaning: the buttons, the line of help beside them and the list that `?`
  // opens are made of these. `press` makes a button; `rare` ones are in the list alone.
  const bindings = [
    ...setup.choices.map((c) => ({
      keys: c.key,
      text: c.decision,
      colour: c.colour,
      press: [c.key, false],
      zoomed: true,
    })),
    suggests && {
      keys: "1–5",
      text: "take a suggestion",
      colour: setup.relabel_colour,
      press: ["1", false],
      zoomed: true,
    },
    setup.searches && {
      keys: "/",
      text: `search ${setup.searches} classes`,
      colour: setup.relabel_colour,
      press: ["/", false],
    },
    setup.rows
      ? { keys: "l", text: "look closer", press: ["l", false] }
      : { keys: "z", text: "zoom", press: ["z", false] },
    { keys: "u", text: "undo", press: ["u", false] },
    { keys: "U", text: "redo", press: ["u", true] },
    { keys: "⏎", text: "next undecided", press: ["Enter", false] },
    { keys: "?", text: "all keys", press: ["?", false] },
    { keys: "arrows", text: "move", zoomed: true },
    { keys: "shift, ctrl, drag or space", text: "choose several" },
    { keys: "Esc", text: "lets go" },
    { keys: "Page ↑, Page ↓, Home, End", text: "move further", rare: true },
    { keys: "ctrl a", text: "choose all", rare: true },
    { keys: "ctrl z, ctrl y", text: "undo, redo", rare: true },
    { keys: "double-click", text: setup.rows ? "look closer" : "zoom", rare: true },
  ].filter(Boolean);

  const moves = {
    ArrowLeft: () => -1,
    ArrowRight: () => 1,
    ArrowUp: () => -columns(),
    ArrowDown: () => columns(),
    PageUp: () => -columns() * rowsInSight(),
    PageDown: () => columns() * rowsInSight(),
    Home: () => -cursor,
    End: () => now.count - 1 - cursor,
  };

  function rowsInSight() {
    return Math.max(1, Math.floor(scroller.clientHeight / (tileHeight + GAP)));
  }

  function actionOf(key, shift) {
    const small = key.toLowerCase();
    const choice = setup.choices.find((c) => c.key === small);
    if (choice) return () => decide(choice.decision);
    if (suggests && "12345".includes(key)) {
      return () => decide("relabel", { suggestion: Number(key) });
    }
    if (small === "u") return () => act({ type: shift ? "redo" : "undo" });
    if (key === "Enter") return () => act({ type: "seek" });
    if (key === "/" && setup.searches) return openSearch;
    if (small === "z" || (small === "l" && setup.rows)) return toggleZoom;
    if (key === "?") return openHelp;
    if (key === " ") {
      return () => {
        if (!picked.delete(cursor)) picked.add(cursor);
        mark(cursor);
        countPicked();
      };
    }
    if (key in moves) {
      return () => {
        const target = cursor + moves[key]();
        const paged = key.startsWith("Page");
        if (!paged && (target < 0 || target >= now.count)) return;
        if (shift && picked.size === 0) anchor = cursor;
        select(target);
        if (shift) pickRange(anchor, cursor);
        else pickOnly([]);
      };
    }
    return null;
  }

  // Whether the key is ours; what it does may come later.
  function press(key, shift) {
    const action = actionOf(key, shift);
    if (!action) return false;
    if (waitingFor !== null) waitingKeys.push([key, shift]);
    else action();
    return true;
  }

  function onKey(event) {
    if (search && search.root.contains(event.target)) {
      // What is typed is text; JupyterLab must not take it for a command.
      event.stopPropagation();
      return;
    }
    if (order.contains(event.target)) {
      event.stopPropagation();
      return;
    }
    const small = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && !event.altKey && "azy".includes(small)) {
      event.stopPropagation();
      event.preventDefault();
      if (small === "a") pickRange(0, now.count - 1);
      else press("u", small === "y" || event.shiftKey);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
    if (helping) {
      // Whatever is pressed while the list is read closes it and does nothing else.
      event.stopPropagation();
      event.preventDefault();
      if (event.key !== "Shift") closeOverlay();
      return;
    }
    if (event.key === "Escape") {
      if (!overlay && picked.size === 0) return;
      closeOverlay();
      pickOnly([]);
      event.stopPropagation();
      return;
    }
    // Everything else stays here: in JupyterLab's command mode `d` `d` deletes the cell.
    event.stopPropagation();
    if (event.key.length === 1 && event.key !== " " && event.repeat) event.preventDefault();
    else if (press(event.key, event.shiftKey)) event.preventDefault();
  }

  function drawKeys() {
    keys.replaceChildren();
    for (const one of bindings.filter((binding) => binding.press)) {
      const button = element("button", "fgvc-key");
      button.type = "button";
      button.tabIndex = -1;
      if (one.colour) button.style.setProperty("--fgvc-colour", one.colour);
      button.append(element("kbd", "", one.keys), element("span", "", one.text));
      button.addEventListener("click", () => {
        root.focus({ preventScroll: true });
        press(...one.press);
      });
      keys.append(button);
    }
    const hints = bindings.filter((binding) => !binding.press && !binding.rare);
    keys.append(element("span", "fgvc-hint", inWords(hints)));
    keys.append(status);
  }

  function inWords(chosen) {
    return chosen.map((binding) => `${binding.keys} ${binding.text}`).join(" · ");
  }

  function openHelp() {
    openOverlay("fgvc-help", "keys");
    helping = true;
    overlay.append(element("div", "fgvc-title", "Keys"));
    for (const { keys: names, text } of bindings) {
      const row = element("div", "fgvc-binding");
      row.append(element("kbd", "", names), element("span", "", text));
      overlay.append(row);
    }
    overlay.append(element("div", "fgvc-hint", "any key or a click closes this"));
    overlay.addEventListener("click", closeAndGoOn);
  }

  // Order and narrowing.

  function drawOrder() {
    const arranged = () => ({
      sort: sort.value,
      descending: turned.checked,
      show: show.value,
      text: text.value,
    });
    const menu = (name, values) => {
      const select = element("select", "fgvc-menu");
      select.setAttribute("aria-label", name);
      select.append(...values.map((value) => new Option(value, value)));
      select.addEventListener("change", () => apply());
      order.append(element("label", "fgvc-label", name), select);
      return select;
    };
    const change = () => {
      if (waitingFor !== null) wanted = arranged();
      else act({ type: "arrange", ...arranged() });
    };
    const apply = () => {
      root.focus({ preventScroll: true });
      change();
    };
    const sort = menu("sort", setup.sorts);
    const turned = element("input", "fgvc-turned");
    turned.type = "checkbox";
    turned.setAttribute("aria-label", "descending");
    turned.addEventListener("change", apply);
    const label = element("label", "fgvc-label");
    label.append(turned, "descending");
    order.append(label);
    const show = menu("show", setup.shows);
    const text = element("input", "fgvc-text");
    text.type = "search";
    text.placeholder = "class or text, then ⏎";
    text.setAttribute("aria-label", "narrow to a text");
    text.addEventListener("keydown", (event) => event.key === "Enter" && apply());
    // An emptied field shows everything at once.
    text.addEventListener("input", () => text.value === "" && now.arranged.text && change());
    const again = element("button", "fgvc-key", "apply again");
    again.type = "button";
    again.addEventListener("click", apply);
    order.append(text, again);
    return (told) => {
      sort.value = told.sort;
      turned.checked = told.descending;
      show.value = told.show;
      text.value = told.text;
    };
  }

  // The mouse.

  let drag = null;

  function placeAt(target) {
    const tile = target.closest?.(".fgvc-tile");
    for (const [place, one] of tiles) if (one === tile) return place;
    return null;
  }

  function pointIn(event) {
    const frame = canvas.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  function onDown(event) {
    if (event.button !== 0 || event.offsetX > scroller.clientWidth) return;
    root.focus({ preventScroll: true });
    // While an action is on its way its answer moves the cursor, and with it this choice.
    if (waitingFor !== null) return;
    drag = { from: pointIn(event), begun: false, place: placeAt(event.target) };
  }

  function onDrag(event) {
    // Let go outside of the window, where nobody tells.
    if (event.buttons === 0) drag = null;
    if (!drag) return;
    const at = pointIn(event);
    const { from } = drag;
    if (!drag.begun && Math.abs(at.x - from.x) + Math.abs(at.y - from.y) < 8) return;
    if (!drag.begun) {
      drag.begun = true;
      scroller.setPointerCapture(event.pointerId);
      canvas.append(band);
    }
    const frame = scroller.getBoundingClientRect();
    if (event.clientY > frame.bottom - 20) scroller.scrollTop += 16;
    if (event.clientY < frame.top + 20) scroller.scrollTop -= 16;
    const box = {
      left: Math.min(from.x, at.x),
      top: Math.min(from.y, at.y),
      right: Math.max(from.x, at.x),
      bottom: Math.max(from.y, at.y),
    };
    band.style.transform = `translate(${box.left}px, ${box.top}px)`;
    band.style.width = `${box.right - box.left}px`;
    band.style.height = `${box.bottom - box.top}px`;
    pickOnly(covered(box));
  }

  function covered(box) {
    const across = columns();
    const step = tileHeight + GAP;
    const first = Math.max(0, Math.floor(box.top / step)) * across;
    const last = Math.min(now.count, (Math.floor(box.bottom / step) + 1) * across);
    const places = [];
    for (let place = first; place < last; place += 1) {
      const { x, y } = spot(place);
      const meets = x < box.right && (setup.rows || x + tileWidth > box.left);
      if (meets && y < box.bottom && y + tileHeight > box.top) places.push(place);
    }
    return places;
  }

  function onUp(event) {
    if (!drag) return;
    const { begun, place } = drag;
    drag = null;
    band.remove();
    if (begun) {
      if (picked.size) select(Math.min(...picked));
      return;
    }
    if (place === null) {
      pickOnly([]);
    } else if (event.shiftKey) {
      if (picked.size === 0) anchor = cursor;
      select(place);
      pickRange(anchor, place);
    } else if (event.ctrlKey || event.metaKey) {
      if (picked.size === 0 && place !== cursor) picked.add(cursor);
      if (!picked.delete(place)) picked.add(place);
      anchor = place;
      select(place);
      markAll();
      countPicked();
    } else {
      anchor = place;
      pickOnly([]);
      select(place);
    }
  }

  // Beside the grid: the candidate, its class, and what it may be instead.

  function look() {
    if (!setup.panel || now.count === 0) return;
    const told = known.get(cursor);
    if (told && looks.has(told.item)) drawLook(looks.get(told.item));
    else if (told) ask({ type: "look", place: cursor });
  }

  function onLook(told, buffer) {
    looks.set(told.item, { ...told, jpegs: pictures(told.sizes, buffer) });
    if (known.get(cursor)?.item === told.item) {
      drawLook(looks.get(told.item));
      // The next one is likely to be looked at next.
      const next = known.get(cursor + 1);
      if (next && !looks.has(next.item)) ask({ type: "look", place: cursor + 1 });
    }
  }

  function strip(images, jpegs) {
    const made = element("div", "fgvc-strip");
    images.forEach((image) => made.append(photo(image, jpegs.shift())));
    return made;
  }

  function drawLook(told) {
    const jpegs = [...told.jpegs];
    const main = strip(told.images, jpegs);
    main.classList.add("fgvc-main");
    main.addEventListener("dblclick", toggleZoom);
    panel.replaceChildren(main, captionOf(told.caption), ...classesOf(told, jpegs));
  }

  // The class that a candidate came with and those suggested, with exemplars. `jpegs` are the
  // exemplars' alone.
  function classesOf(told, jpegs) {
    const part = (heading, one, extra) => {
      const made = element("div", `fgvc-class ${extra}`);
      made.append(heading, strip(one.images, jpegs));
      return made;
    };
    const parts = [];
    if (told.given.label) {
      const heading = element("div", "fgvc-heading", `given: ${told.given.label}`);
      parts.push(part(heading, told.given, ""));
    }
    told.suggestions.forEach((one, i) => {
      const heading = element("div", "fgvc-heading");
      heading.append(element("kbd", "", String(i + 1)), line("", one.label));
      if (one.label === told.given.label) {
        heading.append(element("em", "", i === 0 ? "unsure" : "(given)"));
      }
      if (one.score !== null) heading.append(element("b", "", one.score.toFixed(2)));
      const made = part(heading, one, "fgvc-suggestion");
      made.addEventListener("click", (event) => {
        // Else the click would close the zoom.
        event.stopPropagation();
        root.focus({ preventScroll: true });
        press(String(i + 1), false);
      });
      if (one.score !== null) made.style.setProperty("--fgvc-score", one.score);
      parts.push(made);
    });
    return parts;
  }

  // Over everything: the full picture, the search, or the list of keys.

  function openOverlay(className, name) {
    closeOverlay();
    overlay = element("div", `fgvc-overlay ${className}`);
    overlay.setAttribute("role", "dialog");
    overlay.setAttribute("aria-label", name);
    // In the page's body: a cell of the notebook would cut it off.
    document.body.append(overlay);
  }

  function closeOverlay() {
    overlay?.remove();
    overlay = null;
    zoomed = null;
    search = null;
    helping = false;
  }

  function closeAndGoOn() {
    closeOverlay();
    root.focus({ preventScroll: true });
  }

  function toggleZoom() {
    if (overlay) {
      closeOverlay();
      return;
    }
    openOverlay("fgvc-zoom", "zoom");
    overlay.addEventListener("click", closeAndGoOn);
    zoom();
  }

  function zoom() {
    zoomed = ask({ type: "zoom", place: cursor });
    // What is shown until the answer comes is not what the next key decides.
    overlay.classList.add("fgvc-stale");
  }

  function onZoom(told, buffer) {
    if (!overlay || told.ask !== zoomed) return;
    const jpegs = pictures(told.sizes, buffer);
    const photos = element("div", told.images.length > 1 ? "fgvc-many" : "fgvc-one");
    told.images.forEach((image) => photos.append(photo(image, jpegs.shift())));
    const main = element("div", "fgvc-zoomed");
    const help = inWords(bindings.filter((binding) => binding.zoomed));
    const below = element("div", "fgvc-hint", `${help} · z or Esc closes`);
    main.append(photos, captionOf(inOneLine(told.caption)), below);
    overlay.classList.remove("fgvc-stale");
    const classes = classesOf(told, jpegs);
    const beside = element("div", "fgvc-beside");
    beside.append(...classes);
    overlay.replaceChildren(main, ...(classes.length ? [beside] : []));
  }

  function openSearch() {
    openOverlay("fgvc-search", "search a class");
    const input = element("input", "fgvc-input");
    input.placeholder = "type a class, ↑ ↓ choose, ⏎ takes it, Esc leaves";
    input.setAttribute("aria-label", "search a class");
    const list = element("div", "fgvc-found");
    list.setAttribute("role", "listbox");
    overlay.append(input, list);
    search = { root: overlay, input, list, found: [], at: 0, ask: null };
    const wanted = () => {
      search.ask = ask({ type: "search", text: input.value });
    };
    input.addEventListener("input", wanted);
    overlay.addEventListener("keyup", (event) => event.stopPropagation());
    overlay.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) {
        event.preventDefault();
        search.at = Math.min(Math.max(search.at + step, 0), search.found.length - 1);
        drawFound();
      } else if (event.key === "Enter") {
        event.preventDefault();
        take(search.found[search.at]);
      } else if (event.key === "Escape") {
        closeAndGoOn();
      }
    });
    input.focus();
    wanted();
  }

  function take(one) {
    // What was typed may be newer than what was found.
    if (!one || search.answered !== search.ask) return;
    closeAndGoOn();
    decide("relabel", { label: one.label });
  }

  function onSearch(told, buffer) {
    if (!search || told.ask !== search.ask) return;
    const jpegs = pictures(told.sizes, buffer);
    let at = 0;
    search.found = told.found.map((one) => ({
      ...one,
      jpegs: one.images.map(() => jpegs[at++]),
    }));
    search.at = 0;
    search.answered = told.ask;
    drawFound();
  }

  function drawFound() {
    search.list.replaceChildren(
      ...search.found.map((one, i) => {
        const row = element("div", i === search.at ? "fgvc-hit fgvc-at" : "fgvc-hit");
        row.setAttribute("role", "option");
        row.append(line("fgvc-name", one.label));
        one.images.forEach((image, k) => row.append(photo(image, one.jpegs[k])));
        row.addEventListener("click", () => take(one));
        return row;
      }),
    );
    if (search.found.length === 0) {
      search.list.append(element("div", "fgvc-hit", "no class has this in its name"));
    }
    search.list.querySelector(".fgvc-at")?.scrollIntoView({ block: "nearest" });
  }

  // What comes from the kernel.

  function onMessage(told, buffers) {
    if (!told.ask?.startsWith(me)) return;
    if (told.type === "tiles") onTiles(told, buffers[0]);
    else if (told.type === "look") onLook(told, buffers[0]);
    else if (told.type === "zoom") onZoom(told, buffers[0]);
    else if (told.type === "search") onSearch(told, buffers[0]);
  }

  function onTiles(told, buffer) {
    asking.delete(told.ask);
    if (told.view !== view) return;
    const jpegs = pictures(told.sizes, buffer);
    let at = 0;
    told.tiles.forEach((tile, i) => {
      const place = told.begin + i;
      const own = jpegs.slice(at, (at += tile.images.length));
      known.set(place, { ...tile, jpegs: own }, (old) => tiles.has(old));
      if (tiles.has(place)) fill(place, tiles.get(place));
    });
    layOut();
    const seen = cursor >= told.begin && cursor < told.begin + told.tiles.length;
    if (seen) look();
  }

  function onNow() {
    now = model.get("now");
    progress.textContent = now.progress;
    done.style.width = `${100 * now.share}%`;
    note.textContent = now.note;
    // After an answer the menus show what was chosen here, perhaps newer than what is answered.
    if (now.answer === "") arrangedAs(now.arranged);
    const fresh = now.view !== view;
    if (fresh) {
      view = now.view;
      known.clear();
      picked.clear();
      asking = new Map();
      for (const tile of tiles.values()) tile.remove();
      tiles = new Map();
      scroller.scrollTop = 0;
    }
    for (const [place, told] of known.map) {
      const change = now.changes[told.item];
      if (change) told.now = change;
      if (change) mark(place);
    }
    const answered = now.answer !== "" && now.answer === waitingFor;
    if (answered || now.error) {
      clearTimeout(patience);
      tell(now.error, now.error !== "");
    }
    if (now.error) waitingKeys = [];
    if (answered) waitingFor = null;
    // Another view of this gallery may have decided: then the cursor here stays.
    layOut();
    if (fresh || answered || now.answer === "") select(now.cursor);
    if (waitingFor === null && wanted) {
      act({ type: "arrange", ...wanted });
      wanted = null;
    }
    while (waitingFor === null && waitingKeys.length > 0) press(...waitingKeys.shift());
  }

  const arrangedAs = drawOrder();
  root.addEventListener("keydown", onKey);
  root.addEventListener("keyup", (event) => event.stopPropagation());
  root.addEventListener("keypress", (event) => event.stopPropagation());
  scroller.addEventListener("pointerdown", onDown);
  scroller.addEventListener("pointermove", onDrag);
  scroller.addEventListener("pointerup", onUp);
  scroller.addEventListener("pointercancel", () => {
    drag = null;
    band.remove();
  });
  scroller.addEventListener("dblclick", (event) => placeAt(event.target) !== null && toggleZoom());
  let frame = 0;
  const later = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      const back = hidden && scroller.clientHeight > 0;
      hidden = false;
      if (back) select(cursor);
      else layOut();
    });
  };
  scroller.addEventListener("scroll", later);
  const watcher = new ResizeObserver(later);
  watcher.observe(scroller);
  model.on("change:now", onNow);
  model.on("msg:custom", onMessage);
  drawKeys();
  onNow();
  pass({ type: "drawn" });

  return () => {
    clearTimeout(patience);
    clearTimeout(lookTimer);
    watcher.disconnect();
    model.off("change:now", onNow);
    model.off("msg:custom", onMessage);
    closeOverlay();
    known.clear();
    looks.clear();
  };
}

export default { render };
