"""What an agent signs when it joins by its key, and which key it takes."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from trishula.contract.key_challenge import BINDING, CHANNEL, what_to_sign
from trishula.key_file import AgentKey, new_key_file
from trishula.session.identity import Proof, answer_to
from trishula.settings import Settings, SettingsInvalid, load

KEY = AgentKey(bytes(range(32)))
NONCE, OURS, ANOTHER = bytes([7]) * 32, bytes([9]) * 32, bytes([10]) * 32


def is_answer(answer: str, text: bytes) -> bool:
    try:
        VerifyKey(bytes.fromhex(KEY.public)).verify(text, bytes.fromhex(answer[:128]))
    except BadSignatureError:
        return False
    return True


@pytest.mark.parametrize(
    ("asked", "seen_by_client", "binding", "seen_by_node", "is_good"),
    [
        (False, None, None, None, True),
        (False, None, None, OURS, True),  # a client without TLS ids, such as one in a browser
        (True, OURS, BINDING, OURS, True),
        (True, OURS, None, None, True),  # its TLS ends at a proxy
        (True, OURS, BINDING, ANOTHER, False),  # in the middle, passing on every byte
        (True, OURS, None, ANOTHER, False),  # in the middle, saying that the node sees no TLS
        (False, OURS, None, ANOTHER, False),  # in the middle, asking the node for no binding
        (False, OURS, BINDING, ANOTHER, False),
    ],
)
def test_who_stands_in_the_middle_of_tls_can_not_pass_a_challenge_on(
    asked: bool, seen_by_client: bytes | None, binding: str | None, seen_by_node: bytes | None, is_good: bool
) -> None:
    answer = answer_to({"challenge": NONCE.hex(), "channel_binding": binding}, KEY, seen_by_client)
    assert is_answer(answer, what_to_sign(NONCE, asked=asked, channel=seen_by_node)) is is_good


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("binding", [BINDING, CHANNEL, None])
def test_no_challenge_that_the_middle_makes_up_gets_it_what_the_node_wants_signed(
    asked: bool, binding: str | None
) -> None:
    # It chooses what it asks the node for, and what it tells the agent, and knows the channels to both.
    wanted = what_to_sign(NONCE, asked=asked, channel=ANOTHER)
    to_proxy = hashlib.sha256(b"trishula: TLS up to a proxy").digest()
    made_up = [NONCE, wanted]
    for channel in (OURS, ANOTHER, to_proxy, xor(OURS, ANOTHER)):
        made_up += [xor(NONCE, channel), xor(wanted, channel)]
    for challenge in made_up:
        answer = answer_to({"challenge": challenge.hex(), "channel_binding": binding}, KEY, OURS)
        assert not is_answer(answer, wanted)
        # Nor is it what any node signs for, that tells of no binding.
        assert bytes.fromhex(answer[128:]) != challenge


def test_the_id_of_a_channel_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="the id of a TLS channel has 32 bytes, and not 12"):
        what_to_sign(NONCE, asked=True, channel=b"tls-finished")


@pytest.mark.parametrize("extra", [None, [], {}, {"challenge": 7}, {"challenge": "ab"}, {"challenge": "x" * 64}])
def test_what_is_no_challenge_is_not_signed(extra: object) -> None:
    with pytest.raises(ValueError):
        answer_to(extra, KEY, None)


def by_key(path: Path) -> Settings:
    return load(agent="dc", key_file=path, environ={}, home=path.parent)


def test_who_has_a_key_alone_sends_no_token_whatever_is_asked_for(tmp_path: Path) -> None:
    new_key_file(tmp_path / "dc.key")
    settings = by_key(tmp_path / "dc.key")
    proof = Proof(settings)
    assert proof.methods == ["cryptosign"] and settings.token == ""
    with pytest.raises(ValueError, match="the node asks for 'ticket', which was not offered"):
        proof.answer("ticket", {}, proof.key(), None)
    with_both = load(token="dc.secret", key_file=tmp_path / "dc.key", environ={}, home=tmp_path)
    assert (Proof(with_both).methods, Proof(with_both).key()) == (["ticket"], None)
    with pytest.raises(ValueError):
        Proof(with_both).answer("cryptosign", {"challenge": NONCE.hex()}, None, None)


def test_a_key_that_is_replaced_is_taken_at_the_next_join(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dc.key"
    first = new_key_file(path)
    proof = Proof(by_key(path))
    path.unlink()

    def now() -> str:
        found = proof.key()
        assert found is not None
        return found.public

    with caplog.at_level(logging.INFO, "trishula"):
        assert now() == first.public
        second = new_key_file(path)
        assert now() == now() == second.public
    assert caplog.messages == [
        f"{path} can't be read: No such file or directory; dc joins with the key that it had",
        f"dc joins with the new key of {path}",
    ]


def refusal(home: Path, **given: str) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load(environ={}, home=home, **given)
    return caught.value.sentence


def test_what_is_wrong_with_a_key_in_the_settings_is_said(tmp_path: Path) -> None:
    path = tmp_path / "dc.key"
    assert refusal(tmp_path, agent="dc", key_file=str(path)) == (
        f"the argument key_file can't be used: {path} can't be read: No such file or directory"
    )
    new_key_file(path)
    assert refusal(tmp_path, key_file=str(path)).startswith(
        f"{path} holds a key, which doesn't say whose it is: give the argument agent, set TRISHULA_AGENT"
    )
    token = "dc." + "aB3" * 12
    assert token not in (said := refusal(tmp_path, agent="dc", key_file=token))
    assert said.startswith("the argument key_file seems to hold a token (it is not shown)")
