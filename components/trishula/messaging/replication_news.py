"""What becomes of messages that have fewer copies than needed (:mod:`trishula.messaging.under_replicated`).

Their sender learns it in three ways: by the events that its node publishes for senders, once it has subscribed to them;
from the receipts of another offer; and on a new session by asking the node for their states, because they may have come
to their end while the sender was away. What is over, or has its copies, leaves the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trishula.contract.uris import MAILBOX_STATUS
from trishula.messaging.outbox import Outbox
from trishula.runtime.pending import Pending
from trishula.session.transport import Link

__all__ = ["ReplicationNews"]

#: A node that has not answered by then has trouble of its own; what it was asked for stays in the outbox.
_TIMEOUT_S = 30.0
#: Ids in one question.
_STATUS_BATCH = 1024
#: The states that a message doesn't leave any more.
_ENDS = frozenset({"done", "dead", "expired", "cancelled"})


class ReplicationNews:
    """See the module's docstring.

    Args:
        outbox: keeps the messages.
        wake: called when there is something to write down or to send.
    """

    def __init__(self, outbox: Outbox, wake: Callable[[], None]) -> None:
        self._outbox = outbox
        self._wake = wake

    def heard(self, reports: object) -> None:
        """What the node told of messages that we sent."""
        if not self._outbox.under_replicated:
            return
        ended = set()
        for report in reports if isinstance(reports, list) else []:
            if not isinstance(report, Mapping):
                continue
            if report.get("state") in _ENDS:
                ended.add(str(report.get("id")))
            elif report.get("state") == "copies" and isinstance(report.get("copies"), int):
                self._outbox.under_replicated.copied(str(report.get("id")), report["copies"])
        self._outbox.under_replicated.settled(ended, by_one=True)
        self._wake()

    def subscribed(self) -> None:
        """Events come from now on; what there was to tell before is in the receipts of another offer."""
        self._outbox.offer_under_replicated()
        self._wake()

    def ask(self, link: Link) -> None:
        """Ask for what came to its end while nobody listened: it is dropped, instead of being offered again."""
        ids = self._outbox.under_replicated.ids
        for begin in range(0, len(ids), _STATUS_BATCH):
            part = ids[begin : begin + _STATUS_BATCH]
            link.call(MAILBOX_STATUS, [part], timeout_s=_TIMEOUT_S).when_done(self._told)

    def _told(self, pending: Pending[Any]) -> None:
        states = pending.result() if pending.error is None else None
        if isinstance(states, Mapping):
            self._outbox.under_replicated.settled(
                {name for name, one in states.items() if isinstance(one, Mapping) and one.get("state") in _ENDS}
            )
