"""What signs and what verifies for one member of the bus, as its settings say; loaded only where there are keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trishula.contract.addresses import Address
from trishula.settings import Settings

if TYPE_CHECKING:
    from trishula.messaging.verifying import Verifier

__all__ = ["signing", "verifier_of"]


def signing(settings: Settings, address: str) -> Callable[[bytes], str | None]:
    """What makes the signature of an encoded message from an address; ``None`` for each if the agent has no key.

    Raises:
        SettingsInvalid: the key file can't be used.
    """
    if settings.keys.key_file is None:
        return lambda _: None
    from trishula.messaging.signing import Signer

    return Signer(settings.keys.key_file, address).signature_of


def verifier_of(settings: Settings, address: Address, now_ms: Callable[[], int]) -> Verifier | None:
    """What looks at the signatures of messages to an address; ``None`` if nobody's keys are known.

    Raises:
        SettingsInvalid: the file of keys can't be used.
    """
    keys = settings.keys
    if keys.trusted_keys is None:
        return None
    from trishula.messaging.verifying import Verifier

    return Verifier(keys.trusted_keys, keys.require_signature, address, now_ms)
