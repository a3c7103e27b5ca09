// Choosing by mouse: a click, a range with shift, one more with ctrl, a rectangle by dragging.

function listenToMouse(g) {
  let drag = null;
  const band = element("div", "fgvc-band");

  function pointIn(event) {
    const frame = g.canvas.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  function onDown(event) {
    if (event.button !== 0 || event.offsetX > g.scroller.clientWidth) return;
    g.root.focus({ preventScroll: true });
    // While an action is on its way its answer moves the cursor, and with it this choice.
    if (g.waiting) return;
    drag = { from: pointIn(event), begun: false, place: g.placeAt(event.target) };
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
      g.scroller.setPointerCapture(event.pointerId);
      g.canvas.append(band);
    }
    const frame = g.scroller.getBoundingClientRect();
    if (event.clientY > frame.bottom - 20) g.scroller.scrollTop += 16;
    if (event.clientY < frame.top + 20) g.scroller.scrollTop -= 16;
    const box = {
      left: Math.min(from.x, at.x),
      top: Math.min(from.y, at.y),
      right: Math.max(from.x, at.x),
      bottom: Math.max(from.y, at.y),
    };
    band.style.transform = `translate(${box.left}px, ${box.top}px)`;
    band.style.width = `${box.right - box.left}px`;
    band.style.height = `${box.bottom - box.top}px`;
    g.pickOnly(covered(box));
  }

  function covered(box) {
    const across = g.columns();
    const step = g.tileHeight + GAP;
    const first = Math.max(0, Math.floor(box.top / step)) * across;
    const last = Math.min(g.count, (Math.floor(box.bottom / step) + 1) * across);
    const places = [];
    for (let place = first; place < last; place += 1) {
      const { x, y } = g.spot(place);
      const meets = x < box.right && (g.setup.rows || x + g.tileWidth > box.left);
      if (meets && y < box.bottom && y + g.tileHeight > box.top) places.push(place);
    }
    return places;
  }

  function onUp(event) {
    if (!drag) return;
    const { begun, place } = drag;
    drag = null;
    band.remove();
    if (begun) {
      if (g.picked.size) g.select(Math.min(...g.picked));
      return;
    }
    if (place === null) {
      g.pickOnly([]);
    } else if (event.shiftKey) {
      if (g.picked.size === 0) g.anchor = g.cursor;
      g.select(place);
      g.pickRange(g.anchor, place);
    } else if (event.ctrlKey || event.metaKey) {
      if (g.picked.size === 0 && place !== g.cursor) g.picked.add(g.cursor);
      if (!g.picked.delete(place)) g.picked.add(place);
      g.anchor = place;
      g.select(place);
      g.markAll();
      g.countPicked();
    } else {
      g.anchor = place;
      g.pickOnly([]);
      g.select(place);
    }
  }

  g.scroller.addEventListener("pointerdown", onDown);
  g.scroller.addEventListener("pointermove", onDrag);
  g.scroller.addEventListener("pointerup", onUp);
  g.scroller.addEventListener("pointercancel", () => {
    drag = null;
    band.remove();
  });
}
