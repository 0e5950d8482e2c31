// The panel of mailboxes: what waits for whom, since when, who takes it and who sends it.

import { badge, byId, element, empty, say, show, table } from "./dom.js";
import { agentOf } from "./traffic.js";
import { bytes, count, span } from "./words.js";

const MOST_BOXES = 30;
const MOST_SENDERS = 3;

/** `boxes` as the node tells them, the deepest first; null where it can't, because it is of an earlier release. */
export function showMailboxes(boxes, status, now) {
  const total = status.pending + status.in_flight;
  say(byId("tile-waiting"), count(total));
  say(byId("tile-waiting-more"), `${count(status.in_flight)} of them out for delivery`);
  if (boxes === null) {
    show(byId("mailboxes"), [status.pending, status.in_flight], () =>
      empty(`${count(status.pending)} wait, and ${count(status.in_flight)} are out for delivery. This node does not tell its mailboxes one by one.`),
    );
    return;
  }
  const rows = boxes.filter(({ pending, in_flight: out }) => pending + out > 0).slice(0, MOST_BOXES).map((box) => rowOf(box, now));
  show(byId("mailboxes"), rows, () =>
    rows.length === 0 ? empty("Every mailbox is empty: nothing waits for anybody.") : table("Mailboxes with mail, the deepest first", COLUMNS, rows.map(cellsOf)),
  );
}

const COLUMNS = [
  { title: "Mailbox" },
  { title: "Waiting", class: "number" },
  { title: "Out", class: "number" },
  { title: "Size", class: "number" },
  { title: "Oldest", class: "number" },
  { title: "Taken by", class: "wide" },
  { title: "Filled by", class: "wide" },
];

function rowOf(box, now) {
  return {
    address: box.address,
    pending: count(box.pending),
    out: count(box.in_flight),
    size: bytes(box.bytes ?? NaN),
    oldest: Number.isFinite(box.oldest_at) ? span(now - box.oldest_at) : "–",
    consumer: box.consumer === null || box.consumer === undefined ? null : (box.consumer.host ?? box.consumer.agent ?? "its agent"),
    senders: (box.senders ?? []).slice(0, MOST_SENDERS).map(({ agent, messages }) => `${agent} ${count(messages)}`).join(", "),
  };
}

function cellsOf({ address, pending, out, size, oldest, consumer, senders }) {
  return [
    element("span", { class: "agent" }, address),
    pending,
    out,
    size,
    oldest,
    consumer === null ? badge("quiet", "nobody") : badge("good", consumer),
    senders || "–",
  ];
}

/** What waits for each agent, its instances included: agent → `{pending, in_flight}`. */
export function mailByAgent(boxes) {
  const found = new Map();
  for (const { address, pending, in_flight: out } of boxes) {
    const agent = agentOf(address);
    const sum = found.get(agent) ?? { pending: 0, in_flight: 0 };
    found.set(agent, { pending: sum.pending + pending, in_flight: sum.in_flight + out });
  }
  return found;
}
