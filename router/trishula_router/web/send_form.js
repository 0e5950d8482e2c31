// The panel that sends a message, from the operator that is signed in: the node sets `from`, and nobody else can.

import { badge, byId, element, say, show } from "./dom.js";
import { MAILBOX_SEND } from "./uris.js";
import { counted } from "./words.js";

const ID_BYTES = 12;
const TONES = { accepted: "good", duplicate: "busy", refused: "bad" };

/** An id of its own; not `crypto.randomUUID`, which a page without TLS doesn't have. */
function newId() {
  const random = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class SendForm {
  #bus;
  #findLife;

  /** `findLife(id)` shows the life of a message. */
  constructor(bus, findLife) {
    this.#bus = bus;
    this.#findLife = findLife;
    byId("send-type").addEventListener("change", () => this.#fit());
    byId("send-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#fit();
  }

  /** Say in whose name messages go out. */
  signedIn() {
    say(byId("send-from"), this.#bus.name ?? "");
  }

  /** A COMMAND names a procedure; nothing else does. */
  #fit() {
    const isCommand = byId("send-type").value === "COMMAND";
    byId("send-procedure-field").hidden = !isCommand;
    byId("send-procedure").required = isCommand;
    say(byId("send-payload-hint"), isCommand ? "Arguments as JSON: a list, or a map of names; empty for none." : "Text, or any JSON value.");
  }

  async #send() {
    const button = byId("send-button");
    button.disabled = true;
    try {
      const message = this.#message();
      const [receipt] = await this.#bus.call(MAILBOX_SEND, [message], { sent_at: message.timestamp });
      this.#tell(receipt);
    } catch (error) {
      show(byId("receipt"), [Date.now(), error.message], () => element("p", { class: "fault" }, error.message));
    } finally {
      button.disabled = false;
    }
  }

  #message() {
    const value = (id) => byId(id).value.trim();
    const type = value("send-type");
    const message = { type, id: newId(), to: value("send-to"), timestamp: Date.now(), priority: Number(value("send-priority")) };
    if (value("send-subject")) message.subject = value("send-subject");
    if (type === "COMMAND") {
      message.procedure = value("send-procedure");
      message.payload = argumentsIn(value("send-payload"));
    } else {
      message.payload = payloadIn(byId("send-payload").value);
    }
    return message;
  }

  #tell(receipt) {
    show(byId("receipt"), receipt, () => {
      const life = element("button", { type: "button", class: "small", "data-key": `life ${receipt.id}` }, "Follow its life");
      life.addEventListener("click", () => this.#findLife(receipt.id));
      const where = receipt.status === "refused" ? (receipt.detail ?? receipt.error) : `by ${receipt.node}, on ${counted(receipt.copies, "node")}`;
      return [
        element("p", { class: "receipt" }, badge(TONES[receipt.status] ?? "quiet", receipt.status), element("span", {}, where)),
        element("p", { class: "receipt" }, element("code", {}, receipt.id), receipt.status === "refused" ? null : life),
        receipt.warning ? element("p", { class: "fault" }, receipt.warning) : null,
      ];
    });
  }
}

/** JSON if it is some, else the text itself. */
function payloadIn(text) {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function argumentsIn(text) {
  if (text === "") return { args: [], kwargs: {} };
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("The arguments are no JSON: write a list, such as [1, \"two\"], or a map, such as {\"disk\": \"/\"}.");
  }
  if (Array.isArray(value)) return { args: value, kwargs: {} };
  if (value !== null && typeof value === "object") return { args: [], kwargs: value };
  return { args: [value], kwargs: {} };
}
