// Beside the grid: the candidate, its class, and what it may be instead.

const KEPT_LOOKS = 24;

function makePanel(g, panel) {
  const looks = new Kept(KEPT_LOOKS);

  function look() {
    if (!g.setup.panel || g.count === 0) return;
    const shown = g.known.get(g.cursor);
    if (shown && looks.has(shown.item)) drawLook(looks.get(shown.item));
    else if (shown) g.ask({ type: "look", place: g.cursor });
  }

  function onLook(shown, buffer) {
    looks.set(shown.item, { ...shown, jpegs: pictures(shown.sizes, buffer) });
    if (g.known.get(g.cursor)?.item === shown.item) {
      drawLook(looks.get(shown.item));
      // The next one is likely to be looked at next.
      const next = g.known.get(g.cursor + 1);
      if (next && !looks.has(next.item)) g.ask({ type: "look", place: g.cursor + 1 });
    }
  }

  function strip(images, jpegs) {
    const made = element("div", "fgvc-strip");
    images.forEach((image) => made.append(photo(image, jpegs.shift())));
    return made;
  }

  function drawLook(shown) {
    const jpegs = [...shown.jpegs];
    const main = strip(shown.images, jpegs);
    main.classList.add("fgvc-main");
    main.addEventListener("dblclick", g.toggleZoom);
    panel.replaceChildren(main, captionOf(shown.caption), ...classesOf(shown, jpegs));
  }

  // The class that a candidate came with and those suggested, with exemplars. `jpegs` are the
  // exemplars' alone.
  function classesOf(shown, jpegs) {
    const part = (heading, one, extra) => {
      const made = element("div", `fgvc-class ${extra}`);
      made.append(heading, strip(one.images, jpegs));
      return made;
    };
    const parts = [];
    if (shown.given.label) {
      const heading = element("div", "fgvc-heading", `given: ${shown.given.name}`);
      parts.push(part(heading, shown.given, ""));
    }
    shown.suggestions.forEach((one, i) => {
      const heading = element("div", "fgvc-heading");
      heading.append(element("kbd", "", String(i + 1)), line("", one.name));
      if (one.label === shown.given.label) {
        heading.append(element("em", "", i === 0 ? "unsure" : "(given)"));
      }
      if (one.score !== null) heading.append(element("b", "", one.score.toFixed(2)));
      const made = part(heading, one, "fgvc-suggestion");
      made.addEventListener("click", (event) => {
        // Else the click would close the zoom.
        event.stopPropagation();
        g.root.focus({ preventScroll: true });
        g.press(String(i + 1), false);
      });
      if (one.score !== null) made.style.setProperty("--fgvc-score", one.score);
      parts.push(made);
    });
    return parts;
  }

  return { look, onLook, classesOf };
}
