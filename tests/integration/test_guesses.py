"""Guessing tokens on a real node: slow, on record, and no way to keep anybody out."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris
from trishula.errors import RateLimited, TokenInvalid

pytestmark = pytest.mark.node

GENEROUS_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path_factory.mktemp("guesses") / "state")
    for name in ("dc", "agni", "maya"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


def attempt(node: NodeProcess, name: str, token: str, source: str) -> list[Any]:
    """The answer to an attempt to join: a WELCOME or an ABORT."""
    with RawClient(node.url, source=source) as client:
        client.open()
        client.hello(name)
        assert client.receive()[0] == 4
        client.send([5, token, {}])
        return client.receive()


def guess(node: NodeProcess, name: str, source: str) -> str:
    answer = attempt(node, name, f"{name}.{secrets.token_urlsafe(24)}", source)
    assert answer[0] == 3, answer
    return str(answer[2])


def gets_in(node: NodeProcess, name: str, source: str) -> bool:
    return bool(attempt(node, name, node.tokens[name], source)[0] == 2)


def refused_of(node: NodeProcess, address: str) -> list[dict[str, Any]]:
    with RawClient(node.url, source="127.0.0.99") as boss:
        boss.open()
        boss.join("boss", node.tokens["boss"])
        page = boss.call(uris.AUDIT_QUERY, {"kind": "refused", "limit": 1000})
    return [record for record in page["records"] if record.get("address") == address]


def count_of(node: NodeProcess) -> int:
    with RawClient(node.url, source="127.0.0.99") as boss:
        boss.open()
        boss.join("boss", node.tokens["boss"])
        return int(boss.call(uris.NODE_STATUS)["connections"]["refused_joins"])


def test_guessing_goes_at_a_few_a_minute_and_keeps_nobody_out(node: NodeProcess) -> None:
    assert gets_in(node, "agni", "127.0.0.2")
    before, began_s = count_of(node), time.monotonic()
    told: Counter[str] = Counter()

    def hammer() -> None:
        while time.monotonic() - began_s < 5.0:
            told[guess(node, "dc", "127.0.0.2")] += 1

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    # Others, there and elsewhere, wait for nothing.
    for name, source in (("dc", "127.0.0.3"), ("maya", "127.0.0.2"), ("agni", "127.0.0.2")):
        assert gets_in(node, name, source)
    for thread in threads:
        thread.join()
    elapsed_s = time.monotonic() - began_s
    # 3, and then one after 1, 2, 4, … s.
    assert told[TokenInvalid.uri] <= 3 + elapsed_s
    assert told[RateLimited.uri] > 3 * told[TokenInvalid.uri]
    assert set(told) == {TokenInvalid.uri, RateLimited.uri}
    # Each is counted, and the journal is not full of them.
    assert count_of(node) - before == told.total()
    (record,) = refused_of(node, "127.0.0.2")
    assert (record["agent"], record["error"]) == ("dc", TokenInvalid.uri)
    # The right one waits there no longer than it is told.
    answer = attempt(node, "dc", node.tokens["dc"], "127.0.0.2")
    if answer[0] == 3:
        assert answer[2] == RateLimited.uri
        assert answer[1]["message"].endswith(" s")
        assert float(answer[1]["message"].split()[-2]) <= 20.1


def test_nobody_learns_which_names_are_agents(node: NodeProcess) -> None:
    assert [guess(node, "dc", "127.0.1.1") for _ in range(6)] == [guess(node, "nobody", "127.0.1.2") for _ in range(6)]
    sentences = [
        attempt(node, name, f"{name}.wrong", source)[1]["message"].replace(name, "…")
        for name, source in (("dc", "127.0.1.3"), ("nobody", "127.0.1.4"))
    ]
    assert sentences[0] == sentences[1]


def test_many_names_from_one_address_are_stopped_too(node: NodeProcess) -> None:
    told = [guess(node, f"name{number}", "127.0.1.5") for number in range(40)]
    assert told[:20] == [TokenInvalid.uri] * 20
    assert told[20:].count(RateLimited.uri) >= 17
    # An agent behind the same address is in at once.
    assert gets_in(node, "maya", "127.0.1.5")


def test_who_was_there_before_gets_in_again_while_others_guess_on_its_machine(node: NodeProcess) -> None:
    assert gets_in(node, "agni", "127.0.1.6")
    assert RateLimited.uri in [guess(node, "agni", "127.0.1.6") for _ in range(8)]
    assert gets_in(node, "agni", "127.0.1.6")


def test_one_connection_has_one_try(node: NodeProcess) -> None:
    with RawClient(node.url, source="127.0.1.7") as client:
        client.open()
        client.hello("dc")
        assert client.receive()[0] == 4
        client.send([5, "dc.wrong", {}])
        assert client.receive()[0] == 3
        with contextlib.suppress(OSError):
            client.hello("dc")
            client.send([5, node.tokens["dc"], {}])
        assert client.is_closed_within(GENEROUS_S)
    assert len(refused_of(node, "127.0.1.7")) == 1


@pytest.mark.parametrize("method", ["anonymous", "wampcra", "scram", "cryptosign"])
def test_what_the_router_refuses_by_itself_is_on_record_too(node: NodeProcess, method: str) -> None:
    before = count_of(node)
    source = f"127.0.2.{len(method)}"
    with RawClient(node.url, source=source) as client:
        client.open()
        client.send([1, uris.REALM, {"roles": {"caller": {}}, "authmethods": [method], "authid": "dc"}])
        assert client.receive()[0] == 3
    assert count_of(node) == before + 1
    deadline = time.monotonic() + GENEROUS_S
    while not refused_of(node, source) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(refused_of(node, source)) == 1
