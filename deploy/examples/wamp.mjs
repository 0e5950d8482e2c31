// A member of the bus in JavaScript, without any package: WAMP messages are JSON lists on a WebSocket.
// Node 22 and newer, Deno, Bun and browsers have WebSocket; Node 20 has it with --experimental-websocket.

const HELLO = 1, WELCOME = 2, ABORT = 3, CHALLENGE = 4, AUTHENTICATE = 5, GOODBYE = 6, ERROR = 8, CALL = 48, RESULT = 50;

class Session {
  #socket; #waiting = new Map(); #next = 1; #welcome;

  // Join as the agent whose token it is.
  static join(url, token) {
    const session = new Session();
    return new Promise((resolve, reject) => {
      session.#welcome = { resolve: () => resolve(session), reject };
      const socket = session.#socket = new WebSocket(url, "wamp.2.json");
      const details = { roles: { caller: {} }, authmethods: ["ticket"], authid: token.split(".")[0] };
      socket.onopen = () => session.#send(HELLO, "trishula", details);
      socket.onerror = () => reject(new Error(`${url} can't be reached`));
      socket.onmessage = ({ data }) => session.#take(JSON.parse(data), token);
    });
  }

  #send(...message) { this.#socket.send(JSON.stringify(message)); }

  #take([kind, ...rest], token) {
    if (kind === CHALLENGE) this.#send(AUTHENTICATE, token, {});
    else if (kind === WELCOME) this.#welcome.resolve();
    else if (kind === ABORT) this.#welcome.reject(new Error(`${rest[1]}: ${rest[0].message}`));
    else if (kind === RESULT) this.#waiting.get(rest[0])?.resolve(rest[2]?.[0]);
    else if (kind === ERROR) this.#waiting.get(rest[1])?.reject(new Error(`${rest[3]}: ${rest[4]?.[0]}`));
    else if (kind === GOODBYE) this.#socket.close();
  }

  // Call a procedure of the node or, live, of an agent.
  call(uri, ...args) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send(CALL, id, {}, uri, args);
    }).finally(() => this.#waiting.delete(id));
  }

  leave() { this.#send(GOODBYE, {}, "wamp.close.normal"); }
}

const bus = await Session.join(process.env.TRISHULA_URL, process.env.TRISHULA_TOKEN);

// A live call of another agent's procedure.
console.log("2 + 3 =", await bus.call("trishula.agent.agni.add", 2, 3));

// A durable message. The receipt comes when the message is on the node's disk.
const message = { type: "STATUS", to: "dc", timestamp: Date.now(), id: `js-${Date.now()}`, payload: { from: "JavaScript" } };
const [receipt] = await bus.call("trishula.mailbox.send", [message]);
console.log("sent:", receipt.status);

// Our own mailbox: fetch, handle, and only then acknowledge.
const fetched = await bus.call("trishula.mailbox.fetch", { wait_s: 5 });
for (const delivery of fetched.deliveries) {
  console.log("got:", delivery.message.payload);
  console.log("done:", await bus.call("trishula.mailbox.ack", [delivery.token]));
}
bus.leave();
