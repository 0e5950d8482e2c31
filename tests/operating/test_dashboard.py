"""The dashboard in a real browser, against a real node: what an operator sees of agents, messages and faults, and does.

With ``TRISHULA_SCREENSHOTS=1`` pictures of the page are left in ``build/screenshots``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import Browser
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from tests.support.sessions import raw_session
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula_router.upstream.own_pages import PAGE_HEADERS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.node

ROOT = Path(__file__).resolve().parents[2]
#: Read before the first test, because tests have none of these settings.
KEEPS_PICTURES = os.environ.get("TRISHULA_SCREENSHOTS") == "1"
#: As an attacker would write it; if it ever became an element, it would say so.
HTML = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("dashboard") / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        node.token("boss", operator=True)
        node.token("wall", observer=True)
        yield node


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, node: NodeProcess) -> Iterator[Browser]:
    """The page as an operator has it, signed in; whatever the test does, it must not complain of anything."""
    browser.errors.clear()
    browser.do(lambda page: sign_in(page, node, node.tokens["boss"]))
    browser.do(lambda page: page.locator("#agents table").wait_for())
    yield browser
    assert browser.errors == []
    assert browser.do(lambda page: page.title()) == "TRISHULA"


def address(node: NodeProcess) -> str:
    return f"http://127.0.0.1:{node.port}/"


def sign_in(page: Page, node: NodeProcess, token: str) -> None:
    if page.url != address(node):
        page.goto(address(node))
    if page.locator("#sign-in").is_visible():
        page.fill("#token", token)
        page.click("#sign-in-button")


def sign_out(page: Page) -> None:
    """Sign out, and wait for the page that is loaded anew: the form shows on the one before it as well."""
    with page.expect_navigation():
        page.click("#sign-out")
    page.locator("#sign-in-form").wait_for()


def shown(page: Page, panel: str, *texts: str) -> Locator:
    """Wait until a row of a panel's table has all these texts."""
    row = page.locator(f"{panel} tr")
    for text in texts:
        row = row.filter(has_text=text)
    row.first.wait_for()
    return row.first


def send(agent: RawClient, id: str, to: str, **more: Any) -> None:
    [receipt] = agent.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": id, "to": to, **more}])
    assert receipt["status"] == "accepted"


def take(agent: RawClient, name: str) -> list[dict[str, Any]]:
    """The deliveries that wait for an agent."""
    deliveries: list[dict[str, Any]] = agent.call(uris.MAILBOX_FETCH, {"wait_s": 20})["deliveries"]
    assert deliveries, f"nothing came for {name}"
    return deliveries


# -- who may look ------------------------------------------------------------------------------------------------------


def test_the_page_has_its_headers(node: NodeProcess, browser: Browser) -> None:
    def headers_of(page: Page, path: str) -> tuple[int, dict[str, str]]:
        answer = page.request.get(address(node) + path)
        return answer.status, answer.headers

    for path in ("", "index.html", "main.js", "style.css", "vendor/wamp.min.js"):
        status, headers = browser.do(partial(headers_of, path=path))
        assert status == 200
        assert {name: headers.get(name.lower()) for name in PAGE_HEADERS} == PAGE_HEADERS
        assert headers["server"] == "TRISHULA"
    assert browser.do(lambda page: headers_of(page, "vendor/"))[0] == 404


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (None, "http://{own}", b"101"),
        (None, "http://evil.example", b"400"),
        (None, "http://127.0.0.1:1", b"400"),
        (None, "null", b"400"),
        # As a proxy that takes TLS off passes it on.
        ("bus.example.org", "https://bus.example.org", b"101"),
        ("bus.example.org", "https://evil.example", b"400"),
        ("bus.example.org:8443", "https://bus.example.org:8443", b"101"),
        ("bus.example.org:8443", "https://bus.example.org", b"400"),
    ],
)
def test_only_the_nodes_own_page_opens_a_web_socket(
    node: NodeProcess, host: str | None, origin: str, status: bytes
) -> None:
    own = f"127.0.0.1:{node.port}"
    with RawClient(node.url, headers=[f"Origin: {origin.format(own=own)}"]) as client:
        asked = client.request()
        client.socket.sendall(asked if host is None else asked.replace(own.encode(), host.encode(), 1))
        assert client.socket.recv(65536).split()[1] == status


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("boss", "boss.wrong-secret-of-nobody", "token"),
        ("boss", "no token at all", "That is no token"),
        ("dc", None, "dc is an agent, and neither operator nor observer"),
    ],
)
def test_who_has_no_operators_token_is_told_so(
    node: NodeProcess, browser: Browser, name: str, wrong: str | None, sentence: str
) -> None:
    browser.errors.clear()

    def attempt(page: Page) -> tuple[bool, str, str | None]:
        page.goto(address(node))
        sign_in(page, node, wrong or node.tokens[name])
        fault = page.locator("#sign-in-fault").filter(has_text=sentence)
        fault.wait_for()
        return (
            page.locator("#dashboard").is_visible(),
            page.url,
            page.evaluate("sessionStorage.getItem('trishula-token')"),
        )

    assert browser.do(attempt) == (False, address(node), None)
    assert browser.errors == []


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_an_agent_joins_and_is_shown(node: NodeProcess, page: Browser) -> None:
    page.do(lambda page: shown(page, "#agents", "dc", "offline"))
    with raw_session(node, "dc") as dc:
        dc.call(uris.MAILBOX_ATTACH, {})
        page.do(lambda page: shown(page, "#agents", "dc", "online"))
        now = round(time.time() * 1000)
        beat = {"sent_at": now, "state": "busy", "busy_until": now + 600_000, "progress": f"3 of 7 {HTML}"}
        dc.call(uris.DIRECTORY_BEAT, beat)
        page.do(lambda page: shown(page, "#agents", "dc", "busy", f"3 of 7 {HTML}"))
    page.do(lambda page: shown(page, "#agents", "dc", "offline"))
    assert page.evaluate("document.querySelectorAll('#agents img, #agents b').length") == 0


def test_a_message_passes_and_its_life_is_told(node: NodeProcess, page: Browser) -> None:
    with raw_session(node, "dc") as dc, raw_session(node, "agni") as agni:
        agni.subscribe(uris.inbox_of(Address("agni")))
        send(dc, "seen-passing", "agni", payload="hello")
        [delivery] = take(agni, "agni")
        assert agni.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]
    page.do(lambda page: shown(page, "#flow", "dc → agni", "1"))
    page.do(lambda page: page.locator("#latency svg.plot").wait_for())

    def find(page: Page) -> list[str]:
        page.fill("#find-id", "seen-passing")
        page.click("#find-form button")
        shown(page, "#life", "done")
        return page.locator("#life tbody tr th").all_inner_texts()

    steps = [text.split()[0] for text in page.do(find)]
    assert steps == ["accepted", "delivered", "done"]

    def find_nothing(page: Page) -> str:
        page.fill("#find-id", "never-sent")
        page.click("#find-form button")
        page.locator("#life .empty").filter(has_text="never-sent").wait_for()
        return page.locator("#life").inner_text()

    assert "there is no message never-sent" in page.do(find_nothing)


def test_a_bus_in_fallback_says_so_and_why(node: NodeProcess, page: Browser) -> None:
    with raw_session(node, "boss") as boss:
        boss.call(uris.ADMIN_FALLBACK, "on", {"reason": f"a drill {HTML}"})
        try:
            text = page.do(lambda page: said_of_mode(page).inner_text())
        finally:
            boss.call(uris.ADMIN_FALLBACK, "off", {"reason": "it is over"})
    assert f"by boss: a drill {HTML}. New messages are refused" in text
    assert page.evaluate("document.querySelectorAll('#nodes img, #nodes b').length") == 0
    page.do(lambda page: page.locator("#nodes p[role=status]").wait_for(state="detached"))


def said_of_mode(page: Page) -> Locator:
    found = page.locator("#nodes p[role=status]")
    found.wait_for()
    return found


def test_a_dead_letter_is_read_as_text_and_replayed(node: NodeProcess, page: Browser) -> None:
    with raw_session(node, "dc") as dc, raw_session(node, "agni") as agni:
        send(dc, "to-be-replayed", "agni", payload={"note": HTML}, subject=HTML)
        [delivery] = take(agni, "agni")
        nack = {"token": delivery["token"], "reason": f"can't read {HTML}", "requeue": False}
        assert agni.call(uris.MAILBOX_NACK, [nack]) == [True]
        page.do(lambda page: shown(page, "#dead", "to-be-replayed", f"can't read {HTML}"))

        def look(page: Page) -> str:
            page.get_by_role("button", name="Show message to-be-replayed").click()
            page.locator("#letter-body").filter(has_text="onerror").wait_for()
            body = page.locator("#letter-body").inner_text()
            page.click("#letter-close")
            return body

        body = page.do(look)
        assert "<img src=x onerror=" in body
        assert "<b>bold</b>" in body

        def replay(page: Page) -> str:
            page.get_by_role("button", name="Replay message to-be-replayed").click()
            page.click("#replay-yes")
            page.locator("#dead-news").filter(has_text="is back in the mailbox").wait_for()
            page.locator("#dead .empty").wait_for()
            return page.locator("#dead-news").inner_text()

        assert page.do(replay) == "to-be-replayed is back in the mailbox of agni."
        [again] = take(agni, "agni")
        assert again["message"]["id"] == "to-be-replayed"
        assert agni.call(uris.MAILBOX_ACK, [again["token"]]) == [True]
    assert page.evaluate("document.querySelectorAll('main img[src=x], main b b, dialog img').length") == 0


def test_a_command_is_sent_and_its_answer_shown(node: NodeProcess, page: Browser) -> None:
    def write(page: Page) -> str:
        page.fill("#send-to", "agni")
        page.select_option("#send-type", "COMMAND")
        page.fill("#send-procedure", "add")
        page.fill("#send-payload", "[2, 3]")
        page.fill("#send-subject", HTML)
        page.click("#send-button")
        page.locator("#receipt .badge").filter(has_text="accepted").wait_for()
        return page.locator("#receipt code").inner_text()

    with raw_session(node, "agni") as agni:
        id = page.do(write)
        [delivery] = take(agni, "agni")
        message = delivery["message"]
        assert (message["id"], message["from"], message["subject"]) == (id, "boss", HTML)
        assert message["payload"] == {"args": [2, 3], "kwargs": {}}
        answer = {"type": "RESULT", "id": "sum", "to": "boss", "reply_to": id, "payload": {"sum": 5, "note": HTML}}
        [receipt] = agni.call(uris.MAILBOX_SEND, [answer])
        assert receipt["status"] == "accepted"
        assert agni.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]

    def follow(page: Page) -> str:
        page.click("#receipt button")
        page.locator("#life pre").filter(has_text='"sum": 5').wait_for()
        return page.locator("#life pre").inner_text()

    assert "<b>bold</b>" in page.do(follow)

    def refused(page: Page) -> None:
        page.fill("#send-to", "nobody_of_that_name")
        page.click("#send-button")
        page.locator("#receipt .badge").filter(has_text="refused").wait_for()

    page.do(refused)


def test_an_observer_sees_how_all_stands_and_no_payload(node: NodeProcess, browser: Browser) -> None:
    with raw_session(node, "dc") as dc, raw_session(node, "agni") as agni:
        send(dc, "not-for-observers", "agni", payload="the secret of dc")
        send(dc, "to-everybody", "broadcast", payload="another secret")
        for delivery in take(agni, "agni"):
            dead = {"token": delivery["token"], "reason": "no", "requeue": False}
            assert agni.call(uris.MAILBOX_NACK, [dead]) == [True]
    with raw_session(node, "wall") as wall:
        [letter] = [one for one in wall.call(uris.ADMIN_DEAD_LIST, {})["letters"] if one["id"] == "not-for-observers"]
        assert wall.call(uris.AUDIT_WHY, "not-for-observers")["messages"][0]["state"] == "dead"
        boxes = wall.call(uris.NODE_MAILBOXES, {})
        assert "wall" not in [box["address"] for box in boxes]
        for uri, *args in (
            (uris.ADMIN_DEAD_SHOW, letter["seq"]),
            (uris.ADMIN_DEAD_REPLAY, [letter["seq"]]),
            (uris.NODE_PEEK, "agni"),
            (uris.MAILBOX_FETCH, {}),
            (uris.MAILBOX_SEND, []),
        ):
            with pytest.raises(AssertionError, match="not_authorized"):
                wall.call(uri, *args)
    browser.errors.clear()

    def look(page: Page) -> tuple[str, list[str], bool]:
        if page.locator("#sign-out").is_visible():
            sign_out(page)
        sign_in(page, node, node.tokens["wall"])
        row = shown(page, "#dead", "not-for-observers")
        page.locator("#who").filter(has_text="wall (observer)").wait_for()
        buttons = row.locator("button").all_inner_texts()
        row.get_by_role("button", name="Life message").click()
        shown(page, "#life", "dead")
        picture(page, "observer")
        told = page.content(), buttons, page.locator("#send-panel").is_visible()
        sign_out(page)
        return told

    text, buttons, may_send = browser.do(look)
    assert (buttons, may_send) == (["Life"], False)
    assert "secret of dc" not in text
    assert browser.errors == []


# -- for everybody -----------------------------------------------------------------------------------------------------

#: The names of what can be operated, as a screen reader has them.
UNNAMED = """() => [...document.querySelectorAll('button, input, select, textarea, a, summary, svg[role=img]')]
  .filter(one => !(one.getAttribute('aria-label') || one.labels?.[0]?.textContent.trim() || one.textContent.trim()))
  .map(one => one.outerHTML)"""


def test_everything_that_can_be_operated_has_a_name(node: NodeProcess, page: Browser) -> None:
    assert page.evaluate(UNNAMED) == []


def test_the_keyboard_reaches_everything_and_sees_where_it_is(node: NodeProcess, page: Browser) -> None:
    def walk(page: Page) -> list[str]:
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        seen = []
        for _ in range(60):
            page.keyboard.press("Tab")
            seen.append(
                page.evaluate(
                    "() => { const at = document.activeElement; "
                    "return `${at.id || at.getAttribute('href') || at.tagName} ${getComputedStyle(at).outlineStyle}` }"
                )
            )
        return seen

    seen = page.do(walk)
    reached = {one.split()[0] for one in seen}
    assert {"#content", "sign-out", "#send-panel", "find-id", "send-to", "send-payload", "send-button"} <= reached
    assert [one for one in seen if one.endswith(" none") and not one.startswith("BODY")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(node: NodeProcess, page: Browser, scheme: str) -> None:
    def look(page: Page) -> int:
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": 390, "height": 844})
        picture(page, f"phone-{scheme}")
        width = int(page.evaluate("document.documentElement.scrollWidth"))
        page.set_viewport_size({"width": 1360, "height": 900})
        picture(page, f"wide-{scheme}")
        return width

    assert page.do(look) <= 390


def picture(page: Page, name: str) -> None:
    if KEEPS_PICTURES:
        page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
        page.screenshot(path=ROOT / "build" / "screenshots" / f"{name}.png", full_page=True)


#: The page's own modules, asked for what they make of values.
WORDS = """async () => {
  const words = await import('/words.js');
  const now = 1_700_000_000_000;
  return [
    words.latency(0.84), words.latency(12.4), words.latency(999.4), words.latency(3400), words.latency(NaN),
    words.span(45_999), words.span(3 * 60_000), words.span(7_500_000), words.span(2 * 86_400_000 + 1), words.span(-5),
    words.ago(now - 400, now), words.ago(now - 61_000, now), words.ago(NaN, now),
    words.skew(-3000), words.skew(20), words.bytes(512), words.bytes(3277), words.bytes(8 * 1024 ** 3),
    words.counted(1, 'message'), words.counted(12345, 'message'),
  ];
}"""
TRAFFIC = """async () => {
  const { Traffic, quantile } = await import('/traffic.js');
  const traffic = new Traffic();
  const accepted = (seq, at, from, to, own = true) => ({ kind: 'accepted', seq, at, from, to, own });
  traffic.add([
    accepted(1, 1000, 'dc/7f3a', 'agni'), accepted(2, 1000, 'dc', 'agni'), accepted(3, 1000, 'agni', 'dc', false),
    { kind: 'delivered', at: 1010, messages: [[1, 1], [2, 1], [3, 1], [2 ** 48 + 1, 1]] },
    { kind: 'delivered', at: 1900, messages: [[2, 2]] },
    { kind: 'done', at: 1030, messages: [1] }, { kind: 'done', at: 2000, messages: [2], clock_ahead_ms: 500 },
  ]);
  return [
    traffic.pairs(61_500), traffic.accepted(1500, 600), traffic.pairs(1000 + 600_001),
    traffic.samples('delivered', 2000).map(one => one.tookMs), traffic.samples('done', 2000).map(one => one.tookMs),
    quantile([5, 1, 3], 0.5), quantile([...Array(100).keys()], 0.99),
  ];
}"""


def test_numbers_are_written_for_people(node: NodeProcess, page: Browser) -> None:
    assert page.evaluate(WORDS) == [
        *("0.8 ms", "12 ms", "999 ms", "3.4 s", "–"),
        *("45 s", "3 min", "2 h 5 min", "2 d", "0 s"),
        *("just now", "1 min ago", "never"),
        *("−3 s", "in step", "512 B", "3.2 KiB", "8 GiB"),
        *("1 message", "12,345 messages"),
    ]


def test_traffic_is_folded_from_the_journal(node: NodeProcess, page: Browser) -> None:
    assert page.evaluate(TRAFFIC) == [
        [
            {"from": "dc", "to": "agni", "messages": 2, "lately": 0, "lastAt": 1000},
            {"from": "agni", "to": "dc", "messages": 1, "lately": 0, "lastAt": 1000},
        ],
        3,
        [],
        [10, 10],
        [30, 500],
        3,
        99,
    ]


def test_who_signs_out_leaves_nothing_behind(node: NodeProcess, page: Browser) -> None:
    def leave(page: Page) -> tuple[str | None, str, bool]:
        sign_out(page)
        shown = page.locator("#dashboard").is_visible()
        return page.evaluate("sessionStorage.getItem('trishula-token')"), page.url, shown

    assert page.do(leave) == (None, address(node), False)


def test_a_node_that_stands_still_while_somebody_signs_in(node: NodeProcess, browser: Browser) -> None:
    def sign_in_there(first: Page) -> tuple[str, bool]:
        chromium = first.context.browser
        assert chromium is not None
        page = chromium.new_page()
        page.clock.install()
        page.goto(address(node))
        os.kill(node.worker_pid(), signal.SIGSTOP)
        try:
            page.fill("#token", node.tokens["boss"])
            page.click("#sign-in-button")
            page.clock.fast_forward(11_000)
            said = page.locator("#sign-in-fault").filter(has_text="gone").inner_text()
        finally:
            os.kill(node.worker_pid(), signal.SIGCONT)
        # It is tried again by itself.
        page.clock.resume()
        page.locator("#agents table").wait_for()
        is_signed_in = page.locator("#connection[data-tone=good]").is_visible()
        page.close()
        return said, is_signed_in

    said, is_signed_in = browser.do(sign_in_there)
    assert said == "The node is gone: it has answered nothing for 10 s. It is tried again."
    assert is_signed_in
    browser.errors.clear()


# -- when the node is gone ---------------------------------------------------------------------------------------------


def test_a_node_dies_and_the_page_says_so_and_comes_back(node: NodeProcess, page: Browser) -> None:
    """The last one here: what it starts again, it ends."""
    port = node.port
    node.kill()

    def see_it_gone(page: Page) -> tuple[str, str, str]:
        page.locator("#gone").wait_for()
        texts = ("#gone-why", "#gone-next", "#connection-word")
        why, next_try, word = (page.locator(one).inner_text() for one in texts)
        return why, next_try, word

    try:
        why, next_try, word = page.do(see_it_gone)
    finally:
        node.restart(port=port)
    assert why.startswith("The node is gone: ")
    assert next_try.endswith("What you see is old.")
    assert word == "node gone"

    def see_it_back(page: Page) -> None:
        page.locator("#gone").wait_for(state="hidden")
        page.locator("#connection[data-tone=good]").wait_for()
        page.locator("#age:not(.old)").filter(has_text="as of now").wait_for()

    page.do(see_it_back)
    # What it hears is of the node that is there now.
    with raw_session(node, "dc") as dc:
        dc.call(uris.MAILBOX_ATTACH, {})
        page.do(lambda page: shown(page, "#agents", "dc", "online"))
    # Stopped in order it says goodbye; the page waits for it all the same.
    assert node.stop() == 0
    page.do(see_it_gone)
    # That it knocked at a door that was closed is the browser's own complaint.
    page.errors[:] = [error for error in page.errors if not error.startswith("WebSocket connection to")]
