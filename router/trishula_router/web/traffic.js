// What the journals' records say of the traffic: who sent to whom, and how long messages took. No I/O and no clock.
//
// A message is found again by its position: records of deliveries and ends list positions, and only the one that
// accepted it names sender and recipient. Positions of other nodes' messages have the node's number above bit 48.

export const MINUTE_MS = 60_000;
/** So long back the figures reach. */
export const WINDOW_MS = 10 * MINUTE_MS;
/** At most so many messages are remembered; the oldest are forgotten first. */
const MOST_MESSAGES = 20_000;
const MOST_SAMPLES = 5000;
const OWN_POSITIONS = 2 ** 48;

/** The agent behind an address: "agni" of "agni/7f3a". */
export function agentOf(address) {
  return String(address).split("/", 1)[0];
}

/** An instant of a record by this node's clock. */
function hereAt(record) {
  return record.at - (record.clock_ahead_ms ?? 0);
}

export class Traffic {
  /** Position → `{from, to, at}`, in the order of their coming. */
  #open = new Map();
  #sent = [];
  #samples = [];

  /** Take note of records. */
  add(records) {
    for (const record of records) {
      if (record.kind === "accepted") this.#accepted(record);
      else if (record.kind === "delivered") this.#reached(record, "delivered");
      else if (record.kind === "done") this.#reached(record, "done");
    }
  }

  #accepted(record) {
    const at = hereAt(record);
    this.#sent.push({ from: agentOf(record.from), to: agentOf(record.to), at });
    if (this.#sent.length > MOST_MESSAGES) this.#sent.splice(0, this.#sent.length - MOST_MESSAGES);
    // Two nodes' clocks make no good latency: only messages that this node accepted are timed.
    if (!record.own) return;
    this.#open.set(record.seq, { at });
    if (this.#open.size > MOST_MESSAGES) this.#open.delete(this.#open.keys().next().value);
  }

  #reached(record, what) {
    const at = hereAt(record);
    for (const listed of record.messages ?? []) {
      const position = Array.isArray(listed) ? listed[0] : listed;
      const message = position < OWN_POSITIONS ? this.#open.get(position) : undefined;
      // A further attempt is not how long it took to come.
      if (message === undefined || message[what]) continue;
      message[what] = true;
      this.#samples.push({ what, at, tookMs: Math.max(0, at - message.at) });
      if (what === "done") this.#open.delete(position);
    }
    if (this.#samples.length > MOST_SAMPLES) this.#samples.splice(0, this.#samples.length - MOST_SAMPLES);
  }

  /** Pairs with what passed within the window, the busiest first: `{from, to, messages, lately, lastAt}`; `lately`: in the last minute. */
  pairs(now) {
    const pairs = new Map();
    for (const { from, to, at } of this.#sent) {
      if (at < now - WINDOW_MS) continue;
      const key = JSON.stringify([from, to]);
      const pair = pairs.get(key) ?? { from, to, messages: 0, lately: 0, lastAt: at };
      pair.messages += 1;
      if (at >= now - MINUTE_MS) pair.lately += 1;
      pair.lastAt = Math.max(pair.lastAt, at);
      pairs.set(key, pair);
    }
    return [...pairs.values()].sort((one, other) => other.messages - one.messages || (one.from < other.from ? -1 : 1));
  }

  /** How many messages were accepted within so long. */
  accepted(now, withinMs) {
    return this.#sent.filter(({ at }) => at >= now - withinMs).length;
  }

  /** The samples within the window, of `delivered` or `done`: `{at, tookMs}`. */
  samples(what, now) {
    return this.#samples.filter((sample) => sample.what === what && sample.at >= now - WINDOW_MS);
  }
}

/** The value below which a share of the values lies; NaN of none. */
export function quantile(values, share) {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
