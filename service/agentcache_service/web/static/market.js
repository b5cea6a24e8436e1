// Charts of earnings and creators, drawn with Observable Plot from figures in the page. A table beside each says the same.
"use strict";

const MONEY_STYLE = "plot"; // the class charts.js uses: its style sheet's digest is in the Content-Security-Policy

function bars(place) {
  const points = JSON.parse(place.dataset.points);
  if (!points.some((point) => point.revenue || point.earned)) return; // the sentence in the page says so
  const isDays = points.length > 0 && points[0].day !== undefined;
  const rows = points.map((point) => ({ name: point.day ?? point.month, usd: (point.revenue ?? point.earned) / 1e6 }));
  const label = (name) => {
    const [year, month, day] = name.split("-").map(Number);
    const date = new Date(Date.UTC(year, month - 1, day || 1));
    return d3.utcFormat(isDays ? "%-d %b" : place.clientWidth < 460 ? "%b" : "%b %Y")(date);
  };
  const width = Math.max(280, place.clientWidth);
  const top = Math.max(1, ...rows.map((row) => row.usd));
  const bottom = Math.min(0, ...rows.map((row) => row.usd));
  const shown = isDays ? rows.filter((_, index) => (rows.length - 1 - index) % 7 === 0).map((row) => row.name) : undefined;
  const chart = Plot.plot({
    className: MONEY_STYLE, width, height: 220, marginLeft: 44, marginRight: 12, marginBottom: 28, ariaLabel: place.dataset.label,
    x: { label: null, type: "band", tickFormat: label, tickSize: 0, ticks: shown },
    y: { label: null, grid: true, ticks: 4, nice: true, domain: [bottom, top], tickSize: 0, tickFormat: (usd) => `$${d3.format(",~r")(usd)}` },
    marks: [Plot.barY(rows, { x: "name", y: "usd", fill: "var(--bar)", rx: 2, inset: 1,
      title: (row) => `${label(row.name)}: $${row.usd.toFixed(2)}` }), Plot.ruleY([0], { stroke: "var(--line)" })],
  });
  chart.setAttribute("role", "img"); // one picture with one name; its parts have none of their own
  for (const part of chart.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  place.replaceChildren(chart);
}

for (const place of document.querySelectorAll("[data-money-chart]")) {
  bars(place);
  let timer;
  new ResizeObserver(() => { clearTimeout(timer); timer = setTimeout(() => bars(place), 120); }).observe(place);
}
