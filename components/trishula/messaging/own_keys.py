"""What signs, verifies and encrypts for a member of the bus, as its settings say; loaded only where there are keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trishula.contract.addresses import Address
from trishula.errors import ArgumentInvalid, TrishulaError
from trishula.settings import Settings

if TYPE_CHECKING:
    from trishula.messaging.boxes import Boxes
    from trishula.messaging.verifying import Verifier

__all__ = ["boxes_for_file", "boxes_of", "encrypting", "signing", "verifier_of"]


def signing(settings: Settings, address: str) -> Callable[[bytes], str | None]:
    """What makes the signature of an encoded message from an address; ``None`` for each if the agent has no key.

    Raises:
        SettingsInvalid: the key file can't be used.
    """
    if not settings.keys.key_files:
        return lambda _: None
    from trishula.messaging.signing import Signer

    return Signer(settings.keys.key_files[0], address).signature_of


def verifier_of(settings: Settings, address: Address, now_ms: Callable[[], int]) -> Verifier | None:
    """What looks at the signatures of messages to an address; ``None`` if nobody's keys are known.

    Raises:
        SettingsInvalid: the file of keys can't be used.
    """
    keys = settings.keys
    if keys.trusted_keys is None:
        return None
    from trishula.messaging.verifying import Verifier

    return Verifier(keys.trusted_keys, keys.require_signature, address, now_ms, boxes_of(settings, str(address)))


def encrypting(settings: Settings, address: str) -> Callable[[dict[str, Any], int], TrishulaError | None]:
    """What puts the payload of a message, which has its id, into a box that its recipient alone opens; or says why not.

    It takes the message, as it travels, and the most bytes that the payload may have.

    Raises:
        SettingsInvalid: a file of keys can't be used.
    """
    boxes = boxes_of(settings, address)

    def encrypt(wire: dict[str, Any], limit_bytes: int) -> TrishulaError | None:
        if boxes is None:
            return _no_keys(address)
        try:
            wire["payload"] = boxes.seal(wire, limit_bytes)
        except TrishulaError as error:
            return error
        return None

    return encrypt


def boxes_for_file(settings: Settings, address: str) -> Boxes:
    """What makes the keys of files that are sent encrypted.

    Raises:
        ArgumentInvalid: the agent has no key, or knows nobody's.
        SettingsInvalid: a file of keys can't be used.
    """
    boxes = boxes_of(settings, address)
    if boxes is None:
        raise _no_keys(address)
    return boxes


def _no_keys(address: str) -> ArgumentInvalid:
    return ArgumentInvalid(
        f"{address} can't encrypt: name its own key in key_file, and whose keys count in trusted_keys"
    )


def boxes_of(settings: Settings, address: str) -> Boxes | None:
    """What closes and opens encrypted payloads; ``None`` if the agent has no key, or knows nobody's.

    Raises:
        SettingsInvalid: a file can't be used.
    """
    keys = settings.keys
    if not keys.key_files or keys.trusted_keys is None:
        return None
    from trishula.messaging.boxes import Boxes

    return Boxes(keys.key_files, keys.trusted_keys, address)
