"""How much one agent may have open at a node: tried by agents that want all of it, against a real node."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.flood import answers_to, burst, frame, keep
from tests.support.node import NodeProcess
from tests.support.sessions import raw_session as session
from trishula.contract import uris
from trishula_router.agents.file import update_agents

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
#: Of each kind, one session may have so many, and an agent four times as many.
MOST, FETCHES = 50, 20
SUBSCRIBE, SUBSCRIBED, REGISTER, REGISTERED, CALL, CANCEL = 32, 33, 64, 65, 48, 49
INVOCATION = 68


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("quotas")
    config = json.loads(SHIPPED.read_text())
    kinds = ("subscriptions", "registrations", "calls", "instances", "retained")
    config["workers"][0]["components"][0]["extra"]["limits"] = {
        **dict.fromkeys(kinds, MOST),
        "fetches": FETCHES,
        "call_wait": "8s",
        "retained_bytes": "64 KiB",
        "connection_queue": "4 MiB",
        "agent_queue": "8 MiB",
        "queues": "12 MiB",
    }
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file)
    for name in ("agni", "dc", "eve"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


def refused(node: NodeProcess, kind: str) -> int:
    with session(node, "boss") as boss:
        return int(boss.call(uris.NODE_STATUS)["refused"][kind])


def test_who_sends_a_great_deal_at_once_does_not_keep_the_node_to_itself(node: NodeProcess) -> None:
    sessions, each = 20, 400
    with contextlib.ExitStack() as stack:
        boss = stack.enter_context(session(node, "boss"))

        def taken() -> int:
            known = boss.call(uris.NODE_STATUS)
            return int(known["pending"] + known["refused"]["calls"])

        for of in range(sessions):
            eve = stack.enter_context(session(node, "eve"))
            keep(eve)
            wires = ({"type": "STATUS", "id": f"burst-{of}-{number}", "to": "agni"} for number in range(each))
            burst(eve, [frame(CALL, number, {}, uris.MAILBOX_SEND, [[wire]]) for number, wire in enumerate(wires, 1)])
        while not taken():
            pass
        # Each of these is answered between two turns of the others.
        assert max(taken() for _ in range(3)) < sessions * each * 3 / 4


def test_whose_large_frame_is_refused_is_read_seldom(node: NodeProcess) -> None:
    # More keys than a frame may have: 2 MB that cost a node some ms, and that a client with a bug sends for ever.
    heavy: dict[str, list[int]] = {f"k{number}": [] for number in range(250_000)}
    # An agent of its own: those of the other tests needn't rest after this.
    node.token("weighty")
    with session(node, "boss") as boss, session(node, "weighty") as other, session(node, "weighty") as weighty:
        keep(other)

        def pending() -> int:
            return int(boss.call(uris.NODE_STATUS)["pending"])

        before = pending()
        wire = {"type": "STATUS", "id": "after-that", "to": "agni"}
        burst(weighty, [frame(CALL, 1, {}, uris.DIRECTORY_LIST, [heavy])])
        assert weighty.is_closed_within(20.0)
        burst(other, [frame(CALL, 1, {}, uris.MAILBOX_SEND, [[wire]])])
        # Until its agent is read again there is time for whatever others want.
        count = 0
        while pending() == before:
            count += 1
        assert count > 10


@pytest.mark.parametrize(("agents", "limit"), [(["eve"], "agent_queue"), (["eve", "dc", "agni"], "queues")])
def test_many_that_read_nothing_are_bounded_together(node: NodeProcess, agents: list[str], limit: str) -> None:
    topic, event = uris.topic_of("eve", "news"), "x" * 60_000
    with contextlib.ExitStack() as stack:
        boss = stack.enter_context(session(node, "boss"))
        before = boss.call(uris.NODE_STATUS)["connections"]["ended_slow_readers"]
        for number in range(10):
            # Below the bound of each, and far above that of all: 2.4 MB for each of them.
            deaf = stack.enter_context(session(node, agents[number % len(agents)], receive_bytes=4096))
            deaf.subscribe(topic)
        # Last: nobody answers the node's pings for it while the others come, which may take long.
        eve = stack.enter_context(session(node, "eve"))
        for _ in range(40):
            eve.publish(topic, event)
            known = boss.call(uris.NODE_STATUS)["connections"]
            assert known["queued_bytes"] <= (8 if limit == "agent_queue" else 12) * 1024 * 1024
        assert known["ended_slow_readers"] >= before + 4
        assert f"(limits.{limit})" in node.log()


REQUESTS = {
    "subscriptions": lambda number, of: frame(SUBSCRIBE, number, {}, uris.topic_of("agni", f"t{of}_{number}")),
    "registrations": lambda number, of: frame(REGISTER, number, {}, uris.procedure_of("eve", f"p{of}_{number}")),
}


@pytest.mark.parametrize(("kind", "done"), [("subscriptions", SUBSCRIBED), ("registrations", REGISTERED)])
def test_a_session_has_only_so_many(node: NodeProcess, kind: str, done: int) -> None:
    before = refused(node, kind)
    with session(node, "eve") as eve:
        burst(eve, (REQUESTS[kind](number, 0) for number in range(1, 301)))
        assert answers_to(eve, 300) == {str(done): MOST, f"{kind}_exceeded": 300 - MOST}
        # What is given up makes room.
        assert refused(node, kind) == before + 300 - MOST
    with session(node, "eve") as eve:
        burst(eve, [REQUESTS[kind](1, 0)])
        assert answers_to(eve, 1) == {str(done): 1}


@pytest.mark.parametrize(("kind", "done"), [("subscriptions", SUBSCRIBED), ("registrations", REGISTERED)])
def test_an_agent_has_only_so_many_over_all_its_sessions(node: NodeProcess, kind: str, done: int) -> None:
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(node, "eve")) for _ in range(8)]
        taken = 0
        for of, eve in enumerate(sessions):
            burst(eve, (REQUESTS[kind](number, of) for number in range(1, MOST + 1)))
            taken += answers_to(eve, MOST)[str(done)]
        assert taken == 4 * MOST
        with session(node, "dc") as dc:
            # Others are as free as ever.
            dc.subscribe(uris.topic_of("agni", "news"))


@contextlib.contextmanager
def mute(node: NodeProcess) -> Iterator[str]:
    """A procedure of eve's that never answers, and its name."""
    uri = uris.procedure_of("eve", "mute")
    with session(node, "eve") as callee:
        callee.ask(REGISTER, uri)
        keep(callee)
        yield uri


def test_calls_that_nobody_answers_are_bounded(node: NodeProcess) -> None:
    with mute(node) as uri, session(node, "eve") as eve:
        burst(eve, (frame(CALL, number, {}, uri) for number in range(1, 301)))
        assert answers_to(eve, 300 - MOST) == {"calls_exceeded": 300 - MOST}
        # An answer makes room, whatever it is.
        eve.send([CANCEL, 1, {"mode": "killnowait"}])
        eve.send([CALL, 1000, {}, uris.DIRECTORY_LIST])
        assert answers_to(eve, 2) == {"wamp.error.canceled": 1, "50": 1}


def test_a_call_that_nobody_answers_ends_for_its_caller_and_its_callee(node: NodeProcess) -> None:
    uri = uris.procedure_of("eve", "mute")
    heard: list[list[object]] = []
    with session(node, "eve") as callee, session(node, "eve") as caller:
        callee.ask(REGISTER, uri)

        def read() -> None:
            # Who reads nothing answers no pings, and would be ended for that.
            with contextlib.suppress(OSError):
                while True:
                    heard.append(callee.receive())

        callee.socket.settimeout(None)
        threading.Thread(target=read, daemon=True).start()
        caller.send([CALL, 1, {}, uri])
        answer = caller.receive()
        assert answer[:3] == [8, CALL, 1]
        assert answer[4] == "trishula.error.outcome_unknown"
        assert "(limits.call_wait)" in answer[5][0]
        # An answer that comes late is nobody's, and harms nobody.
        callee.send([70, heard[0][1], {}, ["late"]])
        caller.send([CALL, 2, {}, uri])
        number = 3
        while [one[0] for one in heard].count(INVOCATION) < 2:
            caller.send([CALL, number, {}, uris.DIRECTORY_LIST])
            assert caller.receive()[:2] == [50, number]
            number += 1


def waiting(number: int) -> bytes:
    return frame(CALL, number, {}, uris.MAILBOX_FETCH, [{"wait_s": 60}])


def test_fetches_that_wait_are_bounded(node: NodeProcess) -> None:
    with session(node, "eve") as eve:
        burst(eve, map(waiting, range(1, 301)))
        assert answers_to(eve, 300 - FETCHES) == {"fetches_exceeded": 300 - FETCHES}
        # A fetch that doesn't wait is none of them.
        eve.send([CALL, 1000, {}, uris.MAILBOX_FETCH, [{}]])
        assert answers_to(eve, 1) == {"50": 1}


def test_fetches_that_wait_are_bounded_over_all_sessions(node: NodeProcess) -> None:
    with contextlib.ExitStack() as stack:
        for of in range(6):
            eve = stack.enter_context(session(node, "eve"))
            burst(eve, map(waiting, range(1, FETCHES + 1)))
            if of >= 4:
                assert answers_to(eve, FETCHES) == {"fetches_exceeded": FETCHES}
            else:
                # With an id of its own: those of the fetches are in use.
                eve.send([CALL, FETCHES + 1, {}, uris.DIRECTORY_LIST])
                assert eve.receive()[:2] == [50, FETCHES + 1]


def test_a_caller_who_leaves_leaves_nothing_with_its_callee(node: NodeProcess) -> None:
    with mute(node) as uri:
        for _ in range(10):
            with session(node, "eve") as eve:
                # Cancelled, they were the callee's for ever.
                calls = [frame(CALL, number, {}, uri) for number in range(1, MOST + 1)]
                burst(eve, [*calls, *(frame(CANCEL, number, {"mode": "killnowait"}) for number in range(1, MOST + 1))])
                answers_to(eve, MOST)
        with session(node, "eve") as eve:
            # Over the callee's bound, it would be refused.
            eve.send([CALL, 1, {}, uri])
            eve.send([CANCEL, 1, {"mode": "killnowait"}])
            assert answers_to(eve, 1) == {"wamp.error.canceled": 1}


def test_a_session_speaks_for_so_many_instances(node: NodeProcess) -> None:
    with session(node, "eve") as eve:
        burst(
            eve,
            (
                frame(CALL, number, {}, uris.MAILBOX_FETCH, [{"instance": f"i{number}"}])
                for number in range(1, MOST + 11)
            ),
        )
        assert answers_to(eve, MOST + 10) == {"50": MOST, "instances_exceeded": 10}
        # One that is there already may be used on; others' names too.
        assert eve.call(uris.MAILBOX_FETCH, {"instance": "i1"})["deliveries"] == []
        with pytest.raises(AssertionError, match="instances_exceeded"):
            eve.call(uris.MAILBOX_ATTACH, {"instance": "one_more"})
    with session(node, "eve") as eve:
        # They outlive their session.
        with pytest.raises(AssertionError, match="instances_exceeded"):
            eve.call(uris.MAILBOX_ATTACH, {"instance": "one_more"})
        assert eve.call(uris.MAILBOX_ATTACH, {"instance": "i1"})["node"]
    with session(node, "dc") as dc:
        assert dc.call(uris.MAILBOX_ATTACH, {"instance": "mine"})["node"]


PUBLISH, PUBLISHED = 16, 17


def retain(number: int, topic: str, payload: str = "", **options: list[int]) -> bytes:
    return frame(
        PUBLISH, number, {"retain": True, "acknowledge": True, **options}, uris.topic_of("eve", topic), [payload]
    )


def test_retained_events_are_bounded(node: NodeProcess) -> None:
    before = refused(node, "retained")
    with session(node, "eve") as eve:
        burst(eve, (retain(number, f"kept{number}") for number in range(1, MOST + 11)))
        assert answers_to(eve, MOST + 10) == {str(PUBLISHED): MOST, "retained_exceeded": 10}
        # One takes the place of the one before; for certain sessions alone it is kept beside it.
        burst(eve, [retain(1, "kept1"), retain(2, "kept1", eligible=[1]), retain(3, "kept2", exclude=[1])])
        assert answers_to(eve, 3) == {str(PUBLISHED): 1, "retained_exceeded": 2}
    with session(node, "eve") as eve:
        # They outlive their session, and are counted on.
        burst(eve, [retain(1, "one_more"), retain(2, "kept1", "x" * 60_000), retain(3, "kept2", "x" * 60_000)])
        assert answers_to(eve, 3) == {"retained_exceeded": 2, str(PUBLISHED): 1}
    assert refused(node, "retained") == before + 14


def test_retained_events_go_with_their_agent(node: NodeProcess) -> None:
    node.token("passer")
    topic = uris.topic_of("passer", "news")
    with session(node, "passer") as passer:
        passer.send([PUBLISH, 1, {"retain": True, "acknowledge": True}, topic, ["there"]])
        assert answers_to(passer, 1) == {str(PUBLISHED): 1}
    with update_agents(node.state_dir / "agents.json") as agents:
        del agents["passer"]
    with session(node, "dc") as dc:
        for number in range(1, 1000):
            dc.send([SUBSCRIBE, number, {"get_retained": True}, topic])
            subscribed = dc.receive()
            assert subscribed[0] == SUBSCRIBED
            dc.send([CALL, number, {}, uris.DIRECTORY_LIST])
            if dc.receive()[0] != 36:
                return
            dc.receive()
            time.sleep(0.1)
    raise AssertionError("it is still there")


@pytest.mark.parametrize("kind", [SUBSCRIBE, REGISTER, CALL])
def test_names_have_a_length(node: NodeProcess, kind: int) -> None:
    with session(node, "eve") as eve:
        uri = (uris.topic_of if kind == SUBSCRIBE else uris.procedure_of)("eve", "x" * 1000)
        eve.send([kind, 1, {}, uri])
        assert answers_to(eve, 1) == {"wamp.error.not_authorized": 1}
