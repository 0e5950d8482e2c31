"""What is taken out of a support bundle, and what stays."""

from __future__ import annotations

import pytest

from tests.support.certificates import Issuer
from trishula.doctor.redaction import REMOVED, Redaction, without_secrets

TOKEN = "agni.Zk3vQ1xY7uWm2pRt8sLd0aBcEfGhJk4N"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a token {TOKEN}, and more", f"a token agni.{REMOVED}, and more"),
        ("http://user:pass-word@proxy:3128/", f"http://{REMOVED}@proxy:3128/"),
        ("http://user:p@ss@proxy:3128/ and a@b", f"http://{REMOVED}@proxy:3128/ and a@b"),
        ("ws://agni:1/ws,ws://u:p@b:2/ws", f"ws://agni:1/ws,ws://{REMOVED}@b:2/ws"),
        ("login with smtp_password=hunter22, 3 times", f"login with smtp_password={REMOVED}, 3 times"),
        ("https://hooks.slack.com/services/T0/B0/abc refused", f"https://hooks.slack.com/{REMOVED} refused"),
        ("Proxy-Authorization: Basic dXNlcjpwYXNz", f"Proxy-Authorization: {REMOVED}"),
        ("sent Bearer abcdefghijkl to it", f"sent Bearer {REMOVED} to it"),
        ("private-key-ed25519: 00ff", f"private-key-ed25519: {REMOVED}"),
        ("the node agni listens on ws://127.0.0.1:8765/ws", "the node agni listens on ws://127.0.0.1:8765/ws"),
        (
            "trishula.error.mailbox_full at 2026-11-28T16:48:02.352Z",
            "trishula.error.mailbox_full at 2026-11-28T16:48:02.352Z",
        ),
    ],
)
def test_what_looks_like_a_secret(text: str, left: str) -> None:
    assert Redaction([]).text(text) == left


def test_a_private_key_in_pem_goes_also_if_its_end_is_cut_off() -> None:
    pem = Issuer("x").private_pem().decode()
    assert Redaction([]).text(f"before\n{pem}after") == f"before\n{REMOVED}\nafter"
    assert Redaction([]).text(pem[:100]) == REMOVED


def test_known_secrets_go_letter_by_letter_the_longest_first() -> None:
    redaction = Redaction(["hunter22", "hunter22-and-more", "abc", " \n"])
    assert redaction.text("hunter22-and-more hunter22 abc") == f"{REMOVED} {REMOVED} abc"


def test_what_stands_under_the_name_of_a_secret() -> None:
    value = {
        "token": "x",
        "token_file": "/etc/t",
        "notify": {"webhook": "https://hooks.example/T0/secret", "port": 1},
        "sha256": "9f86",
        "authorized_keys": ["ab"],
        "smtp_password": "p",
        "secrets": ["one", {"name": "two"}],
        "peers": ["agni"],
        "tokens": [{"sha256": "1"}],
        "url": "wss://agni/peer",
        "page": "https://hooks.example/T0/secret",
        "root": "https://agni/",
    }
    assert without_secrets(value) == {
        "token": REMOVED,
        "token_file": "/etc/t",
        "notify": {"webhook": REMOVED, "port": 1},
        "sha256": REMOVED,
        "authorized_keys": ["ab"],
        "smtp_password": REMOVED,
        "secrets": [REMOVED, {"name": "two"}],
        "peers": ["agni"],
        "tokens": [{"sha256": REMOVED}],
        "url": "wss://agni/peer",
        "page": f"https://hooks.example/{REMOVED}",
        "root": "https://agni",
    }
