"""What an agent has begun and not ended, kept where the end of its process can't take it along.

When a process dies in a handler, the node must learn which of the messages that it had that was: one message that kills
its agent each time must end, and those that only lay beside it must not. The process can't tell any more; its next run
can, from this file (``begun`` in the agent's directory).

It is written before each handler begins and after it ends, so it must cost next to nothing: the file is mapped into
memory, and a message is noted by a copy of some fifty bytes. The system has them as soon as they are copied, whatever
becomes of this process; a power cut may cost them, which costs the message nothing.

The same note says that a handler is through (:meth:`Begun.handled`), until that is in the agent's own file: many that
end one after the other are written there together (:mod:`trishula.consumer.gathered_memory`).

The file: a head with the name of the run that wrote it, then slots of :data:`_SLOT_BYTES`, each empty (it begins with
two zero bytes) or with a length, a sender, a zero byte and an id. The length has its first bit set when that one is
handled, and the last four bytes are a checksum of what it was; a former release takes such a slot for an empty one. The
file goes on telling of the last run until a node has heard that (:meth:`Begun.told`): a run that ends before that
leaves it as it was.
"""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path

from trishula.contract.addresses import agent_of

__all__ = ["Begun", "noted_handled"]

_log = logging.getLogger("trishula")

_FILE_NAME = "begun"
_HEAD_BYTES = 256
_SLOT_BYTES = 256
#: As many as a node takes in one list; what is begun beyond them at the same time is not noted.
_SLOTS = 1024
_SIZE_BYTES = _HEAD_BYTES + _SLOTS * _SLOT_BYTES
_MAGIC = b"trishula begun 1\n"
_EMPTY = b"\0\0"
#: The bit of a length that says "handled"; how long the checksum of such a one is, at the end of its slot.
_HANDLED = 0x8000
_CONTENT_BYTES = 4


class Begun:
    """See the module's docstring. Made by :meth:`open`, under the lock of the agent's file.

    Attributes:
        after: the run whose file this was; ``None`` if there was none, or it can't be read.
        left: (sender, id) of what that run had begun and not ended.
        left_handled: (sender, id, checksum of its content) of what that run had handled, and perhaps not in its file.
    """

    def __init__(self, memory: mmap.mmap, run: str) -> None:
        self._memory = memory
        self._run = run
        self._free = [_HEAD_BYTES + number * _SLOT_BYTES for number in reversed(range(_SLOTS))]
        self._is_ours = False
        self.after: str | None = None
        self.left: list[tuple[str, str]] = []
        self.left_handled: list[tuple[str, str, int]] = []
        self._read()

    @classmethod
    def open(cls, directory: Path, run: str) -> Begun | None:
        """Open, or make, the file; ``None`` where that can't be done: then a crash is told of no message.

        Args:
            directory: of the agent.
            run: names this run of the process; visible ASCII, up to 128.
        """
        path = directory / _FILE_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size != _SIZE_BYTES:
                    # Really written: to touch a page that the disk has no room for would end the process.
                    os.ftruncate(descriptor, 0)
                    rest = memoryview(bytes(_SIZE_BYTES))
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                memory = mmap.mmap(descriptor, _SIZE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.warning(
                "%s can't be used (%s): if this process ends in a handler, its node won't learn which message that was",
                path,
                error,
            )
            return None
        return cls(memory, run)

    def _read(self) -> None:
        memory = self._memory
        if memory[: len(_MAGIC)] != _MAGIC:
            return
        after = memory[len(_MAGIC) : _HEAD_BYTES].partition(b"\0")[0].decode("ascii", "replace")
        self.after = after or None
        for at in self._free:
            word = int.from_bytes(memory[at : at + 2], "big")
            length = word & ~_HANDLED
            if not 0 < length <= _SLOT_BYTES - 2:
                continue
            sender, _, message_id = memory[at + 2 : at + 2 + length].decode("utf-8", "replace").partition("\0")
            if word & _HANDLED:
                content = int.from_bytes(memory[at + _SLOT_BYTES - _CONTENT_BYTES : at + _SLOT_BYTES], "big")
                self.left_handled.append((sender, message_id, content))
            else:
                self.left.append((sender, message_id))

    def told(self) -> None:
        """A node knows what the last run left, or what comes now is not for it to judge: the file is this run's."""
        self.after, self.left, self.left_handled = None, [], []
        self._make_ours()

    def _make_ours(self) -> None:
        if self._is_ours:
            return
        self._is_ours = True
        # The name last: until it is there, the file is of nobody.
        self._memory[:_SIZE_BYTES] = bytes(_SIZE_BYTES)
        name = self._run.encode("ascii")
        self._memory[len(_MAGIC) : len(_MAGIC) + len(name)] = name
        self._memory[: len(_MAGIC)] = _MAGIC

    def begin(self, sender: str, message_id: str) -> int:
        """A handler begins; what to give to :meth:`end`."""
        data = f"{sender}\0{message_id}".encode()
        if not self._free or len(data) > _SLOT_BYTES - 2:
            return 0
        # Before any node was joined, with what came by a file: the last run's is told as we attach, if we come to it.
        self._make_ours()
        at = self._free.pop()
        self._memory[at + 2 : at + 2 + len(data)] = data
        self._memory[at : at + 2] = len(data).to_bytes(2, "big")
        return at

    def handled(self, at: int, content: int) -> bool:
        """It is through, and that is noted here until :meth:`end`; whether there was room for that.

        Args:
            at: of :meth:`begin`.
            content: a checksum of the message, of 32 bits.
        """
        memory = self._memory
        if not at or memory.closed:
            return False
        length = int.from_bytes(memory[at : at + 2], "big")
        if length > _SLOT_BYTES - 2 - _CONTENT_BYTES:
            return False
        memory[at + _SLOT_BYTES - _CONTENT_BYTES : at + _SLOT_BYTES] = content.to_bytes(_CONTENT_BYTES, "big")
        # The word last: until it is there, the message is one that has begun. All of it is in one byte.
        memory[at] = (length | _HANDLED) >> 8
        return True

    def end(self, at: int) -> None:
        """It ended, whichever way."""
        if at and not self._memory.closed:
            self._memory[at : at + 2] = _EMPTY
            self._free.append(at)

    def close(self) -> None:
        """Let the file go; what still runs stays noted."""
        self._free.clear()
        self._memory.close()


def noted_handled(directory: Path) -> frozenset[tuple[str, str]]:
    """What a process that has ended noted as handled, and perhaps had no time to write, (agent, id) each."""
    begun = Begun.open(directory, "") if (directory / _FILE_NAME).exists() else None
    if begun is None:
        return frozenset()
    begun.close()
    return frozenset((agent_of(sender), message_id) for sender, message_id, _ in begun.left_handled)
