"""What becomes of sent messages, as the node tells it by events: to calls that wait, and to under-replicated messages.

Nobody subscribes before somebody wants to know: each message to a sender that listens costs its node an event.
"""

from __future__ import annotations

import logging
from typing import Any

from trishula.contract.uris import receipts_of
from trishula.messaging.live import Live
from trishula.messaging.pending_calls import Calls
from trishula.messaging.replication_news import ReplicationNews
from trishula.runtime.pending import Pending
from trishula.session.membership import Membership
from trishula.session.transport import LinkLost

__all__ = ["News"]

_log = logging.getLogger("trishula")


class News:
    """See the module's docstring.

    Args:
        agent: whose messages they are.
        member: knows what is heard already.
        live: subscribes.
        calls: hear of COMMANDs.
        copies: hears of what was accepted with fewer copies than needed.
    """

    def __init__(self, agent: str, member: Membership, live: Live, calls: Calls, copies: ReplicationNews) -> None:
        self._topic = receipts_of(agent)
        self._member = member
        self._live = live
        self._calls = calls
        self._copies = copies

    def hear(self) -> Pending[None] | None:
        """Subscribe, once; ``None`` if that is done."""
        if self._member.hears(self._topic):
            return None
        heard = self._live.subscribe(self._topic, self._told)
        heard.when_done(_log_failure)
        return heard

    def hear_of_copies(self) -> None:
        """There is an under-replicated message: subscribe, and let it know when that is done."""
        heard = self.hear()
        if heard is not None:
            heard.when_done(lambda _: self._copies.subscribed())

    def _told(self, reports: object = None, *_: object) -> None:
        self._calls.news(reports)
        self._copies.heard(reports)


def _log_failure(pending: Pending[Any]) -> None:
    if pending.error is not None and not isinstance(pending.error, LinkLost):
        _log.error("%s", pending.error)
