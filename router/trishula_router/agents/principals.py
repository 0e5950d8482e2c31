"""Who may join a node, and what each may do: the file of agents as the node sees it while it runs.

:class:`Principals` holds the last good state of the file. :meth:`Principals.reload_if_changed` looks at the file's
stamp and reads it again when it changed: a new token works without a restart, a removed one stops working. A file that
somebody broke while editing it does not lock everybody out: the last good state stays, also over a restart, because a
copy of it is kept; and :attr:`Principals.fault` says what is wrong until it is mended.

Policy: :meth:`Principal.may_send`, :meth:`Principal.may_call`, :meth:`Principal.may_serve`,
:meth:`Principal.may_subscribe`, :meth:`Principals.check_token`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from trishula.errors import TokenInvalid, TokenMissing
from trishula_router.agents.change_notes import Stamp
from trishula_router.agents.file import AgentsFileError, keep_agents, load_agents, read_agents, stamp_of
from trishula_router.agents.grants import TimedGrant, covers_name, held, next_end_s
from trishula_router.agents.revocations import Revocations
from trishula_router.agents.text import ANYBODY, AgentEntry, render_agents
from trishula_router.agents.tokens import TokenEntry, find_token, owner_of
from trishula_router.realm import AGENT_ROLE, OPERATOR_ROLE

__all__ = ["Principal", "Principals"]


@dataclass(frozen=True, slots=True)
class Principal:
    """An agent, with its grants.

    Attributes:
        name: its name, which is its authid.
        operator: whether it may ask about everybody's messages, and administer the node.
        send: to whom it may send: ``"*"``, ``"broadcast"``, agents or capabilities (``"capability:deploy"``).
        call: what it may call: ``"*"``, an agent, or ``agent.procedure``.
        serve: which capabilities it may announce: ``"*"``, or their names; ``None``: what nobody else is granted.
        foreign: the capabilities that others are granted by name, if ``serve`` is ``None``.
        observer: whether it may ask how everybody's messages stand, and see none of them.
        subscribe: whose topics it may hear: ``"*"``, an agent, or ``agent.topic``.
    """

    name: str
    operator: bool
    send: tuple[str, ...]
    call: tuple[str, ...]
    serve: tuple[str, ...] | None = None
    foreign: Set[str] = frozenset()
    observer: bool = False
    subscribe: tuple[str, ...] = (ANYBODY,)

    @property
    def role(self) -> str:
        """Its role in the realm."""
        return OPERATOR_ROLE if self.operator else AGENT_ROLE

    @property
    def only_looks(self) -> bool:
        """Whether it is an observer, and no operator, who may look at everything."""
        return self.observer and not self.operator

    def may_send(self, to: str) -> bool:
        """Whether it may send to an agent (or to ``broadcast``, or to a capability); always to itself."""
        return to == self.name or ANYBODY in self.send or to in self.send

    def may_call(self, agent: str, procedure: str) -> bool:
        """Whether it may call that procedure of that agent; always its own."""
        return agent == self.name or covers_name(self.call, agent, procedure)

    def may_subscribe(self, agent: str, topic: str) -> bool:
        """Whether it may hear that topic of that agent; always its own."""
        return agent == self.name or covers_name(self.subscribe, agent, topic)

    def may_serve(self, capability: str) -> bool:
        """Whether it may announce a capability, and be handed messages to it."""
        if self.serve is None:
            return capability not in self.foreign
        return ANYBODY in self.serve or capability in self.serve


class Principals:
    """All agents of a node, as its file has them.

    Args:
        path: the file; ``None``: there is none, and the agents are those of ``records`` for ever.
        kept: where the copy of the last good one is; ``None``: none is kept.
        records: the agents where there is no file.

    Raises:
        AgentsFileError: when made, if the file can't be used and there is no copy.

    Attributes:
        fault: why the file can't be used since it was last changed, and what holds instead, or ``None``.
        version: grows each time that something else holds than before.
    """

    def __init__(
        self, path: Path | None, kept: Path | None = None, *, records: Mapping[str, AgentEntry] = MappingProxyType({})
    ) -> None:
        self._path = path
        self._kept = kept
        self.version = 0
        # The stamp is taken before the reading: a change in between is then read twice rather than never.
        self._stamp: Stamp = None if path is None else stamp_of(path)
        self.fault: str | None = None
        if path is not None:
            records, self.fault = load_agents(path, kept)
        self._records: Mapping[str, AgentEntry] = records
        self._revocations = Revocations()
        # The same without the tokens that are revoked everywhere.
        self._valid = self._records
        # Grants that end: as of when they were looked at, and when the next one ends. Nobody has told the time yet.
        self._now_s, self._next_end_s = 0.0, float("inf")
        self._principals: Mapping[str, Principal] = {}
        self._audience: tuple[str, ...] = ()
        self._derive()
        # Of which version it is.
        self._digest = self.version, _digest_of(self._records)
        if self.fault is None and path is not None and stamp_of(path) is not None:
            self._keep()

    @property
    def path(self) -> Path | None:
        """The file; ``None`` if there is none."""
        return self._path

    @property
    def records(self) -> Mapping[str, AgentEntry]:
        """Each agent as the file has it, with tokens also if they are revoked everywhere."""
        return self._records

    @property
    def stamp(self) -> Stamp:
        """Of the file, as it was read last; ``None`` if there is none."""
        return self._stamp

    @property
    def digest(self) -> str:
        """Tells whether two nodes' files say the same, whatever their order and their spaces."""
        if self._digest[0] != self.version:
            self._digest = self.version, _digest_of(self._records)
        return self._digest[1]

    def names(self) -> tuple[str, ...]:
        """All registered agents, sorted."""
        return tuple(self._principals)

    def audience(self) -> tuple[str, ...]:
        """Whom a broadcast is for, sorted: all but observers, which take no mail."""
        return self._audience

    def get(self, name: str) -> Principal | None:
        """The agent of that name, if it is registered.

        For an unknown name the file is looked at: whoever made an agent may send to it in the next moment.
        """
        found = self._principals.get(name)
        if found is None and self.reload_if_changed():
            found = self._principals.get(name)
        return found

    def role_of(self, name: str) -> str | None:
        """The role of an agent; ``None`` if it is not registered."""
        found = self.get(name)
        return None if found is None else found.role

    def is_visitor(self, name: str) -> bool:
        """Whether the agent of that name is an operator or an observer, who come to look and go: nobody misses them."""
        found = self._principals.get(name)
        return found is not None and (found.operator or found.observer)

    def may_serve(self, name: str, capability: str) -> bool:
        """Whether the agent of that name is registered and may announce a capability."""
        found = self._principals.get(name)
        return found is not None and found.may_serve(capability)

    @property
    def unwritten(self) -> tuple[str, ...]:
        """The agents of which the file doesn't say what they may serve, because an earlier release wrote it."""
        return tuple(name for name, one in self._principals.items() if one.serve is None)

    def reload_if_changed(self) -> bool:
        """Read the file again if it was changed.

        Returns:
            Whether something else holds now than before. ``False`` also if it can't be used: see :attr:`fault`.
        """
        if self._path is None or (stamp := stamp_of(self._path)) == self._stamp:
            return False
        self._stamp = stamp
        if stamp is None:
            # Some editors remove a file for an instant; taking that for "nobody may join" would be a lock-out.
            self.fault = f"the file of agents {self._path} is gone; the node goes on with what it said last"
            return False
        try:
            records = read_agents(self._path)
        except AgentsFileError as error:
            self.fault = f"{error}; the node goes on with what it said last"
            return False
        is_new = records != self._records
        self._records = records
        self._keep()
        if not is_new:
            return False
        self._valid = self._without_revoked()
        self._derive()
        self.version += 1
        return True

    def _derive(self) -> None:
        """Who may do what, from the records and the time."""
        self._principals = _principals_of(self._records, self._now_s)
        self._audience = _audience_of(self._principals)
        timed = (one for record in self._records.values() for one in record.timed)
        self._next_end_s = next_end_s(timed, self._now_s)

    def heed_time(self, now_s: float) -> None:
        """Have grants end whose end has come: to be called a few times a second, and before anybody joins."""
        if self._now_s <= now_s < self._next_end_s and self._now_s:
            return
        # Also if a clock was set back: what had ended holds again.
        was, self._now_s = self._principals, now_s
        self._derive()
        if self._principals != was:
            self.version += 1

    @property
    def timed(self) -> list[tuple[str, TimedGrant]]:
        """The grants that end or have a reason, and hold: (agent, grant) each."""
        listed = ((name, one) for name, record in sorted(self._records.items()) for one in record.timed)
        return [(name, one) for name, one in listed if not one.is_over(self._now_s)]

    def revoke(self, notes: Mapping[str, str]) -> None:
        """Take tokens away, whatever any file says, now or later.

        Args:
            notes: as a store remembers revocations (:mod:`trishula_router.store.revoked`).
        """
        if self._revocations.add(notes):
            self._valid = self._without_revoked()
            self.version += 1

    def _without_revoked(self) -> Mapping[str, AgentEntry]:
        def left(name: str, record: AgentEntry) -> AgentEntry:
            kept = tuple(one for one in record.tokens if self._revocations.of(name, one) is None)
            return record if len(kept) == len(record.tokens) else replace(record, tokens=kept)

        return {name: left(name, record) for name, record in self._records.items()}

    def _keep(self) -> None:
        self.fault = None
        if self._kept is not None:
            try:
                keep_agents(self._kept, self._records)
            except AgentsFileError as error:
                self.fault = str(error)

    def check_token(self, name: str, ticket: object, now_s: float) -> Principal:
        """The agent, if that is a valid token of it.

        The sentences tell whoever has the right token everything, and whoever hasn't nothing: not even whether there
        is an agent of that name.

        Raises:
            TokenMissing: if there is none.
            TokenInvalid: if it is wrong, another agent's, not valid yet or not any more.
        """
        if not isinstance(ticket, str) or not ticket:
            raise TokenMissing(
                f"{name} tried to join without a token; make one with `trishula token new {name}`, set TRISHULA_TOKEN"
            )
        if owner_of(ticket) != name and "." in ticket:
            raise TokenInvalid(f"the token is another agent's than {name}'s; use the one made for {name}")
        record = self._valid.get(name)
        # For an unknown agent the same work is done, on nothing, and the same is said.
        token = find_token(() if record is None else record.tokens, ticket)
        principal = self._principals.get(name)
        if token is None or principal is None:
            raise TokenInvalid(
                f"the token of {name} is wrong or revoked; make a new one with `trishula token new {name}` on the node"
            )
        if token.is_early(now_s):
            raise TokenInvalid(f"the token of {name} is not valid before {_show_instant(token.not_before)}")
        if token.is_over(now_s):
            raise TokenInvalid(
                f"the token of {name} expired at {_show_instant(token.expires_at)}; "
                f"make a new one with `trishula token new {name}` on the node"
            )
        return principal

    def reason_to_leave(self, name: str, digest: str | None, now_s: float) -> str | None:
        """Why a session of an agent may not stay, or ``None``.

        Args:
            name: the agent.
            digest: of the token that the session joined with; ``None`` if that is not known.
            now_s: the wall clock.
        """
        record = self._valid.get(name)
        if record is None:
            return f"{name} is no registered agent of this node any more, so its session was ended"
        token = _with_digest(record, digest)
        if digest is None or (token is not None and not token.is_over(now_s)):
            return None
        what = "was revoked" if token is None else f"expired at {_show_instant(token.expires_at)}"
        return (
            f"the token of {name} that this session joined with {what}, so the session was ended; make a new one with "
            f"`trishula token new {name}` on the node"
        )

    def expiry_of(self, name: str, digest: str | None) -> float:
        """When the token of an agent expires; ``inf`` if it doesn't, or isn't known."""
        record = self._valid.get(name)
        token = None if record is None else _with_digest(record, digest)
        return float("inf") if token is None or token.expires_at is None else token.expires_at


def _with_digest(record: AgentEntry, digest: str | None) -> TokenEntry | None:
    return next((token for token in record.tokens if token.sha256 == digest), None)


def _principals_of(records: Mapping[str, AgentEntry], now_s: float) -> dict[str, Principal]:
    def now(record: AgentEntry, act: str) -> tuple[str, ...]:
        return held(record.lasting(act), record.timed, act, now_s)

    granted = frozenset(grant for record in records.values() for grant in now(record, "serve"))
    return {
        name: Principal(
            name,
            record.operator,
            now(record, "send"),
            now(record, "call"),
            None if record.serve is None else now(record, "serve"),
            granted,
            record.observer,
            now(record, "subscribe"),
        )
        for name, record in sorted(records.items())
    }


def _audience_of(principals: Mapping[str, Principal]) -> tuple[str, ...]:
    return tuple(name for name, principal in principals.items() if not principal.only_looks)


def _digest_of(records: Mapping[str, AgentEntry]) -> str:
    return hashlib.sha256(render_agents(records).encode()).hexdigest()[:32]


def _show_instant(instant_s: float | None) -> str:
    return datetime.fromtimestamp(instant_s or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
