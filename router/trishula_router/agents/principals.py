"""Who may join a node, and what each may do: the file of agents as the node sees it while it runs.

:class:`Principals` holds the last good state of the file. :meth:`Principals.reload_if_changed` looks at the file's
stamp and reads it again when it changed: a new token works without a restart, a removed one stops working. A file that
somebody broke while editing it does not lock everybody out: the last good state stays, also over a restart, because a
copy of it is kept; and :attr:`Principals.fault` says what is wrong until it is mended.

Policy: :meth:`Principals.check_token`, :meth:`Principals.check_key`; what each may is in :mod:`.principal`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from trishula.errors import TokenInvalid, TokenMissing
from trishula_router.agents.change_notes import Stamp
from trishula_router.agents.file import AgentsFileError, keep_agents, load_agents, read_agents, stamp_of
from trishula_router.agents.grants import TimedGrant, next_end_s
from trishula_router.agents.key_proofs import KeyProof
from trishula_router.agents.principal import Principal, audience_of, principals_of
from trishula_router.agents.revocations import Revocations
from trishula_router.agents.text import AgentEntry, render_agents
from trishula_router.agents.tokens import TokenEntry, find_key, find_token, owner_of

__all__ = ["Principal", "Principals"]


class Principals:
    """All agents of a node, as its file has them.

    Args:
        path: the file; ``None``: there is none, and the agents are those of ``records`` for ever.
        kept: where the copy of the last good one is; ``None``: none is kept.
        records: the agents where there is no file.

    Raises:
        AgentsFileError: when made, if the file can't be used and there is no copy.

    Attributes:
        fault: why the file can't be used since it was last changed, and what holds instead, or why no copy of it could
            be made, or ``None``.
        is_stale: whether something else holds than the file says, because it is broken or gone.
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
        self.is_stale = self.fault is not None
        self._records: Mapping[str, AgentEntry] = records
        self._revocations = Revocations()
        # The same without the tokens that are revoked everywhere.
        self._valid = self._records
        # Grants that end: as of when they were looked at, and when the next one ends. Nobody has told the time yet.
        self._now_s, self._next_end_s = 0.0, float("inf")
        self._principals: Mapping[str, Principal] = {}
        self._audience: tuple[str, ...] = ()
        # The digests of all keys that the file has had: of a session's digest they tell what it is of.
        self._keys: set[str] = set()
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
        self.is_stale = True
        if stamp is None:
            # Some editors remove a file for an instant; taking that for "nobody may join" would be a lock-out.
            self.fault = f"the file of agents {self._path} is gone; the node goes on with what it said last"
            return False
        try:
            records = read_agents(self._path)
        except AgentsFileError as error:
            self.fault = f"{error}; the node goes on with what it said last"
            return False
        self.is_stale = False
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
        self._keys |= {one.sha256 for record in self._records.values() for one in record.tokens if one.ed25519}
        self._principals = principals_of(self._records, self._now_s)
        self._audience = audience_of(self._principals)
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
        _check_time(name, token, now_s)
        return principal

    def check_key(self, name: str | None, proof: KeyProof, now_s: float) -> Principal:
        """The agent, if that proves a valid key of it.

        As with tokens, whoever has the right key is told everything, and whoever hasn't nothing. Who has proved a key
        that is known may know whose it is.

        Args:
            name: who it says it is; ``None``: whoever the key says.
            proof: what it has signed.
            now_s: the wall clock.

        Raises:
            TokenMissing: there is no public key.
            TokenInvalid: it proves nothing, or the key is unknown, another agent's, not valid yet or not any more.
        """
        whose = f"of {name}" if name else "of this client"
        if proof.public_key is None:
            raise TokenMissing(
                f"the HELLO {whose} asks for cryptosign without a public key; authextra.pubkey must be 64 hexadecimal "
                "digits in lower case"
            )
        if not proof.is_good:
            raise TokenInvalid(
                f"what came as the signature {whose} is none of its key over this connection's challenge; a signature "
                "is good once, on the connection that it was made for"
            )
        owner, key = self._owner_of(proof.public_key)
        if name and owner and owner != name:
            raise TokenInvalid(f"the key is another agent's than {name}'s; use the one made for {name}")
        principal = self._principals.get(owner or "")
        if key is None or principal is None:
            raise TokenInvalid(
                f"the key {whose} is unknown here or was revoked; an operator of the node adds one with `trishula "
                f"token new {name or 'NAME'} --public-key {proof.public_key}`"
            )
        _check_time(principal.name, key, now_s)
        return principal

    def _owner_of(self, public_key: str) -> tuple[str | None, TokenEntry | None]:
        for name, record in self._valid.items():
            if (found := find_key(record.tokens, public_key)) is not None:
                return name, found
        return None, None

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
        kind = "key" if digest in self._keys else "token"
        return (
            f"the {kind} of {name} that this session joined with {what}, so the session was ended; make a new one with "
            f"{_how_to_renew(kind, name)}"
        )

    def expiry_of(self, name: str, digest: str | None) -> float:
        """When the token of an agent expires; ``inf`` if it doesn't, or isn't known."""
        record = self._valid.get(name)
        token = None if record is None else _with_digest(record, digest)
        return float("inf") if token is None or token.expires_at is None else token.expires_at


def _with_digest(record: AgentEntry, digest: str | None) -> TokenEntry | None:
    return next((token for token in record.tokens if token.sha256 == digest), None)


def _check_time(name: str, token: TokenEntry, now_s: float) -> None:
    if token.is_early(now_s):
        raise TokenInvalid(f"the {token.kind} of {name} is not valid before {_show_instant(token.not_before)}")
    if token.is_over(now_s):
        raise TokenInvalid(
            f"the {token.kind} of {name} expired at {_show_instant(token.expires_at)}; make a new one with "
            f"{_how_to_renew(token.kind, name)}"
        )


def _how_to_renew(kind: str, name: str) -> str:
    if kind == "key":
        return f"`trishula token key {name}` on the agent's machine"
    return f"`trishula token new {name}` on the node"


def _digest_of(records: Mapping[str, AgentEntry]) -> str:
    return hashlib.sha256(render_agents(records).encode()).hexdigest()[:32]


def _show_instant(instant_s: float | None) -> str:
    return datetime.fromtimestamp(instant_s or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
