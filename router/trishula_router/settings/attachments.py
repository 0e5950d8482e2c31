"""The options of ``attachments``: whether a node takes files beside messages, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass

from trishula_router.settings.faults import Section

__all__ = ["AttachmentOptions", "parse_attachments"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class AttachmentOptions:
    """How much a node takes of files beside messages.

    Attributes:
        on: whether the node takes and hands out attachments; what is there stays where it is.
        size_bytes: the largest attachment.
        agent_bytes: how large all attachments are together that one agent has sent and that are kept; at least
            ``attachments.size``. Each counts as 64 KiB or more.
        total_bytes: how large all attachments of all agents are together; at least ``attachments.agent``.
        free_bytes: how much of the disk is left free: what would take of that is refused, so that attachments don't
            keep messages out.
        rate_bytes: how much a second one agent sends and fetches of attachments in the long run; what is faster waits.
        unfinished_ms: how long a part of an attachment is kept that doesn't get more.
        unnamed_ms: how long an attachment is kept that no message names; when the payload of the last one that named it
            is gone, the attachment goes with it.
    """

    on: bool = True
    size_bytes: int = 1024 * _MIB
    agent_bytes: int = 2 * 1024 * _MIB
    total_bytes: int = 8 * 1024 * _MIB
    free_bytes: int = 1024 * _MIB
    rate_bytes: int = 32 * _MIB
    unfinished_ms: int = 86_400_000
    unnamed_ms: int = 3_600_000


def parse_attachments(section: Section) -> AttachmentOptions:
    """Read ``attachments``; each fault is left with ``section``."""
    options = AttachmentOptions(
        on=section.flag("on", True),
        size_bytes=section.size_bytes("size", "1 GiB", "1 KiB", "1 GiB"),
        agent_bytes=section.size_bytes("agent", "2 GiB", "64 KiB", "1024 GiB"),
        total_bytes=section.size_bytes("total", "8 GiB", "64 KiB", "16384 GiB"),
        free_bytes=section.size_bytes("free", "1 GiB", "0 B", "1024 GiB"),
        rate_bytes=section.size_bytes("rate", "32 MiB", "64 KiB", "16 GiB"),
        unfinished_ms=round(section.duration_s("unfinished", "1d", "1s", "30d") * 1000),
        unnamed_ms=round(section.duration_s("unnamed", "1h", "1s", "30d") * 1000),
    )
    if options.agent_bytes < options.size_bytes:
        section.fault("agent", section.shown("agent", "2 GiB"), "it must be at least as large as attachments.size")
    if options.total_bytes < options.agent_bytes:
        section.fault("total", section.shown("total", "8 GiB"), "it must be at least as large as attachments.agent")
    section.close()
    return options
