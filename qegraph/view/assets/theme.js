"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);

// a frame doesn't inherit the notebook's theme: ask the page around it, where that is allowed
(function theme() {
  try {
    const around = window.parent.document.body;
    const lab = around.dataset.jpThemeLight, code = around.dataset.vscodeThemeKind;
    if (lab) document.documentElement.dataset.theme = lab === "true" ? "light" : "dark";
    else if (code) document.documentElement.dataset.theme = code.includes("light") ? "light" : "dark";
  } catch (refused) { /* the browser's own preference holds */ }
})();

function make(tag, attributes, parent, text) {
  const isDrawn = ["svg", "path", "rect", "g"].includes(tag);
  const made = isDrawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}
