"""Serving: which capabilities an agent may announce, and so be handed messages to: what its ``serve`` grants name.

An announcement that goes beyond them is refused as a whole, with the command that grants it, and noted: an agent that
joined all the same, and served less than it thinks, would be a silent loss. A grant that is withdrawn counts from the
next message on, whatever its agent had announced.

An agents file of an earlier release says nothing of ``serve``, and a running installation must go on: such an agent may
announce what no other agent is granted by name, and the node's log says how to write it down. What ``trishula token
new`` makes says it always.

Policy only, but for the log: no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger

from trishula.errors import CapabilityForbidden, TrishulaError
from trishula_router.agents.principals import Principals

__all__ = ["Serving", "grant_command"]

log = Logger()


class Serving:
    """Checks announcements.

    Args:
        principals: who is granted what.
        now_s: the clock of the refusals.
        refused: told of a refusal: (agent, error, sentence, ``now_s``).
    """

    def __init__(
        self,
        principals: Principals,
        *,
        now_s: Callable[[], float],
        refused: Callable[[str, type[TrishulaError], str, float], None],
    ) -> None:
        self._principals = principals
        self._now_s = now_s
        self._refused = refused
        self._warned_of: set[str] = set()

    def check(self, agent: str, capabilities: Sequence[str]) -> None:
        """Refuse an announcement of what an agent may not serve.

        Raises:
            CapabilityForbidden: it is one.
        """
        if not capabilities:
            return
        # Whoever was just granted it comes at once, and so may somebody to whom it was left till then.
        self._principals.reload_if_changed()
        missing = [one for one in dict.fromkeys(capabilities) if not self._principals.may_serve(agent, one)]
        if missing:
            sentence = (
                f"options.capabilities names {', '.join(missing)}, and {agent} is not granted to serve that; an "
                f"operator can grant it on the node with: {grant_command(agent, missing)}"
            )
            self._refused(agent, CapabilityForbidden, sentence, self._now_s())
            raise CapabilityForbidden(sentence)
        principal = self._principals.get(agent)
        if principal is not None and principal.serve is None and agent not in self._warned_of:
            self._warned_of.add(agent)
            log.warn(
                "the agents file doesn't say what {agent} may serve, because an earlier release wrote it: so {agent} "
                "may announce what no other agent is granted; write it down with: {command}",
                agent=agent,
                command=grant_command(agent, capabilities),
            )


def grant_command(agent: str, capabilities: Iterable[str]) -> str:
    """The command that lets an agent serve capabilities."""
    return " ".join(["trishula token grant", agent, *(f"--serve {one}" for one in dict.fromkeys(capabilities))])
