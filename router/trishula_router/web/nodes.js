// The panel of nodes: the one that is asked, its peers, and the links between them.

import { badge, byId, element, say, show, table } from "./dom.js";
import { bytes, count, counted, skew, span } from "./words.js";

export function showNodes(status, now) {
  const own = ownFacts(status, now);
  const peers = status.peers.map(peerFacts);
  show(byId("nodes"), [own, peers], () => [ownNode(own), peers.length === 0 ? alone() : links(status.node, peers)]);
  const up = status.peers.filter(({ state }) => state === "up").length;
  say(byId("tile-links"), peers.length === 0 ? "none" : `${count(up)} / ${count(peers.length)}`);
  say(byId("tile-links-more"), peers.length === 0 ? "a single node" : up === peers.length ? "links up" : "a link is down");
  byId("tile-links").closest(".tile").classList.toggle("alarm", up < peers.length);
  say(byId("node-name"), status.node);
  say(byId("node-version"), status.version);
}

function ownFacts(status, now) {
  const store = status.store ?? {};
  return {
    node: status.node,
    mode: modeWords(status.fallback, now),
    fault: store.fault ?? store.shortage ?? status.agents_file_fault ?? null,
    facts: [
      ["Version", status.version],
      ["Running for", span(now - status.started_at)],
      ["Refused joins", count(status.connections?.refused_joins ?? NaN)],
      ["Store", `${bytes(store.size_bytes)}${store.limit_bytes ? ` of ${bytes(store.limit_bytes)}` : ""}`],
      ["Disk free", bytes(store.free_bytes ?? NaN)],
      ["Journal records", count(status.high_water)],
    ],
  };
}

// What the mode of the bus means for who looks; null while it is live, and of a node that doesn't tell it.
function modeWords(mode, now) {
  if (mode?.mode !== "fallback") return null;
  const means = mode.sends
    ? "Live sends go on, and agents with a folder write files as well."
    : "New messages are refused for now, and agents with a folder write files.";
  return `The bus has been in fallback for ${span(now - mode.since)}, by ${mode.by}: ${mode.reason}. ${means} To end it: trishula fallback off --reason …`;
}

function ownNode({ node, mode, fault, facts }) {
  const pairs = facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", { class: "number" }, value)),
  );
  return element(
    "div",
    { class: "node" },
    element("p", { class: "node-title" }, badge(fault === null ? "good" : "bad", fault === null ? "serving" : "fault"), element("strong", {}, node)),
    mode === null ? null : element("p", { class: "fault", role: "status" }, mode),
    fault === null ? null : element("p", { class: "fault" }, fault),
    element("dl", { class: "facts" }, pairs),
  );
}

function alone() {
  return element("p", { class: "empty" }, "This node has no peer: what it holds is on one disk only.");
}

function peerFacts(peer) {
  return {
    node: peer.node,
    isUp: peer.state === "up",
    heard: Number.isFinite(peer.heard_s_ago) ? `${span(peer.heard_s_ago * 1000)} ago` : "never",
    lag: counted(peer.lag_records ?? 0, "record"),
    toCopy: counted(peer.to_copy_records ?? 0, "record"),
    clock: skew(peer.clock_ahead_ms ?? NaN),
    fault: peer.fault ?? (peer.state === "up" ? null : peer.link?.trouble) ?? peer.warning ?? null,
  };
}

function links(own, peers) {
  const columns = [
    { title: "Link" },
    { title: "State" },
    { title: "Heard", class: "number" },
    { title: "Peer lacks", class: "number" },
    { title: "We lack", class: "number" },
    { title: "Its clock", class: "number" },
  ];
  const rows = peers.map(({ node, isUp, heard, lag, toCopy, clock, fault }) => [
    element("span", {}, `${own} ↔ ${node}`, fault === null ? null : element("span", { class: "note" }, fault)),
    badge(isUp ? "good" : "bad", isUp ? "up" : "down"),
    heard,
    lag,
    toCopy,
    clock,
  ]);
  return table("Links to other nodes", columns, rows);
}
