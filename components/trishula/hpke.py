"""Hybrid public key encryption, RFC 9180: mode Auth, X25519, HKDF-SHA256, ChaCha20-Poly1305, one message a context.

The sender's key takes part, so who can open a box knows who closed it. The agents' keys are Ed25519 keys: the pair for
X25519 that belongs to one is the usual one (libsodium's ``crypto_sign_ed25519_sk_to_curve25519`` and ``…_pk_…``).

It is written here, of the primitives of ``cryptography``, because that library's own HPKE has a random ephemeral key. A
message that is sent again under its id, by another process too, has to be the same message, also for a node that can't
look into it: so the ephemeral key is made of the sender's secret and of all that is in the box. Two boxes have one key
only if they are one box.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = ["BoxSpoilt", "ephemeral_of", "file_key_of", "open_box", "private_of", "public_of", "seal_box"]

_PRIME = 2**255 - 19
_KEM, _KDF, _AEAD = b"\x00\x20", b"\x00\x01", b"\x00\x03"
_KEM_SUITE = b"KEM" + _KEM
_SUITE = b"HPKE" + _KEM + _KDF + _AEAD
_AUTH = b"\x02"
_USE = b"trishula: ephemeral key, 1\n"
_FILE_USE = b"trishula: attachment key, 1\n"


class BoxSpoilt(ValueError):
    """A box can't be opened: by that key, of that sender, with that around it."""


def private_of(seed: bytes) -> bytes:
    """The X25519 private key that belongs to an Ed25519 one (32 bytes each)."""
    return hashlib.sha512(seed).digest()[:32]


def public_of(public: bytes) -> bytes:
    """The X25519 public key that belongs to an Ed25519 one (32 bytes each).

    Raises:
        ValueError: there is none.
    """
    y = int.from_bytes(public, "little") & (2**255 - 1)
    return ((1 + y) * pow(1 - y, -1, _PRIME) % _PRIME).to_bytes(32, "little")


def ephemeral_of(seed: bytes, recipient: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """The ephemeral private key of a box: a secret of its sender's, and another one for each content."""
    content = recipient + hashlib.sha256(aad).digest() + hashlib.sha256(plaintext).digest()
    return hmac.digest(hmac.digest(seed, _USE, "sha256"), content, "sha256")


def file_key_of(seed: bytes, recipient: bytes, aad: bytes, digest: str) -> bytes:
    """The key of a file that goes with a box, and is known by its digest: a secret of its sender's, likewise."""
    content = recipient + hashlib.sha256(aad).digest() + digest.encode()
    return hmac.digest(hmac.digest(seed, _FILE_USE, "sha256"), content, "sha256")


def seal_box(
    plaintext: bytes, *, sender: bytes, recipient: bytes, ephemeral: bytes, info: bytes, aad: bytes
) -> tuple[bytes, bytes]:
    """Close a box.

    Args:
        plaintext: what goes into it.
        sender: the sender's private key.
        recipient: the recipient's public key.
        ephemeral: the private key of this box alone.
        info: what boxes are for.
        aad: what must be around it when it is opened.

    Returns:
        the ephemeral public key, and the ciphertext.

    Raises:
        ValueError: one of the keys is none.
    """
    own, short = X25519PrivateKey.from_private_bytes(sender), X25519PrivateKey.from_private_bytes(ephemeral)
    theirs = X25519PublicKey.from_public_bytes(recipient)
    enc = short.public_key().public_bytes_raw()
    shared = short.exchange(theirs) + own.exchange(theirs)
    key, nonce = _schedule(shared, enc + recipient + own.public_key().public_bytes_raw(), info)
    return enc, ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def open_box(enc: bytes, ciphertext: bytes, *, sender: bytes, recipient: bytes, info: bytes, aad: bytes) -> bytes:
    """Open a box; ``sender`` is the sender's public key, ``recipient`` our private one.

    Raises:
        BoxSpoilt: it can't be opened.
    """
    try:
        own = X25519PrivateKey.from_private_bytes(recipient)
        shared = own.exchange(X25519PublicKey.from_public_bytes(enc))
        shared += own.exchange(X25519PublicKey.from_public_bytes(sender))
        key, nonce = _schedule(shared, enc + own.public_key().public_bytes_raw() + sender, info)
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise BoxSpoilt from None


def _schedule(shared: bytes, kem_context: bytes, info: bytes) -> tuple[bytes, bytes]:
    """The key and the nonce of the first, and only, message of a context."""
    secret = _expand(_KEM_SUITE, _extract(_KEM_SUITE, b"", b"eae_prk", shared), b"shared_secret", kem_context, 32)
    context = _AUTH + _extract(_SUITE, b"", b"psk_id_hash", b"") + _extract(_SUITE, b"", b"info_hash", info)
    schedule = _extract(_SUITE, secret, b"secret", b"")
    return _expand(_SUITE, schedule, b"key", context, 32), _expand(_SUITE, schedule, b"base_nonce", context, 12)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One block of HKDF is enough for each of them.
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labelled + b"\x01", "sha256")[:length]
