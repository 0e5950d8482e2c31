// Reads the journals on that a node holds, its own and its peers' copies, from where the last reading ended.

import { AUDIT_QUERY } from "./uris.js";

const PAGE_RECORDS = 1000;
/** Pages read of one journal in one go; of a node that writes faster, the records in between are passed over. */
const MOST_PAGES = 4;
/** How far back the first reading goes. */
const FIRST_RECORDS = 2000;

export class Journals {
  #after = new Map();
  #epoch = null;

  /** Records passed over in the last reading, because there were too many. */
  skipped = 0;

  /**
   * The records that are new, each with `own`: whether this node wrote it.
   *
   * `call` asks the node; `status` is what it says of itself (`node.status`).
   */
  async readOn(call, status) {
    if (status.epoch !== this.#epoch) {
      this.#epoch = status.epoch;
      this.#after.clear();
    }
    this.skipped = 0;
    const found = await this.#read(call, null, status.high_water);
    for (const peer of status.peers) {
      if (peer.copied) found.push(...(await this.#read(call, peer.node, peer.copied)));
    }
    return found;
  }

  async #read(call, node, newest) {
    const known = this.#after.get(node);
    // A peer with a new store counts from the beginning again.
    let after = known === undefined || known > newest ? Math.max(0, newest - FIRST_RECORDS) : known;
    const most = MOST_PAGES * PAGE_RECORDS;
    if (newest - after > most) {
      this.skipped += newest - after - most;
      after = newest - most;
    }
    const found = [];
    for (let page = 0; page <= MOST_PAGES; page++) {
      const options = { after, limit: PAGE_RECORDS, ...(node === null ? {} : { node }) };
      const answer = await call(AUDIT_QUERY, options);
      found.push(...answer.records.map((record) => ({ ...record, own: node === null })));
      after = answer.after;
      if (!answer.more) break;
    }
    this.#after.set(node, after);
    return found;
  }
}
