"""``audit.records``: a run of a journal's records as evidence, which whoever gets it can check without the node.

The node signs one statement a page, of the last record in it, and only after it has found that the page is a chain.
What it signs is what its own store has, never anything that the caller says: so the caller, who puts a file together of
many pages, can leave out what it likes, and make nothing up. See :mod:`trishula.evidence.signing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from trishula.contract import uris
from trishula.contract.texts import LINE, show_value
from trishula.errors import ArgumentInvalid, NodeFailed, NodeUnknown
from trishula.evidence.archive import SegmentDamaged
from trishula.evidence.chain import ChainCheck
from trishula.evidence.signing import SigningKey, statement
from trishula_router.agents.callers import Caller, Verb
from trishula_router.archiving.reading import ArchiveReader, NotArchived
from trishula_router.mail.redaction import Redaction
from trishula_router.settings.node_key import KeyUnusable, read_signing_key
from trishula_router.store.runs import Extract, Origin
from trishula_router.verbs import arguments
from trishula_router.verbs.arguments import Options
from trishula_router.verbs.scalars import POSITION_RULE, Position, Text

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["EvidenceVerbs", "RecordsOptions", "RedactOptions"]

#: Facts and bodies of a page: one answer is one WebSocket message.
_PAGE_BYTES = 1024 * 1024


class RecordsOptions(Options, frozen=True, kw_only=True):
    """``audit.records``."""

    node: Text | None = None
    after: Position = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    bodies: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "node": "the name of a node",
        "after": POSITION_RULE,
        "limit": "an integer from 1 to 1000",
        "bodies": "true or false",
    }


class RedactOptions(Options, frozen=True, kw_only=True):
    """``audit.redact``."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=LINE)]
    sender: Text | None = msgspec.field(name="from", default=None)
    RULES: ClassVar[Mapping[str, str]] = {
        "reason": "why, one line of 1 to 500 characters",
        "from": "the sender's address",
    }


class EvidenceVerbs:
    """The procedures ``audit.records`` and ``audit.redact`` of one node.

    Args:
        node: whose journals they are.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._redaction = Redaction(node.store, node.now, node.attachments.sweep.redacted)
        self._key: SigningKey | None = None
        self._reader: ArchiveReader | None = None

    def by_uri(self) -> dict[str, Verb]:
        """Both of them, by their URIs."""
        return {uris.AUDIT_RECORDS: self._records, uris.AUDIT_REDACT: self._redact}

    async def _redact(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        message_id, raw = arguments.read_positional(args, "redact", 2, 2)
        options = arguments.read(RedactOptions, raw, "options")
        (checked,) = arguments.read_ids([message_id], "id", 1)
        return await self._redaction.redact(checked, options.sender, options.reason, caller.agent)

    async def _records(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "records", 0, 1)
        options = arguments.read(RecordsOptions, raw, "options")
        origin = self._origin_of(options.node)
        if options.after > origin.sequence:
            raise ArgumentInvalid(
                f"options.after is {options.after}, and the newest record of that journal here is {origin.sequence}"
            )
        if not origin.number and options.after < self._node.store.base().sequence:
            return self._page(origin, options, await self._archived(origin.epoch, options))
        extract = await self._node.store.extract(
            origin.number, options.after, limit=options.limit, limit_bytes=_PAGE_BYTES
        )
        if extract.rest is not None:
            raise NodeFailed(
                f"the records up to {extract.rest.until} of that journal are in the archive of {origin.node} alone; "
                "ask there, or for those behind them"
            )
        if not extract.records and options.after < origin.sequence:
            raise NodeFailed(
                f"record {options.after + 1} can't be read out of the store, which is damaged; `trishula audit verify` "
                "tells"
            )
        return self._page(origin, options, extract)

    async def _archived(self, epoch: str, options: RecordsOptions) -> Extract:
        """What the store has no more; there are no bodies of it."""
        archiver = self._node.archiver
        reader = self._reader = self._reader or ArchiveReader(archiver.segments.archive)
        try:
            page = await archiver.in_thread(lambda: reader.page(options.after, options.limit, _PAGE_BYTES))
        except (NotArchived, SegmentDamaged, OSError) as error:
            base = self._node.store.base().sequence
            raise NodeFailed(
                f"the records up to {base} are in the archive alone, and {error}; put the segment back, or export what "
                "is behind it (--since)"
            ) from None
        return Extract(epoch, options.after + 1, page.previous, page.records, {}, {}, {}, {})

    def _page(self, origin: Origin, options: RecordsOptions, extract: Extract) -> dict[str, Any]:
        # More than the limit come where a broadcast would be cut in two; the caller asked for an end.
        records = list(enumerate(extract.records[: options.limit], options.after + 1))
        chain = ChainCheck(extract.previous, options.after)
        for sequence, (at, kind, facts, digest) in records:
            if (what := chain.follow(sequence, at, kind, facts, digest)) is not None:
                raise NodeFailed(f"{what}: nothing is signed that leads over it; `trishula audit verify` tells more")
        last = records[-1][1][3] if records else extract.previous
        key = self._signing_key()
        owner = origin.node or self._node.config.node
        text = statement(self._node.config.node, owner, origin.epoch, options.after + len(records), last)
        told: dict[str, Any] = {
            "node": self._node.config.node,
            "origin": owner,
            "epoch": origin.epoch,
            "key": "" if key is None else key.public,
            "previous": extract.previous.hex(),
            "records": [
                [sequence, at, kind, facts.decode(), digest.hex()] for sequence, (at, kind, facts, digest) in records
            ],
            "signature": "" if key is None else key.sign(text),
            "high_water": origin.sequence,
        }
        if options.bodies:
            told["bodies"] = [body.decode() for body in extract.bodies.values()]
        return told

    def _origin_of(self, node: str | None) -> Origin:
        own, *copied = self._node.store.origins()
        if node in (None, self._node.config.node):
            return own
        # Of a store that was made anew there are several; the newest is the journal that the node writes.
        found = [origin for origin in copied if origin.node == node]
        if not found:
            raise NodeUnknown(
                f"there is no journal of a node {show_value(node)} here; `trishula node status` names the peers of "
                "this one"
            )
        return max(found, key=lambda origin: origin.number)

    def _signing_key(self) -> SigningKey | None:
        """The node's key; ``None`` for a node in memory, which has none."""
        directory = self._node.crossbar_dir
        if self._key is None and directory is not None:
            try:
                self._key = read_signing_key(directory)
            except KeyUnusable as error:
                raise NodeFailed(f"nothing can be signed: {error}") from None
        return self._key
