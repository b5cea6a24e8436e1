// Charts of the dashboard, drawn with Observable Plot from figures in the page. A table beside each says the same.
"use strict";

const STYLE = "plot"; // fixed, so that the one style sheet Plot writes has a known digest (Content-Security-Policy)

function draw(place) {
  const days = JSON.parse(place.dataset.points).map((point) => ({ ...point, day: new Date(point.day) }));
  const drawn = place.dataset.chart === "requests" ? (point) => point.hits + point.misses : (point) => point.saved_micros;
  if (!days.some((point) => drawn(point) > 0)) return; // the sentence in the page says that there is nothing yet
  const width = Math.max(280, place.clientWidth);
  const common = { className: STYLE, width, height: 230, marginLeft: 44, marginRight: 12, marginBottom: 28, x: { label: null, type: "band",
    ticks: days.filter((_, index) => (days.length - 1 - index) % 7 === 0).map((point) => point.day),
    tickFormat: d3.utcFormat("%-d %b"), tickSize: 0 },
    ariaLabel: place.dataset.label };
  const chart = place.dataset.chart === "requests" ? requests(days, common) : saved(days, common);
  chart.setAttribute("role", "img"); // one picture with one name; its parts have none of their own
  for (const part of chart.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  place.replaceChildren(chart);
}

function requests(days, common) {
  const bars = days.flatMap((point) => [
    { day: point.day, count: point.hits, kind: "hit" },
    { day: point.day, count: point.misses, kind: "miss" },
  ]);
  return Plot.plot({ ...common, y: { label: null, grid: true, ticks: 4, tickFormat: count, nice: true, tickSize: 0 },
    marks: ["hit", "miss"].map((kind) => Plot.barY(bars.filter((bar) => bar.kind === kind), {
      x: "day", y1: kind === "hit" ? 0 : (bar) => days.find((point) => +point.day === +bar.day).hits,
      y2: kind === "hit" ? "count" : (bar) => days.find((point) => +point.day === +bar.day).hits + bar.count,
      className: `bar-${kind}`, fill: kind === "hit" ? "var(--bar)" : "var(--bar-2)", rx: 2, inset: 1,
      title: (bar) => `${d3.utcFormat("%-d %B")(bar.day)}: ${bar.count} ${kind === "hit" ? "hits" : "misses"}` })) });
}

function count(number) {
  return number >= 1000 ? d3.format("~s")(number) : d3.format(",~r")(number);
}

function saved(days, common) {
  let sum = 0;
  const sums = days.map((point) => ({ day: point.day, usd: (sum += point.saved_micros) / 1e6 }));
  return Plot.plot({ ...common, x: { label: null, tickSize: 0, type: "utc", ticks: Math.min(6, Math.floor(width(common) / 90)), tickFormat: d3.utcFormat("%-d %b") },
    y: { label: null, grid: true, ticks: 4, tickFormat: (usd) => `$${d3.format(",~r")(usd)}`, nice: true, zero: true, tickSize: 0 },
    marks: [
      Plot.areaY(sums, { x: "day", y: "usd", fill: "var(--accent-soft)", curve: "monotone-x" }),
      Plot.lineY(sums, { x: "day", y: "usd", stroke: "var(--bar)", strokeWidth: 2.2, curve: "monotone-x" }),
    ] });
}

function width(common) {
  return common.width - common.marginLeft;
}

for (const place of document.querySelectorAll("[data-chart]")) {
  draw(place);
  let timer;
  new ResizeObserver(() => { clearTimeout(timer); timer = setTimeout(() => draw(place), 120); }).observe(place);
}
