// The menus above the grid: in which order candidates are shown, and which are shown.

// Fills `order`; returns a function that shows an arrangement in the menus.
function makeOrder(g, order) {
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
  const apply = () => {
    g.root.focus({ preventScroll: true });
    g.arrange(arranged());
  };
  const sort = menu("sort", g.setup.sorts);
  const turned = element("input", "fgvc-turned");
  turned.type = "checkbox";
  turned.setAttribute("aria-label", "descending");
  turned.addEventListener("change", apply);
  const label = element("label", "fgvc-label");
  label.append(turned, "descending");
  order.append(label);
  const show = menu("show", g.setup.shows);
  const text = element("input", "fgvc-text");
  text.type = "search";
  text.placeholder = "class or text, then ⏎";
  text.setAttribute("aria-label", "narrow to a text");
  text.addEventListener("keydown", (event) => event.key === "Enter" && apply());
  // An emptied field shows everything at once.
  text.addEventListener("input", () => text.value === "" && g.narrowed && g.arrange(arranged()));
  const again = element("button", "fgvc-key", "apply again");
  again.type = "button";
  again.addEventListener("click", apply);
  order.append(text, again);
  return (shown) => {
    sort.value = shown.sort;
    turned.checked = shown.descending;
    show.value = shown.show;
    text.value = shown.text;
  };
}
