"use strict";
// The slice viewer. Its data are scripts in report/, which a page from disk may load where fetch may not; they are
// decoded here and never read back from a canvas.
const uasbench = (() => {
  const waiting = new Map(), held = new Map();
  const put = (name, content) => waiting.get(name)?.(content);
  function load(name) {
    if (!held.has(name)) {
      if (held.size > 60) held.delete([...held.keys()].find((key) => key !== "index"));
      held.set(name, new Promise((done, fail) => {
        waiting.set(name, done);
        const script = document.createElement("script");
        script.src = `report/${name}.js`;
        script.onload = () => script.remove();
        script.onerror = () => { held.delete(name); fail(new Error(`report/${name}.js is gone`)); };
        document.head.append(script);
      }));
    }
    return held.get(name);
  }
  return { put, load };
})();

async function inflated(text) {
  const raw = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
async function bits(text, n) {
  const packed = await inflated(text);
  return Uint8Array.from({ length: n }, (_, i) => (packed[i >> 3] >> (7 - (i & 7))) & 1);
}
async function summed8(text) {
  const out = await inflated(text);
  for (let i = 1; i < out.length; i++) out[i] += out[i - 1];
  return out;
}
async function summed16(text) {
  const planes = await inflated(text), n = planes.length / 2, out = new Int16Array(n);
  for (let i = 0; i < n; i++) out[i] = (planes[i] | (planes[n + i] << 8)) + (i ? out[i - 1] : 0);
  return out;
}

// A case: HU, regions, truth, and for each lesion the slice that shows most of it.
async function opened(name) {
  const raw = await uasbench.load(name);
  if (raw.open) return raw.open;
  const [d, h, w] = raw.shape, n = d * h * w, rois = {};
  for (const key in raw.rois) rois[key] = await bits(raw.rois[key], n);
  const truth = raw.truth ? await bits(raw.truth, n) : null;
  return (raw.open = { ...raw, image: await summed16(raw.image), rois, truth, lesions: truth ? lesions(truth, d, h, w) : labelled(raw.labels ?? []) });
}
const labelled = (labels) => labels.flatMap((is, z) => (is && !labels[z - 1] ? [z] : []));
function lesions(truth, d, h, w) {
  const seen = new Uint8Array(truth.length), found = [];
  for (let start = 0; start < truth.length; start++) {
    if (!truth[start] || seen[start]) continue;
    const area = new Map(), stack = [start];
    seen[start] = 1;
    while (stack.length) {
      const i = stack.pop(), z = Math.floor(i / (h * w)), y = Math.floor(i / w) % h, x = i % w;
      area.set(z, (area.get(z) ?? 0) + 1);
      for (let a = Math.max(0, z - 1); a <= Math.min(d - 1, z + 1); a++)
        for (let b = Math.max(0, y - 1); b <= Math.min(h - 1, y + 1); b++)
          for (let c = Math.max(0, x - 1); c <= Math.min(w - 1, x + 1); c++) {
            const j = (a * h + b) * w + c;
            if (truth[j] && !seen[j]) { seen[j] = 1; stack.push(j); }
          }
    }
    const [z] = [...area].reduce((best, one) => (one[1] > best[1] ? one : best));
    found.push({ z, size: [...area.values()].reduce((a, b) => a + b) });
  }
  return found.sort((a, b) => b.size - a.size).map((one) => one.z);
}

// The levels of a map as one protocol treats it; 255 outside the region.
async function levelled(map, variant, roi) {
  const one = map.variants[variant];
  if (!one.volume) {
    const inside = await summed8(one.levels), volume = new Uint8Array(roi.length).fill(255);
    for (let i = 0, k = 0; i < roi.length; i++) if (roi[i]) volume[i] = inside[k++];
    one.volume = volume;
  }
  return one.volume;
}
const above = (counts, edge) => counts.slice(edge + 1).reduce((a, b) => a + b, 0);
function diceOf({ every, hit }, edge) {
  const positives = above(hit, -1);
  return positives ? (2 * above(hit, edge)) / (above(every, edge) + positives) : null;
}

const MAGMA = ["000004", "1b1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf"].map((c) => [0, 2, 4].map((i) => parseInt(c.slice(i, i + 2), 16)));
function coloured(share) {
  const at = Math.min(0.9999, Math.max(0, share)) * (MAGMA.length - 1), i = Math.floor(at);
  return MAGMA[i].map((c, k) => c + (at - i) * (MAGMA[i + 1][k] - c));
}
const make = (tag, options = {}, ...inside) => {
  const { data = {}, on = {}, ...rest } = options, found = Object.assign(document.createElement(tag), rest);
  Object.assign(found.dataset, data);
  for (const event in on) found.addEventListener(event, on[event]);
  found.append(...inside);
  return found;
};
const percent = (share) => (share === null || share === undefined ? "n/a" : `${(100 * share).toFixed(1)} %`);
const RANKS = { worst: (n) => n - 1, median: (n) => Math.floor(n / 2), best: () => 0 };
const WINDOWS = { "soft tissue": [-160, 240], liver: [-20, 160], lung: [-1000, 400], bone: [-450, 1050] };

class Viewer {
  constructor(box, set, protocols) {
    Object.assign(this, { box, set, protocols, panels: [], range: [...set.window], opacity: 0.8, truth: true, mask: true, turn: 0 });
    const order = JSON.parse(box.dataset.methods), rank = (cell) => (order.indexOf(cell.method) + 1 || 1e9);
    this.cells = [...set.cells].sort((a, b) => rank(a) - rank(b));
    const used = new Set(this.cells.flatMap((cell) => cell.cuts ?? [])), known = Object.keys(protocols).filter((p) => used.has(p));
    this.protocol = known.includes(box.dataset.protocol) ? box.dataset.protocol : known[0] ?? "none";
    this.cases = this.select("case", [...Object.keys(RANKS).map((r) => [r, `${r} of each method`]), ...set.cases.map((c, i) => [i, c.id === c.patient ? c.id : `${c.id} (${c.patient})`])], () => this.place());
    const windows = { organ: set.window, ...WINDOWS };
    this.windows = this.select("window", [...Object.keys(windows).map((k) => [k, k]), ["dragged", "as dragged"]], (e) => { this.range = [...(windows[e.target.value] ?? this.range)]; this.draw(); });
    const box_ = (name, label) => make("label", {}, make("input", { type: "checkbox", name, checked: true, on: { input: (e) => { this[name] = e.target.checked; this.draw(); } } }), ` ${label}`);
    this.grid = make("div", { className: "panels", tabIndex: 0, on: { keydown: (e) => this.key(e) } });
    this.grid.setAttribute("role", "group");
    this.grid.setAttribute("aria-label", "Slices; keys are named below");
    const add = this.select("add", [["", "add a method …"], ...this.cells.map((c, i) => [i, c.method])], (e) => { if (e.target.value) this.add(Number(e.target.value)); e.target.value = ""; });
    box.replaceChildren(
      make("div", { className: "controls" },
        this.labelled("Case", this.cases),
        known.length ? this.labelled("Threshold", this.select("protocol", known.map((p) => [p, p]), (e) => { this.protocol = e.target.value; this.place(); }, this.protocol)) : "",
        this.labelled("HU window", this.windows), this.labelled("Map", make("input", { type: "range", name: "opacity", min: 0, max: 1, step: 0.05, value: this.opacity, on: { input: (e) => { this.opacity = Number(e.target.value); this.draw(); } } })),
        box_("truth", "truth"), box_("mask", "prediction"),
        make("button", { type: "button", textContent: "next lesion", on: { click: () => this.lesion(1) } }), this.labelled("Beside it", add)),
      this.grid,
      make("p", { className: "legend", textContent: "Truth blue, prediction orange, map from dark to yellow. Wheel or ↑ ↓: slices; Page keys: ten; ← →: cases; n, p: lesions; t, m: truth, prediction; [ ]: threshold; drag: HU window. Dice are of the whole case on the grid of the scan, large scans are shown thinned." }));
  }
  labelled(text, control) { return make("label", {}, `${text} `, control); }
  select(name, options, input, value) {
    const found = make("select", { name, on: { input } }, ...options.map(([key, text]) => make("option", { value: key, textContent: text })));
    if (value !== undefined) found.value = value;
    return found;
  }
  ranked(cell) {
    const values = cell.dice[this.protocol] ?? [];
    return values.map((v, i) => i).filter((i) => values[i] !== null).sort((a, b) => values[b] - values[a] || a - b);
  }
  add(number) {
    const panel = { cell: this.cells[number], z: this.panels[0]?.z ?? null };
    const pick = this.select("method", this.cells.map((c, i) => [i, c.method]), (e) => { panel.cell = this.cells[Number(e.target.value)]; this.place(); }, number);
    pick.setAttribute("aria-label", "Method");
    panel.canvas = make("canvas", { width: 16, height: 16 });
    panel.said = make("p", { className: "said" });
    panel.slider = make("input", { type: "range", min: 0, step: 1, on: { input: (e) => { panel.edge = Number(e.target.value); this.draw(); } } });
    panel.slider.setAttribute("aria-label", "Threshold");
    const go = (rank) => make("button", { type: "button", textContent: rank, title: `the ${rank} case of this method, for all`, on: { click: () => { const all = this.ranked(panel.cell); if (all.length) { this.cases.value = all[RANKS[rank](all.length)]; this.place(); } } } });
    panel.own = make("button", { type: "button", textContent: "own", title: "back to the protocol's threshold", on: { click: () => { panel.edge = panel.cut?.edge ?? 0; this.draw(); } } });
    const close = make("button", { type: "button", textContent: "×", on: { click: () => { this.panels = this.panels.filter((p) => p !== panel); panel.element.remove(); } } });
    close.setAttribute("aria-label", "Remove this panel");
    panel.element = make("div", { className: "panel" }, make("div", { className: "row" }, pick, ...Object.keys(RANKS).map(go), close), panel.canvas, make("div", { className: "row" }, panel.slider, panel.own), panel.said);
    panel.canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.step(Math.sign(e.deltaY)); }, { passive: false });
    panel.canvas.addEventListener("pointerdown", (e) => this.drag(e));
    this.panels.push(panel);
    this.grid.append(panel.element);
    return this.place();
  }
  // Puts every panel on its case: the one that was chosen for all, or the worst, median or best of each.
  async place() {
    const turn = ++this.turn, chosen = this.cases.value;
    await Promise.all(this.panels.map(async (panel) => {
      const all = chosen in RANKS ? this.ranked(panel.cell) : null;
      const number = all ? all[RANKS[chosen](all.length)] ?? 0 : Number(chosen), where = this.set.cases[number];
      const before = panel.number;
      try {
        const gone = this.set.gone ?? panel.cell.gone ?? where.gone;
        if (gone) throw new Error(gone);
        const scan = await opened(`case-${this.set.number}-${number}`);
        const map = await uasbench.load(`map-${this.set.number}-${number}-${this.set.cells.indexOf(panel.cell)}`);
        const cut = map.cuts[this.protocol], roi = scan.rois[panel.cell.region];
        const volume = await levelled(map, cut?.variant ?? 0, roi);
        if (turn === this.turn) Object.assign(panel, { number, where, scan, map, cut, volume, gone: null, edge: cut?.edge ?? null });
      } catch (error) {
        if (turn === this.turn) Object.assign(panel, { number, where, cut: null, gone: error.message });
      }
      if (turn === this.turn && panel.scan && (panel.z === null || before !== number || panel.z >= panel.scan.shape[0])) {
        const fresh = all || panel.z === null || before !== number;
        panel.z = fresh ? panel.scan.lesions[0] ?? panel.scan.shape[0] >> 1 : panel.scan.shape[0] - 1;
        if (fresh) this.at = 0;  // the next lesion is the second one
      }
    }));
    if (turn === this.turn) this.draw();
  }
  step(by) {
    for (const panel of this.panels) if (panel.scan) panel.z = Math.min(panel.scan.shape[0] - 1, Math.max(0, panel.z + by));
    this.draw();
  }
  lesion(by) {
    this.at = (this.at ?? -1) + by;
    for (const panel of this.panels) {
      const found = panel.scan?.lesions ?? [];
      if (found.length) panel.z = found[((this.at % found.length) + found.length) % found.length];
    }
    this.draw();
  }
  key(event) {
    if (event.target.matches("select, input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const toggle = (name) => { this[name] = !this[name]; this.box.querySelector(`[name=${name}]`).checked = this[name]; this.draw(); };
    const turn = (by) => { const list = this.cases; list.selectedIndex = Math.min(list.length - 1, Math.max(0, list.selectedIndex + by)); this.place(); };
    const cut = (by) => { for (const p of this.panels) if (p.cut && !p.cut.own) p.edge = Math.min(p.cell.edges.length - 1, Math.max(0, p.edge + by)); this.draw(); };
    const keys = {
      ArrowUp: () => this.step(-1), ArrowDown: () => this.step(1), PageUp: () => this.step(-10), PageDown: () => this.step(10), Home: () => this.step(-1e6), End: () => this.step(1e6),
      ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), n: () => this.lesion(1), p: () => this.lesion(-1), t: () => toggle("truth"), m: () => toggle("mask"), "[": () => cut(-1), "]": () => cut(1),
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  }
  drag(event) {
    const from = [event.clientX, event.clientY], [low, high] = this.range, canvas = event.target;
    canvas.setPointerCapture(event.pointerId);
    canvas.onpointermove = (move) => {
      const width = Math.max(10, high - low + 2 * (move.clientX - from[0])), centre = (low + high) / 2 + 2 * (move.clientY - from[1]);
      this.range = [centre - width / 2, centre + width / 2];
      this.windows.value = "dragged";
      this.draw();
    };
    canvas.onpointerup = () => { canvas.onpointermove = null; };
  }
  draw() { for (const panel of this.panels) this.paint(panel); }
  paint(panel) {
    const { canvas, said, scan, cell, volume, cut, where, edge } = panel;
    panel.element.classList.toggle("gone", Boolean(panel.gone));
    panel.slider.disabled = panel.own.disabled = Boolean(panel.gone) || !cut || cut.own;
    if (panel.gone) { said.textContent = `${where?.id ?? ""}: not shown. ${panel.gone}`; return; }
    if (!scan) return;
    const [, h, w] = scan.shape, start = panel.z * h * w, [, sy, sx] = scan.spacing;
    const [low, high] = this.range, image = new ImageData(w, h), span = cell.high - cell.low || 1;
    const colours = [cell.low, ...cell.edges].map((v) => [...coloured((v - cell.low) / span), Math.min(1, Math.max(0, (v - cell.low) / span))]);
    for (let i = 0; i < h * w; i++) {
      const grey = Math.min(255, Math.max(0, (255 * (scan.image[start + i] - low)) / (high - low))), level = volume[start + i];
      const [r, g, b, share] = level === 255 ? [0, 0, 0, 0] : colours[cut?.own ? 0 : level], a = this.opacity * share;
      image.data.set([grey + a * (r - grey), grey + a * (g - grey), grey + a * (b - grey), 255], 4 * i);
    }
    const small = make("canvas", { width: w, height: h }), scale = Math.max(1, Math.round(480 / w)), context = canvas.getContext("2d");
    small.getContext("2d").putImageData(image, 0, 0);
    Object.assign(canvas, { width: w * scale, height: h * scale });
    canvas.style.aspectRatio = `${w * sx} / ${h * sy}`;
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const outline = (inside, colour) => {
      context.beginPath();
      for (let y = 0; y < h; y++)
        for (let x = 0; x < w; x++) {
          if (!inside(y * w + x)) continue;
          const edges = [[y === 0 || !inside((y - 1) * w + x), 0, 0, 1, 0], [y === h - 1 || !inside((y + 1) * w + x), 0, 1, 1, 1], [x === 0 || !inside(y * w + x - 1), 0, 0, 0, 1], [x === w - 1 || !inside(y * w + x + 1), 1, 0, 1, 1]];
          for (const [is, a, b, c, d] of edges) if (is) { context.moveTo((x + a) * scale, (y + b) * scale); context.lineTo((x + c) * scale, (y + d) * scale); }
        }
      Object.assign(context, { strokeStyle: colour, lineWidth: 2 }).stroke();
    };
    if (this.truth && scan.truth) outline((i) => scan.truth[start + i], "#56b4e9");
    if (this.mask && cut) outline((i) => volume[start + i] !== 255 && volume[start + i] > edge, "#e69f00");
    const dice = cut ? diceOf(panel.map.variants[cut.variant], edge) : null, own = cut && edge === cut.edge;
    panel.slider.max = cell.edges.length - 1;
    if (cut) panel.slider.value = edge;
    const post = cut ? [cut.mm && `${cut.mm.toPrecision(3)} mm of smoothing`, cut.mm3 && `least component ${cut.mm3.toPrecision(3)} mm³`].filter(Boolean).join(", ") : "";
    const limit = !cut ? `no threshold ${this.protocol}` : cut.own ? "the method's own mask" : `threshold ${cell.edges[edge].toPrecision(4)}${own ? ` (${this.protocol})` : `, ${this.protocol} is ${cell.edges[cut.edge].toPrecision(4)}`}`;
    const label = scan.labels ? `, labelled ${scan.labels[panel.z] ? "lesion" : "healthy"}` : "";
    said.textContent = `${where.id}, slice ${scan.first[0] + panel.z * scan.steps[0]}${label}. Dice ${percent(dice)}${cut ? "" : " (not cut)"}; ${limit}${post ? `, ${post}` : ""}.`;
    Object.assign(panel.element.dataset, { dice: String(dice), z: panel.z, case: where.id, edge: String(edge), method: cell.method, protocol: this.protocol });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${cell.method}: ${said.textContent}`);
  }
}

async function view(box, method) {
  const told = box.querySelector(".told");
  if (!box.viewer) {
    try {
      if (!("DecompressionStream" in window)) throw new Error("this browser is too old for the viewer");
      const index = await uasbench.load("index");
      const set = index.sets.find((one) => one.dataset === box.dataset.dataset && one.train === box.dataset.train);
      if (!set) throw new Error("report/ holds another run");
      const measured = JSON.parse(box.dataset.measured);
      if (set.cells.some((cell) => measured[cell.method] !== cell.measured)) throw new Error("report/ shows earlier records");
      if (set.gone) throw new Error(set.gone);
      box.viewer = new Viewer(box, set, index.protocols);
    } catch (error) {
      told.textContent = `${error.message}. 'bench report RUN --viewer' writes what is shown here.`;
      return;
    }
    const viewer = box.viewer, first = method ?? viewer.cells[0].method;
    const start = viewer.cells.findIndex((cell) => cell.method === first), ranked = viewer.ranked(viewer.cells[start]);
    viewer.cases.value = ranked.length ? ranked[RANKS.median(ranked.length)] : 0;
    for (const i of [start, ...viewer.cells.keys()].filter((i, k, all) => all.indexOf(i) === k && i >= 0).slice(0, 3)) await viewer.add(i);
  } else if (method) await box.viewer.add(box.viewer.cells.findIndex((cell) => cell.method === method));
  box.viewer.grid.focus({ preventScroll: true });
}
for (const box of document.querySelectorAll(".viewer")) {
  const button = box.querySelector("button");
  button.hidden = false;
  button.addEventListener("click", () => view(box));
}
for (const button of document.querySelectorAll("[data-view]")) {
  button.hidden = false;
  button.addEventListener("click", () => { const box = document.getElementById(button.dataset.view); box.scrollIntoView(); view(box, button.dataset.method); });
}
