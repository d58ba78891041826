// Both graphs. Only what is in sight exists as elements, so that ten thousand nodes scroll as well as ten.
const WIDE = 190, HIGH = 40, STEP_X = 206, STEP_Y = 62, MARGIN = 16;
const told = document.getElementById("told");
const graphs = ["before", "after"].map(draw);

function draw(name) {
  const area = document.getElementById(name), { nodes, edges } = DATA[name];
  const left = Math.min(0, ...nodes.map((node) => node[4]));
  const right = Math.max(0, ...nodes.map((node) => node[4]));
  const rows = 1 + Math.max(0, ...nodes.map((node) => node[5]));
  const at = (node) => [MARGIN + (node[4] - left) * STEP_X, MARGIN + node[5] * STEP_Y];
  const size = [2 * MARGIN + (right - left) * STEP_X + WIDE, 2 * MARGIN + rows * STEP_Y];
  make("div", { style: `width:${size[0]}px;height:${size[1]}px` }, area);
  const svg = make("svg", { width: size[0], height: size[1] }, area);
  const layer = make("div", {}, area);
  let lit = -1;

  function refresh() {
    const [from, to] = [area.scrollTop - 400, area.scrollTop + area.clientHeight + 400];
    const inSight = (node) => at(node)[1] + HIGH >= from && at(node)[1] <= to;
    layer.replaceChildren();
    svg.replaceChildren();
    for (const [source, reader] of edges) {
      const [x, y] = at(nodes[source]), [u, v] = at(nodes[reader]);
      if (v < from || y > to) continue;
      const [x1, y1, x2] = [x + WIDE / 2, y + HIGH, u + WIDE / 2], bend = Math.min(40, (v - y1) / 2);
      const inside = nodes[source][6] >= 0 && nodes[source][6] === nodes[reader][6];
      make("path", { class: inside ? "on" : "", d: `M${x1},${y1}C${x1},${y1 + bend} ${x2},${v - bend} ${x2},${v}` }, svg);
    }
    for (const node of nodes.filter(inSight)) {
      const [x, y] = at(node), same = lit >= 0 && node[6] === lit ? " same" : "";
      const style = `left:${x}px;top:${y}px;width:${WIDE}px;height:${HIGH}px`;
      const box = make("div", { class: `box ${node[2]}${same}`, style, "data-group": node[6], tabindex: 0 }, layer, node[1]);
      make("small", {}, box, node[0]);
      for (const event of ["mouseenter", "focus"]) box.addEventListener(event, () => point(node));
      box.addEventListener("click", () => graphs.forEach((each) => each.show(node[6])));
    }
  }
  area.addEventListener("scroll", refresh, { passive: true });
  window.addEventListener("resize", refresh);
  area.scrollLeft = -left * STEP_X + WIDE / 2 + MARGIN - area.clientWidth / 2;
  refresh();
  return {
    light(group) {
      if (group === lit) return;
      lit = group;
      for (const box of layer.children) box.classList.toggle("same", group >= 0 && Number(box.dataset.group) === group);
    },
    show(group) {
      const first = nodes.find((node) => node[6] === group);
      if (group >= 0 && first) area.scrollTo({ top: at(first)[1] - area.clientHeight / 3, behavior: "smooth" });
    },
  };
}

function point(node) {
  told.textContent = `${node[0]}: ${node[1]}\n${node[3]}`;
  graphs.forEach((each) => each.light(node[6]));
}
