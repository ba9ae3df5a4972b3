"use strict";
// Tables that are sorted, filtered and copied. Without it the page shows the compact columns in the order of the verdict.
for (const box of document.querySelectorAll(".explorer")) {
  const table = box.querySelector("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows], control = (name) => box.querySelector(`[name=${name}]`), said = box.querySelector("output");
  const state = { set: "compact", protocol: box.dataset.protocol, sort: heads.findIndex((h) => h.matches("[data-sets]:not(.later)")), down: true };
  const shown = (head) => !head.dataset.sets || head.dataset.sets.split(" ").some((s) => s === state.set || s === `${state.set}:${state.protocol}`);

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const i = heads.indexOf(head);
      state.down = i === state.sort ? !state.down : Boolean(head.dataset.sets) && !("lower" in head.dataset);
      state.sort = i;
      draw();
    });
  }

  const value = (row, i) => (i ? Number(row.cells[i].dataset.v ?? NaN) : row.cells[0].textContent);
  function compare(a, b) {
    const fixed = !a.dataset.family - !b.dataset.family;  // the row of chance stays below
    if (fixed) return fixed;
    const [x, y] = [value(a, state.sort), value(b, state.sort)], sign = state.down ? -1 : 1;
    if (!state.sort) return sign * x.localeCompare(y);
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || rows.indexOf(a) - rows.indexOf(b);
    return sign * (x - y) || rows.indexOf(a) - rows.indexOf(b);
  }

  function draw() {
    heads.forEach((head, i) => {
      const hide = !shown(head);
      for (const cell of [head, ...rows.map((row) => row.cells[i])]) cell.classList.toggle("later", hide);
      head.removeAttribute("aria-sort");
      if (i === state.sort && !hide) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    });
    body.append(...[...rows].sort(compare));
    const family = control("family")?.value ?? "", text = control("text").value.trim().toLowerCase();
    for (const row of rows) {
      const name = row.cells[0].textContent.toLowerCase();
      row.hidden = Boolean(family && row.dataset.family !== family) || !name.includes(text);
    }
    const left = rows.filter((row) => !row.hidden).length;
    said.textContent = left < rows.length ? `${left} of ${rows.length} rows` : "";
  }

  for (const name of ["set", "protocol", "family", "text"]) control(name)?.addEventListener("input", change);
  function change(event) {
    const { name, value: chosen } = event.target;
    if (name in state) state[name] = chosen;
    if (name === "protocol") {  // what it is sorted by stays the same under the other threshold
      const group = heads[state.sort].dataset.group;
      const same = heads.findIndex((h) => h.dataset.group === group && shown(h) && (h.dataset.sets ?? "").includes(`:${chosen}`));
      if (same >= 0) state.sort = same;
    }
    draw();
  }

  const flat = (cell) => {
    const small = cell.querySelector("small");
    return [cell.textContent.slice(0, cell.textContent.length - (small?.textContent.length ?? 0)).trim(), small?.textContent ?? ""];
  };
  function cells() {
    const kept = heads.map((h, i) => i).filter((i) => shown(heads[i]));
    const of = (row) => kept.map((i) => flat(row.cells[i]));
    return [kept.map((i) => flat(heads[i])), ...[...body.rows].filter((row) => !row.hidden).map(of)];
  }
  const joined = ([a, b]) => (b ? `${a} ${/^[[(p]/.test(b) ? b : `(${b})`}` : a);
  const writers = {
    csv: (all) => all.map((row) => row.map((cell) => `"${joined(cell).replace(/"/g, '""').replace(/^[=+@\t-]/, "'$&")}"`).join(",")).join("\n"),
    markdown(all) {
      const line = (row) => `| ${row.map((cell) => joined(cell).replace(/[|\\*_`[\]<]/g, "\\$&")).join(" | ")} |`;
      return [line(all[0]), `| ${all[0].map((_, i) => (i ? "---:" : "---")).join(" | ")} |`, ...all.slice(1).map(line)].join("\n");
    },
    latex(all) {
      const signs = {
        "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}",
        "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
        "[": "{[}", "]": "{]}", "±": "$\\pm$", "−": "$-$", "×": "$\\times$", "≠": "$\\neq$", "≥": "$\\geq$", "◆": "$\\diamond$",
        "†": "\\dag{}", "‡": "\\ddag{}", "§": "\\S{}", "¶": "\\P{}", "¤": "\\textcurrency{}",
        "º": "\\textordmasculine{}", "ª": "\\textordfeminine{}", "ˢ": "\\textsuperscript{s}",
      };
      const safe = (text) => [...text].map((sign) => signs[sign] ?? sign).join("");
      const line = (row) => `${row.map((cell) => safe(joined(cell))).join(" & ")} \\\\`;
      return [`\\begin{tabular}{l${"r".repeat(all[0].length - 1)}}`, "\\toprule", line(all[0]), "\\midrule", ...all.slice(1).map(line), "\\bottomrule", "\\end{tabular}"].join("\n");
    },
  };
  for (const button of box.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = writers[button.dataset.copy](cells());
      let area = box.querySelector("textarea");
      if (!area) box.querySelector(".controls").after((area = Object.assign(document.createElement("textarea"), { readOnly: true })));
      area.setAttribute("aria-label", `The table as ${button.textContent}`);
      area.value = text;
      area.select();
      try { await navigator.clipboard.writeText(text); } catch { document.execCommand("copy"); }
      said.textContent = `${button.textContent} copied`;
    });
  }
  box.querySelector(".controls").hidden = false;
  draw();
}

// A link to a method opens its part; print shows all of them.
function reveal() {
  const name = decodeURIComponent(location.hash.slice(1));
  const found = name ? document.getElementById(name) : null;
  if (found?.matches("details")) { found.open = true; found.scrollIntoView(); }
}
addEventListener("hashchange", reveal);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
reveal();
