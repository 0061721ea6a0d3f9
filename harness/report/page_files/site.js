// Filters, sorts and draws the gallery: its results are in #site-data, made by harness/report/site.py.
"use strict";
addEventListener("DOMContentLoaded", () => {
  const { results, looks, other } = JSON.parse(document.getElementById("site-data").textContent);
  const body = document.querySelector("#table-results tbody");
  const rows = [...body.rows];
  const filters = [...document.querySelectorAll("[data-filter]")];
  const search = document.getElementById("search");

  for (const cell of document.querySelectorAll("td.date")) {
    const at = Number(cell.dataset.v);
    cell.textContent = at ? new Date(at * 1000).toISOString().slice(0, 10) : "";
  }

  const shown = () => rows.filter((row) => !row.hidden).map((row) => results[row.dataset.n]);

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const result = results[row.dataset.n];
      const text = row.textContent.toLowerCase();
      row.hidden =
        !filters.every((one) => !one.value || String(result[one.dataset.filter]) === one.value) ||
        !words.every((word) => text.includes(word));
    }
    document.getElementById("count").textContent = `${shown().length} of ${rows.length}`;
    draw();
  }

  // Numbers by their size, everything else as people order names with numbers in them.
  const collator = new Intl.Collator(undefined, { numeric: true });
  function sort(head) {
    const column = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    rows.sort((a, b) => (up ? 1 : -1) * collator.compare(value(a), value(b)));
    body.append(...rows);
  }
  for (const button of document.querySelectorAll("#table-results th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  const axes = { payload_bytes: "payload in bytes", largest_bytes: "largest object in bytes", workers: "workers", version: "version", started: "date" };
  const xOf = (result, key) => {
    if (key === "version") return result.version || null;
    if (key === "started") return result.started ? new Date(result.started * 1000).toISOString() : null;
    return result[key];
  };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  function draw() {
    const [x, y] = ["curve-x", "curve-y"].map((id) => document.getElementById(id).value);
    const modes = [...new Set(shown().flatMap((result) => Object.keys(result.modes)))];
    const data = modes.map((mode) => {
      const points = shown()
        .filter((result) => result.modes[mode]?.[y] && xOf(result, x) != null)
        .sort((a, b) => collator.compare(String(xOf(a, x)), String(xOf(b, x))));
      const style = looks[mode] ?? other;
      return {
        type: "scatter",
        mode: "markers",
        name: mode,
        x: points.map((result) => xOf(result, x)),
        y: points.map((result) => result.modes[mode][y][0]),
        error_y: {
          type: "data",
          symmetric: false,
          array: points.map((result) => result.modes[mode][y][2] - result.modes[mode][y][0]),
          arrayminus: points.map((result) => result.modes[mode][y][0] - result.modes[mode][y][1]),
          thickness: 1,
          width: 3,
        },
        text: points.map((result) => result.name),
        marker: { color: style.color, symbol: style.symbol, size: 9 },
        hovertemplate: "%{text}<br>%{x}<br>%{y:.4s}<extra>" + mode + "</extra>",
      };
    });
    const numbers = data.flatMap((trace) => trace.x).filter((value) => typeof value === "number" && value > 0);
    const wide = numbers.length > 1 && Math.max(...numbers) / Math.min(...numbers) >= 20;
    const type = x === "version" ? "category" : x === "started" ? "date" : wide ? "log" : "linear";
    const lines = { gridcolor: css("--grid"), linecolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
    const unit = y === "makespan" ? { ticksuffix: " s" } : { tickformat: "~s", ticksuffix: "B" };
    Plotly.react(
      document.getElementById("curve"),
      data,
      {
        xaxis: { ...lines, type, title: { text: axes[x] }, ...(type === "log" ? { dtick: 1 } : {}) },
        yaxis: { ...lines, ...unit, rangemode: "tozero", title: { text: document.getElementById("curve-y").selectedOptions[0].text } },
        paper_bgcolor: css("--paper"),
        plot_bgcolor: css("--paper"),
        font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 },
        legend: { orientation: "h", y: 1.04, yanchor: "bottom", x: 0 },
        margin: { l: 64, r: 12, t: 24, b: 48 },
        showlegend: true,
      },
      { responsive: true, displaylogo: false },
    );
  }
  for (const one of [...filters, search]) one.addEventListener("input", filter);
  for (const id of ["curve-x", "curve-y"]) document.getElementById(id).addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  filter();
});
