"""Encrypted payloads on the bus in memory: who reads them, what others see, and what nobody can read."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trishula
from tests.support.loops import in_own_loop
from tests.unit.test_signed_messages import Keys, keys, known, node_of
from trishula import testing
from trishula.cli.message_text import text_of
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.deliveries import Delivery
from trishula.contract.encrypted import INFO, Box, around, encrypted_for, read_box
from trishula.contract.message import Message
from trishula.contract.signed import key_id
from trishula.hpke import ephemeral_of, private_of, public_of, seal_box
from trishula.key_file import new_key_file, read_key_file
from trishula.messaging.boxes import Boxes
from trishula.messaging.signing import Signer
from trishula.messaging.verifying import Verifier

__all__ = ["keys"]


class Reader:
    """An agent with a key, that says what it has read, and whether it came encrypted."""

    def __init__(self, keys: Keys, **more: Any) -> None:
        given: dict[str, Any] = {"key_file": keys.agni, "trusted_keys": keys.trusted, **more}
        self.agent = agent = trishula.Agent("agni", **given)
        self.heard: list[tuple[Any, bool, str | None]] = []

        @agent.procedure()
        async def open_door(code: str) -> dict[str, str]:
            if code == "wrong":
                raise ValueError("the door stays closed: wrong")
            return {"opened with": code}

        @agent.on("STATUS")
        async def heard(message: Message) -> None:
            self.heard.append((message.payload, message.encrypted, message.signed_by))
            if message.payload == "fail":
                raise ValueError("the secret is fail")


def bodies_of(bus: testing.MemoryBus) -> str:
    """All that the node has of messages."""
    return json.dumps([body.decode() for body in node_of(bus).store._bodies.values()])  # type: ignore[attr-defined]


def test_arguments_and_answers_are_read_by_the_two_alone(keys: Keys) -> None:
    async def main() -> None:
        reader = Reader(keys)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(reader.agent):
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            answer = await dc.call_with("agni", "open_door", ["4711"], encrypt=True)
            assert answer == {"opened with": "4711"}
            with pytest.raises(trishula.TrishulaError, match="the door stays closed: wrong"):
                await dc.call_with("agni", "open_door", ["wrong"], encrypt=True)
            receipt = await dc.send("agni", payload={"pin": "4711", "at": 1.0}, subject="a pin", encrypt=True)
            await bus.idle()
            assert reader.heard == [({"pin": "4711", "at": 1.0}, True, "dc")]
            kept = bodies_of(bus)
            assert "encrypted_for" in kept and "a pin" in kept and "open_door" in kept
            assert not any(secret in kept for secret in ("4711", "opened with", "door stays closed"))
            [life] = bus.why(receipt.id)["messages"]
            assert life["events"][0]["encrypted"] is True
            key = bytes(range(256))
            await dc.send("agni", payload={"key": [key, "AAEC"]}, encrypt=True)
            await bus.idle()
            assert reader.heard[1:] == [({"key": [key, "AAEC"]}, True, "dc")]
            assert await dc.call("agni", "open_door", "0000") == {"opened with": "0000"}
            assert "0000" in bodies_of(bus)

    in_own_loop(main)


@pytest.mark.parametrize(
    ("payload", "more", "outcome"),
    [
        ("made up", {"type": "RESULT"}, "is not encrypted: anybody may have made it up, and it is not taken"),
        (
            {"error": "ValueError", "message": "made up"},
            {"type": "ERROR"},
            "is not encrypted: anybody may have made it",
        ),
        ({"error": "ValueError", "message": "in the clear"}, {"type": "ERROR", "by": "agni"}, "in the clear"),
        ("in the clear", {"type": "RESULT", "by": "agni"}, "is not encrypted: anybody may have made it up"),
        (
            {"error": trishula.DeadLetter.uri, "message": "it is a dead letter"},
            {"type": "ERROR", "id": "node:n:e:1:dead"},
            "it is a dead letter",
        ),
    ],
)
def test_an_answer_in_the_clear_to_what_was_encrypted_is_not_taken(
    keys: Keys, payload: Any, more: dict[str, str], outcome: str
) -> None:
    # What a node makes up that wants to be believed; dc asks for signatures of nothing.
    async def main() -> None:
        async with testing.bus(agents=["agni", "dc"]) as bus:
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            calling = asyncio.ensure_future(dc.call_with("agni", "open_door", ["1"], id="c", encrypt=True))
            await bus.idle()
            wire = {"id": "a", "from": "agni", "to": str(dc.address), "reply_to": "c", "payload": payload, **more}
            wire["timestamp"] = round(bus.now.timestamp() * 1000)
            signature = None
            if wire.pop("by", None):
                signature = Signer(keys.agni, "agni").signature_of(msgspec.msgpack.encode(wire))
            delivery = {"message": wire, "attempt": 1, "token": "9.x", "signature": signature}
            assert dc._client is not None
            dc._client._beneath().receiving.pushed([delivery])
            with pytest.raises(trishula.TrishulaError, match=outcome):
                await asyncio.wait_for(calling, 5)

    in_own_loop(main)


def test_an_answer_that_can_not_be_encrypted_ends_its_call_and_says_nothing(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = keys.trusted.with_name("of_agni.json")
    trusted.write_text(keys.trusted.read_text())

    async def main() -> None:
        reader = Reader(keys, trusted_keys=trusted)

        @reader.agent.procedure()
        async def forgets(how: str) -> str:
            if how == "distrust":
                known(trusted).forget("dc", keys.public("dc"))
            else:
                trusted.write_text("{")
            if how == "fail":
                raise ValueError("the secret is 4711")
            return "the secret is 4711"

        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(reader.agent):
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            for how in ("distrust", "break", "fail"):
                trusted.write_text(keys.trusted.read_text())
                with pytest.raises(trishula.CallFailed, match="its answer could not be encrypted"):
                    await dc.call_with("agni", "forgets", [how], id=how, encrypt=True)
                await bus.idle()
                assert bus.state(how) == "done"
            assert "4711" not in bodies_of(bus)
        assert "can't be encrypted" in caplog.text

    in_own_loop(main)


def test_it_says_for_whom_it_is_encrypted(keys: Keys) -> None:
    async def main() -> None:
        async with testing.bus({"agni": testing.Grants(), "dc": testing.Grants()}) as bus:
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            await dc.send("agni", payload="secret", encrypt=True)
            [shown] = (await bus.client("agni").request(uris.MAILBOX_PEEK))["messages"]
            assert shown["message"]["payload"]["encrypted_for"] == "agni"
            text = str(text_of(msgspec.convert(shown["message"], Message), 0))
            assert text.endswith("encrypted for agni") and "signed" not in text
            agni = bus.client("agni", key_file=keys.agni, trusted_keys=keys.trusted)
            await agni.stop()
            agni = bus.client("agni", key_file=keys.agni, trusted_keys=keys.trusted)
            [taken] = (await agni.fetch()).deliveries
            text = str(text_of(taken.message, 1))
            assert "(signed, and encrypted on its way)" in text and text.endswith("secret")

    in_own_loop(main)


def test_a_repeat_from_another_process_is_a_duplicate_and_other_contents_are_none(keys: Keys) -> None:
    async def main() -> None:
        async with testing.bus(agents=["agni", "dc"]) as bus:
            for payload, status in (({"a": 1, "b": 2}, "accepted"), ({"b": 2, "a": 1}, "duplicate")):
                dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
                receipt = await dc.send("agni", payload=payload, id="once", encrypt=True)
                assert receipt.status == status
            with pytest.raises(trishula.IdReused):
                await dc.send("agni", payload={"a": 1, "b": 3}, id="once", encrypt=True)

    in_own_loop(main)


def test_what_cannot_be_encrypted_is_refused_with_a_sentence(keys: Keys) -> None:
    async def main() -> None:
        async with testing.bus(agents=["agni", "dc", "boss"]) as bus:
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            for to in ("broadcast", "capability:deploy"):
                with pytest.raises(trishula.ArgumentInvalid, match=f"a message to {to} can't be encrypted, because a"):
                    await dc.send(to, payload=1, encrypt=True)
            with pytest.raises(trishula.ArgumentInvalid, match="no key of boss is known here: make it known"):
                await dc.send("boss", payload=1, encrypt=True)
            with pytest.raises(trishula.PayloadNotJson):
                await dc.send("agni", payload={1}, encrypt=True)
            without = bus.client("boss", trusted_keys=keys.trusted)
            with pytest.raises(trishula.ArgumentInvalid, match=r"boss/.* can't encrypt: name its own key in key_file"):
                await without.send("agni", payload=1, encrypt=True)

    in_own_loop(main)


def test_who_has_no_key_reads_nothing_and_gives_it_back(keys: Keys) -> None:
    async def main() -> None:
        for more, reason in (
            (
                {"key_file": None, "trusted_keys": None},
                "agni has no key here: key_file and trusted_keys are to be named",
            ),
            ({"key_file": None}, "agni has no key here: key_file and trusted_keys are to be named"),
            ({"key_file": keys.dc}, "which agni doesn't have"),
        ):
            reader = Reader(keys, **more)
            async with testing.bus(agents=["agni", "dc"], delivery={"max_attempts": 2}) as bus, bus.run(reader.agent):
                dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
                await dc.send("agni", payload="secret", encrypt=True)
                await bus.advance(minutes=2)
                assert reader.heard == []
                [letter] = bus.dead_letters("agni")
                assert letter.reason.startswith("2 of 2 attempts failed, the last one: not decrypted: ")
                assert letter.reason.endswith(reason)

    in_own_loop(main)


def test_what_a_handler_says_of_it_stays_here(keys: Keys) -> None:
    async def main() -> None:
        reader = Reader(keys)
        async with testing.bus(agents=["agni", "dc"], delivery={"max_attempts": 1}) as bus, bus.run(reader.agent):
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            for encrypt in (True, False):
                await dc.send("agni", payload="fail", encrypt=encrypt)
                await bus.idle()
            reasons = [letter.reason.partition("the last one: ")[2] for letter in bus.dead_letters("agni")]
            assert reasons == ["heard raised ValueError", "heard raised ValueError: the secret is fail"]

    in_own_loop(main)


def test_an_agent_changes_its_key_without_a_break(keys: Keys, tmp_path: Path) -> None:
    new = tmp_path / "new.key"
    public = bytes.fromhex(new_key_file(new).public)

    async def main() -> None:
        reader = Reader(keys, key_file=[new, keys.agni])
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(reader.agent):
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            await dc.send("agni", payload="for the old key", encrypt=True)
            known(keys.trusted).trust("agni", public)
            await dc.send("agni", payload="for the new key", encrypt=True)
            await bus.idle()
            assert [payload for payload, _, _ in reader.heard] == ["for the old key", "for the new key"]

    in_own_loop(main)


def test_a_box_of_somebody_else_is_nobodys(keys: Keys, tmp_path: Path) -> None:
    # Surreptitious forwarding: boss takes dc's box, and sends it to agni as his own; or unsigned, as dc's.
    boss_key = tmp_path / "boss.key"
    known(keys.trusted).trust("boss", bytes.fromhex(new_key_file(boss_key).public))

    async def main() -> None:
        reader = Reader(keys)
        async with testing.bus(agents=["agni", "dc", "boss"], delivery={"max_attempts": 1}) as bus:
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=keys.trusted)
            sent = await dc.send("agni", payload="from dc", encrypt=True)
            [entry] = node_of(bus).mailroom.mailbox("agni")._waiting.values()
            assert entry.wire is not None
            box = dict(entry.wire["payload"])
            await dc.cancel(sent.id)
            boss = bus.client("boss", key_file=boss_key, trusted_keys=keys.trusted)
            async with bus.run(reader.agent):
                await boss.send("agni", payload=box)
                await dc.send("agni", payload=box)
                await bus.client("dc").stop()
                await bus.client("dc").send("agni", payload=box)
                await bus.idle()
                assert reader.heard == []
                reasons = [letter.reason for letter in bus.dead_letters("agni")]
            assert ["or not for this message" in reason for reason in reasons] == [True, True, False]
            assert "signature refused: an encrypted message must be signed" in reasons[2]

    in_own_loop(main)


def test_the_form_of_boxes() -> None:
    others: list[Any] = [None, 1, "box", [], {}, {"box": "x"}, {"encrypted_for": "agni", "box": "x", "more": 1}]
    assert [encrypted_for(one) for one in others] == [None] * len(others)
    for text in (7, "", "2.x", f"1.{'0' * 16}.{'0' * 16}.{'A' * 42}.{'A' * 30}"):
        payload: dict[str, Any] = {"encrypted_for": "agni", "box": text}
        assert encrypted_for(payload) == "agni"
        assert read_box(payload) is None


def in_box(keys: Keys, plaintext: bytes, id: str) -> dict[str, Any]:
    """A message of dc's to agni whose box holds any bytes, signed, as it is delivered."""
    wire: dict[str, Any] = {"type": "STATUS", "id": id, "to": "agni", "from": "dc", "timestamp": now_ms()}
    dc, theirs = read_key_file(keys.dc), keys.public("agni")
    aad = around(wire, "dc")
    enc, ciphertext = seal_box(
        plaintext,
        sender=private_of(dc.seed()),
        recipient=public_of(theirs),
        ephemeral=ephemeral_of(dc.seed(), public_of(theirs), aad, plaintext),
        info=INFO,
        aad=aad,
    )
    wire["payload"] = Box(key_id(dc.public), key_id(theirs.hex()), enc, ciphertext).payload("agni")
    return delivered(keys, wire)


def delivered(keys: Keys, wire: dict[str, Any]) -> dict[str, Any]:
    signature = Signer(keys.dc, "dc").signature_of(msgspec.msgpack.encode(wire))
    return {"message": wire, "attempt": 1, "token": wire["id"], "signature": signature}


def now_ms() -> int:
    return 1_800_000_000_000


def sorted_by_agni(keys: Keys, *raw: dict[str, Any]) -> tuple[list[Any], list[tuple[str, str]]]:
    """The payloads that agni's handlers would get, and what is refused: by which token, and why."""
    boxes = Boxes([keys.agni], keys.trusted, "agni")
    verifier = Verifier(keys.trusted, ("STATUS",), Address("agni"), now_ms, boxes)
    good, refused = verifier.sorted([msgspec.convert(one, Delivery) for one in raw])
    return [one.message.payload for one in good], [(token, one.reason) for token, one in refused]


@pytest.mark.parametrize(
    "plaintext",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 101 + b"]" * 101,
        b"[9007199254740992]",
        b"{",
        b"NaN",
        b'"\\u0000x"',
        b"\xff",
    ],
)
def test_what_is_no_payload_is_none_in_a_box_either_and_takes_nothing_else_along(keys: Keys, plaintext: bytes) -> None:
    plain = delivered(keys, {"type": "STATUS", "id": "m", "to": "agni", "from": "dc", "timestamp": now_ms()})
    deepest = b"[" * 100 + b"]" * 100
    heard, refused = sorted_by_agni(keys, in_box(keys, plaintext, "bad"), plain, in_box(keys, deepest, "deepest"))
    assert heard == [None, json.loads(deepest)]
    assert refused == [("bad", "not decrypted: what dc has put into its box is no payload")]


def test_a_message_that_ends_its_judge_with_an_error_takes_nothing_else_along(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(self: Boxes, message: Message) -> Any:
        raise KeyError("surprise")

    monkeypatch.setattr(Boxes, "opened", opened)
    plain = delivered(keys, {"type": "STATUS", "id": "m", "to": "agni", "from": "dc", "timestamp": now_ms()})
    heard, refused = sorted_by_agni(keys, in_box(keys, b"1", "bad"), plain)
    assert (heard, refused) == ([None], [("bad", "signature refused: judging it ended with KeyError")])
    assert "The STATUS bad from dc can't be judged" in caplog.text


def test_a_payload_of_any_depth_under_a_signature_is_refused_alone(keys: Keys) -> None:
    deep: Any = 1.5
    for _ in range(5000):
        deep = [deep]
    plain = delivered(keys, {"type": "STATUS", "id": "m", "to": "agni", "from": "dc", "timestamp": now_ms()})
    changed = {**plain, "message": {**plain["message"], "payload": None}, "token": "bad"}
    delivery = msgspec.convert(changed, Delivery)
    deepened = msgspec.structs.replace(delivery, message=msgspec.structs.replace(delivery.message, payload=deep))
    verifier = Verifier(keys.trusted, ("STATUS",), Address("agni"), now_ms, None)
    good, [(token, refused)] = verifier.sorted([deepened, msgspec.convert(plain, Delivery)])
    assert len(good) == 1 and token == "bad" and "it was changed or made up on the way" in refused.reason


def test_what_is_encrypted_is_read_on_while_somebody_edits_the_file_of_keys(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        reader = Reader(keys)
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(reader.agent):
            trusted = keys.trusted.with_name("of_dc.json")
            trusted.write_text(keys.trusted.read_text())
            dc = bus.client("dc", key_file=keys.dc, trusted_keys=trusted)
            keys.trusted.write_text("{")
            await dc.send("agni", payload="secret", encrypt=True)
            await bus.idle()
            assert reader.heard == [("secret", True, "dc")]
        assert "is no JSON" in caplog.text

    in_own_loop(main)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Boxes, Boxes]:
    folder = tmp_path_factory.mktemp("boxes")
    for name in ("dc", "agni"):
        public = new_key_file(folder / f"{name}.key").public
        known(folder / "trusted.json").trust(name, bytes.fromhex(public))
    dc, agni = (Boxes([folder / f"{name}.key"], folder / "trusted.json", name) for name in ("dc", "agni"))
    return dc, agni


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith("\x00")),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4),
        max_leaves=8,
    )
)  # fmt: skip
def test_what_comes_out_of_a_box_is_what_went_in(pair: tuple[Boxes, Boxes], payload: Any) -> None:
    dc, agni = pair
    wire = {"type": "STATUS", "id": "m", "to": "agni", "payload": payload}
    boxed = dc.seal(wire, 1_000_000)
    assert boxed == dc.seal(wire, 1_000_000)
    message = Message(type="STATUS", id="m", to="agni", sender="dc", payload=json.loads(json.dumps(boxed)))
    opened = agni.opened(message)
    assert opened == payload and json.dumps(opened, sort_keys=True) == json.dumps(payload, sort_keys=True)
    changes: list[dict[str, Any]] = [
        {"type": "ERROR"}, {"id": "n"}, {"to": "agni/x"}, {"sender": "dc/x"}, {"sender": "agni"},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ValueError):
            agni.opened(msgspec.structs.replace(message, **change))


def test_each_part_of_a_box_counts(pair: tuple[Boxes, Boxes]) -> None:
    dc, agni = pair
    boxed = dc.seal({"type": "STATUS", "id": "m", "to": "agni", "payload": os.urandom(20).hex()}, 1_000_000)
    for place in range(0, len(boxed["box"]), 7):
        text = boxed["box"]
        other = "B" if text[place] == "A" else "A"
        spoilt = {**boxed, "box": text[:place] + other + text[place + 1 :]}
        with pytest.raises(ValueError):
            agni.opened(Message(type="STATUS", id="m", to="agni", sender="dc", payload=spoilt))
