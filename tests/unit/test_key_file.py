"""An agent's key file: made once, for its owner alone, in a form that OpenSSL reads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from trishula.key_file import AgentKey, is_signed, new_key_file, read_key_file


def test_a_key_is_read_as_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "agni.key"
    made = new_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    read = read_key_file(path)
    assert read.public == made.public
    assert read.seed() == made.seed()
    assert is_signed(bytes.fromhex(made.public), b"text", read.sign(b"text"))


def test_a_signature_is_of_one_key_and_one_text() -> None:
    key, other = AgentKey(bytes(32)), AgentKey(b"1" * 32)
    signature = key.sign(b"text")
    public = bytes.fromhex(key.public)
    assert signature == key.sign(b"text")
    assert is_signed(public, b"text", signature)
    assert not is_signed(public, b"texT", signature)
    assert not is_signed(bytes.fromhex(other.public), b"text", signature)
    assert not is_signed(b"short", b"text", signature)
    assert not is_signed(public, b"text", b"short")


def test_the_private_half_is_not_shown() -> None:
    key = AgentKey(b"s" * 32)
    assert repr(key) == f"<AgentKey {key.public}>"
    assert (b"s" * 32).hex() not in repr(vars(key))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_reads_and_writes_the_same_form(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.key", tmp_path / "theirs.key"
    made = new_key_file(ours)
    told = subprocess.run(
        ["openssl", "pkey", "-in", ours, "-pubout", "-outform", "DER"], capture_output=True, check=True, timeout=30
    )
    assert told.stdout[-32:].hex() == made.public
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", theirs], check=True, timeout=30)
    theirs.chmod(0o600)
    assert len(read_key_file(theirs).public) == 64


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agni.key"
    public = new_key_file(path).public
    with pytest.raises(ValueError, match=r"agni\.key is there already, and a key is never replaced: name another file"):
        new_key_file(path)
    assert read_key_file(path).public == public


def pem(private: Ed25519PrivateKey | X25519PrivateKey, password: bytes | None = None) -> bytes:
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (None, 0o600, "can't be read: No such file"),
        (b"", 0o600, "holds no Ed25519 key in PEM"),
        (b"\xff\x00" * 100_000, 0o600, "holds no Ed25519 key in PEM"),
        (pem(X25519PrivateKey.generate()), 0o600, "holds no Ed25519 key in PEM"),
        (pem(Ed25519PrivateKey.generate(), b"secret"), 0o600, "without a password; 'trishula key new FILE' makes one"),
        (pem(Ed25519PrivateKey.generate()), 0o640, "may be read or written by others than its owner: chmod 600 "),
        (pem(Ed25519PrivateKey.generate()), 0o602, "may be read or written by others than its owner: chmod 600 "),
    ],
)
def test_a_file_that_is_no_key_is_told(tmp_path: Path, content: bytes | None, mode: int, sentence: str) -> None:
    path = tmp_path / "agni.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ValueError) as caught:
        read_key_file(path)
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)


def test_a_place_that_takes_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be written: No such file"):
        new_key_file(tmp_path / "gone" / "agni.key")
