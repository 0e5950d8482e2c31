"""An agent's own folder as it sees it: messages in and out, signed; all of it blocks, and runs in one thread at a time.

What comes in is taken only if it is for this agent, its signature is of a known key of its sender (or its sender is one
of the *unsigned*, named by whoever runs the agent), and it has not expired. Everything else goes to ``rejected/`` with
a sentence beside it: nothing is lost, and nothing is looked at twice.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from trishula.contract.addresses import BROADCAST, agent_of, is_nodes_own
from trishula.contract.message import DEFAULT_PAYLOAD_LIMIT_BYTES, MAIL_TYPES, Message
from trishula.contract.texts import one_line, show_value
from trishula.errors import FileInvalid
from trishula.files.canary_files import FileCanaries
from trishula.files.expiry import expired
from trishula.files.folder import OUTBOX, Folder
from trishula.files.signature import KEYS_FILE, FileKey, KnownKeys, verify
from trishula.files.v1 import (
    Names,
    encode_v1,
    file_name_of,
    from_v1,
    message_signature_in,
    read_map,
    with_message_signature,
)

__all__ = ["Arrived", "MailFolder"]

#: The largest payload with room for what stands around it, and for how JSON spells what is not ASCII.
_LARGEST_BYTES = 4 * DEFAULT_PAYLOAD_LIMIT_BYTES
#: Files read by one scan; the next one goes on.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message in the inbox that may be handled.

    Attributes:
        name: its file.
        message: the message.
        is_again: an earlier run of the agent had the file in its hands, and may have begun with it.
        signature: the message's own, at which nobody has looked.
    """

    name: str
    message: Message
    is_again: bool
    signature: str | None = None


class MailFolder:
    """See the module's docstring.

    Args:
        directory: with ``outbox/``, ``inbox/``, ``rejected/`` and ``archive/``; they are made.
        agent: whose it is.
        token: the agent's, of which the key of its signatures is derived.
        unsigned: agents whose files are taken without a signature.
        seconds: a clock for spans.
    """

    def __init__(
        self,
        directory: Path,
        agent: str,
        token: str,
        unsigned: Iterable[str] = (),
        *,
        seconds: Callable[[], float],
    ) -> None:
        self.directory = directory
        self._agent = agent
        self._folder = Folder(directory, seconds=seconds)
        self._key = FileKey.from_token(token)
        self._known = KnownKeys(directory / KEYS_FILE)
        self.canaries = FileCanaries(self._folder, agent, self._key)
        self._unsigned = frozenset(unsigned)
        self._names = Names()
        self._in_hand = directory / ".in-hand"
        self._in_hand_before: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Make the directories.

        Raises:
            FolderUnusable: they can't be made.
        """
        self._folder.prepare()
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._in_hand_before = frozenset(json.loads(self._in_hand.read_bytes()))
        self.canaries.sweep()

    # -- out -----------------------------------------------------------------------------------------------------------

    def write(self, encoded: bytes, number: int, now_ms: int, signature: str | None = None) -> bool:
        """Put a message of this agent into the outbox, signed; it is on the disk on return.

        Args:
            encoded: the message as it travels to a node, in MessagePack, without ``from``.
            number: its place in the order of sending; becomes its ``seq`` if it has none.
            now_ms: the wall clock.
            signature: the message's; that of the file is another one.

        Returns:
            ``False`` if it has expired already, so that nothing was written.

        Raises:
            FolderUnusable: the folder can't be written to now.
            FileInvalid: the message can't be a file.
        """
        message = msgspec.convert({**msgspec.msgpack.decode(encoded), "from": self._agent}, Message)
        if expired(message, now_ms) is not None:
            return False
        if message.seq is None:
            message = msgspec.structs.replace(message, seq=number)
        found = with_message_signature(json.loads(encode_v1(message, self._names)), signature)
        signed = self._key.sign(found)
        data = json.dumps(signed, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass") + b"\n"
        self._folder.write_outbox(file_name_of(message.id, self._agent), data)
        return True

    def withdraw(self, message_ids: Iterable[str]) -> None:
        """Take files out of the outbox that nobody has moved yet, for a node has their messages."""
        for message_id in message_ids:
            (self.directory / OUTBOX / file_name_of(message_id, self._agent)).unlink(missing_ok=True)

    # -- in ------------------------------------------------------------------------------------------------------------

    def read(self, known: Collection[str], now_ms: int) -> list[Arrived]:
        """The messages that came, those of a sender in its order; what can't be one of ours is rejected.

        Args:
            known: names of files that are in somebody's hands already.
            now_ms: the wall clock.

        Raises:
            FolderUnusable: the inbox can't be read now.
        """
        arrived: list[Arrived] = []
        names = [name for name in self._folder.scan_inbox() if name not in known]
        for name in names[:_AT_ONCE]:
            data = self._folder.read(name, _LARGEST_BYTES)
            if data is None or self.canaries.took(name, data, self._keys_of):
                continue
            try:
                message, signature = self._judged(data, now_ms)
                arrived.append(Arrived(name, message, name in self._in_hand_before, signature))
            except FileInvalid as error:
                self._folder.reject(name, str(error))
        if arrived:
            self._note([*known, *(one.name for one in arrived)])
        return sorted(arrived, key=_place)

    def _note(self, names: list[str]) -> None:
        """Note what is in hand from now on, so that a run after the end of this process knows it.

        Not synced: a power cut ends the handlers' effects of the last second as well. Where it can't be written, a
        message may be shown as a first attempt that is none.
        """
        beside = self._in_hand.with_name(".in-hand.tmp")
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps(names))
            beside.replace(self._in_hand)

    @property
    def is_changing(self) -> bool:
        """Whether files are there that may still be written to: another scan should come soon."""
        return self._folder.is_changing

    def _judged(self, data: bytes, now_ms: int) -> tuple[Message, str | None]:
        """The message of a file, and its own signature.

        Raises:
            FileInvalid: why it is rejected.
        """
        if len(data) > _LARGEST_BYTES:
            raise FileInvalid(f"the file has more than {_LARGEST_BYTES} bytes, which no message has")
        found = read_map(data)
        message = from_v1(found, self._names)
        sender = agent_of(message.sender or "")
        if not sender:
            raise FileInvalid(f"the message {message.id} doesn't say who it is from")
        if sender == self._agent:
            raise FileInvalid(f"the message {message.id} is from {sender} itself: its own files belong into its outbox")
        if message.to not in (self._agent, BROADCAST):
            raise FileInvalid(f"the message {message.id} is for {message.to}, and this is the inbox of {self._agent}")
        if message.type not in MAIL_TYPES:
            raise FileInvalid(f"the message {message.id} is of type {message.type}, which is handled by nodes alone")
        if is_nodes_own(message.id):
            raise FileInvalid(f"the message {message.id} has an id that a node alone may use, and no node writes files")
        if sender not in self._unsigned and not self._is_signed(data, self._known.of(sender)):
            raise FileInvalid(
                f"the message {message.id} says that it is from {sender}, and has no signature of a known key of "
                f"{sender}: make it known with 'trishula files trust {sender} KEY', where KEY is what 'trishula files "
                f"key' prints there, and move the file back"
            )
        late = expired(message, now_ms)
        if late is not None:
            raise FileInvalid(late)
        return message, message_signature_in(found)

    def _keys_of(self, sender: str) -> Sequence[bytes]:
        return self._known.of(sender)

    def _is_signed(self, data: bytes, keys: Sequence[bytes]) -> bool:
        return bool(keys) and verify(json.loads(data.decode("utf-8-sig")), keys)

    def archive(self, names: Iterable[str], now_ms: int) -> None:
        """Put files away whose messages are handled.

        Raises:
            FolderUnusable: it can't be done now.
        """
        at = datetime.fromtimestamp(now_ms / 1000, UTC)
        for name in names:
            self._folder.archive(name, at)

    def reject(self, name: str, sentence: str) -> None:
        """Set a file aside for good; ``sentence`` says why.

        Raises:
            FolderUnusable: it can't be done now.
        """
        self._folder.reject(name, one_line(sentence) or show_value(sentence))


def _place(one: Arrived) -> tuple[str, int, int, str]:
    """Where a file stands among the others: those of one sender in the order in which it sent them."""
    message = one.message
    return message.sender or "", message.timestamp or 0, message.seq or 0, one.name
