"""Spans of an agent's work, for OpenTelemetry: optional, and neither imported nor paid for unless it is switched on.

It is on where ``TRISHULA_TRACES`` is ``on``, or where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where spans go and
``TRISHULA_TRACES`` is not ``off``. It takes the extra ``trishula-bus[otel]``. A program that has set up OpenTelemetry
itself keeps its own provider; without one, spans go by OTLP over HTTP, as OpenTelemetry's own variables say.

================== ======== =========================================================================================
span               kind     from, to
================== ======== =========================================================================================
``send TO``        producer a message, or a reply, is sent; until its receipt
``process AGENT``  consumer a handler begins; until it is through
================== ======== =========================================================================================

A sending within a handler is a child of the handler's span, and a handler's span is a child of the span in its
message's ``traceparent``: a call is one tree, over all machines. Names of attributes are OpenTelemetry's for messaging.
No payload is in a span, and an exception is there by its class alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from trishula.contract.deliveries import CurrentDelivery
from trishula.contract.message import Message
from trishula.contract.traces import child_of
from trishula.errors import TrishulaError
from trishula.runtime.pending import Pending

__all__ = ["Span", "TracesUnavailable", "Tracing", "active", "carry_on", "switch_on", "use"]

_log = logging.getLogger("trishula")

#: So many spans of COMMANDs are remembered until they are answered.
_MOST_HANDLED = 10_000
#: A collector is to have answered in so many seconds, where OpenTelemetry's variables don't say otherwise.
_COLLECTOR_TIMEOUT_S = 2.0
INSTALL_TRACES = "pip install 'trishula-bus[otel]'"


class TracesUnavailable(TrishulaError):
    """Traces were asked for, and can't be made."""


class Span:
    """A span that has begun.

    Attributes:
        traceparent: the context of what happens within it.
    """

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Any) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def ending(self, settle: Callable[[Any], object]) -> Callable[[Any], object]:
        """The same function, at whose call the span is over: what it is given is an outcome, or an error."""

        def settled(outcome: Any) -> object:
            self.end(outcome if isinstance(outcome, BaseException) else None)
            return settle(outcome)

        return settled

    def end_with(self, outcome: object) -> None:
        """It is over with an outcome that is there, or is still to come."""
        if isinstance(outcome, Pending):
            outcome.when_done(lambda pending: self.end(pending.error))
        else:
            self.end(None)

    def end(self, error: BaseException | None) -> None:
        """It is over; ``error``: what it failed with."""
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            # Its text is not ours to send away.
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Tracing:
    """Makes spans.

    Args:
        provider: of OpenTelemetry's.
    """

    def __init__(self, provider: Any) -> None:
        self._tracer = provider.get_tracer("trishula")
        # The spans of COMMANDs that are not answered yet; a cancelled one never is.
        self._handled: dict[tuple[str, str], str] = {}

    def sending(self, wire: Mapping[str, Any], parent: str | None) -> Span:
        """A message is about to be sent."""
        # An instance's name is of one script's run; a name of a span is to be counted by.
        to = str(wire.get("to")).partition("/")[0]
        attributes = {"messaging.operation.type": "send", "messaging.destination.name": to}
        return self._begin(f"send {to}", "PRODUCER", parent, attributes, wire.get("type"), wire.get("id"))

    def handling(self, message: Message) -> Span:
        """A handler is about to begin."""
        to = message.to.partition("/")[0]
        attributes = {
            "messaging.operation.type": "process",
            "messaging.destination.name": to,
            "messaging.trishula.sender": message.sender or "",
        }
        span = self._begin(f"process {to}", "CONSUMER", message.traceparent, attributes, message.type, message.id)
        if message.type == "COMMAND":
            self._handled[message.sender or "", message.id] = span.traceparent
            if len(self._handled) > _MOST_HANDLED:
                del self._handled[next(iter(self._handled))]
        return span

    def replying(self, wire: Mapping[str, Any], command: Message) -> Span:
        """The answer to a COMMAND is about to be sent."""
        return self.sending(wire, self._handled.pop((command.sender or "", command.id), command.traceparent))

    def _begin(
        self, name: str, kind: str, parent: str | None, attributes: dict[str, str], type: object, message_id: object
    ) -> Span:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Without a parent the caller's own span is, if it has one: a web request's, say.
        context = None if parent is None else TraceContextTextMapPropagator().extract({"traceparent": parent})
        more = {"messaging.system": "trishula", "messaging.trishula.type": str(type)}
        if message_id is not None:
            more["messaging.message.id"] = str(message_id)
        return Span(
            self._tracer.start_span(name, context=context, kind=SpanKind[kind], attributes={**more, **attributes})
        )


def carry_on(
    wire: Mapping[str, Any], current: CurrentDelivery | None, word: Callable[[int], str]
) -> tuple[str | None, Span | None]:
    """The trace context of a message that is about to be sent, and the span of the sending if spans are made.

    Args:
        wire: the message.
        current: the delivery that is handled; ``None`` outside of handlers.
        word: makes a new random word of that many bytes, in hex.
    """
    parent = None if current is None else current.traceparent
    if _active is not None:
        span = _active.sending(wire, parent)
        return span.traceparent, span
    return (None if parent is None else child_of(parent, word(8))), None


_active: Tracing | None = None
_is_decided = False


def active() -> Tracing | None:
    """What makes spans in this process; ``None`` if nothing does."""
    return _active


def use(tracing: Tracing | None) -> None:
    """Have spans made, or none; whatever the environment says."""
    global _active, _is_decided
    _active, _is_decided = tracing, True


def switch_on(environ: Mapping[str, str], make: Callable[[], Tracing] | None = None) -> None:
    """Have spans made if the environment asks for them; decided once a process.

    Args:
        environ: the environment.
        make: makes what makes spans; with OpenTelemetry if absent.

    Raises:
        TracesUnavailable: ``TRISHULA_TRACES`` has a value that there is none of, or OpenTelemetry is not installed.
    """
    if _is_decided:
        return
    asked = environ.get("TRISHULA_TRACES") or ""
    if asked not in ("", "on", "off"):
        raise TracesUnavailable(f"TRISHULA_TRACES is {asked!r}; it must be on or off")
    if asked == "off" or (not asked and not environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        use(None)
        return
    try:
        tracing = (make or _with_opentelemetry)()
    except ImportError as error:
        why = f"OpenTelemetry is not installed ({error.name}); run: {INSTALL_TRACES}"
        if asked == "on":
            raise TracesUnavailable(f"TRISHULA_TRACES is on, and {why}") from None
        # The variable is there for other programs too.
        _log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, and no spans are made: %s", why)
        use(None)
        return
    use(tracing)


def _with_opentelemetry() -> Tracing:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider: Any = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(resource=Resource.create())
        # OpenTelemetry's own 10 s would hold up the end of each script where the collector is gone.
        names = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
        timeout_s = None if any(os.environ.get(name) for name in names) else _COLLECTOR_TIMEOUT_S
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout_s)))
    return Tracing(provider)
