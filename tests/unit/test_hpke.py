"""Boxes: RFC 9180's own example, and what other libraries make of ours."""

from __future__ import annotations

import os

import nacl.bindings
import pytest
from Crypto.Protocol import HPKE
from Crypto.PublicKey import ECC
from hypothesis import given
from hypothesis import strategies as st

from trishula.hpke import BoxSpoilt, ephemeral_of, open_box, private_of, public_of, seal_box
from trishula.key_file import AgentKey

#: RFC 9180, A.2.3: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, mode Auth, sequence 0.
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
EPHEMERAL = bytes.fromhex("c94619e1af28971c8fa7957192b7e62a71ca2dcdde0a7cc4a8a9e741d600ab13")
RECIPIENT = bytes.fromhex("3ca22a6d1cda1bb9480949ec5329d3bf0b080ca4c45879c95eddb55c70b80b82")
RECIPIENT_PUBLIC = bytes.fromhex("1a478716d63cb2e16786ee93004486dc151e988b34b475043d3e0175bdb01c44")
SENDER = bytes.fromhex("2def0cb58ffcf83d1062dd085c8aceca7f4c0c3fd05912d847b61f3e54121f05")
SENDER_PUBLIC = bytes.fromhex("f0f4f9e96c54aeed3f323de8534fffd7e0577e4ce269896716bcb95643c8712b")
ENC = bytes.fromhex("f7674cc8cd7baa5872d1f33dbaffe3314239f6197ddf5ded1746760bfc847e0e")
CIPHERTEXT = bytes.fromhex("ab1a13c9d4f01a87ec3440dbd756e2677bd2ecf9df0ce7ed73869b98e00c09be111cb9fdf077347aeb88e61bdf")
TEXT, AAD = b"Beauty is truth, truth beauty", b"Count-0"


def test_the_example_of_the_standard_holds() -> None:
    made = seal_box(TEXT, sender=SENDER, recipient=RECIPIENT_PUBLIC, ephemeral=EPHEMERAL, info=INFO, aad=AAD)
    assert made == (ENC, CIPHERTEXT)
    assert open_box(ENC, CIPHERTEXT, sender=SENDER_PUBLIC, recipient=RECIPIENT, info=INFO, aad=AAD) == TEXT


@given(st.binary(min_size=32, max_size=32))
def test_a_pair_has_the_usual_pair_for_encryption(seed: bytes) -> None:
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    assert public_of(public) == nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    ours, theirs = private_of(seed), nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(secret)
    assert nacl.bindings.crypto_scalarmult_base(ours) == nacl.bindings.crypto_scalarmult_base(theirs)
    assert public_of(public) == nacl.bindings.crypto_scalarmult_base(ours)


@given(text=st.binary(max_size=200), aad=st.binary(max_size=40), one=st.binary(min_size=32, max_size=32))
def test_another_library_opens_our_boxes_and_we_open_its(text: bytes, aad: bytes, one: bytes) -> None:
    dc, agni = AgentKey(one), AgentKey(bytes(range(32)))
    to, by = public_of(bytes.fromhex(agni.public)), public_of(bytes.fromhex(dc.public))
    their_key = ECC.construct(curve="Curve25519", seed=private_of(agni.seed()))  # type: ignore[arg-type]
    our_key = ECC.construct(curve="Curve25519", seed=private_of(dc.seed()))  # type: ignore[arg-type]
    enc, ciphertext = seal_box(
        text,
        sender=private_of(dc.seed()),
        recipient=to,
        ephemeral=ephemeral_of(dc.seed(), to, aad, text),
        info=INFO,
        aad=aad,
    )
    reader = HPKE.new(
        receiver_key=their_key, sender_key=our_key.public_key(), aead_id=HPKE.AEAD.CHACHA20_POLY1305, enc=enc, info=INFO
    )
    assert reader.unseal(ciphertext, aad) == text
    writer = HPKE.new(
        receiver_key=their_key.public_key(), sender_key=our_key, aead_id=HPKE.AEAD.CHACHA20_POLY1305, info=INFO
    )
    sealed = writer.seal(text, aad)
    assert open_box(writer.enc, sealed, sender=by, recipient=private_of(agni.seed()), info=INFO, aad=aad) == text


def test_a_box_opens_only_as_it_was_closed() -> None:
    enc, box = seal_box(TEXT, sender=SENDER, recipient=RECIPIENT_PUBLIC, ephemeral=EPHEMERAL, info=INFO, aad=AAD)
    good = {"sender": SENDER_PUBLIC, "recipient": RECIPIENT, "info": INFO, "aad": AAD}
    for key in good:
        with pytest.raises(BoxSpoilt):
            open_box(enc, box, **{**good, key: public_of(os.urandom(32)) if key == "sender" else b"1" * 32})
    for spoilt in (b"", box[:-1], box[:-1] + bytes([box[-1] ^ 1])):
        with pytest.raises(BoxSpoilt):
            open_box(enc, spoilt, **good)
    with pytest.raises(BoxSpoilt):
        open_box(bytes(32), box, **good)


def test_one_content_has_one_ephemeral_key_and_another_has_another() -> None:
    made = {
        ephemeral_of(seed, to, aad, text)
        for seed in (b"1" * 32, b"2" * 32)
        for to in (b"3" * 32, b"4" * 32)
        for aad in (b"a", b"b")
        for text in (b"c", b"d")
    }
    assert len(made) == 16
    assert ephemeral_of(b"1" * 32, b"3" * 32, b"a", b"c") in made


def test_what_is_no_key_is_refused() -> None:
    # The neutral point, which has no counterpart.
    with pytest.raises(ValueError):
        public_of((1).to_bytes(32, "little"))
