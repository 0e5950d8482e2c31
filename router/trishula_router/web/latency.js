// The panel of latencies: how long messages took from their acceptance to the delivery, and until they were done.

import { byId, drawn, element, empty, say, show } from "./dom.js";
import { counted, instant, latency } from "./words.js";
import { WINDOW_MS, quantile } from "./traffic.js";

const LEAST_WIDTH = 280;
const HEIGHT = 340;
const LEFT = 56;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 26;
const BUCKET_MS = 10_000;
/** The journal's instants are whole ms: what takes less is drawn at the bottom. */
const LEAST_MS = 1;
const SERIES = [
  { what: "delivered", word: "delivered" },
  { what: "done", word: "done" },
];

export function showLatency(traffic, now) {
  const end = Math.ceil(now / BUCKET_MS) * BUCKET_MS;
  const series = SERIES.map((one) => {
    const samples = traffic.samples(one.what, now);
    return { ...one, values: samples.map(({ tookMs }) => tookMs), points: bucketed(samples) };
  });
  const isEmpty = series.every(({ values }) => values.length === 0);
  // One unit of the drawing is one pixel: its letters are as large as all others, on a phone too.
  const width = Math.max(LEAST_WIDTH, byId("latency").clientWidth);
  show(byId("latency"), [end, width, series.map(({ values, points }) => [values.length, points])], () =>
    isEmpty
      ? empty("Nothing was delivered in the last ten minutes, so there is nothing to measure.")
      : [figures(series), plot(series, end, width)],
  );
  const done = series[1].values;
  say(byId("tile-latency"), done.length ? latency(quantile(done, 0.5)) : "–");
  say(byId("tile-latency-more"), done.length ? `p99 ${latency(quantile(done, 0.99))}` : "no message was done lately");
}

/** Of each ten seconds the median and the slowest: `{at, p50Ms, mostMs}`. */
function bucketed(samples) {
  const buckets = new Map();
  for (const { at, tookMs } of samples) {
    const bucket = Math.floor(at / BUCKET_MS) * BUCKET_MS;
    buckets.set(bucket, [...(buckets.get(bucket) ?? []), tookMs]);
  }
  return [...buckets]
    .sort(([one], [other]) => one - other)
    .map(([at, values]) => ({ at, p50Ms: quantile(values, 0.5), mostMs: Math.max(...values) }));
}

function figures(series) {
  const parts = series.map(({ what, word, values }) =>
    element(
      "div",
      { class: `figure ${what}` },
      element("dt", {}, key(what), `until ${word}`),
      element("dd", {}, values.length ? latency(quantile(values, 0.5)) : "–", element("small", {}, " p50")),
      element("dd", {}, values.length ? latency(quantile(values, 0.99)) : "–", element("small", {}, " p99")),
    ),
  );
  return element("dl", { class: "figures" }, parts);
}

function key(what) {
  return drawn(
    "svg",
    { viewBox: "0 0 22 8", class: "key", "aria-hidden": "true" },
    drawn("path", { d: "M0 4H22", class: `line ${what}` }),
  );
}

function plot(series, end, width) {
  const most = Math.max(10, ...series.flatMap(({ points }) => points.map(({ mostMs }) => mostMs)));
  const decades = Math.ceil(Math.log10(most));
  const x = (at) => LEFT + ((at - (end - WINDOW_MS)) / WINDOW_MS) * (width - LEFT - RIGHT);
  const y = (spanMs) =>
    HEIGHT - BOTTOM - (Math.log10(Math.max(LEAST_MS, spanMs)) / decades) * (HEIGHT - TOP - BOTTOM);
  const parts = [];
  for (let decade = 0; decade <= decades; decade++) {
    const at = y(10 ** decade);
    parts.push(drawn("path", { d: `M${LEFT} ${at}H${width - RIGHT}`, class: "grid" }));
    parts.push(drawn("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end", class: "scale" }, latency(10 ** decade)));
  }
  for (const share of [0, 0.5, 1]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    const at = end - WINDOW_MS * (1 - share);
    const text = instant(at, end).slice(-8, -3);
    parts.push(drawn("text", { x: x(at), y: HEIGHT - 6, "text-anchor": anchor, class: "scale" }, text));
  }
  for (const { what, points } of series) {
    const places = points.map(({ at, p50Ms }) => [x(at + BUCKET_MS / 2), y(p50Ms)]);
    parts.push(drawn("path", { d: lines(points, places), class: `line ${what}` }));
    for (const [index, { mostMs, p50Ms }] of points.entries()) {
      const [left, top] = places[index];
      if (mostMs > p50Ms) parts.push(drawn("path", { d: `M${left} ${top}V${y(mostMs)}`, class: `whisker ${what}` }));
      parts.push(drawn("circle", { cx: left, cy: top, r: 2.5, class: `dot ${what}` }));
    }
  }
  const messages = series[1].values.length;
  const label = `Latency of the last ten minutes on a logarithmic scale: median and slowest of each ten seconds; ${counted(messages, "message")} done`;
  return drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label, class: "plot" }, parts);
}

/** A line through the points, broken where nothing was measured for more than half a minute. */
function lines(points, places) {
  return places
    .map(([left, top], index) => {
      const follows = index > 0 && points[index].at - points[index - 1].at <= 3 * BUCKET_MS;
      return `${follows ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`;
    })
    .join("");
}
