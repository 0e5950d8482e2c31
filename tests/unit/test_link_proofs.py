"""What the ends of a link sign: good for one connection, for one end of it, and for nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trishula_router.upstream.link_proofs import CONNECTOR, LISTENER, Ends, channel_between, is_nonce

KEYS = {LISTENER: Ed25519PrivateKey.generate(), CONNECTOR: Ed25519PrivateKey.generate()}
PUBLIC = {part: key.public_key().public_bytes_raw().hex() for part, key in KEYS.items()}
ENDS = Ends("agni", "rushabdev", PUBLIC[LISTENER], PUBLIC[CONNECTOR], "aa" * 32, "bb" * 32, "no TLS")


def signed(ends: Ends, part: str) -> str:
    return KEYS[part].sign(ends.text(part)).hex()


@pytest.mark.parametrize("part", [LISTENER, CONNECTOR])
def test_each_end_proves_its_own_part(part: str) -> None:
    other = CONNECTOR if part == LISTENER else LISTENER
    assert ENDS.is_signed(part, signed(ENDS, part))
    assert not ENDS.is_signed(other, signed(ENDS, part))
    # Of one node that is both ends, neither proof stands for the other one.
    alone = dataclasses.replace(ENDS, connector_key=PUBLIC[LISTENER])
    assert not alone.is_signed(CONNECTOR, KEYS[LISTENER].sign(alone.text(LISTENER)).hex())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("listener", "dc"),
        ("connector", "dc"),
        ("listener_nonce", "ac" * 32),
        ("connector_nonce", "ac" * 32),
        ("channel", "TLS up to a proxy"),
        ("channel", "cc" * 32),
    ],
)
def test_a_proof_is_of_one_connection(field: str, value: str) -> None:
    other = dataclasses.replace(ENDS, **{field: value})
    for part in (LISTENER, CONNECTOR):
        assert not other.is_signed(part, signed(ENDS, part))


@pytest.mark.parametrize("signature", [None, 7, "", "zz" * 64, "00" * 64, b"00" * 64, "00" * 96, ["00" * 64]])
def test_what_is_no_signature_proves_nothing(signature: object) -> None:
    assert not ENDS.is_signed(LISTENER, signature)


def test_a_key_that_is_no_point_proves_nothing() -> None:
    ends = dataclasses.replace(ENDS, listener_key="ff" * 32)
    assert not ends.is_signed(LISTENER, "00" * 64)


def test_nothing_that_is_signed_here_is_a_challenge_of_plain_cryptosign() -> None:
    # Which is 32 bytes of somebody else's choice.
    assert all(len(ENDS.text(part)) > 64 for part in (LISTENER, CONNECTOR))
    assert ENDS.text(LISTENER).startswith(b"trishula: proof of a linked node, 1\nlistener\nagni\nrushabdev\n")


def test_the_channel_can_not_be_talked_away() -> None:
    none, proxy, own = channel_between(False, b"i"), channel_between(True, None), channel_between(True, b"i")
    assert len({none, proxy, own, channel_between(True, b"j")}) == 4
    assert channel_between(False, None) == none


@pytest.mark.parametrize(
    ("value", "expected"),
    [("ab" * 32, True), ("AB" * 32, False), ("ab" * 31, False), (7, False), ("ab" * 32 + "\n", False)],
)
def test_what_is_a_nonce(value: object, expected: bool) -> None:
    assert is_nonce(value) is expected
