// The panel of the flow: a matrix of senders and recipients, and the busiest pairs in words.

import { byId, drawn, element, empty, show, table } from "./dom.js";
import { ago, count, counted } from "./words.js";

const MOST_AGENTS = 10;
const MOST_PAIRS = 5;
const LARGEST_CELL = 44;
const SMALLEST_CELL = 30;
const NAMES = 100;
const HEAD = 30;
const LETTERS = 12;

export function showFlow(traffic, now) {
  const pairs = traffic.pairs(now);
  const width = byId("flow").clientWidth;
  show(byId("flow"), [width, ...pairs.map(({ from, to, messages, lately }) => [from, to, messages, lately])], () =>
    pairs.length === 0
      ? empty("No message has passed in the last ten minutes. Send one below, and it shows here.")
      : [matrix(pairs, width), busiest(pairs, now)],
  );
}

/** The agents with the most messages, as rows or columns. */
function mostActive(pairs, side) {
  const messages = new Map();
  for (const pair of pairs) messages.set(pair[side], (messages.get(pair[side]) ?? 0) + pair.messages);
  const names = [...messages.keys()].sort((one, other) => messages.get(other) - messages.get(one));
  return names.slice(0, MOST_AGENTS).sort();
}

/** As wide as there is room; on a phone its cells are smaller, and many agents scroll. */
function matrix(pairs, room) {
  const senders = mostActive(pairs, "from");
  const recipients = mostActive(pairs, "to");
  const most = Math.max(...pairs.map(({ messages }) => messages));
  const fitting = Math.floor((room - NAMES) / recipients.length);
  const size = Math.max(SMALLEST_CELL, Math.min(LARGEST_CELL, fitting));
  const width = NAMES + recipients.length * size;
  const height = HEAD + senders.length * size;
  const parts = [];
  recipients.forEach((name, column) => parts.push(columnTitle(name, NAMES + column * size, size)));
  senders.forEach((name, row) => {
    const y = HEAD + row * size;
    parts.push(drawn("text", { x: NAMES - 12, y: y + size / 2 + 4, class: "name", "text-anchor": "end" }, short(name)));
    recipients.forEach((to, column) => {
      const pair = pairs.find((one) => one.from === name && one.to === to);
      parts.push(...cell(pair, NAMES + column * size, y, size, most));
    });
  });
  const total = pairs.reduce((sum, { messages }) => sum + messages, 0);
  const label = `${counted(total, "message")} from ${counted(senders.length, "sender")} to ${counted(recipients.length, "recipient")} in the last ten minutes; the busiest pairs follow as a table`;
  return element(
    "div",
    { class: "drawing" },
    drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label, class: "matrix" }, parts),
  );
}

function columnTitle(name, x, size) {
  const letters = Math.floor(size / 7);
  const title = name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
  return drawn(
    "text",
    { x: x + size / 2, y: HEAD - 12, class: "name", "text-anchor": "middle" },
    title,
    drawn("title", {}, name),
  );
}

function cell(pair, x, y, size, most) {
  const box = { x: x + 2, y: y + 2, width: size - 4, height: size - 4, rx: 6 };
  if (pair === undefined) return [drawn("rect", { ...box, class: "cell none" })];
  const weight = 0.18 + 0.82 * (Math.log1p(pair.messages) / Math.log1p(most));
  const title = drawn("title", {}, `${pair.from} → ${pair.to}: ${counted(pair.messages, "message")}`);
  const text = { x: x + size / 2, y: y + size / 2 + 4, "text-anchor": "middle", class: weight > 0.6 ? "on dark" : "on" };
  return [
    drawn("rect", { ...box, class: "cell", "fill-opacity": weight.toFixed(2) }, title),
    drawn("text", text, compact(pair.messages)),
  ];
}

function compact(number) {
  return number < 1000 ? count(number) : `${(number / 1000).toFixed(number < 10_000 ? 1 : 0)}k`;
}

function short(name) {
  return name.length > LETTERS ? `${name.slice(0, LETTERS - 1)}…` : name;
}

function busiest(pairs, now) {
  const columns = [
    { title: "Busiest pairs" },
    { title: "Messages", class: "number" },
    { title: "Last minute", class: "number" },
    { title: "Last", class: "number" },
  ];
  const rows = pairs.slice(0, MOST_PAIRS).map(({ from, to, messages, lately, lastAt }) => [
    element("span", { class: "pair" }, from, element("span", { class: "arrow", "aria-label": "to" }, " → "), to),
    count(messages),
    count(lately),
    ago(lastAt, now),
  ]);
  return table("The busiest pairs of agents in the last ten minutes", columns, rows);
}
