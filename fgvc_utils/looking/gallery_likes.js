// Like cases of the image that was just decided on: a row of photos that one click decides alike.

// Fills `bar`. What is offered was drawn before it can be decided: nothing is decided unseen.
function makeLikes(g, bar) {
  let offer = {}; // what the kernel says that it is about
  let wanted = null; // the id of the question
  let offered = []; // the tiles that came
  const left = new Set(); // the items that were unticked

  function onNow(sent) {
    if (sent.id === offer.id) return;
    offer = sent;
    offered = [];
    left.clear();
    if (offer.id !== undefined) wanted = g.ask({ type: "likes", offer: offer.id });
    draw();
  }

  function onLikes(sent, buffer) {
    if (sent.ask !== wanted || sent.offer !== offer.id) return;
    const jpegs = pictures(sent.sizes, buffer);
    offered = sent.tiles.map((tile) => ({
      ...tile,
      jpegs: tile.images.map(() => jpegs.shift()),
    }));
    // What cannot be seen is decided by nobody who did not tick it.
    for (const tile of offered) if (tile.images[0].problem) left.add(tile.item);
    draw();
  }

  function ticked() {
    return offered.map((tile) => tile.item).filter((item) => !left.has(item));
  }

  function draw() {
    bar.replaceChildren();
    if (offered.length === 0) {
      bar.append(element("span", "fgvc-hint", "like cases of what is decided come here"));
      return;
    }
    const what = offer.label ? `${offer.decision} → ${offer.label}` : offer.decision;
    const take = element("button", "fgvc-key fgvc-take");
    take.type = "button";
    take.tabIndex = -1;
    take.style.setProperty("--fgvc-colour", g.colourOf(offer.decision));
    take.append(element("kbd", "", "a"), element("span", "", `${what}: these ${ticked().length}`));
    take.disabled = ticked().length === 0;
    take.addEventListener("click", () => {
      g.root.focus({ preventScroll: true });
      g.press("a", false);
    });
    bar.append(take, ...offered.map(drawOne));
  }

  function drawOne(tile) {
    const made = element("div", "fgvc-like");
    made.dataset.item = tile.item;
    made.setAttribute("role", "checkbox");
    made.setAttribute("aria-label", [tile.caption, tile.suggested, tile.scores].join(" "));
    made.setAttribute("aria-checked", String(!left.has(tile.item)));
    made.classList.toggle("fgvc-left", left.has(tile.item));
    tile.images.forEach((image, i) => made.append(photo(image, tile.jpegs[i])));
    made.addEventListener("click", () => {
      g.root.focus({ preventScroll: true });
      if (!left.delete(tile.item)) left.add(tile.item);
      draw();
    });
    return made;
  }

  function take() {
    const items = ticked();
    if (items.length > 0) g.act({ type: "alike", offer: offer.id, items });
    else g.tell("no like case is ticked here; nothing was decided");
  }

  return { onNow, onLikes, take };
}
