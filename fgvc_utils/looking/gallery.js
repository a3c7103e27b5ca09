// The gallery in the browser; gallery.py joins this file and the other gallery_*.js to one module.
// It draws the tiles in sight and sends what is pressed. It never draws a decision by itself: the
// kernel writes the journal first and then sends what is decided (`now`).

function render({ model, el }) {
  const setup = model.get("setup");
  const me = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
  const colours = new Map(setup.choices.map((c) => [c.decision, c.colour]));
  if (!colours.has("relabel")) colours.set("relabel", setup.relabel_colour);
  const suggests = setup.suggests;
  const tileWidth = setup.side + TILE_EDGE;
  const tileHeight = setup.side + TILE_EDGE + setup.lines * TEXT_LINE;

  const parts = skeleton(setup);
  const { root, progress, done, keys, status, order, scroller, canvas, nothing, beside } = parts;
  el.append(root);

  let now = model.get("now");
  let view = -1;
  let cursor = 0;
  const picked = new Set();
  let tiles = new Map(); // place in view → its element, for those near the window
  const known = new Kept(KEPT_TILES);
  let asking = new Map(); // id of a request → the places it will bring
  let asked = 0;
  let waitingFor = null; // the id of the action that the kernel has not answered yet
  let patience = 0;
  let wanted = null; // an arrangement that was chosen meanwhile
  let waitingKeys = []; // pressed meanwhile; each belongs to what is chosen once it is answered
  let lookTimer = 0;
  let hidden = false; // nothing could be laid out when it was last tried

  // What the gallery's other parts need of this one.
  const g = {
    setup,
    bindings: bindingsOf(setup),
    root,
    scroller,
    canvas,
    tileWidth,
    tileHeight,
    known,
    picked,
    anchor: 0, // where a range that is chosen begins
    ask,
    act,
    tell,
    press,
    decide,
    select,
    pickOnly,
    pickRange,
    markAll,
    countPicked,
    placeAt,
    columns,
    spot,
    arrange: (arrangement) => {
      if (waitingFor !== null) wanted = arrangement;
      else act({ type: "arrange", ...arrangement });
    },
    colourOf: (decision) => colours.get(decision) ?? "#888",
    classesOf: (...shown) => panel.classesOf(...shown),
    toggleZoom: () => overlays.toggleZoom(),
    get cursor() {
      return cursor;
    },
    get count() {
      return now.count;
    },
    get waiting() {
      return waitingFor !== null;
    },
    get narrowed() {
      return now.arranged.text !== "";
    },
  };
  const overlays = makeOverlays(g);
  const panel = makePanel(g, beside);
  const arrangedAs = makeOrder(g, order);
  const likes = makeLikes(g, parts.likeness);

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
    const id = `${me}/${(asked += 1)}`;
    clearTimeout(patience);
    if (!pass({ ...message, id, view, cursor })) return;
    waitingFor = id;
    tell("saving …");
    patience = setTimeout(() => {
      tell("no answer yet: the kernel is busy, or was restarted (then run this cell again)");
    }, 5000);
  }

  function ask(message) {
    const id = `${me}/${(asked += 1)}`;
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
    const sent = known.get(place);
    if (!sent) {
      tile.classList.add("fgvc-waiting");
      return;
    }
    tile.classList.remove("fgvc-waiting");
    tile.dataset.item = sent.item;
    const photos = element("div", "fgvc-photos");
    sent.images.forEach((image, i) => photos.append(photo(image, sent.jpegs[i])));
    if (sent.more) photos.append(element("div", "fgvc-more", `+${sent.more}`));
    const texts = element("div", "fgvc-texts");
    for (const name of ["caption", "suggested", "scores"]) {
      if (sent[name]) texts.append(line(`fgvc-${name}`, sent[name]));
    }
    tile.replaceChildren(photos, texts, element("div", "fgvc-mark"));
    mark(place);
  }

  function mark(place) {
    const tile = tiles.get(place);
    if (!tile) return;
    tile.classList.toggle("fgvc-selected", place === cursor);
    tile.classList.toggle("fgvc-picked", picked.has(place));
    tile.setAttribute("aria-selected", String(picked.has(place) || place === cursor));
    const sent = known.get(place);
    if (!sent || !tile.querySelector(".fgvc-mark")) return;
    const { decision, label, disputed, follows } = sent.now;
    tile.classList.toggle("fgvc-decided", decision !== "");
    tile.classList.toggle("fgvc-disputed", disputed !== "");
    const colour = decision ? (colours.get(decision) ?? "#888") : disputed ? "#b00020" : "";
    tile.style.setProperty("--fgvc-colour", colour);
    const own = label ? `${decision} → ${label}` : decision;
    const text = follows && own ? `↳ ${own}` : own;
    const marked = disputed ? `${text || "disputed"} ≠` : text;
    tile.querySelector(".fgvc-mark").textContent = marked;
    tile.querySelector(".fgvc-mark").title = disputed || (follows && `as its copy ${follows}`);
    const read = [sent.caption, sent.suggested, sent.scores, marked || "undecided"];
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
    lookTimer = setTimeout(panel.look, 60);
    overlays.follow();
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
    if (key === "/" && setup.searches) return overlays.openSearch;
    if (small === "a" && setup.likes) return likes.take;
    if (small === "z" || (small === "l" && setup.rows)) return overlays.toggleZoom;
    if (key === "?") return overlays.openHelp;
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
        if (shift && picked.size === 0) g.anchor = cursor;
        select(target);
        if (shift) pickRange(g.anchor, cursor);
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
    if (overlays.isTypedIn(event.target) || order.contains(event.target)) {
      // What is typed is text; JupyterLab must not take it for a command.
      event.stopPropagation();
      return;
    }
    if (overlays.isHelp()) {
      // Whatever is pressed while the list is read closes it and does nothing else.
      event.stopPropagation();
      event.preventDefault();
      if (event.key !== "Shift") overlays.close();
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
    if (event.key === "Escape") {
      if (!overlays.isOpen() && picked.size === 0) return;
      overlays.close();
      pickOnly([]);
      event.stopPropagation();
      return;
    }
    // Everything else stays here: in JupyterLab's command mode `d` `d` deletes the cell.
    event.stopPropagation();
    if (event.key.length === 1 && event.key !== " " && event.repeat) event.preventDefault();
    else if (press(event.key, event.shiftKey)) event.preventDefault();
  }

  function placeAt(target) {
    const tile = target.closest?.(".fgvc-tile");
    for (const [place, one] of tiles) if (one === tile) return place;
    return null;
  }

  // What comes from the kernel.

  function onMessage(sent, buffers) {
    if (!sent.ask?.startsWith(me)) return;
    if (sent.type === "tiles") onTiles(sent, buffers[0]);
    else if (sent.type === "look") panel.onLook(sent, buffers[0]);
    else if (sent.type === "zoom") overlays.onZoom(sent, buffers[0]);
    else if (sent.type === "search") overlays.onSearch(sent, buffers[0]);
    else if (sent.type === "likes") likes.onLikes(sent, buffers[0]);
  }

  function onTiles(sent, buffer) {
    asking.delete(sent.ask);
    if (sent.view !== view) return;
    const jpegs = pictures(sent.sizes, buffer);
    let at = 0;
    sent.tiles.forEach((tile, i) => {
      const place = sent.begin + i;
      const own = jpegs.slice(at, (at += tile.images.length));
      known.set(place, { ...tile, jpegs: own }, (old) => tiles.has(old));
      if (tiles.has(place)) fill(place, tiles.get(place));
    });
    layOut();
    const seen = cursor >= sent.begin && cursor < sent.begin + sent.tiles.length;
    if (seen) panel.look();
  }

  function onNow() {
    now = model.get("now");
    progress.textContent = now.progress;
    done.style.width = `${100 * now.share}%`;
    parts.note.textContent = now.note;
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
    for (const [place, sent] of known.map) {
      const change = now.changes[sent.item];
      if (change) sent.now = change;
      if (change) mark(place);
    }
    const answered = now.answer !== "" && now.answer === waitingFor;
    if (answered || now.error) {
      clearTimeout(patience);
      tell(now.error, now.error !== "");
    }
    if (now.error) waitingKeys = [];
    if (answered) waitingFor = null;
    likes.onNow(now.offer);
    // Another view of this gallery may have decided: then the cursor here stays.
    layOut();
    if (fresh || answered || now.answer === "") select(now.cursor);
    if (waitingFor === null && wanted) {
      act({ type: "arrange", ...wanted });
      wanted = null;
    }
    while (waitingFor === null && waitingKeys.length > 0) press(...waitingKeys.shift());
  }

  root.addEventListener("keydown", onKey);
  root.addEventListener("keyup", (event) => event.stopPropagation());
  root.addEventListener("keypress", (event) => event.stopPropagation());
  listenToMouse(g);
  scroller.addEventListener("dblclick", (event) => {
    if (placeAt(event.target) !== null) overlays.toggleZoom();
  });
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
  drawKeys(g, keys, status);
  onNow();
  pass({ type: "drawn" });

  return () => {
    clearTimeout(patience);
    clearTimeout(lookTimer);
    watcher.disconnect();
    model.off("change:now", onNow);
    model.off("msg:custom", onMessage);
    overlays.close();
    known.clear();
  };
}

export default { render };
