// The e-graph around one e-class: operands above, readers below, as many of them as were clicked open.
// A class is [name, type, forms, sources, constant], a form [term, operands, µs or null, chosen, rules]; texts stand in
// `words`. Constants are shown once everything else around a class is.
const WIDE = 320, HEAD = 24, ROW = 22, GAP_X = 28, GAP_Y = 54, MARGIN = 18, AT_ONCE = 8;
const { words, classes } = DATA;
const area = document.getElementById("view"), told = document.getElementById("told");
const readers = classes.map(() => []);
classes.forEach((each, at) => each[2].forEach((form) => form[1].forEach((operand) => {
  if (!readers[operand].includes(at)) readers[operand].push(at);
})));
const taken = classes.map((each) => each[2].find((form) => form[3]));
document.getElementById("title").textContent = DATA.title;
document.getElementById("reset").addEventListener("click", start);
document.getElementById("all").addEventListener("click", () => expand(0, () => [...level.keys()].forEach(open)));

let level, order, wires, last;

function start() {
  level = new Map([[0, 0]]);
  order = [0];
  open(0);
  render();
  show(0);
}

function add(at, depth) {
  if (level.has(at)) return;
  level.set(at, depth);
  order.push(at);
}

// operands of the chosen form, and readers on the chosen path, come first
function open(at) {
  const depth = level.get(at), forms = classes[at][2];
  const operands = [...new Set([...(taken[at] ? taken[at][1] : []), ...forms.flatMap((form) => form[1])])];
  const above = operands.filter((each) => !level.has(each));
  const below = readers[at].filter((reader) => !level.has(reader));
  below.sort((one, other) => reads(other, at) - reads(one, at));
  const computed = above.filter((each) => !classes[each][4]);
  (computed.length || below.length ? computed : above).slice(0, AT_ONCE).forEach((each) => add(each, depth - 1));
  below.slice(0, AT_ONCE).forEach((each) => add(each, depth + 1));
}

function reads(reader, at) {
  return taken[reader] && taken[reader][1].includes(at) ? 1 : 0;
}

function hidden(at) {
  const around = new Set([...classes[at][2].flatMap((form) => form[1]), ...readers[at]]);
  return [...around].filter((each) => !level.has(each)).length;
}

// what was added first, the chosen path, in the middle; what is added later doesn't change the order of what is there
function centred(row) {
  const found = [];
  row.forEach((at, position) => (position % 2 ? found.unshift(at) : found.push(at)));
  return found;
}

function places() {
  const depths = [...new Set(level.values())].sort((one, other) => one - other);
  const found = new Map();
  let top = MARGIN, widest = 0;
  for (const depth of depths) {
    const row = centred(order.filter((at) => level.get(at) === depth));
    row.forEach((at, position) => found.set(at, { x: position * (WIDE + GAP_X), y: top, high: HEAD + ROW * classes[at][2].length }));
    widest = Math.max(widest, row.length * (WIDE + GAP_X) - GAP_X);
    top += Math.max(...row.map((at) => found.get(at).high)) + GAP_Y;
  }
  for (const depth of depths) {
    const row = order.filter((at) => level.get(at) === depth);
    const shift = MARGIN + (widest - (row.length * (WIDE + GAP_X) - GAP_X)) / 2;
    row.forEach((at) => (found.get(at).x += shift));
  }
  return { found, size: [widest + 2 * MARGIN, top] };
}

function render() {
  const { found, size } = places();
  last = found;
  area.replaceChildren();
  make("div", { style: `width:${size[0]}px;height:${size[1]}px` }, area);
  const svg = make("svg", { width: size[0], height: size[1] }, area);
  wires = [];
  for (const [at, { x, y, high }] of found) {
    const [name, type, forms] = classes[at];
    const style = `left:${x}px;top:${y}px;height:${high + 2}px`;
    const box = make("div", { class: `eclass${taken[at] ? " on" : ""}${at ? "" : " focus"}`, style, "data-class": at }, area);
    const more = hidden(at);
    const head = make("button", { title: more ? `${more} more around it` : "" }, box, `${words[name]}  ${words[type]}${more ? `  +${more}` : ""}`);
    head.addEventListener("click", () => expand(at, () => open(at)));
    for (const event of ["mouseenter", "focus"]) head.addEventListener(event, () => tellClass(at));
    forms.forEach((form, position) => {
      const row = make("div", { class: `enode${form[3] ? " on" : ""}`, tabindex: 0, role: "button" }, box);
      make("span", {}, row, words[form[0]]);
      make("i", {}, row, form[2] === null ? "∞" : `${form[2]} µs`);
      const follow = () => expand(at, () => form[1].forEach((operand) => add(operand, level.get(at) - 1)));
      row.addEventListener("click", follow);
      row.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") follow(); });
      for (const event of ["mouseenter", "focus"]) row.addEventListener(event, () => tellForm(at, position));
      for (const operand of form[1]) if (found.has(operand)) wire(svg, found, at, position, operand, form[3]);
    });
  }
}

function wire(svg, found, at, position, operand, isChosen) {
  const from = found.get(operand), to = found.get(at);
  const [x1, y1] = [from.x + WIDE / 2, from.y + from.high + 2], [x2, y2] = [to.x, to.y + HEAD + ROW * (position + 0.5)];
  const path = `M${x1},${y1}C${x1},${y1 + 40} ${x2 - 40},${y2 - 20} ${x2},${y2}`;
  const drawn = make("path", { d: path, class: isChosen && taken[operand] ? "on" : "", "stroke-dasharray": isChosen ? "" : "3 4" }, svg);
  wires.push({ at, position, drawn });
}

// what was clicked stays where it is on the screen
function expand(at, change) {
  const before = last.get(at);
  change();
  render();
  const after = last.get(at);
  area.scrollBy(after.x - before.x, after.y - before.y);
}

function show(at) {
  const { x, y, high } = last.get(at);
  area.scrollTo(x + WIDE / 2 - area.clientWidth / 2, y + high / 2 - area.clientHeight / 2);
}

function light(at, position) {
  for (const each of wires) each.drawn.classList.toggle("lit", each.at === at && each.position === position);
}

function tellClass(at) {
  const [name, type, forms, sources] = classes[at];
  const held = sources.map((each) => words[each]).join(", ") || "no value of the source";
  told.textContent = `${words[name]}  ${words[type]}: ${forms.length} forms; ${taken[at] ? "computed in the result" : "not computed in the result"}\nholds ${held}`;
  light(at, -1);
}

function tellForm(at, position) {
  const [term, , cost, chosen, rules] = classes[at][2][position];
  const by = rules.map((each) => words[each]).join("\n") || "as in the source";
  const price = cost === null ? "can't be emitted by itself" : `${cost} µs`;
  told.textContent = `${words[term]}\n${price}${chosen ? ", chosen" : ""}\n${by}`;
  light(at, position);
}

start();
