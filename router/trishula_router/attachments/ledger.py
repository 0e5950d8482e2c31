"""What is known of attachments: which there are, whose, how far, and which messages name them. Policy, no I/O.

An attachment belongs to the agent that sent it: the same file of two agents is kept twice. So who knows a digest, and
has not the file, can neither find out whether it is here nor have it given to himself; and what counts for whom is
clear. Its life::

    begun → grows → complete → named by messages → named by none → gone

A part that doesn't get more is gone after ``attachments.unfinished``, and what no message names after
``attachments.unnamed``. A *link* says that a message names an attachment. It is kept from before the message is stored
until its body is gone, and looked at again and again, in small steps, whether that is so.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from trishula.contract.attached import AttachmentInfo
from trishula.contract.units import show_bytes
from trishula.errors import ArgumentInvalid, AttachmentsFull, AttachmentTooLarge, AttachmentUnknown, IdReused
from trishula_router.settings.attachments import AttachmentOptions

__all__ = ["LEAST_BYTES", "LINKS_PER_AGENT", "Attachment", "Key", "Ledger", "Link"]

#: (agent, digest).
Key = tuple[str, str]

#: Each counts for so much: a file takes a name and a block of the disk, however small it is.
LEAST_BYTES = 64 * 1024
#: So many messages of one agent may name attachments at a time; each link is some 300 bytes of memory.
LINKS_PER_AGENT = 10_000
#: A link may be older than its message, by as long as a slow disk takes at most.
_YOUNG_MS = 600_000
#: To find so many links to look at, so many times as many are gone through.
_LOOKED_AT = 20


@dataclass(slots=True)
class Attachment:
    """One file.

    Attributes:
        size_bytes: how large it is when it is complete.
        have_bytes: how much of it is here.
        is_complete: whether it is, is what its digest says, and is fsynced.
        touched_at: when it last grew, was named or was let go, in ms.
    """

    size_bytes: int
    have_bytes: int
    is_complete: bool
    touched_at: int

    @property
    def counts_bytes(self) -> int:
        """For how much it counts."""
        return max(self.size_bytes, LEAST_BYTES)


@dataclass(frozen=True, slots=True)
class Link:
    """A message names an attachment: the message of that id of the agent that sent both."""

    agent: str
    message_id: str
    info: AttachmentInfo
    at: int

    @property
    def key(self) -> Key:
        """Which attachment."""
        return self.agent, self.info.digest


class Ledger:
    """See the module's docstring; instants are ms.

    Args:
        options: how much is taken.
    """

    def __init__(self, options: AttachmentOptions) -> None:
        self._options = options
        self._held: dict[Key, Attachment] = {}
        self._of_agent: dict[str, int] = {}
        self._total_bytes = 0
        # In the order in which they are looked at; a plain dict whose first one goes to its end gets slower each time.
        self._links: OrderedDict[tuple[str, str], Link] = OrderedDict()
        self._links_of: dict[str, int] = {}
        # The ids of the messages that name an attachment, which may not be here: none is empty.
        self._names: dict[Key, set[str]] = {}

    # -- attachments ---------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Attachment | None:
        """One of them."""
        return self._held.get(key)

    def put(self, key: Key, attachment: Attachment) -> None:
        """There is one, found on the disk or begun."""
        self.forget(key)
        self._held[key] = attachment
        self._count(key[0], attachment.counts_bytes)

    def forget(self, key: Key) -> None:
        """It is gone."""
        gone = self._held.pop(key, None)
        if gone is not None:
            self._count(key[0], -gone.counts_bytes)

    def _count(self, agent: str, by_bytes: int) -> None:
        self._total_bytes += by_bytes
        left = self._of_agent.get(agent, 0) + by_bytes
        if left:
            self._of_agent[agent] = left
        else:
            self._of_agent.pop(agent, None)

    def admit(self, key: Key, size_bytes: int, free_bytes: int | None) -> Attachment | None:
        """Whether an agent may send a file.

        Args:
            key: whose, and which.
            size_bytes: how large it is.
            free_bytes: what the disk has left; ``None`` if nobody knows.

        Returns:
            what is here of it; ``None`` if it is to be begun.

        Raises:
            ArgumentInvalid: it is here with another size.
            AttachmentTooLarge, AttachmentsFull: why not.
        """
        agent, _ = key
        options = self._options
        if size_bytes > options.size_bytes:
            raise AttachmentTooLarge(
                f"the attachment has {show_bytes(size_bytes)}, and this node takes at most "
                f"{show_bytes(options.size_bytes)} (attachments.size)"
            )
        held = self._held.get(key)
        if held is not None:
            if held.size_bytes != size_bytes:
                raise ArgumentInvalid(
                    f"size_bytes is {size_bytes}, and the attachment of this digest was begun with {held.size_bytes}"
                )
            return held
        counts_bytes = max(size_bytes, LEAST_BYTES)
        mine_bytes = self._of_agent.get(agent, 0)
        if mine_bytes + counts_bytes > options.agent_bytes:
            raise AttachmentsFull(
                f"the attachments of {agent} take {show_bytes(mine_bytes)} at this node, and with "
                f"{show_bytes(size_bytes)} more it would be more than {show_bytes(options.agent_bytes)} "
                "(attachments.agent); wait until messages that name the earlier ones are handled and forgotten "
                "(retention.bodies)"
            )
        if self._total_bytes + counts_bytes > options.total_bytes:
            raise AttachmentsFull(
                f"the attachments at this node take {show_bytes(self._total_bytes)}, and with {show_bytes(size_bytes)} "
                f"more it would be more than {show_bytes(options.total_bytes)} (attachments.total)"
            )
        if free_bytes is not None and free_bytes - size_bytes < options.free_bytes:
            raise AttachmentsFull(
                f"the node's disk has {show_bytes(max(free_bytes, 0))} left, and with {show_bytes(size_bytes)} more "
                f"less than {show_bytes(options.free_bytes)} would stay free (attachments.free); make room on it"
            )
        return None

    # -- links ---------------------------------------------------------------------------------------------------------

    def link(self, agent: str, message_id: str) -> Link | None:
        """What a message names."""
        return self._links.get((agent, message_id))

    def check_named(self, agent: str, message_id: str, info: AttachmentInfo, path: str) -> None:
        """Whether a message may name an attachment.

        Args:
            agent: who sends it.
            message_id: its id.
            info: the attachment.
            path: where that stands in the request, for the refusal.

        Raises:
            AttachmentUnknown: it is not here, of that agent.
            AttachmentsFull: too many messages name some.
            IdReused: a message under that id names another one.
        """
        held = self._held.get((agent, info.digest))
        if held is None or not held.is_complete or held.size_bytes != info.size_bytes:
            have = "nothing" if held is None else f"{held.have_bytes} of {held.size_bytes} bytes"
            raise AttachmentUnknown(
                f"{path} names {info.digest} with {info.size_bytes} bytes, and this node has {have} of that from "
                f"{agent}; send the file first (attachment=PATH does so), also one that came from somebody else"
            )
        known = self._links.get((agent, message_id))
        if known is not None and known.info.digest != info.digest:
            raise IdReused(
                f"{path} names {info.digest}, and a message of {agent} under the id {message_id} names another "
                "attachment; take another id"
            )
        self.check_room(agent, message_id)

    def check_room(self, agent: str, message_id: str) -> None:
        """Whether one more message may name an attachment.

        Raises:
            AttachmentsFull: too many messages name some.
        """
        if (agent, message_id) not in self._links and self._links_of.get(agent, 0) >= LINKS_PER_AGENT:
            raise AttachmentsFull(
                f"{LINKS_PER_AGENT} messages of {agent} name attachments at this node, which is as many as may; wait "
                "until some are handled and forgotten (retention.bodies)"
            )

    def name(self, link: Link) -> None:
        """A message names an attachment."""
        key = link.agent, link.message_id
        before = self._links.get(key)
        if before is None:
            self._links_of[link.agent] = self._links_of.get(link.agent, 0) + 1
        elif before.key != link.key:
            self._drop_name(before)
        self._links[key] = link
        self._names.setdefault(link.key, set()).add(link.message_id)
        held = self._held.get(link.key)
        if held is not None:
            held.touched_at = link.at

    def unname(self, link: Link, now: int) -> None:
        """It does so no more: the message is gone, or is no more read."""
        if self._links.pop((link.agent, link.message_id), None) is None:
            return
        left = self._links_of[link.agent] - 1
        if left:
            self._links_of[link.agent] = left
        else:
            del self._links_of[link.agent]
        self._drop_name(link)
        held = self._held.get(link.key)
        if held is not None:
            held.touched_at = now

    def _drop_name(self, link: Link) -> None:
        names = self._names[link.key]
        names.discard(link.message_id)
        if not names:
            del self._names[link.key]

    def is_named(self, key: Key) -> bool:
        """Whether a message names an attachment."""
        return key in self._names

    def to_look_at(self, now: int, limit: int) -> list[Link]:
        """The links that were not looked at for longest; their turn comes again when all others had theirs."""
        due: list[Link] = []
        for _ in range(min(len(self._links), _LOOKED_AT * limit)):
            if len(due) >= limit:
                break
            key, link = next(iter(self._links.items()))
            # To the end, so that young ones are no obstacle.
            self._links.move_to_end(key)
            # One that is far ahead is of a clock that has been set back since.
            if abs(now - link.at) >= _YOUNG_MS:
                due.append(link)
        return due

    # -- what goes -----------------------------------------------------------------------------------------------------

    def is_over(self, key: Key, now: int) -> bool:
        """Whether nobody needs it any more."""
        held = self._held.get(key)
        if held is None or key in self._names:
            return False
        # A clock that was ahead has been set back since.
        held.touched_at = min(held.touched_at, now)
        patience_ms = self._options.unnamed_ms if held.is_complete else self._options.unfinished_ms
        return now - held.touched_at >= patience_ms

    def over(self, now: int, limit: int) -> list[Key]:
        """What nobody needs any more."""
        found: list[Key] = []
        for key in self._held:
            if self.is_over(key, now):
                found.append(key)
                if len(found) >= limit:
                    break
        return found

    def told(self) -> dict[str, int]:
        """Figures for ``node.status``."""
        return {
            "files": len(self._held),
            "complete": sum(held.is_complete for held in self._held.values()),
            "bytes": self._total_bytes,
            "limit_bytes": self._options.total_bytes,
            "links": len(self._links),
        }
