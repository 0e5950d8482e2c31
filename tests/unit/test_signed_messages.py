"""Signed messages on the bus in memory: who is believed, and what becomes of what is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import trishula
from tests.support.loops import in_own_loop
from trishula import testing
from trishula.consumer.dispatcher import Dispatcher
from trishula.consumer.routes import Routes
from trishula.contract.addresses import Address
from trishula.contract.message import DEFAULT_TTL_MS, Message
from trishula.contract.signed import MEMORY_MS, SLACK_MS
from trishula.key_file import new_key_file
from trishula.known_keys import KnownKeys
from trishula.messaging import verifying
from trishula.messaging.signing import Signer
from trishula.messaging.verifying import Refused, Verifier
from trishula.settings import SettingsInvalid
from trishula.testing.memory_bus import MemoryBus
from trishula.testing.turned_clock import LifeClock
from trishula_router.node import Node
from trishula_router.verbs.procedures import Procedures


@dataclass
class Keys:
    """Two agents with a key each, and the file in which each knows the other's."""

    agni: Path
    dc: Path
    trusted: Path

    def public(self, name: str) -> bytes:
        from trishula.key_file import read_key_file

        return bytes.fromhex(read_key_file(getattr(self, name)).public)


def known(path: Path) -> KnownKeys:
    return KnownKeys(path, SettingsInvalid, "trishula key trust")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    found = Keys(tmp_path / "agni.key", tmp_path / "dc.key", tmp_path / "trusted.json")
    for name in ("agni", "dc"):
        public = new_key_file(getattr(found, name)).public
        known(found.trusted).trust(name, bytes.fromhex(public))
    return found


class Guard:
    """An agent that says what reached its handlers."""

    def __init__(self, keys: Keys, require_signature: bool | Iterable[str] | None = True) -> None:
        self.agent = agent = trishula.Agent(
            "agni", key_file=keys.agni, trusted_keys=keys.trusted, require_signature=require_signature
        )
        self.heard: list[tuple[object, str | None]] = []

        @agent.procedure()
        async def restart(service: str) -> str:
            delivery = trishula.current_delivery()
            by = None if delivery is None else delivery.message.signed_by
            self.heard.append((service, by))
            return f"{service} restarted"

        @agent.on("STATUS", "ERROR")
        async def heard(message: trishula.Message) -> None:
            self.heard.append((message.payload, message.signed_by))


def node_of(bus: MemoryBus) -> Node:
    node = bus._node.node
    assert node is not None
    return node


def metric(bus: MemoryBus) -> int:
    return node_of(bus).settlement.signatures_refused


def test_a_signed_command_runs_and_its_answer_is_signed(keys: Keys) -> None:
    async def main() -> None:
        guard = Guard(keys)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted, require_signature=True)
            assert await dc.call("agni", "restart", "nginx") == "nginx restarted"
            assert guard.heard == [("nginx", "dc")]
            await dc.send("agni", payload={"at": 1.0, "big": 2**53 - 1, "é": "e\u0301"}, deadline_at=2**50)
            await bus.idle()
            assert guard.heard[1:] == [({"at": 1.0, "big": 2**53 - 1, "é": "e\u0301"}, "dc")]
            assert metric(bus) == 0

    in_own_loop(main)


@pytest.mark.parametrize("kind", ["COMMAND", "STATUS"])
def test_an_unsigned_message_never_reaches_a_handler_and_its_sender_hears_why(keys: Keys, kind: Any) -> None:
    async def main() -> None:
        guard = Guard(keys)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            dc = bus.client("dc")
            receipt = await dc.send("agni", type=kind, procedure="restart" if kind == "COMMAND" else None, payload={})
            await bus.idle()
            assert guard.heard == []
            [letter] = bus.dead_letters("agni")
            reason = f"signature refused: agni takes no {kind} without a good signature, and this one is not signed"
            assert (letter.message.id, letter.reason) == (receipt.id, reason)
            fetched = await dc.fetch(instance=str(dc.address.instance))
            assert [one.message.payload["reason"] for one in fetched.deliveries] == [reason]
            assert metric(bus) == 1

    in_own_loop(main)


def test_a_call_without_a_key_ends_with_the_reason(keys: Keys) -> None:
    async def main() -> None:
        guard = Guard(keys, ["COMMAND"])
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            dc = bus.client("dc")
            with pytest.raises(trishula.TrishulaError, match="agni takes no COMMAND without a good signature"):
                await dc.call("agni", "restart", "nginx")
            with pytest.raises(trishula.TrishulaError, match="agni runs restart by signed COMMANDs alone: use call"):
                await dc.rpc("agni", "restart", "nginx")
            await dc.send("agni", payload="that is no COMMAND")
            await bus.idle()
            assert guard.heard == [("that is no COMMAND", None)]

    in_own_loop(main)


def test_the_key_of_a_stranger_and_one_that_is_not_known_yet_count_for_nothing(keys: Keys, tmp_path: Path) -> None:
    async def main() -> None:
        guard = Guard(keys)
        new = tmp_path / "new.key"
        public = new_key_file(new).public
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            dc = bus.client("dc", key_file=new)
            await dc.send("agni", payload="with a new key")
            await bus.idle()
            [letter] = bus.dead_letters("agni")
            assert f"signed by the key {public[:16]}…, which is no key of dc that is known here" in letter.reason
            assert "make it known with 'trishula key trust dc KEY'" in letter.reason
            # Both count from now on, without a restart.
            known(keys.trusted).trust("dc", bytes.fromhex(public))
            await dc.send("agni", payload="with a key that is known now")
            await bus.idle()
            assert guard.heard == [("with a key that is known now", "dc")]
            known(keys.trusted).forget("dc", bytes.fromhex(public))
            await dc.send("agni", payload="with a key that is withdrawn")
            await bus.idle()
            assert len(guard.heard) == 1

    in_own_loop(main)


def test_what_a_node_changes_is_refused(keys: Keys) -> None:
    # The node holds what it likes: here each key of a message is changed on its way out.
    changes: dict[str, Any] = {
        "type": "ERROR", "id": "another", "from": "dc/x", "to": "broadcast", "timestamp": None, "payload": "no",
        "priority": 1, "reply_to": "another", "subject": "another", "ttl_ms": 5,
    }  # fmt: skip

    async def main() -> None:
        for key, value in changes.items():
            guard = Guard(keys)
            async with testing.bus(agents=["agni", "dc"]) as bus:
                dc = bus.client("dc", key_file=keys.dc)
                await dc.send("agni", payload="as it was", subject="as it was")
                [entry] = node_of(bus).mailroom.mailbox("agni")._waiting.values()
                assert entry.wire is not None
                entry.wire[key] = entry.wire["timestamp"] + 1 if key == "timestamp" else value
                async with bus.run(guard.agent):
                    await bus.idle()
                    assert guard.heard == [], key
                    [letter] = bus.dead_letters("agni")
                    assert "it was changed or made up on the way" in letter.reason

    in_own_loop(main)


def test_what_is_handed_to_somebody_else_or_brought_back_is_refused(keys: Keys) -> None:
    async def main() -> None:
        guard = Guard(keys)
        async with testing.bus(agents=["agni", "dc", "boss"]) as bus:
            dc = bus.client("dc", key_file=keys.dc)
            first = await dc.send("boss", payload="for boss")
            second = await dc.send("agni", payload="an hour ago", ttl_ms=3_600_000)
            third = await dc.send("agni", payload="for later", deadline_at=round(bus.now.timestamp() * 1000) + 1000)
            room = node_of(bus).mailroom
            [entry] = room.mailbox("boss")._waiting.values()
            held = [one.wire for one in room.mailbox("agni")._waiting.values()]
            # What a node makes of it that wants them to run all the same.
            for wire in held:
                assert wire is not None
                wire.pop("deadline_at", None)
            await dc.cancel(second.id, third.id)
            letters = {"for boss": entry.wire, "an hour ago": held[0], "for later": held[1]}
            async with bus.run(guard.agent):
                await bus.advance(hours=2.1)
                for wire in letters.values():
                    assert wire is not None
                    message = {key: value for key, value in wire.items() if key != "signature"}
                    delivery = {"message": message, "attempt": 1, "token": "1.1.x", "signature": wire["signature"]}
                    agni = guard.agent.client._beneath()
                    agni.receiving.pushed([delivery])
                await bus.idle()
                assert guard.heard == []
            assert {first.status, second.status, third.status} == {"accepted"}

    in_own_loop(main)


NOW_MS = 1_800_000_000_000


def judged(keys: Keys, at: str | None = "agni", **fields: Any) -> str | None:
    """Why agni (or its instance) refuses a message that dc has signed; ``None`` if it is taken as dc's."""
    wire = {"type": "STATUS", "id": "m", "to": "agni", "from": "dc", "timestamp": NOW_MS, **fields}
    own = Address.parse(at or "agni")
    verifier = Verifier(keys.trusted, ["STATUS"], own, lambda: NOW_MS)
    verifier.capabilities = ["deploy"]
    signature = Signer(keys.dc, "dc").signature_of(msgspec.msgpack.encode(wire))
    found = verifier.judged(msgspec.convert(wire, Message), signature, None if at is None else own)
    assert isinstance(found, Refused) or found.signed_by == "dc"
    return found.reason if isinstance(found, Refused) else None


@pytest.mark.parametrize(
    ("at", "to", "is_taken"),
    [
        ("agni", "agni", True),
        ("agni", "broadcast", True),
        ("agni", "capability:deploy", True),
        ("agni", "capability:erase", False),
        ("agni", "boss", False),
        ("agni", "agni/7f3a", False),
        ("agni/7f3a", "agni/7f3a", True),
        ("agni/7f3a", "agni", True),
        ("agni/7f3a", "agni/0000", False),
        # What the node is asked for may be to another process of the agent.
        (None, "agni/7f3a", True),
        (None, "boss/7f3a", False),
    ],
)
def test_a_message_counts_for_the_address_that_it_was_signed_for(
    keys: Keys, at: str | None, to: str, is_taken: bool
) -> None:
    reason = judged(keys, at, to=to)
    assert (reason is None) if is_taken else reason is not None and reason.endswith(f"and this one is for {to}")


_DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("sent_at", "ttl_ms", "why"),
    [
        (NOW_MS - DEFAULT_TTL_MS - SLACK_MS, None, None),
        (NOW_MS - DEFAULT_TTL_MS - SLACK_MS - 1, None, "is over"),
        # The memory of ids is over by then, whatever the sender wants.
        (NOW_MS - DEFAULT_TTL_MS - SLACK_MS, 30 * _DAY_MS, None),
        (NOW_MS - DEFAULT_TTL_MS - SLACK_MS - 1, 30 * _DAY_MS, "is over"),
        (NOW_MS + SLACK_MS, None, None),
        (NOW_MS + SLACK_MS + 1, 1, "dated more than an hour ahead"),
        (2**53 - 1, 1, "dated more than an hour ahead"),
    ],
)
def test_no_signature_counts_for_longer_than_ids_are_remembered(
    keys: Keys, sent_at: int, ttl_ms: int | None, why: str | None
) -> None:
    fields: dict[str, Any] = {"timestamp": sent_at, "ttl_ms": ttl_ms}
    reason = judged(keys, **fields)
    assert (reason is None) if why is None else why in str(reason)


def test_a_replay_costs_its_receiver_no_look_at_the_payload(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    def statement(*_: Any, **__: Any) -> bytes:
        raise AssertionError("it was looked at")

    monkeypatch.setattr(verifying, "statement", statement)
    assert "is over" in str(judged(keys, timestamp=1))
    assert "is for boss" in str(judged(keys, to="boss"))
    assert "AssertionError" in str(judged(keys))


def test_a_message_that_comes_again_runs_once(keys: Keys) -> None:
    async def main() -> None:
        guard = Guard(keys)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            dc = bus.client("dc", key_file=keys.dc)
            await dc.send("agni", payload="once", ttl_ms=3_600_000)
            await bus.idle()
            [handed] = bus.deliveries("agni")
            delivery = {"message": handed.message.to_wire(), "attempt": 1, "token": "9.1.x"}
            agni = guard.agent.client._beneath()
            signature = Signer(keys.dc, "").signature_of(msgspec.msgpack.encode(delivery["message"]))
            agni.receiving.pushed([{**delivery, "signature": signature}])
            await bus.idle()
            assert guard.heard == [("once", "dc")]
            # Ids are remembered as long as a signature with the usual time to live counts.
            dispatcher = Dispatcher(agni, Routes("agni"), LifeClock(bus.clock), lambda: 0)
            assert dispatcher._inbox._age_ms == MEMORY_MS == DEFAULT_TTL_MS + 2 * SLACK_MS

    in_own_loop(main)


def test_the_word_of_a_node_is_taken_as_such_and_no_other_type(keys: Keys) -> None:
    async def main() -> None:
        guard = Guard(keys)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            agni = guard.agent.client._beneath()
            says: dict[str, Any] = {"error": trishula.DeadLetter.uri, "message": "it is dead", "reason": "why"}
            whole = {"type": "ERROR", "from": "dc", "to": "agni", "reply_to": "m"}
            changes: tuple[dict[str, Any], ...] = (
                {},
                {"type": "STATUS"},
                {"id": "m2"},
                {"reply_to": None},
                {"payload": None},
                {"payload": "dead"},
                {"payload": {**says, "error": "trishula.error.recipient_forbidden"}},
                {"payload": {**says, "error": "ValueError", "message": "never ask me for that, ask boss"}},
                {"payload": {**says, "error": [trishula.DeadLetter.uri]}},
            )
            for number, change in enumerate(changes):
                message = {**whole, "id": f"node:n:e:{number}:dead", "payload": says, **change}
                agni.receiving.pushed([{"message": message, "attempt": 1, "token": "9.1.x"}])
            await bus.idle()
            assert guard.heard == [(says, None)]

    in_own_loop(main)


def test_one_handler_may_ask_for_signatures_where_others_do_not(keys: Keys) -> None:
    async def main() -> None:
        guard = Guard(keys, None)
        agent = guard.agent

        @agent.procedure(require_signature=True)
        async def deploy() -> str:
            return "deployed"

        @agent.on("STATUS", subject="deploy.*", require_signature=True)
        async def told(message: trishula.Message) -> None:
            guard.heard.append(("told", message.signed_by))

        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(agent):
            dc = bus.client("dc")
            assert await dc.call("agni", "restart", "nginx") == "nginx restarted"
            assert await dc.rpc("agni", "restart", "nginx") == "nginx restarted"
            with pytest.raises(trishula.TrishulaError, match="deploy of agni takes signed messages alone, and"):
                await dc.call("agni", "deploy")
            with pytest.raises(trishula.TrishulaError, match="agni runs deploy by signed COMMANDs alone"):
                await dc.rpc("agni", "deploy")
            await dc.send("agni", subject="deploy.eu")
            await bus.idle()
            assert guard.heard == [("nginx", None), ("nginx", None)]
            await dc.stop()
            signing = bus.client("dc", key_file=keys.dc)
            assert await signing.call("agni", "deploy") == "deployed"
            await signing.send("agni", subject="deploy.eu")
            await bus.idle()
            assert guard.heard[2:] == [("told", "dc")]

    in_own_loop(main)


def test_handlers_that_ask_for_signatures_need_to_know_whose(keys: Keys) -> None:
    async def main() -> None:
        agent = trishula.Agent("agni")
        agent.on("STATUS", require_signature=True)(lambda message: None)
        async with testing.bus(agents=["agni"]) as bus:
            with pytest.raises(SettingsInvalid, match="nothing says whose keys count: name a file in trusted_keys"):
                async with bus.run(agent):
                    pass

    in_own_loop(main)


def test_a_node_of_the_release_before_gets_no_signatures(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send = Procedures._send
    asked: list[set[str]] = []

    async def before(self: Procedures, caller: Any, args: tuple[Any, ...]) -> Any:
        asked.append(set(args[1] if len(args) > 1 else {}))
        if "signatures" in asked[-1]:
            raise trishula.KeyUnknown('options has the unknown key "signatures"; the known keys are copies, sent_at')
        return await send(self, caller, args)

    monkeypatch.setattr(Procedures, "_send", before)

    async def main() -> None:
        guard = Guard(keys, None)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(guard.agent):
            dc = bus.client("dc", key_file=keys.dc)
            for number in (1, 2):
                await dc.send("agni", payload=number, deadline_at=2**50)
            await bus.idle()
            assert guard.heard == [(1, None), (2, None)]

    in_own_loop(main)
    assert asked == [{"signatures", "sent_at"}, {"sent_at"}, {"sent_at"}]
    assert "The node takes no signatures: who requires them refuses what goes there" in caplog.text
