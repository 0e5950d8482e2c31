"""What is asked of the ``options`` of a WebSocket path: pings, sizes, no waiting, and how much may be packed.

``compression`` is Crossbar's own option for permessage-deflate. Each connection that has agreed to it has a compressor
and a decompressor of its own, which keep their windows as long as it lasts. zlib's own sizes take 300 KiB for each, of
strangers too, so smaller ones are to be named: a window of 4 KiB packs small messages nearly as well, because what is
alike in them is near.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

from trishula_router.settings.check_links import BATCH_BYTES
from trishula_router.settings.faults import MISSING, Fault

__all__ = ["check_websocket"]

#: What a message has besides its payload, with room to spare; a batch of small ones is what the client splits.
_ENVELOPE_BYTES = 64 * 1024
_LEAST_BITS, _MOST_BITS = 9, 12
_LEAST_LEVEL, _MOST_LEVEL = 1, 5
_DEFLATE = ("max_window_bits", "request_max_window_bits", "memory_level")
_FLAGS = ("no_context_takeover", "request_no_context_takeover")


def check_websocket(
    options: Mapping[str, object], path: str, *, payload_bytes: int, for_peers: bool
) -> Iterator[Fault]:
    """The faults of ``options``, which stand at ``path``.

    Args:
        options: Crossbar's.
        path: where they stand.
        payload_bytes: the node's ``limits.payload``.
        for_peers: whether it is the path at which peers come in.
    """
    for key in ("auto_ping_interval", "auto_ping_timeout"):
        value = options.get(key, MISSING)
        if not _is_count(value) or not 100 <= value <= 60_000:
            yield Fault(f"{path}.{key}", value, "it must be from 100 to 60000 ms: a frozen peer is noticed by pings")
    if options.get("tcp_nodelay", True) is not True:
        yield Fault(f"{path}.tcp_nodelay", options["tcp_nodelay"], "it must be true: small messages must not wait")
    if "compression" in options:
        yield from _check_compression(options["compression"], f"{path}.compression")
    least, around = _ENVELOPE_BYTES + payload_bytes, "the envelope around it"
    if for_peers:
        least, around = least + BATCH_BYTES, "a run of records with it"
    for key in ("max_frame_size", "max_message_size"):
        value = options.get(key, MISSING)
        if not _is_count(value) or value < least:
            yield Fault(f"{path}.{key}", value, f"it must be at least {least}: limits.payload and {around}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_compression(value: object, path: str) -> Iterator[Fault]:
    if not isinstance(value, Mapping) or set(value) != {"deflate"} or not isinstance(value["deflate"], Mapping):
        yield Fault(path, value, f'it must be {{"deflate": {{…}}}}, with {", ".join(_DEFLATE)}')
        return
    deflate = value["deflate"]
    for key in deflate:
        if key not in (*_DEFLATE, *_FLAGS):
            yield Fault(f"{path}.deflate.{key}", deflate[key], f"it must be one of {', '.join((*_DEFLATE, *_FLAGS))}")
    for key in _FLAGS:
        if not isinstance(deflate.get(key, False), bool):
            yield Fault(f"{path}.deflate.{key}", deflate[key], "it must be true or false")
    for key in _DEFLATE:
        least, most = (_LEAST_LEVEL, _MOST_LEVEL) if key == "memory_level" else (_LEAST_BITS, _MOST_BITS)
        found = deflate.get(key, MISSING)
        if not _is_count(found) or not least <= found <= most:
            yield Fault(
                f"{path}.deflate.{key}",
                found,
                f"it must be from {least} to {most}: each connection takes memory for it, a stranger's too",
            )
