// Over everything: the full picture, the search for a class, the list of keys.

function makeOverlays(g) {
  let overlay = null;
  let search = null;
  let zoomed = null;
  let helping = false;

  function openHelp() {
    openOverlay("fgvc-help", "keys");
    helping = true;
    overlay.append(element("div", "fgvc-title", "Keys"));
    for (const { keys: names, text } of g.bindings) {
      const row = element("div", "fgvc-binding");
      row.append(element("kbd", "", names), element("span", "", text));
      overlay.append(row);
    }
    overlay.append(element("div", "fgvc-hint", "any key or a click closes this"));
    overlay.addEventListener("click", closeAndGoOn);
  }

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
    g.root.focus({ preventScroll: true });
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
    zoomed = g.ask({ type: "zoom", place: g.cursor });
    // What is shown until the answer comes is not what the next key decides.
    overlay.classList.add("fgvc-stale");
  }

  function onZoom(shown, buffer) {
    if (!overlay || shown.ask !== zoomed) return;
    const jpegs = pictures(shown.sizes, buffer);
    const photos = element("div", shown.images.length > 1 ? "fgvc-many" : "fgvc-one");
    shown.images.forEach((image) => photos.append(photo(image, jpegs.shift())));
    const main = element("div", "fgvc-zoomed");
    const help = inWords(g.bindings.filter((binding) => binding.zoomed));
    const below = element("div", "fgvc-hint", `${help} · z or Esc closes`);
    main.append(photos, line("fgvc-caption", shown.caption.replaceAll("\n", " · ")), below);
    overlay.classList.remove("fgvc-stale");
    const classes = g.classesOf(shown, jpegs);
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
      search.ask = g.ask({ type: "search", text: input.value });
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
    g.decide("relabel", { label: one.label });
  }

  function onSearch(shown, buffer) {
    if (!search || shown.ask !== search.ask) return;
    const jpegs = pictures(shown.sizes, buffer);
    let at = 0;
    search.found = shown.found.map((one) => ({
      ...one,
      jpegs: one.images.map(() => jpegs[at++]),
    }));
    search.at = 0;
    search.answered = shown.ask;
    drawFound();
  }

  function drawFound() {
    search.list.replaceChildren(
      ...search.found.map((one, i) => {
        const row = element("div", i === search.at ? "fgvc-hit fgvc-at" : "fgvc-hit");
        row.setAttribute("role", "option");
        row.append(line("fgvc-name", one.name));
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

  return {
    openHelp,
    openSearch,
    toggleZoom,
    onZoom,
    onSearch,
    close: closeOverlay,
    // The zoom goes where the cursor goes.
    follow: () => zoomed !== null && zoom(),
    isOpen: () => overlay !== null,
    isHelp: () => helping,
    isTypedIn: (target) => search !== null && search.root.contains(target),
  };
}
