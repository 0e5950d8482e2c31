"""Payloads that only their recipient reads: closed on their way out, and opened on their way in.

Whose key a box is closed for says the file of trusted keys: of several keys of an agent the one that was trusted last.
A box is opened only in a message that its sender has signed (:mod:`trishula.messaging.verifying`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trishula.contract.addresses import BROADCAST, agent_of, is_capability
from trishula.contract.binary import marked, unmarked
from trishula.contract.encrypted import INFO, Box, around, read_box
from trishula.contract.message import Message
from trishula.contract.payload import pack
from trishula.contract.sealed import beside_box
from trishula.contract.signed import key_id
from trishula.errors import ArgumentInvalid, PayloadNotJson
from trishula.hpke import BoxSpoilt, ephemeral_of, file_key_of, open_box, private_of, public_of, seal_box
from trishula.key_file import AgentKey, read_key_file
from trishula.known_keys import KnownKeys
from trishula.settings import SettingsInvalid

__all__ = ["Boxes"]

# A map whose keys come in another order is the same one, and has to be in the same box.
_to_json = msgspec.json.Encoder(order="deterministic").encode


class Boxes:
    """Closes and opens the boxes of one address.

    Args:
        key_files: the agent's keys; it closes with the first one, and opens with each.
        trusted_keys: the file of others' keys.
        address: ours.

    Raises:
        SettingsInvalid: a file can't be used.
    """

    def __init__(self, key_files: Sequence[Path], trusted_keys: Path, address: str) -> None:
        try:
            self._keys: list[AgentKey] = [read_key_file(path) for path in key_files]
        except ValueError as error:
            raise SettingsInvalid(str(error)) from None
        self._known = KnownKeys(trusted_keys, SettingsInvalid, "trishula key trust")
        # Said at the start, and known from then on, whatever becomes of the file.
        self._known.agents()
        self._address = address

    def seal(self, wire: Mapping[str, Any], limit_bytes: int) -> dict[str, Any]:
        """The payload of a message, in a box.

        Args:
            wire: the message, with its id.
            limit_bytes: the most that the payload's JSON may have.

        Raises:
            ArgumentInvalid: it has no one recipient, or none whose key is known.
            PayloadNotJson, PayloadTooLarge: the payload is none.
        """
        to, keys = wire["to"], self._keys_of_reader(wire["to"])
        packed = pack(wire.get("payload"), path="message.payload", limit_bytes=limit_bytes)
        payload = msgspec.msgpack.decode(packed)
        plaintext = _to_json(marked(payload))
        own, aad = self._keys[0], around(wire, wire.get("from") or self._address)
        try:
            theirs = public_of(keys[-1])
            enc, ciphertext = seal_box(
                plaintext,
                sender=private_of(own.seed()),
                recipient=theirs,
                ephemeral=ephemeral_of(own.seed(), theirs, aad, plaintext),
                info=INFO,
                aad=aad,
            )
        except ValueError:
            raise _no_key(to, keys) from None
        box = Box(key_id(own.public), key_id(keys[-1].hex()), enc, ciphertext).payload(to)
        return {**box, **beside_box(payload)}

    def file_key(self, wire: Mapping[str, Any], digest: str) -> tuple[bytes, bytes]:
        """The key for the file of a message, whose payload :meth:`seal` closes, and what is around the box.

        Args:
            wire: the message, with its id; without its payload, perhaps.
            digest: of the file.

        Raises:
            ArgumentInvalid: as :meth:`seal`.
        """
        keys, aad = self._keys_of_reader(wire["to"]), around(wire, wire.get("from") or self._address)
        try:
            return file_key_of(self._keys[0].seed(), public_of(keys[-1]), aad, digest), aad
        except ValueError:
            raise _no_key(wire["to"], keys) from None

    def _keys_of_reader(self, to: object) -> Sequence[bytes]:
        """The keys of a message's recipient, the one that was trusted last behind the others.

        Raises:
            ArgumentInvalid: it has no one recipient, or none whose key is known.
        """
        if not isinstance(to, str) or to == BROADCAST or is_capability(to):
            raise ArgumentInvalid(
                f"a message to {to} can't be encrypted, because a box has one reader whose key is known: send to each "
                "agent by itself"
            )
        recipient = agent_of(to)
        # Not as it was read last: a key may just have been taken out.
        keys = self._known.of(recipient)
        if not keys:
            raise ArgumentInvalid(
                f"a message to {to} can't be encrypted, because no key of {recipient} is known here: make it known "
                f"with 'trishula key trust {recipient} KEY', where KEY is what 'trishula key show' prints there"
            )
        return keys

    def opened(self, message: Message) -> Any:
        """The payload that was in the box of a message.

        Raises:
            ValueError: it can't be opened; the sentence says why.
        """
        box = read_box(message.payload)
        if box is None:
            raise ValueError("it is encrypted in a way that is not known here")
        own = [key for key in self._keys if key_id(key.public) == box.recipient]
        if not own:
            raise ValueError(f"it is encrypted for the key {box.recipient}…, which {self._address} doesn't have")
        sender = agent_of(message.sender or "")
        aad = around({"type": message.type, "id": message.id, "to": message.to}, message.sender or "")
        for public in self._known.held(sender):
            if key_id(public.hex()) == box.sender:
                try:
                    opened = open_box(
                        box.ephemeral,
                        box.ciphertext,
                        sender=public_of(public),
                        recipient=private_of(own[0].seed()),
                        info=INFO,
                        aad=aad,
                    )
                except (BoxSpoilt, ValueError):
                    continue
                return _payload_in(opened, sender)
        raise ValueError(f"its box was not closed by a key of {sender} that is known here, or not for this message")


def _no_key(to: object, keys: Sequence[bytes]) -> ArgumentInvalid:
    return ArgumentInvalid(f"what is known as the key {keys[-1].hex()} of {agent_of(str(to))} is none")


def _payload_in(plaintext: bytes, sender: str) -> Any:
    try:
        payload = unmarked(msgspec.json.decode(plaintext))
        # No node could look at it. How long it may be, the box that it came in has shown.
        pack(payload, path="its payload", limit_bytes=sys.maxsize)
    except (ValueError, RecursionError, PayloadNotJson):
        # Without the place in it: a node reads why a message was refused.
        raise ValueError(f"what {sender} has put into its box is no payload") from None
    return payload
