// The dashboard: signs in, asks the node every two seconds while somebody looks, and has each panel show its part.

import { showAgents } from "./agents.js";
import { Bus } from "./bus.js";
import { DeadLetters } from "./dead_letters.js";
import { byId, say } from "./dom.js";
import { showFlow } from "./flow.js";
import { Journals } from "./journal.js";
import { showLatency } from "./latency.js";
import { Lifecycle } from "./lifecycle.js";
import { mailByAgent, showMailboxes } from "./mailboxes.js";
import { showNodes } from "./nodes.js";
import { SendForm } from "./send_form.js";
import { MINUTE_MS, Traffic } from "./traffic.js";
import { DIRECTORY_LIST, EVENT_AGENT, EVENT_NODE, NODE_MAILBOXES, NODE_STATUS } from "./uris.js";
import { count, span } from "./words.js";

const POLL_MS = 2000;
/** After an event, what it is about is asked for so soon; several events make one question. */
const SOON_MS = 150;
const OLD_MS = 6000;
/** Of this tab alone, and gone with it. */
const TOKEN_KEY = "trishula-token";
const NO_SUCH_PROCEDURE = "wamp.error.no_such_procedure";

class Dashboard {
  #bus = new Bus({
    joined: () => this.#joined(),
    away: (sentence, pauseMs) => this.#away(sentence, pauseMs),
    refused: (sentence) => this.#refused(sentence),
  });
  #journals = new Journals();
  #traffic = new Traffic();
  #life = new Lifecycle(this.#bus);
  #dead = new DeadLetters(this.#bus, (id) => this.#life.find(id));
  #send = new SendForm(this.#bus, (id) => this.#life.find(id));
  #timer = null;
  #isAsking = false;
  #askedAt = null;
  #retryAt = null;

  start() {
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#signIn(byId("token").value.trim());
    });
    byId("sign-out").addEventListener("click", () => this.#signOut());
    byId("try-now").addEventListener("click", () => this.#bus.hurry());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#pollIn(0);
    });
    setInterval(() => this.#tellAge(), 1000);
    const token = sessionStorage.getItem(TOKEN_KEY);
    if (token === null) this.#showSignIn("");
    else this.#signIn(token);
  }

  #signIn(token) {
    if (!/^[^.\s]+\.\S+$/.test(token)) {
      this.#showSignIn("That is no token: a token is a name, a dot and a secret, as trishula token new prints it.");
      return;
    }
    byId("sign-in-button").disabled = true;
    say(byId("sign-in-fault"), "");
    this.#connection("busy", "connecting");
    sessionStorage.setItem(TOKEN_KEY, token);
    this.#bus.signIn(token);
  }

  #signOut() {
    this.#bus.signOut();
    this.#refused("");
    // What was shown is gone with the page.
    location.reload();
  }

  #refused(sentence) {
    sessionStorage.removeItem(TOKEN_KEY);
    this.#showSignIn(sentence);
  }

  #showSignIn(sentence) {
    clearTimeout(this.#timer);
    byId("dashboard").hidden = byId("top").hidden = byId("gone").hidden = true;
    byId("sign-in").hidden = false;
    byId("sign-in-button").disabled = false;
    say(byId("sign-in-fault"), sentence);
    byId("token").setAttribute("aria-invalid", sentence === "" ? "false" : "true");
    byId("token").focus();
  }

  async #joined() {
    byId("token").value = "";
    byId("sign-in-button").disabled = false;
    byId("sign-in").hidden = byId("gone").hidden = true;
    byId("dashboard").hidden = byId("top").hidden = false;
    byId("dashboard").classList.remove("old");
    this.#retryAt = null;
    this.#connection("good", "live");
    this.#send.signedIn();
    document.body.classList.toggle("observer", this.#bus.isObserver);
    say(byId("who"), this.#bus.isObserver ? `${this.#bus.name} (observer)` : this.#bus.name);
    try {
      await this.#bus.subscribe(EVENT_AGENT, (entry) => this.#happened(`${entry.agent} is ${entry.presence}`));
      await this.#bus.subscribe(EVENT_NODE, ({ node, peer, state }) => this.#happened(`The link of ${node} to ${peer} is ${state}`));
    } catch (error) {
      // That the node is gone is told at the top.
      if (error.uri === "away") return;
      say(byId("fault"), `The node refused to tell what happens: ${error.message}`);
    }
    this.#pollIn(0);
  }

  #away(sentence, pauseMs) {
    clearTimeout(this.#timer);
    this.#retryAt = Date.now() + pauseMs;
    this.#connection("bad", "node gone");
    if (byId("sign-in").hidden) {
      byId("gone").hidden = false;
      byId("dashboard").classList.add("old");
    } else {
      byId("sign-in-button").disabled = false;
      say(byId("sign-in-fault"), `The node is gone: ${sentence}. It is tried again.`);
    }
    say(byId("gone-why"), `The node is gone: ${sentence}.`);
    this.#tellAge();
  }

  #connection(tone, word) {
    byId("connection").dataset.tone = tone;
    say(byId("connection-word"), word);
  }

  #happened(sentence) {
    say(byId("news"), sentence);
    this.#pollIn(SOON_MS);
  }

  #pollIn(pauseMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), pauseMs);
  }

  async #poll() {
    if (document.hidden || !this.#bus.isJoined) return;
    if (!this.#isAsking) {
      this.#isAsking = true;
      try {
        await this.#ask();
        this.#askedAt = Date.now();
        say(byId("fault"), "");
      } catch (error) {
        // That the node is gone is told at the top.
        if (error.uri !== "away") say(byId("fault"), `The node refused a question: ${error.message}`);
      } finally {
        this.#isAsking = false;
        this.#tellAge();
      }
    }
    if (this.#bus.isJoined) this.#pollIn(POLL_MS);
  }

  async #ask() {
    const call = (uri, ...args) => this.#bus.call(uri, ...args);
    const [status, entries, boxes] = await Promise.all([call(NODE_STATUS), call(DIRECTORY_LIST), this.#mailboxes()]);
    const now = Date.now();
    showNodes(status, now);
    showMailboxes(boxes, status, now);
    showAgents(entries, boxes === null ? null : mailByAgent(boxes), now);
    await this.#dead.refresh(now);
    await this.#life.refresh(now);
    this.#traffic.add(await this.#journals.readOn(call, status));
    showFlow(this.#traffic, now);
    showLatency(this.#traffic, now);
    const passed = this.#traffic.accepted(now, MINUTE_MS);
    say(byId("tile-rate"), count(passed));
    say(byId("tile-rate-more"), this.#journals.skipped ? `and more: ${count(this.#journals.skipped)} records were passed over` : "accepted in the last minute");
  }

  /** The mailboxes; null of a node of an earlier release. */
  async #mailboxes() {
    try {
      return await this.#bus.call(NODE_MAILBOXES);
    } catch (error) {
      if (error.uri === NO_SUCH_PROCEDURE) return null;
      throw error;
    }
  }

  #tellAge() {
    const ageMs = this.#askedAt === null ? NaN : Date.now() - this.#askedAt;
    say(byId("age"), Number.isNaN(ageMs) ? "" : ageMs < POLL_MS + 1000 ? "as of now" : `as of ${span(ageMs)} ago`);
    byId("age").classList.toggle("old", ageMs > OLD_MS);
    if (this.#retryAt !== null) {
      const leftMs = Math.max(0, this.#retryAt - Date.now());
      say(byId("gone-next"), `${leftMs > 0 ? `Trying again in ${Math.ceil(leftMs / 1000)} s.` : "Trying again."} What you see is old.`);
    }
  }
}

new Dashboard().start();
