"""The roads of alerts against a real HTTP server: what leaves the node, and that no URL is in what went wrong."""

from __future__ import annotations

import http.server
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trishula_router.alerts.conditions import Condition
from trishula_router.alerts.policy import Alert
from trishula_router.alerts.roads import RoadFailed, Roads
from trishula_router.settings.alerts import AlertOptions

SECRET = "/services/T0/B0/hush-hush"
ALERT = Alert("test", "agni", Condition("test", "", "nothing is wrong"), 0, 0)


@pytest.fixture
def port() -> Iterator[int]:
    """A server that repeats what it was asked for, as many do, and refuses it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"{'x' * 150} Cannot POST {self.path}".encode()
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def roads(directory: Path, hand_over: Callable[..., object] = lambda *_: None) -> Roads:
    """Roads with one webhook, whose URL lies in ``url``."""
    return Roads(AlertOptions(webhook="file:url"), directory, hand_over)


def failure_of(directory: Path, url: str) -> RoadFailed:
    (directory / "url").write_text(url, encoding="utf-8")
    with pytest.raises(RoadFailed) as failed:
        roads(directory).send("webhook", ALERT)
    return failed.value


def test_the_outcome_comes_in_the_reactors_thread(tmp_path: Path, port: int) -> None:
    (tmp_path / "url").write_text(f"http://127.0.0.1:{port}{SECRET}")
    handed_over: queue.Queue[tuple[bool, Callable[[Any], object], Any]] = queue.Queue()
    outcomes: list[Any] = []

    def hand_over(function: Callable[[Any], object], outcome: object) -> None:
        handed_over.put((threading.current_thread().daemon, function, outcome))

    roads(tmp_path, hand_over).send_in_thread("webhook", ALERT).addBoth(outcomes.append)
    # A node that ends waits for no such thread.
    is_daemon, function, outcome = handed_over.get(timeout=60.0)
    assert is_daemon and outcomes == []
    function(outcome)
    assert isinstance(outcomes[0].value, RoadFailed)


@pytest.mark.parametrize("query", ["", "?key=hush-hush"])
def test_an_answer_that_repeats_the_url_does_not_show_it(tmp_path: Path, port: int, query: str) -> None:
    failure = failure_of(tmp_path, f"http://127.0.0.1:{port}{SECRET}{query}")
    assert str(failure) == f"127.0.0.1 answered 404: {'x' * 150} Cannot POST /…"
    assert not failure.is_temporary


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:1{} # our channel",
        "http://127.0.0.1:1{}\nhttp://127.0.0.1:1/other",
        "http://127.0.0.1:1{}\u00e4",
        "http://hush-hush:hush@127.0.0.1:1{}",
        "ftp://127.0.0.1{}",
        "{}",
        "http://[hush-hush{}",
        "http://127.0.0.1:hush-hush{}",
    ],
)
def test_what_is_no_url_is_told_without_it(tmp_path: Path, text: str) -> None:
    failure = failure_of(tmp_path, text.format(SECRET))
    assert "hush" not in str(failure) and "127.0.0.1" not in str(failure)
    assert not failure.is_temporary
