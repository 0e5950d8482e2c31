"""The node's own Ed25519 key, by which its peers know it: Crossbar's key pair, in Crossbar's directory.

Crossbar makes it when it first starts. :func:`public_key_of` makes it before, so that an operator can give it to the
peers before anything runs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from trishula.evidence.signing import SigningKey, is_public_key
from trishula_router.settings.crossbar_import import importing_crossbar

__all__ = ["PLACEHOLDER_KEY", "KeyUnusable", "is_public_key", "public_key_of", "read_public_key", "read_signing_key"]

#: What stands in the shipped configurations where a peer's key belongs: 64 digits, and no key that anybody has.
PLACEHOLDER_KEY = "0" * 64


class KeyUnusable(Exception):
    """The key can't be read or made; the text says why, and what to do."""


def read_public_key(crossbar_dir: Path) -> str | None:
    """The public key as its file says it; ``None`` if it isn't there, or not readable from here."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _value_in(crossbar_dir / "key.pub", "public-key-ed25519")
    return None


def read_signing_key(crossbar_dir: Path) -> SigningKey:
    """The pair, to sign with. Crossbar has it in its own process; the node's services are in another.

    Raises:
        KeyUnusable: the private key isn't there, can't be read, or is damaged.
    """
    path = crossbar_dir / "key.priv"
    try:
        value = _value_in(path, "private-key-ed25519")
    except OSError as error:
        raise KeyUnusable(f"the node's private key {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        value = None
    if value is None:
        # Nothing of the file may get into a sentence, and by it into a log.
        raise KeyUnusable(f"the node's private key {path} is damaged; put the file back from a backup")
    return SigningKey(bytes.fromhex(value))


def _value_in(path: Path, wanted: str) -> str | None:
    """What one of Crossbar's files of keys has under a tag, if that has the shape of a key."""
    for line in path.read_text(encoding="utf-8").splitlines():
        tag, _, value = line.partition(":")
        if tag == wanted and is_public_key(value.strip()):
            return value.strip()
    return None


def public_key_of(crossbar_dir: Path) -> str:
    """The public key of the node whose Crossbar directory that is; the pair is made if there is none yet.

    Raises:
        KeyUnusable: if it can't.
    """
    with importing_crossbar():
        from crossbar.common.key import _maybe_generate_node_key

    try:
        crossbar_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _, key = _maybe_generate_node_key(str(crossbar_dir))
    except OSError as error:
        raise KeyUnusable(f"the node's key in {crossbar_dir} can't be read or made: {error.strerror}") from None
    except Exception as error:
        # Any exception: Crossbar raises plain ones for a damaged file.
        raise KeyUnusable(
            f"the node's key in {crossbar_dir} is damaged ({error}); put the two files key.priv and key.pub back from "
            "a backup, or remove both and give the peers the new key"
        ) from None
    with contextlib.suppress(OSError):
        # Crossbar opens the public key to everybody; in a state directory all is its owner's alone.
        (crossbar_dir / "key.pub").chmod(0o600)
    return str(key.public_key())
