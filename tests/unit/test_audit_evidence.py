"""``audit.records`` of a node, and what the command line makes of it: files that anybody can check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula import errors
from trishula.contract import uris
from trishula.evidence.chain import ChainCheck
from trishula.evidence.signing import is_signed, statement
from trishula_router.settings.node_key import public_key_of
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def send(rig: Rig, count: int, first: int = 1) -> None:
    dc = rig.join("dc")
    for number in range(first, first + count):
        message = {
            "id": f"m{number}",
            "type": "STATUS",
            "from": "dc",
            "to": "agni",
            "timestamp": 1_700_000_000_000,
            "payload": {"n": number},
        }
        (receipt,) = rig.call(dc, uris.MAILBOX_SEND, [message])
        assert receipt["status"] == "accepted", receipt


def page_of(rig: Rig, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(rig.join("office", operator=True), uris.AUDIT_RECORDS, options)
    return told


def test_a_page_is_a_chain_from_what_is_before_it(rig: Rig) -> None:
    send(rig, 5)
    whole = page_of(rig)
    page = page_of(rig, after=2, limit=3)
    assert [record[0] for record in page["records"]] == [3, 4, 5]
    assert page["previous"] == whole["records"][1][4]
    chain = ChainCheck(bytes.fromhex(page["previous"]), 2)
    for sequence, at, kind, facts, digest in page["records"]:
        assert chain.follow(sequence, at, kind, facts.encode(), bytes.fromhex(digest)) is None


def test_what_is_signed_is_the_last_record_of_the_page(rig: Rig, tmp_path: Path) -> None:
    send(rig, 5)
    key = public_key_of(tmp_path / "crossbar")
    rig.node.crossbar_dir = tmp_path / "crossbar"
    page = page_of(rig, limit=4)
    assert (page["key"], page["node"], page["origin"], page["epoch"]) == (key, "single", "single", "epoch-1")
    last = bytes.fromhex(page["records"][-1][4])
    assert is_signed(key, statement("single", "single", "epoch-1", 4, last), page["signature"])


def test_a_node_without_a_key_signs_nothing(rig: Rig) -> None:
    page = page_of(rig)
    assert (page["key"], page["signature"]) == ("", "")


def test_a_damaged_key_is_told(rig: Rig, tmp_path: Path) -> None:
    rig.node.crossbar_dir = tmp_path
    with pytest.raises(errors.NodeFailed, match="nothing can be signed: the node's private key"):
        page_of(rig)


def test_bodies_come_for_who_asks(rig: Rig) -> None:
    send(rig, 2)
    assert "bodies" not in page_of(rig)
    assert [json.loads(body)["payload"] for body in page_of(rig, bodies=True)["bodies"]] == [{"n": 1}, {"n": 2}]


def test_behind_the_newest_record(rig: Rig) -> None:
    with pytest.raises(errors.ArgumentInvalid, match=r"options\.after is 5000, and the newest record"):
        page_of(rig, after=5000)


def test_a_journal_that_is_not_here(rig: Rig) -> None:
    with pytest.raises(errors.NodeUnknown, match='no journal of a node "elsewhere" here'):
        page_of(rig, node="elsewhere")


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 1001}, {"after": -1}, {"bodies": 1}])
def test_options_that_break_a_rule(rig: Rig, options: dict[str, Any]) -> None:
    with pytest.raises(errors.ArgumentInvalid, match=r"options\."):
        page_of(rig, **options)


def test_nothing_is_signed_over_a_damaged_record(rig: Rig) -> None:
    send(rig, 5)
    store = rig.store
    assert isinstance(store, MemoryStore)
    extract = store.extract

    def damaged(number: int, after: int, *, limit: int, limit_bytes: int) -> Any:
        def change(found: Any) -> Any:
            at, kind, facts, digest = found.records[2]
            found.records[2] = (at + 1, kind, facts, digest)
            return found

        return extract(number, after, limit=limit, limit_bytes=limit_bytes).addCallback(change)

    store.extract = damaged  # type: ignore[method-assign]
    with pytest.raises(errors.NodeFailed, match=r"record 3 .* doesn't match its digest: nothing is signed"):
        page_of(rig)
