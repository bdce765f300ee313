"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let drawn = [];
  let focus = "";

  // Charts take their colours from the page's own, so light and dark are decided in one place.
  function config() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const hues = [];
    for (let index = 0; colour(`--method-${index}`); index += 1) hues.push(colour(`--method-${index}`));
    const text = { labelColor: colour("--soft"), titleColor: colour("--soft"), titleFontWeight: 400, labelFontSize: 11,
      titleFontSize: 12 };
    return {
      background: "transparent",
      font: colour("--ui"),
      autosize: { type: "fit-x", contains: "padding" },
      view: { stroke: null },
      range: { category: hues, diverging: [colour("--low"), colour("--middle"), colour("--high")],
        heatmap: [colour("--middle"), colour("--high")] },
      axis: { ...text, domainColor: colour("--line"), tickColor: colour("--line"), gridColor: colour("--grid"),
        titlePadding: 8, labelPadding: 4, tickCount: 6 },
      legend: text,
      rule: { color: colour("--soft") },
      text: { color: colour("--soft"), fontSize: 11 },
    };
  }

  async function draw() {
    drawn.forEach((chart) => chart.finalize());
    const options = { mode: "vega-lite", actions: false, renderer: "svg", config: config(),
      tooltip: { theme: dark.matches ? "dark" : "light" } };
    drawn = await Promise.all(specs.map((spec, index) =>
      window.vegaEmbed(document.getElementById(`chart-${index}`), spec, options)));
    highlight();
  }

  function highlight() {
    drawn.forEach((chart) => chart.view.signal("focus", focus).runAsync());
  }

  document.querySelectorAll(".legend button").forEach((button) => button.addEventListener("click", () => {
    focus = focus === button.dataset.method ? "" : button.dataset.method;
    document.querySelectorAll(".legend button").forEach((other) =>
      other.setAttribute("aria-pressed", String(focus === other.dataset.method)));
    highlight();
  }));
  document.documentElement.classList.remove("no-script");
  dark.addEventListener("change", draw);
  draw();
})();
