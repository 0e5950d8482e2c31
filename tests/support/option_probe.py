"""What becomes of one option in one WAMP message of an agent: said on a raw socket, and seen from both ends."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import threading
from collections.abc import Callable
from typing import Any

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

__all__ = ["ATTACKER", "CALLEE", "LISTENER", "Probing"]

#: Who sets the options, who is called, and who listens.
ATTACKER, CALLEE, LISTENER = "eve", "agni", "dc"
HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE, GOODBYE, ERROR = 1, 2, 3, 4, 5, 6, 8
PUBLISH, SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, EVENT = 16, 32, 33, 34, 36
CALL, CANCEL, RESULT, REGISTER, REGISTERED, UNREGISTER, INVOCATION, INTERRUPT, YIELD = (
    48,
    49,
    50,
    64,
    65,
    66,
    68,
    69,
    70,
)
_FEATURES = {
    "caller": {"call_canceling": True, "progressive_call_results": True},
    "callee": {"call_canceling": True, "progressive_call_results": True},
    "publisher": {},
    "subscriber": {},
}
_ROLES = {role: {"features": features} for role, features in _FEATURES.items()}
#: What each INVOCATION, EVENT and RESULT tells of whom it is of; the session's number is left out.
_TRUE = {
    "caller_authid": ATTACKER,
    "publisher_authid": ATTACKER,
    **{f"{whose}_authrole": "agent" for whose in ("caller", "callee", "publisher")},
}

TIMEOUT_S = 30.0
Message = list[Any]


class _Ended(Exception):
    """The attacker's session is over."""


class _Refused(Exception):
    """What the attacker asked was answered with an error."""


class _Session:
    """A joined session whose thread reads on, and answers pings, whether or not somebody waits for what it reads."""

    def __init__(self, client: RawClient) -> None:
        self.send, self.begin = client.send, client.begin
        self._client = client
        self._heard: queue.SimpleQueue[Message | OSError] = queue.SimpleQueue()
        client.socket.settimeout(None)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                self._heard.put(self._client.receive())
        except OSError as error:
            self._heard.put(error)

    def receive(self) -> Message:
        heard = self._heard.get(timeout=TIMEOUT_S)
        if isinstance(heard, OSError):
            raise heard
        return heard


class Probing:
    """The sessions that an option is tried with.

    Each method, named for a WAMP message, says one with the options that it is given, and tells what was seen::

        passed                      as without the option
        passed {"progress": true}   the same, and the other end was told that
        unheard                     taken, and the other end got nothing
        refused URI: sentence       an ERROR
        ended URI: sentence         the session is over
    """

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self._numbers = itertools.count(1_000_000)
        self._stack = contextlib.ExitStack()
        self._callee, self._listener = self._join(CALLEE), self._join(LISTENER)
        self._callee.begin(REGISTER, uris.procedure_of(CALLEE, "echo"))
        assert self._callee.receive()[0] == REGISTERED
        self._listener.begin(SUBSCRIBE, uris.topic_of(ATTACKER, "news"))
        assert self._listener.receive()[0] == SUBSCRIBED
        self._attacker: _Session | None = None
        self._own: list[Message] = []

    def close(self) -> None:
        """End its sessions."""
        self._stack.close()

    def see(self, message: str, options: dict[str, Any]) -> str:
        """Say that message with those options; what was seen."""
        say: Callable[[dict[str, Any]], str] = getattr(self, f"_{message.lower()}")
        try:
            return say(options)
        except _Refused as error:
            return f"refused {error}"
        except _Ended as error:
            self._attacker = None
            return f"ended {error}"

    # -- one message each ----------------------------------------------------------------------------------------------

    def _hello(self, options: dict[str, Any]) -> str:
        client = self._stack.enter_context(RawClient(self._node.url))
        client.open()
        details = {"roles": _ROLES, "authmethods": ["ticket"], "authid": ATTACKER, **options}
        client.send([HELLO, uris.REALM, details])
        return self._welcomed(client, {})

    def _authenticate(self, options: dict[str, Any]) -> str:
        client = self._stack.enter_context(RawClient(self._node.url))
        client.open()
        client.hello(ATTACKER)
        return self._welcomed(client, options)

    def _welcomed(self, client: RawClient, extra: dict[str, Any]) -> str:
        answer = _hear(client)
        if answer[0] == CHALLENGE:
            client.send([AUTHENTICATE, self._node.tokens[ATTACKER], extra])
            answer = _hear(client)
        if answer[0] == ABORT:
            return f"refused {answer[2]}: {answer[1].get('message')}"
        told = answer[2]
        expected = {"authid": ATTACKER, "authrole": "agent", "authmethod": "ticket"}
        wrong = {key: told.get(key) for key, value in expected.items() if told.get(key) != value}
        more = {key: told[key] for key in ("resumed", "resumable", "resume_token", "authextra") if told.get(key)}
        # Who it is, is asked of the others: only so is it more than a word.
        client.send([CALL, 1, {}, uris.DIRECTORY_LIST])
        while (answer := _hear(client))[0] != RESULT:
            if answer[0] == ERROR:
                return f"passed and then refused {answer[4]}"
        client.send([GOODBYE, {}, "wamp.close.normal"])
        return _passed({**wrong, **more})

    def _goodbye(self, options: dict[str, Any]) -> str:
        client, self._attacker = self._session(), None
        client.send([GOODBYE, options, "wamp.close.normal"])
        while (answer := client.receive())[0] != GOODBYE:
            pass
        return _passed({key: value for key, value in answer[1].items() if key != "message"})

    def _call(self, options: dict[str, Any]) -> str:
        number = self._say(CALL, options, uris.procedure_of(CALLEE, "echo"), [])
        invocation = self._reached(self._callee, INVOCATION, number)
        self._callee.send([YIELD, invocation[1], {}, ["done"]])
        answer = self._answer(number)
        return _passed({**invocation[3], **answer[2]})

    def _cancel(self, options: dict[str, Any]) -> str:
        number = self._say(CALL, {}, uris.procedure_of(CALLEE, "echo"), [])
        invocation = self._reached(self._callee, INVOCATION, number)
        self._session().send([CANCEL, number, options])
        marker, at_once, interrupted = self._say(CALL, {}, uris.DIRECTORY_LIST), False, False
        while (heard := self._heard())[1] != marker:
            at_once |= heard[0] == ERROR and heard[2] == number
        self._callee.begin(CALL, uris.DIRECTORY_LIST)
        while (heard := self._callee.receive())[0] != RESULT:
            interrupted |= heard[0] == INTERRUPT
        self._callee.send([YIELD, invocation[1], {}, ["done"]])
        caller = "the caller has an error at once" if at_once else "the caller waits for the callee"
        return f"passed: {caller}, who is {'told' if interrupted else 'not told'}"

    def _yield(self, options: dict[str, Any]) -> str:
        return self._answered_with(lambda number: [YIELD, number, options, ["done"]])

    def _error(self, options: dict[str, Any]) -> str:
        return self._answered_with(lambda number: [ERROR, INVOCATION, number, options, "agent.eve.no", ["no"]])

    def _answered_with(self, answer: Callable[[int], Message]) -> str:
        """The attacker is called, and answers; what the caller is told."""
        uri, caller = uris.procedure_of(ATTACKER, f"p{next(self._numbers)}"), self._callee
        attacker = self._session()
        self._answer(self._say(REGISTER, {}, uri))
        number = next(self._numbers)
        caller.send([CALL, number, {}, uri, []])
        while (asked := self._heard())[0] != INVOCATION:
            pass
        attacker.send(answer(asked[1]))
        self._sound()
        # Of earlier attackers whose session ended there may be an error that nobody waited for.
        while number not in (heard := caller.receive())[1:3]:
            pass
        return _passed(heard[2] if heard[0] == RESULT else heard[3], ATTACKER)

    def _publish(self, options: dict[str, Any]) -> str:
        """What the listener is told; and whether the attacker, who subscribes too, hears itself."""
        topic = uris.topic_of(ATTACKER, "news")
        self._answer(self._say(SUBSCRIBE, {}, topic))
        number = self._say(PUBLISH, {"acknowledge": True, **options}, topic, ["probe"])
        if options.get("acknowledge") is not False:
            self._answer(number)
        self._answer(self._say(PUBLISH, {"acknowledge": True}, topic, ["after"]))
        self._sound()
        seen = "unheard"
        while (event := self._listener.receive())[0] != EVENT or event[4] != ["after"]:
            if event[0] == EVENT and event[4] == ["probe"]:
                seen = _passed(event[3])
        own = any(event[4] == ["probe"] for event in self._own)
        self._own.clear()
        return f"{seen}, and by its publisher too" if own else seen

    def _subscribe(self, options: dict[str, Any]) -> str:
        self._answer(self._say(SUBSCRIBE, options, uris.topic_of(CALLEE, "news")))
        return "passed"

    def _unsubscribe(self, options: dict[str, Any]) -> str:
        subscribed = self._answer(self._say(SUBSCRIBE, {}, uris.topic_of(CALLEE, f"t{next(self._numbers)}")))
        self._answer(self._say(UNSUBSCRIBE, subscribed[2], after=[options]))
        return "passed"

    def _register(self, options: dict[str, Any]) -> str:
        self._answer(self._say(REGISTER, options, uris.procedure_of(ATTACKER, f"p{next(self._numbers)}")))
        return "passed"

    def _unregister(self, options: dict[str, Any]) -> str:
        registered = self._answer(self._say(REGISTER, {}, uris.procedure_of(ATTACKER, f"p{next(self._numbers)}")))
        self._answer(self._say(UNREGISTER, registered[2], after=[options]))
        return "passed"

    # -- the sessions --------------------------------------------------------------------------------------------------

    def _join(self, agent: str) -> _Session:
        client = self._stack.enter_context(RawClient(self._node.url))
        client.open()
        client.send([HELLO, uris.REALM, {"roles": _ROLES, "authmethods": ["ticket"], "authid": agent}])
        assert client.receive()[0] == CHALLENGE
        client.send([AUTHENTICATE, self._node.tokens[agent], {}])
        assert client.receive()[0] == WELCOME
        return _Session(client)

    def _session(self) -> _Session:
        if self._attacker is None:
            self._attacker = self._join(ATTACKER)
        return self._attacker

    def _say(self, kind: int, first: Any, *rest: Any, after: Message | None = None) -> int:
        number = next(self._numbers)
        self._session().send([kind, number, first, *rest, *(after or [])])
        return number

    def _heard(self) -> Message:
        return _hear(self._session())

    def _answer(self, number: int) -> Message:
        """The answer to the attacker's request with that number."""
        while True:
            heard = self._heard()
            if heard[0] == ERROR and heard[2] == number:
                raise _Refused(f"{heard[4]}: {' '.join(map(str, heard[5:] and heard[5]))}")
            if heard[0] == EVENT:
                self._own.append(heard)
            elif heard[1] == number:
                return heard

    def _sound(self) -> None:
        """Wait until the node has read all that the attacker said; raises if that ended the session."""
        self._answer(self._say(CALL, {}, uris.DIRECTORY_LIST))

    def _reached(self, other: _Session, kind: int, number: int) -> Message:
        """What comes at the other end of the attacker's request; raises what the attacker is told instead."""
        for _ in range(100):
            marker = self._say(CALL, {}, uris.DIRECTORY_LIST)
            while (heard := self._heard())[1] != marker:
                if heard[0] == ERROR and heard[2] == number:
                    raise _Refused(f"{heard[4]}: {' '.join(map(str, heard[5:] and heard[5]))}")
            found: Message = []
            other.begin(CALL, uris.DIRECTORY_LIST)
            while (heard := other.receive())[0] != RESULT:
                found = heard if heard[0] == kind else found
            if found:
                return found
        raise AssertionError("it was taken, and reached nobody")


def _hear(client: RawClient | _Session) -> Message:
    try:
        heard = client.receive()
    except ConnectionError as error:
        raise _Ended(f"with the connection: {error}") from None
    if heard[0] == GOODBYE or (heard[0] == ABORT and isinstance(client, _Session)):
        raise _Ended(f"{heard[2]}: {heard[1].get('message')}")
    return heard


def _passed(told: dict[str, Any], callee: str = CALLEE) -> str:
    """What the other end was told beyond who it is of; that too if it isn't true."""
    true = {**_TRUE, "callee_authid": callee}
    sessions = ("caller", "callee", "publisher")
    # A session's number is of the node, or it is one that an attacker made up: small.
    more = {
        key: value
        for key, value in told.items()
        if not (key in true and true[key] == value) and not (key in sessions and value > 1000)
    }
    return f"passed {json.dumps(more)}" if more else "passed"
