// Draws the charts of the page: their data is in #charts, made by harness/report/charts.py.
"use strict";
(() => {
  const parsed = (id, reviver) => JSON.parse(document.getElementById(id).textContent, reviver);
  const darkColors = parsed("dark-colors");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 40rem)");

  // Colours of the data have a lighter twin for dark pages.
  function darker(_key, value) {
    if (typeof value !== "string") return value;
    const start = value.startsWith("rgba(") ? value.slice(0, value.lastIndexOf(",") + 1) : value;
    return start in darkColors ? darkColors[start] + value.slice(start.length) : value;
  }
  let charts = {};
  const load = () => (charts = parsed("charts", dark.matches ? darker : undefined));
  load();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // What depends on the reader's colours and screen and not on the data.
  function surroundings(chart) {
    const axis = { gridcolor: css("--grid"), linecolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
    const title = (name) => ({ text: chart.layout[name]?.title?.text, font: { size: 13 } });
    const found = {
      paper_bgcolor: css("--paper"),
      plot_bgcolor: css("--paper"),
      font: { color: css("--ink"), family: "system-ui, sans-serif", size: narrow.matches ? 11 : 13 },
      hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--ink") } },
      legend: { orientation: "h", traceorder: "normal", y: 1.04, yanchor: "bottom", x: 0, bgcolor: "rgba(0,0,0,0)" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--link") },
      margin: { l: narrow.matches ? 8 : 64, r: 12, t: 24, b: 48 },
      dragmode: "zoom",
    };
    for (const name of ["xaxis", "yaxis", "yaxis2"]) {
      if (chart.layout[name]) found[name] = { ...chart.layout[name], ...axis, title: title(name) };
    }
    return found;
  }

  // On a narrow screen there is room for a stage's number only.
  const short = (label) => ({ ...label, text: narrow.matches ? label.text.replace("stage ", "") : label.text });
  const layoutOf = (chart) => ({
    ...chart.layout,
    ...surroundings(chart),
    annotations: (chart.layout.annotations ?? []).map(short),
  });

  const config = (place) => ({
    responsive: true,
    displaylogo: false,
    displayModeBar: !narrow.matches && !place.classList.contains("rows"),
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"],
    toImageButtonOptions: { format: "svg" },
  });

  function draw(place) {
    const chart = charts[place.dataset.chart];
    place.dataset.drawn = place.dataset.chart;
    delete place.dataset.ready;
    return Plotly.react(place, chart.data, layoutOf(chart), config(place))
      .then(() => (place.dataset.switch ? show(place) : place))
      .then(() => {
        place.dataset.ready = place.dataset.drawn;
      });
  }

  // Net or absolute: each trace says in `meta` which of the two it belongs to.
  function show(place) {
    const chosen = document.querySelector(`input[name="${place.dataset.switch}"]:checked`).value;
    const visible = place.data.map((trace) => (trace.meta === chosen ? true : false));
    const title = charts[place.dataset.chart].switch[chosen];
    return Plotly.update(place, { visible }, { "yaxis.title.text": title, "yaxis.autorange": true });
  }

  const places = [...document.querySelectorAll(".chart")];
  const drawn = () => places.filter((place) => place.dataset.drawn);

  // Only what is near the screen is drawn: a page of many runs opens at once.
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
      }
    },
    { rootMargin: "600px" },
  );
  places.forEach((place) => watcher.observe(place));

  for (const select of document.querySelectorAll("select[data-chooses]")) {
    select.addEventListener("change", () => {
      const place = document.getElementById(select.dataset.chooses);
      place.dataset.chart = select.value;
      const caption = document.querySelector(`[data-caption="${select.dataset.chooses}"] span`);
      if (caption) caption.textContent = charts[select.value].caption;
      draw(place);
    });
  }
  for (const place of places.filter((one) => one.dataset.switch)) {
    for (const input of document.querySelectorAll(`input[name="${place.dataset.switch}"]`)) {
      input.addEventListener("change", () => show(place));
    }
  }
  // Selecting works from disk in every browser; the clipboard's own interface does not.
  function copy(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.className = "copied";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : navigator.clipboard.writeText(text);
  }
  for (const button of document.querySelectorAll("button.copy")) {
    const name = button.textContent;
    button.addEventListener("click", () => {
      const said = (word) => {
        button.textContent = word;
        button.focus();
        setTimeout(() => (button.textContent = name), 2000);
      };
      copy(button.parentElement.querySelector("span").textContent).then(
        () => said("Copied"),
        () => said("Select the text to copy it"),
      );
    });
  }
  const again = () => drawn().forEach(draw);
  dark.addEventListener("change", () => {
    load();
    again();
  });
  narrow.addEventListener("change", again);
  // Paper is narrower than most screens, and nothing on it can be scrolled.
  function fit(printing) {
    document.body.classList.toggle("printing", printing);
    const before = [...drawn(), ...document.querySelectorAll(".curve.js-plotly-plot")];
    if (printing) places.filter((place) => !place.dataset.drawn).forEach(draw);
    // At once: the browser does not wait for what is drawn later.
    for (const place of before) {
      Plotly.relayout(place, printing ? { width: place.clientWidth } : { width: null, autosize: true });
    }
  }
  window.addEventListener("beforeprint", () => fit(true));
  window.addEventListener("afterprint", () => fit(false));
})();
