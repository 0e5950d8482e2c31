"""Canaries by files: whether what an agent writes into its outbox gets to another agent's inbox.

A canary is a file as a message is, in the form of v1 and signed, so that whoever carries messages carries it. It is of
type HEARTBEAT, which is handled by nodes alone: an agent or a bridge of an earlier release that gets one sets it aside
in ``rejected/``, and none delivers it to anybody. An agent that knows canaries removes it, whatever it is worth, and
tells its node of those that are for it and signed by a known key; no handler, archive or memory of ids sees one.

One that nobody has carried away goes when the next one to that agent is written, or the agent starts anew: a folder
whose files nobody moves holds one for each recipient.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from trishula.contract.message import Message
from trishula.errors import FileInvalid
from trishula.files.folder import OUTBOX, Folder
from trishula.files.signature import FileKey, verify
from trishula.files.v1 import Names, encode_v1, file_name_of, from_v1, read_map

__all__ = ["FileCanaries"]

_log = logging.getLogger("trishula")

_PREFIX, _SUBJECT = "canary-", "canary"
#: A canary has some hundred bytes.
_MOST_BYTES = 4096


class FileCanaries:
    """See the module's docstring. All of it blocks, but :meth:`take`.

    Args:
        folder: the agent's.
        agent: whose it is.
        key: what its files are signed with.
    """

    def __init__(self, folder: Folder, agent: str, key: FileKey) -> None:
        self._folder = folder
        self._agent = agent
        self._key = key
        # By recipient, the file of the last one.
        self._last: dict[str, str] = {}
        self._came: list[str] = []

    def write(self, canary: str, to: str, now_ms: int) -> None:
        """Put a canary into the outbox, in place of the last one to that agent.

        Args:
            canary: its id.
            to: the agent that it is for.
            now_ms: the wall clock.

        Raises:
            FolderUnusable: the folder can't be written to now.
        """
        message = Message(
            id=_PREFIX + canary,
            type="HEARTBEAT",
            sender=self._agent,
            to=to,
            subject=_SUBJECT,
            timestamp=now_ms,
            payload={"canary": canary},
        )
        found = self._key.sign(json.loads(encode_v1(message, Names())))
        last = self._last.pop(to, None)
        if last is not None:
            self._folder.remove(last)
        data = json.dumps(found, ensure_ascii=False, indent=1).encode() + b"\n"
        self._last[to] = self._folder.write_outbox(file_name_of(message.id, self._agent), data)

    def sweep(self) -> None:
        """Remove what an earlier run of the agent has left in its outbox."""
        with contextlib.suppress(OSError):
            for path in (self._folder.root / OUTBOX).glob(f"*{_PREFIX}*.json"):
                if path.is_file() and not path.is_symlink() and _canary_in(path.read_bytes()[: _MOST_BYTES + 1]):
                    path.unlink(missing_ok=True)

    def took(self, name: str, data: bytes, keys_of: Callable[[str], Sequence[bytes]]) -> bool:
        """Remove a file of the inbox if it is a canary; whether it is one.

        Args:
            name: the file's.
            data: what it holds.
            keys_of: the known keys of an agent.

        Raises:
            FolderUnusable: it can't be removed.
        """
        found = _canary_in(data)
        if found is None:
            return False
        raw, message = found
        self._folder.remove(name)
        sender, canary = message.sender or "", str(message.payload["canary"])
        if message.to != self._agent:
            _log.info("a canary of %s for %s came to the inbox of %s, and is removed", sender, message.to, self._agent)
        elif not verify(raw, keys_of(sender)):
            _log.warning(
                "a canary that says that it is from %s has no signature of a known key of %s, and counts as lost: make "
                "the key known with 'trishula files trust %s KEY'",
                *(sender, sender, sender),
            )
        else:
            self._came.append(canary)
        return True

    def take(self) -> list[str]:
        """The ids of the canaries that came since the last call."""
        came, self._came = self._came, []
        return came


def _canary_in(data: bytes) -> tuple[dict[str, Any], Message] | None:
    """A file's map and message if it is a canary."""
    if len(data) > _MOST_BYTES or b'"canary"' not in data:
        return None
    try:
        raw = read_map(data)
        # Signed is the map as it stands in the file.
        message = from_v1(dict(raw), Names())
    except FileInvalid:
        return None
    is_canary = message.type == "HEARTBEAT" and message.subject == _SUBJECT and isinstance(message.payload, dict)
    if not is_canary or not isinstance(message.payload.get("canary"), str):
        return None
    return json.loads(data.decode("utf-8-sig")), message
