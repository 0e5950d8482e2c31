"""Quotas: how much of each thing one session and one agent may have open at a time. Policy, no I/O.

What a session has open in the node stays in its memory until somebody closes it: a subscription, a registration, a call
that nobody has answered, an instance, a waiting fetch, a retained event. Each kind has a bound for one session and one
for all sessions of an agent (:data:`PER_AGENT` times as much, where both are told apart); what goes beyond is refused
with the error of its kind, and costs next to nothing. What is open is counted by whoever keeps it; nothing is counted
twice, so that no count can go astray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from trishula.errors import (
    CallsExceeded,
    FetchesExceeded,
    InstancesExceeded,
    RegistrationsExceeded,
    RetainedExceeded,
    SubscriptionsExceeded,
    TrishulaError,
)
from trishula_router.settings.limits import Limits

__all__ = ["PER_AGENT", "SESSION_INSTANCES", "Quota", "Quotas"]

#: All sessions of an agent together may have so many times what one of them may.
PER_AGENT = 4
#: For so many instances one session may speak; ours speak for one.
SESSION_INSTANCES = 100


class Quota(Enum):
    """What is counted; the value is its word in sentences and in ``node.status``."""

    SUBSCRIPTIONS = "subscriptions"
    REGISTRATIONS = "registrations"
    CALLS = "calls"
    INSTANCES = "instances"
    FETCHES = "fetches"
    RETAINED = "retained"


@dataclass(frozen=True, slots=True)
class _Rule:
    error: type[TrishulaError]
    what: str
    way_out: str


_RULES: Mapping[Quota, _Rule] = {
    Quota.SUBSCRIPTIONS: _Rule(SubscriptionsExceeded, "subscriptions", "unsubscribe from some"),
    Quota.REGISTRATIONS: _Rule(RegistrationsExceeded, "registered procedures", "unregister some"),
    Quota.CALLS: _Rule(CallsExceeded, "calls without an answer", "wait for answers, or cancel some"),
    Quota.INSTANCES: _Rule(
        InstancesExceeded,
        "instances",
        "use one of them again, or wait until some are forgotten (delivery.instance_grace)",
    ),
    Quota.FETCHES: _Rule(FetchesExceeded, "fetches that wait", "wait for their answers"),
    Quota.RETAINED: _Rule(RetainedExceeded, "retained events", "publish on a topic that has one already"),
}


class Quotas:
    """The bounds of a node, and what they refused.

    Args:
        limits: the node's.
    """

    def __init__(self, limits: Limits) -> None:
        # Of each kind: of one session, of one agent.
        self._most = {
            Quota.SUBSCRIPTIONS: (limits.subscriptions, PER_AGENT * limits.subscriptions),
            Quota.REGISTRATIONS: (limits.registrations, PER_AGENT * limits.registrations),
            Quota.CALLS: (limits.calls, PER_AGENT * limits.calls),
            Quota.INSTANCES: (min(SESSION_INSTANCES, limits.instances), limits.instances),
            Quota.FETCHES: (limits.fetches, PER_AGENT * limits.fetches),
            Quota.RETAINED: (limits.retained, limits.retained),
        }
        self._refused = dict.fromkeys(Quota, 0)

    def most(self, quota: Quota) -> tuple[int, int]:
        """How many of a kind: (one session, one agent) may have."""
        return self._most[quota]

    def session_is_full(self, quota: Quota, in_session: int) -> bool:
        """Whether a session that has so many may have no more."""
        return in_session >= self._most[quota][0]

    def agent_is_full(self, quota: Quota, in_agent: int) -> bool:
        """Whether an agent that has so many, over all its sessions, may have no more."""
        return in_agent >= self._most[quota][1]

    def count(self, quota: Quota) -> None:
        """Something of a kind was refused."""
        self._refused[quota] += 1

    def refusal(self, quota: Quota, who: str) -> TrishulaError:
        """Count a refusal.

        Args:
            quota: of what.
            who: words for who has so many: "this session of dc", "dc".

        Returns:
            the error to answer with.
        """
        self.count(quota)
        rule = _RULES[quota]
        session, agent = self._most[quota]
        bound = f"{session}" if session == agent else f"{session} a session and {agent} an agent"
        return rule.error(
            f"{who} has as many {rule.what} as this node allows: {bound} (limits.{quota.value}); {rule.way_out}"
        )

    def admit(self, quota: Quota, agent: str, in_session: int, in_agent: int) -> None:
        """Let one more be opened.

        Args:
            quota: of what.
            agent: whose.
            in_session: how many its session has.
            in_agent: how many all its sessions have.

        Raises:
            TrishulaError: the one of that kind, if there are enough.
        """
        if self.session_is_full(quota, in_session):
            raise self.refusal(quota, f"this session of {agent}")
        if self.agent_is_full(quota, in_agent):
            raise self.refusal(quota, agent)

    def told(self) -> dict[str, int]:
        """For ``node.status``: how many of each kind were refused since the node started."""
        return {quota.value: count for quota, count in self._refused.items()}
