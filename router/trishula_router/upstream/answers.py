"""Who may answer a call: the session that was asked, and nobody else.

Crossbar's dealer numbers all invocations of a router by one counter and looks up what an answer belongs to by its
number alone. It refuses a YIELD of another session; an ERROR it takes from whoever sends it (26.10.1,
``Dealer.processInvocationError``), so any agent could answer any call of the others with an error of its own, those of
the node's procedures included. And it believes a YIELD's ``forward_for``, so a callee could name another agent, with
another role, as the one that answered; only links between nodes have something to forward.

Here every answer is looked at before the dealer gets it. Who tries is told of to the node, and its session ends, as
with every other breach of the protocol.

It reaches into private names of Crossbar (``Router._dealer``, ``Dealer._invocations``, ``InvocationRequest.callee``);
if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["guard_answers"]

#: Told of a forged answer: the session's authid, and a sentence.
Forged = Callable[[str, str], None]


def guard_answers(
    transport: object, protocol_error: type[Exception], *, forwards: Collection[str], forged: Forged
) -> bool:
    """Have only the session that was asked answer a call, in the router that ``transport`` leads into.

    Args:
        transport: of an embedded session, as Crossbar makes it.
        protocol_error: what ends the session of whoever breaks the protocol.
        forwards: the roles that may answer for somebody else.
        forged: told of each forged answer.

    Returns:
        Whether Crossbar is as expected; if not, nothing was changed.
    """
    dealer = Parts.behind(transport).dealer
    if not has(dealer, verbs=("processYield", "processInvocationError"), tables=("_invocations",)):
        return False

    def guarded(verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def process(session: Any, answer: Any) -> None:
            fault = _fault(dealer, session, answer, forwards)
            if fault is not None:
                forged(str(session._authid), fault)
                raise protocol_error(fault)
            verb(session, answer)

        return process

    dealer.processYield = guarded(dealer.processYield)
    dealer.processInvocationError = guarded(dealer.processInvocationError)
    return True


def _fault(dealer: Any, session: Any, answer: Any, forwards: Collection[str]) -> str | None:
    if answer.forward_for and session._authrole not in forwards:
        return "it answered a call as if for somebody else (forward_for), which only a link may"
    # An answer to what is over already finds nothing: a number never comes again.
    asked = dealer._invocations.get(answer.request)
    if asked is not None and asked.callee is not session:
        return f"it answered a call that another session was asked (invocation {answer.request})"
    return None
