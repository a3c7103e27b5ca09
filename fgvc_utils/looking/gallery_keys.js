// The keys: what each is for, as buttons and in words.

// Every key that has a meaning: the buttons, the line of help beside them and the list that `?`
// opens are made of these. `press` makes a button; `rare` ones are in the list alone.
function bindingsOf(setup) {
  return [
    ...setup.choices.map((c) => ({
      keys: c.key,
      text: c.decision,
      colour: c.colour,
      press: [c.key, false],
      zoomed: true,
    })),
    setup.suggests && {
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
    setup.likes && { keys: "a", text: "decide like cases alike", press: ["a", false] },
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
}

function inWords(bindings) {
  return bindings.map((binding) => `${binding.keys} ${binding.text}`).join(" · ");
}

function drawKeys(g, keys, status) {
  keys.replaceChildren();
  for (const one of g.bindings.filter((binding) => binding.press)) {
    const button = element("button", "fgvc-key");
    button.type = "button";
    button.tabIndex = -1;
    if (one.colour) button.style.setProperty("--fgvc-colour", one.colour);
    button.append(element("kbd", "", one.keys), element("span", "", one.text));
    button.addEventListener("click", () => {
      g.root.focus({ preventScroll: true });
      g.press(...one.press);
    });
    keys.append(button);
  }
  const hints = g.bindings.filter((binding) => !binding.press && !binding.rare);
  keys.append(element("span", "fgvc-hint", inWords(hints)));
  keys.append(status);
}
