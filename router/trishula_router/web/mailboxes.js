// The panel of mailboxes: what waits for whom, since when, who takes it and who sends it.

import { badge, byId, element, empty, say, show, table } from "./dom.js";
import { agentOf } from "./traffic.js";
import { NOTHING, bytes, count, span } from "./words.js";

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
  { title: "Oldest", class: "number" },
  { title: "Taken by", class: "wide" },
  { title: "Filled by", class: "wide" },
];

function rowOf(box, now) {
  return {
    address: box.address,
    waiting: count(box.pending + box.in_flight),
    more: `${box.in_flight ? `${count(box.in_flight)} out · ` : ""}${bytes(box.bytes ?? NaN)}`,
    oldest: Number.isFinite(box.oldest_at) ? span(now - box.oldest_at) : NOTHING,
    consumer: consumerOf(box),
    senders: (box.senders ?? []).slice(0, MOST_SENDERS).map(({ agent, messages }) => `${agent} ${count(messages)}`).join(", "),
  };
}

/** Who takes from a mailbox: the agent and where it runs, or the agents that serve a capability; null: nobody. */
function consumerOf({ consumer, able, able_at: elsewhere }) {
  if (consumer) return { who: consumer.agent, where: consumer.host ?? (consumer.node ? `at ${consumer.node}` : "") };
  const serving = [...(able ?? []), ...(elsewhere ?? []).map((node) => `some at ${node}`)];
  return serving.length === 0 ? null : { who: serving.join(", "), where: "" };
}

function cellsOf({ address, waiting, more, oldest, consumer, senders }) {
  return [
    address,
    element("span", {}, waiting, element("span", { class: "note" }, more)),
    oldest,
    consumer === null
      ? badge("bad", "nobody")
      : element("span", {}, badge("good", consumer.who), element("span", { class: "note" }, consumer.where)),
    senders || NOTHING,
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
