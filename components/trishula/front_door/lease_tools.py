"""The tools about work leases: what a model works on, and nobody else meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from trishula.cli.words import plain
from trishula.contract import uris
from trishula.errors import TrishulaError
from trishula.front_door.arguments import LONGEST_WAIT_S
from trishula.front_door.framing import quoted
from trishula.work_lease import blockers_told

if TYPE_CHECKING:
    # Its type alone: the tools are built on these.
    from trishula.front_door.member import Member

__all__ = ["LEASE_TOOLS", "LeaseTools"]

#: A node lets a call wait so long for its turn.
_ONE_WAIT_S = 60.0
_ANSWER_S = 10.0

Scope = Annotated[
    str,
    Meta(
        description="task:NAME, role:NAME, path:PATTERN or path:TREE:PATTERN. A PATTERN is a relative path with *, ? "
        "and **; it covers all that is below what it matches: path:src, path:docs/**/*.rst."
    ),
]


class LeaseTools:
    """The tools; they are part of :class:`trishula.front_door.tools.Tools`.

    Attributes:
        member: the model's membership of the bus.
    """

    member: Member

    def _cut(self, text: str) -> str:
        raise NotImplementedError

    async def lease_claim(
        self,
        scope: Scope,
        note: Annotated[str, Meta(description="What you do with it, in one line; others see it.")] = "",
        wait_s: Annotated[float, Meta(description="How long to wait for it.", ge=0, le=LONGEST_WAIT_S)] = 0.0,
        queue: Annotated[bool, Meta(description="Whether to wait on afterwards: you get a message.")] = False,
        shared: Annotated[bool, Meta(description="Whether others may share it who say so too.")] = False,
    ) -> str:
        """Claim what you are going to work on, before you change it; nobody else is granted what overlaps with it.

        It stays yours while your session lives, however long you think. Give it back with lease_release.
        """
        options = {"note": note, "shared": shared, "queue": queue}
        if wait_s > 0:
            told = await self._waited(scope, options, wait_s)
            if told["state"] == "refused":
                return _claimed(told)
        return _claimed(await self.member.client.request(uris.LEASE_CLAIM, scope, options, timeout=_ANSWER_S))

    async def _waited(self, scope: str, options: Mapping[str, Any], left_s: float) -> dict[str, Any]:
        """Wait for it by a use of its own: a call that the model gave up on takes back its claim, and nothing else."""
        use = {"use": self.member.client.new_id()}
        request = self.member.client.request
        try:
            while True:
                once_s = min(left_s, _ONE_WAIT_S)
                left_s -= once_s
                asked = {**options, **use, "wait_s": once_s, "queue": options["queue"] or left_s > 0}
                told: dict[str, Any] = await request(uris.LEASE_CLAIM, scope, asked, timeout=once_s + _ANSWER_S)
                if told["state"] == "granted" or left_s <= 0:
                    return told
        except asyncio.CancelledError:
            with contextlib.suppress(TrishulaError):
                await request(uris.LEASE_RELEASE, scope, use, timeout=_ANSWER_S)
            raise

    async def lease_release(self, scope: Scope) -> str:
        """Give back what you claimed, or claim it no more."""
        await self.member.client.request(uris.LEASE_RELEASE, scope, timeout=_ANSWER_S)
        return f"You have {plain(scope)} no more."

    async def leases(
        self,
        scope: Annotated[str | None, Meta(description="Only what overlaps with this scope.")] = None,
        mine: Annotated[bool, Meta(description="Only what you have or wait for.")] = False,
    ) -> str:
        """Who works on what, and who waits for it: look before you begin, and claim it."""
        options = {"mine": mine} if scope is None else {"mine": mine, "scope": scope}
        found = await self.member.client.request(uris.LEASE_LIST, options, timeout=_ANSWER_S)
        return self._cut(leases_told(found))


def _claimed(told: Mapping[str, Any]) -> str:
    scope = plain(told["scope"])
    if told["state"] == "granted":
        said = f"{scope} is yours (fencing token {told['fence']})."
        if told["provisional"]:
            said += " It is provisional: a linked node can't be reached, and may have granted the same."
        return said
    who = quoted(plain(blockers_told(told.get("blockers") or [])))
    if told["state"] == "waiting":
        behind = f", behind {told['before']} others who wait" if told["before"] else ""
        return f"You wait for {scope}{behind}; a message tells you when it is yours.\n{who}"
    return f"{scope} is not yours: leave it alone, work on something else, or claim it with queue.\n{who}"


def leases_told(found: Sequence[Mapping[str, Any]]) -> str:
    """The leases, one a line, each with its holder's note as quoted text."""
    lines = []
    for one in found:
        words = [
            f"{plain(one['scope'])}: {plain(one['holder'])} {'has' if one['state'] == 'granted' else 'waits for'} it"
        ]
        words += ["shared"] if one["shared"] else []
        words += ["provisional"] if one["provisional"] else []
        lines.append(", ".join(words))
        if one.get("note"):
            lines.append(quoted(plain(one["note"])))
    return "\n".join(lines) or "Nobody has a lease."


#: In the order in which they are listed.
LEASE_TOOLS = ("lease_claim", "lease_release", "leases")
