"""Alerts of a real node, to a real HTTP server and a real mail server: a condition begins, is told, and its end too."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

SECRET_PATH = "/hook-5f2c91"


class Webhook:
    """An HTTP server that remembers what was posted to it; ``code`` is what it answers."""

    def __init__(self) -> None:
        self.code = 200
        self.got: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, json.loads(body)))
                self.send_response(outer.code)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def states(self, path: str) -> list[tuple[str, str]]:
        return [(body["state"], body["kind"]) for where, body in self.got if where == path]


class MailServer:
    """As much of SMTP as takes a letter, in a thread of its own."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], str]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        def run() -> None:
            server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            self._loop.run_forever()
            server.close()
            self._loop.run_until_complete(server.wait_closed())
            self._loop.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert started.wait(20.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients: list[str] = []
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                recipients.append(line.decode().partition(":")[2].strip().strip("<>"))
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.letters.append((recipients, text))
            if verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            writer.write(b"250 fine\r\n")
        await writer.drain()
        writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def until(condition: Callable[[], object], what: str, timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    found = Webhook()
    yield found
    found.close()


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    found = MailServer()
    yield found
    found.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, hook: Webhook, mail: MailServer) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("alerts")
    state = folder / "state"
    state.mkdir(mode=0o700)
    (state / "webhook.url").write_text(hook.url + SECRET_PATH)
    (state / "webhook.url").chmod(0o600)
    config = json.loads((files("trishula_router.config") / "single.json").read_text())
    config["workers"][0]["components"][0]["extra"]["alerts"] = {
        "webhook": "file:webhook.url",
        "slack": "env:ALERTS_SLACK",
        "mail_server": f"127.0.0.1:{mail.port}",
        "mail_tls": "none",
        "mail_from": "node@example.org",
        "mail_to": ["ops@example.org", "boss@example.org"],
        "after": "0s",
    }
    path: Path = folder / "node.json"
    path.write_text(json.dumps(config))
    found = NodeProcess(state, config=path, within=["env", f"ALERTS_SLACK={hook.url}/slack"])
    found.token("boss", operator=True)
    found.token("dc")
    with found:
        yield found


# A node that has just started, or a machine that stands still for a moment, is not ready, and that is told as well.


def dead_letters(boss: RawClient) -> list[dict[str, Any]]:
    return [one for one in boss.call(uris.NODE_ALERTS)["conditions"] if one["kind"] == "dead_letters"]


def letters(mail: MailServer) -> list[tuple[list[str], str]]:
    return [letter for letter in mail.letters if "dead letter" in letter[1]]


def chat(hook: Webhook) -> list[str]:
    return [body["text"] for path, body in hook.got if path == "/slack" and "dead letter" in body["text"]]


def test_a_dead_letter_is_told_by_every_road_and_its_end_too(
    node: NodeProcess, hook: Webhook, mail: MailServer
) -> None:
    with RawClient(node.url) as boss, RawClient(node.url) as dc:
        boss.open()
        boss.join("boss", node.tokens["boss"])
        dc.open()
        dc.join("dc", node.tokens["dc"])
        assert dead_letters(boss) == []
        dc.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m-1", "to": "dc", "payload": "<b>hush</b>"}])
        (delivery,) = dc.call(uris.MAILBOX_FETCH, {"max": 1})["deliveries"]
        dc.call(uris.MAILBOX_NACK, [{"token": delivery["token"], "reason": "no", "requeue": False}])
        until(lambda: ("firing", "dead_letters") in hook.states(SECRET_PATH), "the webhook was not told")
        until(lambda: letters(mail), "nobody got a letter")
        until(lambda: chat(hook), "the chat was not told")
        (told,) = dead_letters(boss)
        assert told["notified"] is True
        (letter,) = boss.call(uris.ADMIN_DEAD_LIST)["letters"]
        boss.call(uris.ADMIN_DEAD_PURGE, [letter["seq"]])
        until(lambda: ("resolved", "dead_letters") in hook.states(SECRET_PATH), "the end was not told")
    recipients, text = letters(mail)[0]
    assert recipients == ["ops@example.org", "boss@example.org"]
    assert "Subject: [trishula] PROBLEM at single: there is 1 dead letter" in text
    said = chat(hook)[0]
    assert said == "PROBLEM at single: there is 1 dead letter; see trishula dead list, then replay or purge them"
    assert "hush" not in json.dumps(hook.got) + text


def test_a_test_tells_what_came_of_it_and_no_secret_is_anywhere(node: NodeProcess, hook: Webhook) -> None:
    with RawClient(node.url) as boss, RawClient(node.url) as dc:
        boss.open()
        boss.join("boss", node.tokens["boss"])
        tried = {one["road"]: one for one in boss.call(uris.NODE_ALERT_TEST)}
        assert {road: one["ok"] for road, one in tried.items()} == {"webhook": True, "slack": True, "mail": True}
        hook.code = 403
        refused = {one["road"]: one for one in boss.call(uris.NODE_ALERT_TEST)}
        hook.code = 200
        assert refused["webhook"] == {
            "road": "webhook", "ok": False, "detail": "127.0.0.1 answered 403: nothing",
        }  # fmt: skip
        assert refused["mail"]["ok"]
        dc.open()
        dc.join("dc", node.tokens["dc"])
        for uri in (uris.NODE_ALERTS, uris.NODE_ALERT_TEST):
            with pytest.raises(Exception, match=r"not_authorized|not_allowed"):
                dc.call(uri)
        everything = json.dumps([tried, refused])
    everything += node.log() + (node.state_dir / "crossbar" / "config.json").read_text()
    assert SECRET_PATH not in everything
    assert ("test", "test") in hook.states(SECRET_PATH)
