"""The node's own Ed25519 key, by which its peers know it: Crossbar's key pair, in Crossbar's directory.

Crossbar makes it when it first starts. :func:`public_key_of` makes it before, so that an operator can give it to the
peers before anything runs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from trishula_router.settings.crossbar_import import importing_crossbar

__all__ = ["PLACEHOLDER_KEY", "KeyUnusable", "is_public_key", "public_key_of", "read_public_key"]

#: What stands in the shipped configurations where a peer's key belongs: 64 digits, and no key that anybody has.
PLACEHOLDER_KEY = "0" * 64


class KeyUnusable(Exception):
    """The key can't be read or made; the text says why, and what to do."""


def is_public_key(value: object) -> bool:
    """Whether it has the shape of one: 64 hexadecimal digits, in lower case as Crossbar writes them."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def read_public_key(crossbar_dir: Path) -> str | None:
    """The public key as its file says it; ``None`` if it isn't there, or not readable from here."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (crossbar_dir / "key.pub").read_text(encoding="utf-8").splitlines():
            tag, _, value = line.partition(":")
            if tag == "public-key-ed25519" and is_public_key(value.strip()):
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
