// The panel that finds a message and tells its whole life, step by step, with the spans between them.

import { badge, byId, element, empty, show, table } from "./dom.js";
import { AUDIT_WHY, MAILBOX_ANSWER } from "./uris.js";
import { agentOf } from "./traffic.js";
import { bytes, exactInstant, instant, json, latency } from "./words.js";

const TONES = { accepted: "quiet", delivered: "busy", done: "good", dead: "bad", expired: "bad", cancelled: "bad" };
/** What each step means, for who doesn't know the journal's words. */
const STEPS = {
  accepted: "on disk, and the sender was told so",
  delivered: "given to the agent",
  surfaced: "a model has it in its context",
  returned: "given back, to be tried again",
  handed: "handed to another node",
  done: "the agent has dealt with it",
  dead: "given up: it is a dead letter",
  replayed: "put back by an operator",
  expired: "its time to live was over",
  cancelled: "taken back by its sender",
  forgotten: "its body was deleted, as retention says",
  purged: "its body was deleted by an operator",
};
const TOLD_ALREADY = new Set(["seq", "at", "kind", "from", "to", "id", "type", "sha256", "digest", "node", "bytes", "clock_ahead_ms", "priority"]);

export class Lifecycle {
  #bus;
  #id = null;
  #isOver = false;

  constructor(bus) {
    this.#bus = bus;
    byId("find-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.find(byId("find-id").value.trim());
    });
  }

  /** Show the life of a message, and follow it until it is over. */
  async find(id) {
    byId("find-id").value = id;
    this.#id = id || null;
    this.#isOver = false;
    byId("find").scrollIntoView({ block: "nearest" });
    await this.refresh(Date.now());
  }

  /** Forget what was found. */
  clear() {
    this.#id = null;
    byId("find-id").value = "";
    show(byId("life"), null, () => empty("Nothing is looked for yet."));
  }

  async refresh(now) {
    const id = this.#id;
    if (id === null || this.#isOver) return;
    try {
      const { messages } = await this.#bus.call(AUDIT_WHY, id);
      const lives = await Promise.all(messages.map((life) => this.#withAnswer(life)));
      if (id !== this.#id) return;
      this.#isOver = messages.every(({ state }) => state !== "accepted" && state !== "delivered");
      show(byId("life"), lives, () => lives.map((life) => told(life, now)));
    } catch (error) {
      if (id === this.#id) show(byId("life"), [id, error.message], () => empty(error.message));
    }
  }

  /** Of a COMMAND that we sent, the answer with it: it lies in our own mailbox, where nobody may look. */
  async #withAnswer(life) {
    if (life.type !== "COMMAND" || agentOf(life.from) !== this.#bus.name) return life;
    try {
      return { ...life, answer: (await this.#bus.call(MAILBOX_ANSWER, life.id)).message ?? null };
    } catch {
      return life;
    }
  }
}

function told(life, now) {
  const took = Number.isFinite(life.settled_at) ? ` after ${latency(life.settled_at - life.accepted_at)}` : "";
  return element(
    "article",
    { class: "life" },
    element("h3", {}, element("code", {}, life.id)),
    element(
      "p",
      { class: "life-head" },
      badge(TONES[life.state] ?? "quiet", `${life.state}${took}`),
      element("span", {}, `${life.type} from ${life.from} to ${life.to}`),
      element("span", { class: "faint" }, `${bytes(life.bytes)} · priority ${life.priority} · attempts ${life.attempts}`),
    ),
    Number.isFinite(life.surfaced_at)
      ? element("p", { class: "faint" }, `A model had it ${latency(Math.max(0, life.surfaced_at - life.accepted_at))} after it was accepted.`)
      : null,
    life.warning ? element("p", { class: "fault" }, life.warning) : null,
    steps(life.events, now),
    life.answer ? [element("h4", {}, `Answer: ${life.answer.type}`), element("pre", {}, json(life.answer.payload))] : null,
    Number.isFinite(life.expires_at) && !Number.isFinite(life.settled_at)
      ? element("p", { class: "faint" }, `It waits until ${instant(life.expires_at, now)} at most.`)
      : null,
  );
}

function steps(events, now) {
  const columns = [{ title: "What" }, { title: "Time", class: "number" }, { title: "After", class: "number" }, { title: "Node", class: "node-name" }, { title: "Details", class: "wide" }];
  const rows = events.map((event, index) => {
    const after = index === 0 ? "–" : `+${latency(Math.max(0, hereAt(event) - hereAt(events[index - 1])))}`;
    const meaning = STEPS[event.kind];
    return [
      element("span", {}, event.kind, meaning ? element("span", { class: "note" }, meaning) : null),
      exactInstant(hereAt(event), now),
      after,
      event.node,
      details(event),
    ];
  });
  return table("The steps of its life, the first one first", columns, rows);
}

function hereAt(event) {
  return event.at - (event.clock_ahead_ms ?? 0);
}

function details(event) {
  const facts = Object.entries(event).filter(([name, value]) => !TOLD_ALREADY.has(name) && value !== null);
  const words = facts.map(([name, value]) => {
    const text = name.endsWith("_at") && Number.isFinite(value) ? instant(value, value) : json(value);
    return `${name.replaceAll("_", " ")} ${text}`;
  });
  return words.join(" · ") || "–";
}
