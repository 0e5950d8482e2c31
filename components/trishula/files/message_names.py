"""The name of the file that a message lies in: made of its id, and safe on every file system.

A good name is one on each file system and for each tool: it differs from the names of other messages in more than case,
is reserved by no system, and doesn't look like a tool's own. And it is one message's alone: ids belong to agents, so an
id that is neither random nor begins with the time, as v1's do, may be another sender's too, and a tool that moves files
would write one over the other. Such a file's name has a hash of the id and the sender.
"""

from __future__ import annotations

import hashlib
import re

from trishula.contract.addresses import agent_of
from trishula.files.file_names import is_plain

__all__ = ["file_name_of"]

#: The bus's own random ids, and ids that begin with the time, as those of v1 do.
_OWN_ID = re.compile(r"\d+\.[0-9a-f]{8,64}")
_TIMED_ID = re.compile(r"\d{8}T\d{6}Z_[0-9a-z_.-]{1,100}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_SAFE = re.compile(r"[0-9a-z_-][0-9a-z_.-]{0,100}")


def file_name_of(message_id: str, sender: str | None = None) -> str:
    """What a message's file is called: ``<id>.json`` wherever that is a good name, and never a path.

    Args:
        message_id: one that keeps the rule of ids.
        sender: its sender's address, or the agent alone.
    """
    name = f"{message_id}.json"
    if (_OWN_ID.fullmatch(message_id) or _TIMED_ID.fullmatch(message_id)) and is_plain(name):
        return name
    mixed = hashlib.sha256(f"{message_id} {agent_of(sender or '')}".encode()).hexdigest()[:16]
    is_safe = _SAFE.fullmatch(message_id) is not None and _RESERVED.fullmatch(message_id) is None
    good = f"{message_id}.{mixed}.json"
    return good if is_safe and is_plain(good) else f"{mixed}.json"
