// The panel of agents: who is there, at which node, busy with what, with how much mail, and how the clocks stand.

import { badge, byId, element, empty, say, show, table } from "./dom.js";
import { NOTHING, ago, count, instant, skew } from "./words.js";

const TONES = { online: "good", busy: "busy", stale: "bad", offline: "quiet" };
const ORDER = ["busy", "online", "stale", "offline"];
/** A clock that is off by more confuses time limits. */
const SKEW_TO_TELL_MS = 2000;

/** `entries` of the directory; `mail` maps an agent to `{pending, in_flight}`, or is null where the node can't tell. */
export function showAgents(entries, mail, now) {
  const sorted = [...entries].sort(
    (one, other) =>
      ORDER.indexOf(one.presence) - ORDER.indexOf(other.presence) || (one.agent < other.agent ? -1 : 1),
  );
  const rows = sorted.map((entry) => rowOf(entry, mail, now));
  show(byId("agents"), rows, () =>
    rows.length === 0
      ? empty("No agent is registered yet. Make the first one's token with: trishula token new NAME")
      : table("All registered agents", columnsOf(mail), rows.map(cellsOf)),
  );
  const present = entries.filter(({ presence }) => presence === "online" || presence === "busy").length;
  const stale = entries.filter(({ presence }) => presence === "stale").length;
  say(byId("tile-agents"), `${count(present)} / ${count(entries.length)}`);
  say(byId("tile-agents-more"), stale ? `${count(stale)} stale: no sign of life` : "present / registered");
  offerNames(entries.map(({ agent }) => agent));
}

function columnsOf(mail) {
  return [
    { title: "Agent" },
    { title: "Presence" },
    { title: "Doing", class: "wide" },
    ...(mail === null ? [] : [{ title: "Waiting", class: "number" }]),
    { title: "Node" },
    { title: "Clock", class: "number" },
    { title: "Last seen", class: "number" },
  ];
}

function rowOf(entry, mail, now) {
  const box = mail?.get(entry.agent);
  const isOff = Math.abs(entry.clock_skew_ms ?? 0) > SKEW_TO_TELL_MS;
  return {
    agent: entry.agent,
    presence: entry.presence,
    reason: entry.reason ?? "",
    doing: doingOf(entry, now),
    waiting: mail === null ? null : count((box?.pending ?? 0) + (box?.in_flight ?? 0)),
    node: entry.node ?? NOTHING,
    clock: entry.presence === "offline" ? NOTHING : `${skew(entry.clock_skew_ms ?? NaN)}${isOff ? " ⚠" : ""}`,
    seen: ago(entry.last_seen_at ?? NaN, now),
  };
}

function doingOf(entry, now) {
  const parts = [];
  if (entry.presence === "busy" && entry.busy_until) parts.push(`until ${instant(entry.busy_until, now)}`);
  if (entry.progress) parts.push(entry.progress);
  if (Number.isFinite(entry.load)) parts.push(`load ${entry.load}`);
  return parts.join(" · ");
}

function cellsOf({ agent, presence, reason, doing, waiting, node, clock, seen }) {
  const why = presence === "stale" ? element("span", { class: "note" }, reason) : null;
  return [
    element("span", { class: "agent" }, agent),
    element("span", {}, badge(TONES[presence] ?? "quiet", presence)),
    why ?? (doing || NOTHING),
    ...(waiting === null ? [] : [waiting]),
    node,
    clock,
    seen,
  ];
}

/** The names for the fields that take one. */
function offerNames(names) {
  show(byId("names"), names, () => [...names, "broadcast"].map((name) => element("option", { value: name })));
}
