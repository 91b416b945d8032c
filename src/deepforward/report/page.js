"use strict";
{
  const root = document.documentElement;
  const toggle = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { toggle.textContent = dark() ? "Light" : "Dark"; };
  toggle.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();
  toggle.hidden = false;

  // Colours are the page's variables, so that charts follow the theme, and the printer, without being drawn again.
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
  const category = [1, 2, 3, 4, 5, 6].map((i) => `var(--c${i})`);
  const low = [5, 4, 3, 2, 1].map((i) => `var(--low${i})`);
  const high = [1, 2, 3, 4, 5].map((i) => `var(--high${i})`);
  const text = { labelFont: font, titleFont: font, labelColor: "var(--quiet)", titleColor: "var(--ink)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 };
  const config = {
    background: "transparent",
    font,
    aria: false,
    autosize: { type: "fit-x", contains: "padding", resize: true },
    padding: { left: 2, right: 8, top: 4, bottom: 4 },
    view: { stroke: null },
    mark: { color: "var(--c1)" },
    rule: { color: "var(--quiet)" },
    text: { color: "var(--ink)", font },
    line: { strokeWidth: 2 },
    style: {
      ink: { color: "var(--ink)" },
      "on-ink": { color: "var(--paper)" },
      halo: { color: "var(--paper)", stroke: "var(--paper)", strokeWidth: 4, strokeJoin: "round" },
    },
    axis: { ...text, domainColor: "var(--rule)", tickColor: "var(--rule)", gridColor: "var(--rule)", gridOpacity: 0.7, labelOverlap: "greedy", labelSeparation: 6, titlePadding: 8 },
    axisX: { grid: false },
    title: { font, color: "var(--ink)", anchor: "start", fontSize: 14, fontWeight: 600, subtitleFont: font, subtitleColor: "var(--quiet)" },
    header: { ...text },
    range: { category, diverging: [...low, "var(--level)", ...high, "var(--broken)"], ordinal: category },
  };

  const legend = (width) => {
    const columns = Math.max(1, Math.floor(width / 160));
    const layout = { top: { anchor: "start", direction: width < 640 ? "vertical" : "horizontal", margin: 6 } };
    return { ...text, orient: "top", columns, layout, labelLimit: width / columns - 24, titleLimit: 0.65 * width, symbolStrokeWidth: 2.5, columnPadding: 14, offset: 10 };
  };

  const axis = (width) => ({ ...config.axis, labelLimit: Math.min(180, Math.max(90, 0.28 * width)) });

  const draw = async (figure) => {
    const plot = figure.querySelector(".plot");
    try {
      const spec = JSON.parse(figure.querySelector("script").textContent);
      const options = { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, tooltip: { theme: "custom", disableDefaultStyle: true } };
      // The interpreter of expressions (ast) stands in for eval, which the page's policy forbids.
      await vegaEmbed(plot, spec, { ...options, ast: true, config: { ...config, legend: legend(plot.clientWidth), axis: axis(plot.clientWidth) } });
    } catch (error) {
      plot.classList.add("failed");
      plot.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
  };
  (async () => {
    for (const figure of document.querySelectorAll("figure.chart")) await draw(figure);
    root.dataset.drawn = "true";
  })();
}
