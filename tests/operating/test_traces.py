"""Spans of a real agent, as a collector gets them: OTLP over HTTP, taken by a server in the test."""

from __future__ import annotations

import gzip
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

AGENT = """
import trishula
agent = trishula.Agent("agni", state=False)

@agent.procedure()
def double(number):
    return 2 * number
"""


class Collector:
    """Takes spans; ``spans`` is what came."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        outer.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def test_a_collector_gets_the_spans_of_an_agent(tmp_path: Path, collector: Collector) -> None:
    (tmp_path / "bot.py").write_text(AGENT)
    log = tmp_path / "agent.log"
    node = NodeProcess(tmp_path / "state")
    node.token("dc")
    node.token("agni")
    with node, log.open("w") as out:
        agent = subprocess.Popen(
            [sys.executable, "-m", "trishula.cli.main", "agent", "run", "./bot.py"],
            cwd=tmp_path,
            env={
                **environment(),
                "TRISHULA_URL": node.url,
                "TRISHULA_TOKEN": node.tokens["agni"],
                "HOME": os.fspath(tmp_path),
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server.server_port}",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            },
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 40.0
            while "has joined" not in log.read_text():
                assert agent.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            with RawClient(node.url) as dc:
                dc.open()
                dc.join("dc", node.tokens["dc"])
                command = {"procedure": "double", "payload": {"args": [21], "kwargs": {}}}
                sent = {"type": "COMMAND", "id": "c-1", "to": "agni", "traceparent": f"00-{TRACE}-{SPAN}-01", **command}
                assert dc.call(uris.MAILBOX_SEND, [sent])[0]["status"] == "accepted"
            while len(collector.spans) < 2:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        finally:
            agent.terminate()
            agent.wait(30.0)
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {"process agni", "send dc"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert spans["process agni"].parent_span_id.hex() == SPAN
    assert spans["send dc"].parent_span_id == spans["process agni"].span_id
