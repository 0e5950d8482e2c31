// The page's session with its node: joins by an operator's token, joins again when the node was away, asks and listens.
//
// Autobahn's own way of reconnecting is not used: it ends with the first GOODBYE, which a node says when it is stopped in
// order, and with a refusal that a later try would not meet.

import { NODE_STATUS, REALM, WEBSOCKET_PATH } from "./uris.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
/** A node that answers nothing for so long is given up, and joined anew. */
const PATIENCE_MS = 10_000;
const SILENT = `it has answered nothing for ${PATIENCE_MS / 1000} s`;

/** Refusals that no further try changes. */
const FOR_GOOD = new Set([
  "trishula.error.token_invalid",
  "trishula.error.token_missing",
  "trishula.error.not_allowed",
  "wamp.error.authentication_failed",
  "wamp.error.authentication_denied",
  "wamp.error.no_auth_method",
  "wamp.error.no_such_role",
]);
const OPERATOR_ROLE = "operator";

/** What a call was refused with. */
export class Refused extends Error {
  constructor(uri, sentence) {
    super(sentence);
    this.uri = uri;
  }
}

/** The node's address: the page's own, as WebSocket. */
function address() {
  const at = new URL(WEBSOCKET_PATH, document.baseURI);
  at.protocol = at.protocol === "https:" ? "wss:" : "ws:";
  return at.href;
}

export class Bus {
  #token = null;
  #connection = null;
  #session = null;
  #pauseMs = FIRST_PAUSE_MS;
  #timer = null;
  #opening = null;
  #handlers;

  /** Whether it may ask how all stands, and see and change nothing else. */
  isObserver = false;

  /** `handlers`: `{joined(bus), away(sentence, retryInMs), refused(sentence)}`. */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** Whose token it is: a token is `name.secret`. */
  get name() {
    return this.#token === null ? null : this.#token.split(".", 1)[0];
  }

  get isJoined() {
    return this.#session !== null && this.#session.isOpen;
  }

  /** Join with a token, and go on joining until `signOut`. */
  signIn(token) {
    this.signOut();
    this.#token = token;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#open();
  }

  /** Leave, and forget the token. */
  signOut() {
    this.#token = null;
    this.#drop();
  }

  /** Try at once instead of when the pause is over. */
  hurry() {
    if (this.#timer !== null) this.#open();
  }

  /** Call a procedure; rejects with `Refused`. */
  async call(uri, ...args) {
    return await this.#asked(this.#session, (session) => session.call(uri, args));
  }

  /** Hear a topic's events for as long as this session lasts; `handler` is given the first argument. Rejects as `call`. */
  async subscribe(topic, handler) {
    await this.#asked(this.#session, (session) => session.subscribe(topic, ([first]) => handler(first)));
  }

  /** What a session answers to `ask(session)`; a node that does not answer in time is given up. */
  async #asked(session, ask) {
    if (session === null || !session.isOpen) throw new Refused("away", "the node is not connected");
    const connection = this.#connection;
    let patience = null;
    const silence = new Promise((_, reject) => {
      patience = setTimeout(() => {
        if (connection === this.#connection) this.#lost(SILENT);
        reject(new Refused("away", "the node does not answer"));
      }, PATIENCE_MS);
    });
    try {
      return await Promise.race([ask(session), silence]);
    } catch (error) {
      throw error instanceof Refused ? error : new Refused(error.error ?? "", sentenceOf(error));
    } finally {
      clearTimeout(patience);
    }
  }

  #open() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const token = this.#token;
    const connection = new autobahn.Connection({
      transports: [{ type: "websocket", url: address() }],
      realm: REALM,
      authmethods: ["ticket"],
      authid: this.name,
      onchallenge: () => token,
      max_retries: 0,
    });
    // A machine that stands still takes a connection, and nobody there says anything.
    this.#opening = setTimeout(() => this.#lost(SILENT), PATIENCE_MS);
    connection.onopen = (session, details) => {
      if (connection !== this.#connection) {
        // It was given up, and came to life after all.
        connection.close();
        return;
      }
      clearTimeout(this.#opening);
      if (details.authrole === OPERATOR_ROLE) this.#joined(session, false);
      else this.#joinAsObserver(connection, session);
    };
    connection.onclose = (_, details) => {
      if (connection === this.#connection) this.#closed(details.reason, details.message);
      return true;
    };
    this.#connection = connection;
    connection.open();
  }

  #joined(session, isObserver) {
    this.#session = session;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.isObserver = isObserver;
    this.#handlers.joined(this);
  }

  /** An observer's session is an agent's; who it is shows in what the node lets it ask. */
  async #joinAsObserver(connection, session) {
    try {
      await this.#asked(session, () => session.call(NODE_STATUS));
    } catch {
      if (connection !== this.#connection || !session.isOpen) return;
      this.#refuse(`${this.name} is an agent, and neither operator nor observer. Sign in with the token of one.`);
      return;
    }
    if (connection === this.#connection) this.#joined(session, true);
  }

  #closed(reason, message) {
    if (FOR_GOOD.has(reason)) this.#refuse(message || reason);
    else this.#lost(message || "it can't be reached");
  }

  #refuse(sentence) {
    this.signOut();
    this.#handlers.refused(sentence);
  }

  #lost(sentence) {
    this.#drop();
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pauseMs);
    this.#timer = setTimeout(() => this.#open(), pauseMs);
    this.#handlers.away(sentence, pauseMs);
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#opening);
    const connection = this.#connection;
    this.#timer = this.#connection = this.#session = null;
    try {
      connection?.close();
    } catch {
      // Autobahn throws a text if it is closed already.
    }
  }
}

function sentenceOf(error) {
  const first = error.args?.[0];
  return typeof first === "string" ? first : (error.error ?? error.message ?? String(error));
}
