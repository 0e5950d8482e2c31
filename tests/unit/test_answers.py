"""Who may answer a call: with a dealer as Crossbar's is, and with Crossbar's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trishula_router.upstream.answers import guard_answers


class ProtocolError(Exception):
    pass


class Dealer:
    """As much of Crossbar's as is used."""

    def __init__(self) -> None:
        self._invocations: dict[int, Any] = {}
        self.taken: list[tuple[Any, Any]] = []

    def processYield(self, session: Any, answer: Any) -> None:
        self.taken.append((session, answer))

    def processInvocationError(self, session: Any, answer: Any) -> None:
        self.taken.append((session, answer))


class Setup:
    def __init__(self) -> None:
        self.dealer = Dealer()
        self.forged: list[tuple[str, str]] = []
        transport = SimpleNamespace(_router=SimpleNamespace(_dealer=self.dealer))
        assert guard_answers(
            transport, ProtocolError, forwards=("link",), forged=lambda agent, why: self.forged.append((agent, why))
        )
        self.callee, self.other = (
            SimpleNamespace(_authid=name, _authrole=role) for name, role in (("agni", "agent"), ("eve", "agent"))
        )
        self.link = SimpleNamespace(_authid="rushabdev", _authrole="link")
        self.dealer._invocations[7] = SimpleNamespace(callee=self.callee)

    def answer(self, verb: str, session: Any, request: int = 7, forward_for: Any = None) -> None:
        getattr(self.dealer, verb)(session, SimpleNamespace(request=request, forward_for=forward_for))


VERBS = ("processYield", "processInvocationError")


@pytest.mark.parametrize("verb", VERBS)
def test_the_session_that_was_asked_answers_and_what_is_over_is_the_dealers_affair(verb: str) -> None:
    setup = Setup()
    setup.answer(verb, setup.callee)
    setup.answer(verb, setup.other, request=6)
    assert (len(setup.dealer.taken), setup.forged) == (2, [])


@pytest.mark.parametrize("verb", VERBS)
def test_another_session_is_told_of_and_ended(verb: str) -> None:
    setup = Setup()
    sentence = r"it answered a call that another session was asked \(invocation 7\)"
    with pytest.raises(ProtocolError, match=sentence):
        setup.answer(verb, setup.other)
    assert (setup.dealer.taken, [agent for agent, _ in setup.forged]) == ([], ["eve"])


@pytest.mark.parametrize("verb", VERBS)
def test_links_alone_answer_for_others(verb: str) -> None:
    setup = Setup()
    forward_for = [{"session": 1, "authid": "dc", "authrole": "agent"}]
    with pytest.raises(ProtocolError, match="for somebody else"):
        setup.answer(verb, setup.callee, forward_for=forward_for)
    setup.dealer._invocations[8] = SimpleNamespace(callee=setup.link)
    setup.answer(verb, setup.link, request=8, forward_for=forward_for)
    assert len(setup.dealer.taken) == 1


@pytest.mark.parametrize("router", [None, SimpleNamespace(), SimpleNamespace(_dealer=SimpleNamespace(_invocations={}))])
def test_a_crossbar_that_is_built_otherwise_is_left_alone(router: Any) -> None:
    transport = SimpleNamespace(_router=router)
    assert not guard_answers(transport, ProtocolError, forwards=(), forged=lambda agent, why: None)


def test_crossbar_itself_still_takes_an_error_from_whoever_sends_it() -> None:
    """When this fails, Crossbar looks by itself, and the half of the guard that is about errors can go."""
    from crossbar.router.dealer import Dealer as RealDealer

    removed: list[Any] = []
    request = SimpleNamespace(
        callee=object(), canceled=True, error_msg=None, caller=SimpleNamespace(_transport=None),
        registration=SimpleNamespace(observers_extra={}),
    )  # fmt: skip
    dealer = SimpleNamespace(
        _invocations={7: request}, _router=SimpleNamespace(is_traced=False), _remove_invoke_request=removed.append
    )
    stranger: Any = object()
    RealDealer.processInvocationError(dealer, stranger, SimpleNamespace(request=7, forward_for=None))
    assert removed == [request]
