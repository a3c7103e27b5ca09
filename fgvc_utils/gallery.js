// Draws one page of photos and sends what is pressed. It never draws a decision by itself: the
// kernel writes the journal first and then says what is in force (`now`).
// Names come from files and from the web, so text only ever goes in as textContent.

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function thumbnails(page) {
  const jpegs = page.jpegs;
  return page.offsets.slice(1).map((end, i) => {
    const begin = page.offsets[i];
    if (end === begin) return null;
    const bytes = new Uint8Array(jpegs.buffer, jpegs.byteOffset + begin, end - begin);
    return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  });
}

function photo(image, url) {
  if (url === null) {
    const placeholder = element("div", "fgvc-photo fgvc-missing");
    placeholder.append(
      element("div", "fgvc-problem", image.problem),
      element("div", "fgvc-name", image.name),
    );
    placeholder.title = `${image.problem}: ${image.name}`;
    return placeholder;
  }
  const made = element("img", "fgvc-photo");
  made.src = url;
  made.alt = image.name;
  made.title = image.name;
  made.draggable = false;
  return made;
}

function render({ model, el }) {
  const root = element("div", "fgvc-gallery");
  root.tabIndex = 0;
  root.style.setProperty("--fgvc-side", `${model.get("side")}px`);
  const keys = element("div", "fgvc-keys");
  const status = element("span", "fgvc-status");
  status.setAttribute("role", "status");
  const grid = element("div", model.get("rows") ? "fgvc-grid fgvc-rows" : "fgvc-grid");
  grid.setAttribute("role", "listbox");
  grid.setAttribute("aria-label", model.get("title"));
  root.append(keys, grid);
  el.append(root);

  const view = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
  const colours = new Map(model.get("choices").map((c) => [c.decision, c.colour]));
  let tiles = [];
  let urls = [];
  let cursor = 0;
  let sent = 0;
  let waitingFor = null; // the id of the message that the kernel has not answered yet
  let patience = 0;
  let waitingKeys = []; // pressed meanwhile; each belongs to the item in view once it is answered

  function send(message) {
    const id = `${view}/${(sent += 1)}`;
    clearTimeout(patience);
    try {
      model.send({ ...message, id });
    } catch {
      tell("not saved: the kernel was restarted, run this cell again", true);
      return;
    }
    waitingFor = id;
    tell("saving …");
    patience = setTimeout(() => {
      tell("no answer yet: the kernel is busy, or was restarted (then run this cell again)");
    }, 5000);
  }

  function tell(text, isError = false) {
    status.classList.toggle("fgvc-error", isError);
    status.textContent = text;
  }

  function select(position) {
    if (tiles.length === 0) return;
    cursor = Math.min(Math.max(position, 0), tiles.length - 1);
    tiles.forEach((tile, i) => {
      tile.classList.toggle("fgvc-selected", i === cursor);
      tile.setAttribute("aria-selected", String(i === cursor));
    });
    // Nobody decides on a photo out of sight; but the notebook scrolls only for who works here.
    if (root.contains(document.activeElement)) {
      tiles[cursor].scrollIntoView({ block: "nearest" });
      return;
    }
    const tile = tiles[cursor].getBoundingClientRect();
    const frame = grid.getBoundingClientRect();
    if (tile.top < frame.top) grid.scrollTop -= frame.top - tile.top + 8;
    if (tile.bottom > frame.bottom) grid.scrollTop += tile.bottom - frame.bottom + 8;
  }

  function columns() {
    const top = tiles[0].offsetTop;
    return Math.max(1, tiles.filter((tile) => tile.offsetTop === top).length);
  }

  function decide(decision) {
    if (tiles.length > 0) send({ type: "decide", item: tiles[cursor].dataset.item, decision });
  }

  // Whether the key is ours; what it does may come later.
  function press(key) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: "up", ArrowDown: "down" };
    const turns = { PageUp: -1, PageDown: 1 };
    const choice = model.get("choices").find((c) => c.key === key.toLowerCase());
    const undo = key.toLowerCase() === model.get("undo_key");
    if (!(key in moves) && !(key in turns) && !choice && !undo) return false;
    if (waitingFor !== null) {
      waitingKeys.push(key);
    } else if (key in turns) {
      send({ type: "turn", pages: turns[key] });
    } else if (undo) {
      send({ type: "undo" });
    } else if (choice) {
      decide(choice.decision);
    } else if (tiles.length > 0) {
      const step = { up: -columns(), down: columns() }[moves[key]] ?? moves[key];
      const target = cursor + step;
      if (target >= 0 && target < tiles.length) select(target);
    }
    return true;
  }

  function drawKeys() {
    keys.replaceChildren();
    const add = (key, text, colour, action) => {
      const button = element("button", "fgvc-key");
      button.type = "button";
      button.tabIndex = -1;
      if (colour) button.style.setProperty("--fgvc-colour", colour);
      button.append(element("kbd", "", key), element("span", "", text));
      button.addEventListener("click", () => {
        root.focus({ preventScroll: true });
        action();
      });
      keys.append(button);
    };
    for (const choice of model.get("choices")) {
      add(choice.key, choice.decision, choice.colour, () => press(choice.key));
    }
    add(model.get("undo_key"), "undo", "", () => press(model.get("undo_key")));
    keys.append(element("span", "fgvc-hint", "arrow keys or a click select · PgUp PgDn turn"));
    keys.append(status);
  }

  function drawPage() {
    const page = model.get("page");
    urls.forEach((url) => url && URL.revokeObjectURL(url));
    urls = thumbnails(page);
    let next = 0;
    tiles = page.tiles.map((candidate, i) => {
      const tile = element("div", "fgvc-tile");
      tile.dataset.item = candidate.item;
      tile.setAttribute("role", "option");
      const photos = element("div", "fgvc-photos");
      for (const image of candidate.images) photos.append(photo(image, urls[next++]));
      const caption = element("div", "fgvc-caption", candidate.caption);
      caption.title = candidate.caption;
      tile.append(photos, caption);
      if (candidate.suggested) {
        const suggested = element("div", "fgvc-suggested", `→ ${candidate.suggested}`);
        suggested.title = suggested.textContent;
        tile.append(suggested);
      }
      tile.append(element("div", "fgvc-mark"));
      tile.addEventListener("click", () => {
        // While a decision is on its way its answer moves the cursor, and with it this choice.
        if (waitingFor === null) select(i);
        root.focus({ preventScroll: true });
      });
      return tile;
    });
    grid.replaceChildren(...tiles);
    grid.scrollTop = 0;
    // Keys pressed before this page was seen cannot have been meant for it.
    waitingKeys = [];
  }

  function drawNow() {
    const now = model.get("now");
    for (const tile of tiles) {
      const made = now.decisions[tile.dataset.item];
      const mark = tile.querySelector(".fgvc-mark");
      tile.classList.toggle("fgvc-decided", made !== undefined);
      tile.style.setProperty("--fgvc-colour", made ? (colours.get(made.decision) ?? "#888") : "");
      mark.textContent = made ? made.decision : "";
    }
    const answered = now.answer !== "" && now.answer === waitingFor;
    if (answered || now.error) {
      clearTimeout(patience);
      tell(now.error, now.error !== "");
    }
    if (now.error) waitingKeys = [];
    if (answered) waitingFor = null;
    // Another view of this gallery may have decided: then the selection here stays.
    if (answered || now.answer === "") select(now.cursor);
    while (waitingFor === null && waitingKeys.length > 0) press(waitingKeys.shift());
  }

  function onPage() {
    const output = root.closest(".jp-OutputArea");
    const pressedHere = output?.contains(document.activeElement);
    drawPage();
    select(model.get("now").cursor);
    drawNow();
    // After a page button the keys should work at once.
    if (pressedHere) root.focus({ preventScroll: true });
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab" || event.key === "Escape") return;
    // Everything else stays here: in JupyterLab's command mode `d` `d` deletes the cell.
    event.stopPropagation();
    const decides = event.key.length === 1;
    if (decides && event.repeat) {
      event.preventDefault();
    } else if (press(event.key)) {
      event.preventDefault();
    }
  }

  root.addEventListener("keydown", onKey);
  root.addEventListener("keyup", (event) => event.stopPropagation());
  root.addEventListener("keypress", (event) => event.stopPropagation());
  model.on("change:page", onPage);
  model.on("change:now", drawNow);
  drawKeys();
  drawPage();
  drawNow();
  // Sizes are known once the notebook has put the gallery in its place.
  requestAnimationFrame(() => select(model.get("now").cursor));
  model.send({ type: "drawn" });

  return () => {
    clearTimeout(patience);
    model.off("change:page", onPage);
    model.off("change:now", drawNow);
    urls.forEach((url) => url && URL.revokeObjectURL(url));
  };
}

export default { render };
