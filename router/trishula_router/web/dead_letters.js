// The panel of dead letters: messages that were given up, with what they say, and a way back into their mailbox.

import { byId, element, empty, say, show, table } from "./dom.js";
import { ADMIN_DEAD_LIST, ADMIN_DEAD_REPLAY, ADMIN_DEAD_SHOW } from "./uris.js";
import { bytes, count, instant, json } from "./words.js";

const MOST_LETTERS = 50;

export class DeadLetters {
  #bus;
  #findLife;
  #chosen = null;

  /** `findLife(id)` shows the life of a message. */
  constructor(bus, findLife) {
    this.#bus = bus;
    this.#findLife = findLife;
    byId("replay-yes").addEventListener("click", () => this.#replay());
    byId("replay-no").addEventListener("click", () => byId("replay").close());
    byId("letter-close").addEventListener("click", () => byId("letter").close());
  }

  async refresh(now) {
    const { letters, more } = await this.#bus.call(ADMIN_DEAD_LIST, { limit: MOST_LETTERS });
    const rows = letters.map((letter) => ({ ...letter, when: instant(letter.dead_at, now) }));
    show(byId("dead"), rows, () =>
      rows.length === 0
        ? empty("No dead letters: every message was delivered, or waits for its agent.")
        : [this.#table(rows), more ? empty(`Only the oldest ${MOST_LETTERS} are shown; trishula dead list has all.`) : ""],
    );
    say(byId("tile-dead"), more ? `${MOST_LETTERS}+` : count(letters.length));
    say(byId("tile-dead-more"), letters.length === 0 ? "nothing was given up" : "wait for your decision");
    byId("tile-dead").closest(".tile").classList.toggle("alarm", letters.length > 0);
  }

  #table(rows) {
    const columns = [
      { title: "Message" },
      { title: "From → to" },
      { title: "Reason", class: "wide" },
      { title: "Dead since", class: "number" },
      { title: "Actions", class: "actions" },
    ];
    const cells = rows.map((letter) => [
      element("span", {}, element("code", {}, letter.id), element("span", { class: "note" }, `${letter.type} · ${bytes(letter.bytes)}`)),
      `${letter.from} → ${letter.to}`,
      letter.reason ?? "–",
      letter.when,
      element(
        "span",
        { class: "buttons" },
        this.#bus.isObserver ? null : this.#button("Show", letter, () => this.#show(letter)),
        this.#button("Life", letter, () => this.#findLife(letter.id)),
        this.#bus.isObserver ? null : this.#button("Replay", letter, () => this.#ask(letter)),
      ),
    ]);
    return table("Dead letters, the oldest first", columns, cells);
  }

  #button(word, letter, act) {
    const label = `${word} message ${letter.id} from ${letter.from}`;
    const button = element("button", { type: "button", class: "small", "aria-label": label, "data-key": `${word} ${letter.seq}` }, word);
    button.addEventListener("click", act);
    return button;
  }

  async #show(letter) {
    say(byId("letter-title"), `Dead letter ${letter.id}`);
    say(byId("letter-body"), "…");
    byId("letter").showModal();
    try {
      const { message } = await this.#bus.call(ADMIN_DEAD_SHOW, letter.seq);
      say(byId("letter-body"), message === null ? "Its body is gone: it was purged or is damaged." : json(message));
    } catch (error) {
      say(byId("letter-body"), error.message);
    }
  }

  #ask(letter) {
    this.#chosen = letter;
    say(byId("replay-what"), `${letter.type} ${letter.id} from ${letter.from} goes back into the mailbox of ${letter.to}, as if it were new.`);
    say(byId("replay-why"), letter.reason ? `It was given up because: ${letter.reason}` : "");
    byId("replay").showModal();
  }

  async #replay() {
    const letter = this.#chosen;
    byId("replay").close();
    try {
      const [isBack] = await this.#bus.call(ADMIN_DEAD_REPLAY, [letter.seq]);
      say(byId("dead-news"), isBack ? `${letter.id} is back in the mailbox of ${letter.to}.` : `${letter.id} was not replayed: ${letter.to} is gone, or it is no dead letter any more.`);
      await this.refresh(Date.now());
    } catch (error) {
      say(byId("dead-news"), error.message);
    }
  }
}

