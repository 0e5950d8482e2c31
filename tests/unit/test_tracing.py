"""Spans for OpenTelemetry: the tree of a call, what is in no span, and that nothing happens unless it is asked for."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import trishula
import trishula.testing
from tests.support.loops import in_own_loop
from trishula import tracing
from trishula.tracing import TracesUnavailable, Tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_active", None)
    monkeypatch.setattr(tracing, "_is_decided", False)


@pytest.fixture
def spans(undecided: None) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(Tracing(provider))
    yield exporter
    provider.shutdown()


def tree_of(exporter: InMemorySpanExporter) -> dict[str, Any]:
    """Each span's name, kind and type of message → the same of its parent."""
    found = exporter.get_finished_spans()
    names = {
        span.context.span_id: f"{span.name} {(span.attributes or {}).get('messaging.trishula.type')}"
        for span in found
        if span.context is not None
    }
    return {
        names[span.context.span_id]: None if span.parent is None else names.get(span.parent.span_id, "elsewhere")
        for span in found
        if span.context is not None
    }


def test_a_call_is_one_tree(spans: InMemorySpanExporter) -> None:
    agni, helper = trishula.Agent("agni"), trishula.Agent("helper")

    @helper.procedure()
    def double(number: int) -> int:
        return 2 * number

    @agni.procedure()
    async def work(number: int) -> int:
        result: int = await agni.call("helper", "double", number)
        return result

    async def main() -> None:
        async with trishula.testing.bus(agents=["dc", "agni", "helper"]) as bus, bus.run(agni), bus.run(helper):
            assert await bus.client("dc").call("agni", "work", 21) == 42
            await bus.idle()

    in_own_loop(main)
    assert tree_of(spans) == {
        "send agni COMMAND": None,
        "process agni COMMAND": "send agni COMMAND",
        "send helper COMMAND": "process agni COMMAND",
        "process helper COMMAND": "send helper COMMAND",
        "send agni RESULT": "process helper COMMAND",
        "send dc RESULT": "process agni COMMAND",
    }
    found = spans.get_finished_spans()
    assert len({span.context.trace_id for span in found if span.context is not None}) == 1
    kinds = {span.name.partition(" ")[0]: span.kind.name for span in found}
    assert kinds == {"send": "PRODUCER", "process": "CONSUMER"}
    for span in found:
        assert (span.attributes or {})["messaging.system"] == "trishula"


def test_no_payload_and_no_text_of_an_error_is_in_a_span(spans: InMemorySpanExporter) -> None:
    agni = trishula.Agent("agni")

    @agni.procedure()
    def fail(text: str) -> None:
        raise ValueError(f"hush: {text}")

    async def main() -> None:
        async with trishula.testing.bus(agents=["dc", "agni"]) as bus, bus.run(agni):
            with pytest.raises(trishula.TrishulaError):
                await bus.client("dc").call("agni", "fail", "a secret")

    in_own_loop(main)
    found = spans.get_finished_spans()
    (failed,) = [span for span in found if span.name == "process agni"]
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "ValueError"
    everything = "".join(span.to_json() for span in found)
    assert "hush" not in everything and "a secret" not in everything


def test_a_trace_from_elsewhere_goes_on(spans: InMemorySpanExporter) -> None:
    agni = trishula.Agent("agni")
    agni.on("STATUS")(lambda message: None)

    async def main() -> None:
        async with trishula.testing.bus(agents=["dc", "agni"]) as bus, bus.run(agni):
            await bus.client("dc").send("agni", traceparent=f"00-{TRACE}-{SPAN}-01")
            await bus.idle()

    in_own_loop(main)
    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)


@pytest.mark.parametrize("environ", [{}, {"TRISHULA_TRACES": "off", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}])
def test_unless_it_is_asked_for_there_is_nothing(undecided: None, environ: dict[str, str]) -> None:
    tracing.switch_on(environ)
    assert tracing.active() is None


def test_opentelemetry_is_not_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys, trishula, trishula.agent; trishula.Agent('a'); print([m for m in sys.modules if 'opentel' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def missing() -> Tracing:
    raise ModuleNotFoundError("no", name="opentelemetry")


def test_without_the_extra_it_is_a_sentence(undecided: None, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TracesUnavailable, match=r"TRISHULA_TRACES is on, .* run: pip install 'trishula-bus\[otel\]'$"):
        tracing.switch_on({"TRISHULA_TRACES": "on"}, missing)
    with pytest.raises(TracesUnavailable, match="TRISHULA_TRACES is 'yes'; it must be on or off"):
        tracing.switch_on({"TRISHULA_TRACES": "yes"}, missing)
    with caplog.at_level(logging.WARNING):
        tracing.switch_on({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, missing)
    assert tracing.active() is None
    assert "no spans are made: OpenTelemetry is not installed" in caplog.text


def test_a_collector_that_is_gone_does_not_hold_up_the_end_of_a_script(
    undecided: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float | None] = []

    class Exporter(InMemorySpanExporter):
        def __init__(self, timeout: float | None = None) -> None:
            super().__init__()
            given.append(timeout)

    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", Exporter)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TIMEOUT", raising=False)
    for said in ("", "7"):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", said)
        monkeypatch.setattr(tracing, "_is_decided", False)
        tracing.switch_on({"TRISHULA_TRACES": "on"})
    # OpenTelemetry's own would be 10 s.
    assert given == [2.0, None]
