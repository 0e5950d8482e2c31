"""What a message says of the file that is attached to it: four keys in its payload; the file itself travels beside it.

::

    {"text": "the build", "attachment": {"digest": "sha256:9f86d081884c7d65…", "size_bytes": 67108864,
                                         "name": "build.tar", "media_type": "application/x-tar"}}

``digest`` is ``sha256:`` and the SHA-256 of the whole file in 64 hexadecimal digits, ``size_bytes`` how large it is;
``name`` and ``media_type`` may be missing. A map under the key ``attachment`` whose ``digest`` begins so names an
attachment; everything else there is the sender's own affair.

It stands in the payload, and not beside it, so that every node, client and folder of files carries it as it is, of
whichever release, and so that a signature covers it. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from trishula.contract.texts import LINE, UNSEEN, show_value
from trishula.errors import MessageInvalid

__all__ = [
    "ATTACHMENT",
    "DIGEST_RULE",
    "LARGEST_BYTES",
    "NAME_LENGTH",
    "AttachmentInfo",
    "attachment_of",
    "file_name_for",
    "is_digest",
]

#: The key of the payload.
ATTACHMENT = "attachment"
_MARK = "sha256:"
#: The largest that any node takes.
LARGEST_BYTES = 1024 * 1024 * 1024
NAME_LENGTH = 255
_DIGEST = r"^sha256:[0-9a-f]{64}\Z"
DIGEST_RULE = "'sha256:' and 64 hexadecimal digits in lower case, the SHA-256 of the file"
_RULE = (
    f"a map of digest ({DIGEST_RULE}), size_bytes (an integer from 0 to {LARGEST_BYTES}), and, where they are known, "
    f"name (one line of 1 to {NAME_LENGTH} characters) and media_type (one line of 1 to 100 characters)"
)
is_digest = re.compile(_DIGEST).match
#: What no file's name may have on one system or another.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z")
#: Most file systems take 255 bytes; what stands around a name while it is fetched needs some of them.
_NAME_BYTES = 180


class AttachmentInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a message says of its attachment; all of it is the sender's word.

    Attributes:
        digest: ``sha256:`` and the SHA-256 of the file, in hexadecimal.
        size_bytes: how large it is.
        name: what the sender calls it; see :func:`file_name_for` before it becomes a path.
        media_type: what the sender says that it is, such as ``text/csv``.
    """

    digest: Annotated[str, msgspec.Meta(pattern=_DIGEST)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BYTES)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LENGTH, pattern=LINE)] | None = None
    media_type: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=LINE)] | None = None

    def to_wire(self) -> dict[str, Any]:
        """The map that travels."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def attachment_of(payload: object, path: str = "payload") -> AttachmentInfo | None:
    """The attachment that a payload names; ``None`` if it names none.

    Args:
        payload: a message's.
        path: where it stands, for the refusal.

    Raises:
        MessageInvalid: it names one, and breaks the rule.
    """
    # For each message that comes.
    if not isinstance(payload, Mapping) or ATTACHMENT not in payload:
        return None
    raw = payload[ATTACHMENT]
    if not isinstance(raw, Mapping):
        return None
    digest = raw.get("digest")
    if not isinstance(digest, str) or not digest.startswith(_MARK):
        return None
    size = raw.get("size_bytes")
    if isinstance(size, float) and size.is_integer():
        # As Go, Lua and JavaScript send it.
        raw = {**raw, "size_bytes": int(size)}
    try:
        return msgspec.convert(raw, AttachmentInfo)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise MessageInvalid(f"{path}.{ATTACHMENT} is {show_value(raw)}; it must be {_RULE}") from None


def file_name_for(info: AttachmentInfo) -> str:
    """A name for a file in a directory of the receiver's, made of what the sender called it.

    It is one part of a path, never hidden, without characters that nobody sees, and no device of any system.
    """
    name = re.split(r"[/\\]", info.name or "")[-1]
    name = _FORBIDDEN.sub("_", UNSEEN.sub("", name)).strip(" .")
    while len(name.encode("utf-8", "replace")) > _NAME_BYTES:
        stem, dot, ending = name.rpartition(".")
        # Its kind stays readable, if there is one.
        name = f"{stem[:-1]}.{ending}" if dot and len(stem) > 1 and len(ending) < 20 else name[:-1]
    if _RESERVED.match(name):
        name = f"_{name}"
    return name or f"attachment-{info.digest.removeprefix(_MARK)[:16]}"
