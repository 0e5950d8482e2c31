"""The grammar of names and addresses, at its edges."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.addresses import AGENT_RULE, INSTANCE_RULE, Address, is_agent_name, is_message_id


@pytest.mark.parametrize("name", ["a", "agni", "a1", "a_b", "dc", "a" * 63])
def test_names_of_agents(name: str) -> None:
    assert is_agent_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "Agni",
        "1a",
        "_a",
        "a-b",
        "a.b",
        "a/b",
        "a b",
        "a\n",
        "é",
        "a" * 64,
        "broadcast",
        "capability",
        None,
        7,
        b"a",
    ],
)
def test_not_names_of_agents(name: object) -> None:
    assert not is_agent_name(name)


@pytest.mark.parametrize("text", ["a", "A", "0", "_", ":", "-", "a.b", "20260210T000200Z_mac_agni", "x" * 128])
def test_ids(text: str) -> None:
    assert is_message_id(text)


@pytest.mark.parametrize("text", ["", ".", ".a", "..", "a/b", "a b", "a\n", "a\x00", "é", "x" * 129, None, 7, b"a"])
def test_not_ids(text: object) -> None:
    assert not is_message_id(text)


@given(st.text())
def test_an_id_never_is_a_path(text: str) -> None:
    if is_message_id(text):
        assert not set("/\\\0\n") & set(text)
        assert not text.startswith(".")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("agni", Address("agni")),
        ("agni/7f3a", Address("agni", "7f3a")),
        ("a/0", Address("a", "0")),
        ("a/b_c", Address("a", "b_c")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "an address is a string, not NoneType"),
        (7, "an address is a string, not int"),
        ("", f"an agent's name is {AGENT_RULE}"),
        ("Agni", f"an agent's name is {AGENT_RULE}"),
        ("broadcast", f"an agent's name is {AGENT_RULE}"),
        ("/x", f"an agent's name is {AGENT_RULE}"),
        ("agni/", f"an instance's name is {INSTANCE_RULE}"),
        ("agni/A", f"an instance's name is {INSTANCE_RULE}"),
        ("agni/_a", f"an instance's name is {INSTANCE_RULE}"),
        ("agni/a/b", f"an instance's name is {INSTANCE_RULE}"),
        ("agni/" + "a" * 33, f"an instance's name is {INSTANCE_RULE}"),
    ],
)
def test_not_addresses(text: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Address.parse(text)


@given(st.from_regex(r"[a-z][a-z0-9_]{0,62}(/[a-z0-9][a-z0-9_]{0,31})?", fullmatch=True))
def test_an_address_reads_back(text: str) -> None:
    if text.partition("/")[0] not in ("broadcast", "capability"):
        assert str(Address.parse(text)) == text
