"""A bus for tests of the command line: it answers from what the test gave it, and writes down what it was asked.

It has the verbs of :class:`trishula.sync.Bus` that the commands use; ``test_fakebus.py`` holds their signatures
against the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from trishula.contract.addresses import Address
from trishula.contract.deliveries import Fetched
from trishula.contract.message import MailType
from trishula.contract.receipts import Receipt
from trishula.errors import TrishulaError
from trishula.send_options import CallOptions, SendOptions

__all__ = ["FakeBus"]


class FakeBus:
    """See the module's docstring.

    Attributes:
        asked: (verb, arguments) of each call, in order.
        answers: URI → answers of ``request``, used up one by one; the last one stays; an error is raised.
        result: of ``call`` and ``rpc``.
        warning: of the receipt of a ``call``.
        error: raised by the next verb.
        refusals: for now, that ``send`` meets before its receipt or its error.
        fetched: answers of ``fetch``, used up one by one.
        events: topic → events that come as soon as it is subscribed to.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, list[Any]] = {}
        self.result: Any = None
        self.warning: str | None = None
        self.error: BaseException | None = None
        self.refusals: list[TrishulaError] = []
        self.fetched: list[Fetched] = []
        self.events: dict[str, list[Any]] = {}
        self.opened_with: dict[str, Any] = {}
        self.is_closed = False

    def connect(self, **how: Any) -> FakeBus:
        """Stands for :func:`trishula.connect`."""
        self.opened_with = how
        if isinstance(self.error, TrishulaError) and self.error.uri == "trishula.error.bus_unreachable":
            raise self.error
        return self

    def __enter__(self) -> FakeBus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.is_closed = True

    @property
    def address(self) -> Address:
        return Address("dc", "7f3a")

    def _note(self, verb: str, *args: Any, **kwargs: Any) -> None:
        self.asked.append((verb, args, kwargs))
        if self.error is not None:
            raise self.error

    def send(
        self,
        to: str,
        *,
        type: MailType = "STATUS",
        payload: object = None,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt:
        on_refused = options.pop("on_refused", None)
        for refusal in self.refusals:
            assert on_refused is not None
            on_refused(refusal)
        self._note("send", to, type=type, payload=payload, **options)
        return Receipt(options.get("id") or "m1", "accepted", "single", 7, 1)

    def call_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
        **options: Unpack[CallOptions],
    ) -> Any:
        on_warning = options.pop("on_warning", None)
        if self.warning is not None:
            assert on_warning is not None
            on_warning(self.warning)
        self._note("call", agent, procedure, list(args), dict(kwargs or {}), timeout, **options)
        return self.result

    def rpc_with(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,
    ) -> Any:
        self._note("rpc", agent, procedure, list(args), dict(kwargs or {}), timeout)
        return self.result

    def cancel(self, *ids: str, timeout: float = 10.0) -> list[bool]:
        self._note("cancel", *ids)
        return list(self.result)

    def request(self, uri: str, *args: Any, timeout: float = 10.0) -> Any:
        self._note("request", uri, *args)
        answers = self.answers[uri]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, TrishulaError):
            raise answer
        return answer

    def fetch(self, *, max: int = 64, wait_s: float = 0.0, instance: str | None = None) -> Fetched:
        self._note("fetch", max, wait_s)
        if not self.fetched:
            raise KeyboardInterrupt
        return self.fetched.pop(0)

    def ack(self, tokens: Sequence[str]) -> list[bool]:
        self._note("ack", list(tokens))
        return [True] * len(tokens)

    def subscribe(self, topic: str, on_event: Callable[..., object], *, of: str | None = None) -> None:
        self._note("subscribe", topic)
        for event in self.events.get(topic, ()):
            on_event(event)
