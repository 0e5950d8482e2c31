"""The command line against a real node, each command in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.abrupt import refusing
from tests.support.node import NodeProcess, environment
from trishula.exit_codes import Exit

pytestmark = pytest.mark.node

BOT = '''
"""An agent for tests."""
import asyncio
import pathlib
import time

from trishula import Agent, current_delivery

agent = Agent("bot", capabilities=["echo"])


@agent.procedure()
def echo(text: str = "", times: int = 1) -> dict:
    return {"echo": text * times}


@agent.procedure()
async def broken() -> None:
    raise RuntimeError("the disk is gone")


runs = 0


@agent.procedure()
async def count(seconds: float = 0.0) -> int:
    global runs
    runs += 1
    now = runs
    await asyncio.sleep(seconds)
    return now


@agent.procedure()
async def forever() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        pathlib.Path("stopped").touch()
        raise


@agent.procedure(thread=True)
def stubborn() -> str:
    delivery = current_delivery()
    while not delivery.cancelled:
        time.sleep(0.01)
    pathlib.Path("asked").touch()
    return "nobody waits for this"


@agent.on("STATUS")
async def heard(message) -> None:
    pass
'''


CALLER = """
import sys
from trishula import connect

with connect() as bus:
    try:
        bus.call_with("bot", sys.argv[1], timeout=60, id=sys.argv[2])
    except Exception as error:
        print(type(error).__name__)
"""


def wait_for(done: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until_s
        time.sleep(0.05)


class Users:
    """A node, its tokens, and how to run commands as one of its agents."""

    def __init__(self, node: NodeProcess, directory: Path) -> None:
        self.node = node
        self.directory = directory
        for name in ("bot", "dc", "idle"):
            node.token(name, serve=["echo"] if name == "bot" else [])
        node.token("operator", operator=True)

    def start(self, who: str, *args: str) -> subprocess.Popen[str]:
        """Start a command as ``who``."""
        return subprocess.Popen(
            [sys.executable, "-m", "trishula.cli.main", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(
                TRISHULA_URL=self.node.url,
                TRISHULA_TOKEN=self.node.tokens[who],
                # What a module's fixture starts has none of the directories that are set for each test.
                TRISHULA_AGENT_STATE=str(self.directory / "agents"),
            ),
            cwd=self.directory,
        )

    def run(self, who: str, *args: str, code: int = 0) -> str:
        """Run a command to its end; what it printed: on standard error, if it is to fail."""
        out, err = self._finish(self.start(who, *args), code)
        assert "Traceback" not in err, err
        return err if code else out

    def state_of(self, who: str, message_id: str) -> str | None:
        """The state of a message, if it is known."""
        out, _ = self.start(who, "why", message_id, "--json").communicate(timeout=60)
        return json.loads(out)["messages"][0]["state"] if out else None

    def json(self, who: str, *args: str) -> Any:
        return json.loads(self.run(who, *args, "--json"))

    @staticmethod
    def _finish(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, (process.returncode, out, err)
        return out, err


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    directory = tmp_path_factory.mktemp("cli")
    (directory / "bot.py").write_text(BOT)
    with NodeProcess(directory / "state") as node:
        users = Users(node, directory)
        bot = users.start("bot", "agent", "run", "bot.py")
        try:
            until = time.monotonic() + 20
            while not users.json("dc", "agents", "--capability", "echo"):
                assert bot.poll() is None, bot.communicate()
                assert time.monotonic() < until
            yield users
            bot.terminate()
            assert bot.wait(15) == 0
        finally:
            if bot.poll() is None:
                bot.kill()
            bot.communicate()


def test_agents(users: Users) -> None:
    entries = {entry["agent"]: entry for entry in users.json("dc", "agents")}
    assert set(entries) == {"bot", "dc", "idle", "operator"}
    assert (entries["bot"]["presence"], entries["bot"]["capabilities"]) == ("online", ["echo"])
    assert entries["idle"]["presence"] == "offline"
    assert "echo" in users.run("dc", "agents")


def test_call(users: Users) -> None:
    assert users.json("dc", "call", "bot", "echo", "text=ab", "times=2") == {"echo": "abab"}
    assert users.json("dc", "call", "bot", "echo", "ä", "--live") == {"echo": "ä"}
    assert users.run("dc", "call", "bot", "echo", "x") == "echo  x\n"


def test_a_call_that_fails(users: Users) -> None:
    said = users.run("dc", "call", "bot", "broken", code=Exit.FAILED)
    assert "the disk is gone" in said
    said = users.run("dc", "call", "bot", "no_such", code=Exit.NOT_FOUND)
    assert "no_such" in said
    assert "nobody" in users.run("dc", "call", "nobody", "echo", code=Exit.NOT_FOUND)


def test_a_call_to_an_absent_agent_names_the_message(users: Users) -> None:
    told = json.loads(
        users.run("dc", "call", "idle", "echo", "--timeout", "200ms", "--json", code=Exit.OUTCOME_UNKNOWN)
    )
    assert users.json("dc", "why", told["id"])["messages"][0]["state"] == "accepted"


def test_copies_of_one_agent_come_to_rest(users: Users) -> None:
    users.node.token("twin")
    (users.directory / "twin.py").write_text('from trishula import Agent\n\nagent = Agent("twin")\n')
    node = users.node

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trishula.cli.main", "agent", "run", "./twin.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(
                TRISHULA_URL=node.url,
                TRISHULA_TOKEN=node.tokens["twin"],
                TRISHULA_AGENT_STATE=str(users.directory / "twins"),
            ),
            cwd=users.directory,
        )

    copies = [start()]
    try:
        wait_for(lambda: "twin" in {one["agent"] for one in users.json("dc", "agents") if one["presence"] == "online"})
        for _ in range(2):
            copies.append(start())
            _, err = copies[-2].communicate(timeout=60)
            assert copies[-2].returncode == Exit.TAKEN_OVER
            assert f"(process {copies[-1].pid}), consumes the mailbox of twin now" in err
        copies.append(start())
        _, err = copies[-1].communicate(timeout=60)
        assert copies[-1].returncode == Exit.TAKEN_OVER
        assert f"(process {copies[-2].pid}) keeps it; stop one of the two" in err
        assert copies[-2].poll() is None
    finally:
        for process in copies:
            process.kill()
            process.communicate()


def test_the_mail_of_an_agent_that_goes_ends_and_an_operator_may_purge(users: Users) -> None:
    users.node.token("leaver")
    users.run("dc", "send", "leaver", "--id", "gone.1", "--text", "x")
    # What other tests left there.
    users.run("operator", "inbox", "purge", "idle")
    users.run("dc", "send", "idle", "--id", "purged.1", "--text", "x")
    assert "1 message to idle is a dead letter now" in users.run("operator", "inbox", "purge", "idle")
    assert users.state_of("dc", "purged.1") == "dead"
    users.run("dc", "inbox", "purge", "idle", code=Exit.FORBIDDEN)
    agents = users.node.state_dir / "agents.json"
    known = json.loads(agents.read_text())
    del known["agents"]["leaver"]
    beside = agents.with_name("beside.json")
    beside.write_text(json.dumps(known))
    beside.chmod(0o600)
    beside.replace(agents)
    wait_for(lambda: users.state_of("dc", "gone.1") == "dead")
    reasons = [event.get("reason") for event in users.json("dc", "why", "gone.1")["messages"][0]["events"]]
    assert "leaver is registered no more" in reasons
    users.node.token("leaver")


@pytest.mark.parametrize(("procedure", "mark"), [("forever", "stopped"), ("stubborn", "asked")])
def test_cancel_reaches_the_agent_that_works(users: Users, procedure: str, mark: str) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, procedure, f"cancel.{procedure}"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(TRISHULA_URL=users.node.url, TRISHULA_TOKEN=users.node.tokens["dc"]),
    )
    try:
        wait_for(lambda: users.state_of("dc", f"cancel.{procedure}") == "delivered")
        assert "cancelled" in users.run("dc", "cancel", f"cancel.{procedure}")
        assert caller.communicate(timeout=30)[0] == "MessageCancelled\n"
    finally:
        caller.kill()
        caller.communicate()
    wait_for((users.directory / mark).exists)
    # The agent goes on, and no result comes.
    assert users.json("dc", "call", "bot", "echo", "on") == {"echo": "on"}
    assert users.state_of("dc", f"cancel.{procedure}") == "cancelled"
    again = users.run("dc", "cancel", f"cancel.{procedure}", "cancel.none", code=Exit.NOT_FOUND)
    assert again == ""


def test_a_mistyped_capability_is_named_at_once(users: Users) -> None:
    sent = users.start("dc", "send", "capability:ehco", "--text", "hi", "--id", "cli.slip")
    out, err = sent.communicate(timeout=60)
    assert (sent.returncode, "accepted" in out) == (0, True)
    assert 'warning: no agent that is present here or at a linked node announced "ehco"' in err
    assert "announced now: echo" in err
    assert 'announced "ehco"' in users.run("dc", "why", "cli.slip")
    unanswered = users.run("dc", "call", "capability:ehco", "echo", "--timeout", "1s", code=Exit.OUTCOME_UNKNOWN)
    assert 'announced "ehco"' in unanswered


def test_a_call_that_is_made_again_by_another_process_gets_the_first_answer(users: Users) -> None:
    first = users.json("dc", "call", "bot", "count", "--id", "job.1")
    assert users.json("dc", "call", "bot", "count", "--id", "job.1") == first
    # The next run is the next number: the second call ran nothing.
    assert users.json("dc", "call", "bot", "count") == first + 1
    said = users.run("dc", "call", "bot", "count", "1", "--id", "job.1", code=Exit.REFUSED)
    assert 'message.id is "job.1", and dc has used it already, for the COMMAND to bot that was accepted at ' in said


def test_a_call_that_is_made_again_while_it_runs_gets_its_answer_when_it_comes(users: Users) -> None:
    before = users.json("dc", "call", "bot", "count")
    users.run("dc", "call", "bot", "count", "4", "--id", "job.2", "--timeout", "300ms", code=Exit.OUTCOME_UNKNOWN)
    # The process that called first is gone; this one is another instance, with an address of its own.
    assert users.json("dc", "call", "bot", "count", "4", "--id", "job.2", "--timeout", "30s") == before + 1
    assert users.json("dc", "call", "bot", "count") == before + 2


def test_a_call_is_cancelled_by_its_time(users: Users) -> None:
    told = json.loads(
        users.run(
            "dc", "call", "idle", "echo", "--timeout", "200ms", "--ttl", "300ms", "--json", code=Exit.OUTCOME_UNKNOWN
        )
    )
    until = time.monotonic() + 30
    while users.json("dc", "why", told["id"])["messages"][0]["state"] != "expired":
        assert time.monotonic() < until
        time.sleep(0.2)


def test_everybody_can_not_be_called(users: Users) -> None:
    said = users.run("dc", "call", "broadcast", "count", code=Exit.REFUSED)
    assert 'a call waits for one answer, and "broadcast" is everybody' in said


def test_the_same_id_from_another_process(users: Users) -> None:
    first = users.json("dc", "send", "bot", "--text", "go", "--id", "deploy-42", "--wait")
    again = users.json("dc", "send", "bot", "--text", "go", "--id", "deploy-42", "--wait")
    assert (first["status"], again["status"]) == ("accepted", "duplicate")
    assert first["seq"] == again["seq"]
    (life,) = users.json("bot", "why", "deploy-42")["messages"]
    assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "done"]
    for args in (["bot", "--text", "stop"], ["idle", "--text", "go"], ["broadcast", "--text", "go"]):
        said = users.run("dc", "send", *args, "--id", "deploy-42", code=Exit.REFUSED)
        assert "dc has used it already, for the STATUS to bot" in said, args
    assert "deploy-42" not in users.run("idle", "inbox", "--peek", "--json")


def test_send_wait_why(users: Users) -> None:
    told = users.json("dc", "send", "bot", "--text", "hello", "--id", "cli.1", "--wait")
    assert (told["status"], told["outcome"]["state"], told["copies"]) == ("accepted", "done", 1)
    assert users.json("dc", "send", "bot", "--text", "hello", "--id", "cli.1")["status"] == "duplicate"
    kinds = [event["kind"] for event in users.json("bot", "why", "cli.1")["messages"][0]["events"]]
    assert kinds == ["accepted", "delivered", "done"]
    assert "accepted" in users.run("operator", "why", "cli.1")
    assert "cli.none" in users.run("dc", "why", "cli.none", code=Exit.NOT_FOUND)


def test_send_what_is_refused(users: Users) -> None:
    said = users.run("dc", "send", "nobody", "--text", "x", "--json", code=Exit.NOT_FOUND)
    assert json.loads(said)["error"] == "trishula.error.recipient_unknown"


def test_send_what_is_refused_for_now(users: Users) -> None:
    command = ("send", "bot", "--text", "hello", "--id", "cli.2", "--copies", "2", "--timeout", "2s")
    waits, ended = users.run("dc", *command, code=Exit.TRY_LATER).splitlines()
    sentence = "the sender insists on 2 copies and this node has no peer to keep a second one"
    assert waits.startswith(
        f"trishula: the message waits in this process's memory, because the node refuses it for now: {sentence}"
    )
    assert waits.endswith("(tried again for 2 s; Ctrl-C gives up)")
    assert ended.startswith(f"trishula: the message cli.2 was refused for 2 s, and is given up: {sentence}")
    told = json.loads(users.run("dc", *command, "--json", code=Exit.TRY_LATER))
    assert (told["error"], told["temporary"]) == ("trishula.error.copies_unavailable", True)
    assert "cli.2" in users.run("dc", "why", "cli.2", code=Exit.NOT_FOUND)


def test_a_send_that_waits_can_be_interrupted(users: Users) -> None:
    process = users.start("dc", "send", "bot", "--text", "hello", "--copies", "2", "--timeout", "60s")
    try:
        assert process.stderr is not None
        assert "Ctrl-C gives up" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert (process.returncode, out, err) == (Exit.INTERRUPTED, "", "\ntrishula: interrupted\n")


def test_inbox(users: Users) -> None:
    for number in (1, 2, 3):
        users.run("dc", "send", "idle", "--payload", str(number), "--id", f"inbox.{number}")
    looked = [json.loads(line) for line in users.run("idle", "inbox", "--peek", "--json").splitlines()]
    ids = [one["message"]["id"] for one in looked if one["message"]["id"].startswith("inbox.")]
    assert ids == ["inbox.1", "inbox.2", "inbox.3"]
    assert users.json("dc", "why", "inbox.2")["messages"][0]["attempts"] == 0
    assert "inbox.2" in users.run("idle", "inbox")
    assert users.run("idle", "inbox") == ""
    assert users.json("dc", "why", "inbox.3")["messages"][0]["state"] == "done"


def test_inbox_for_a_model(users: Users) -> None:
    users.run("idle", "inbox")
    users.run("dc", "send", "idle", "--text", "for the model", "--id", "model.1")
    users.run("dc", "send", "idle", "--text", "for a script", "--id", "model.2")
    assert "for the model" in users.run("idle", "inbox", "--max", "1", "--surface")
    users.run("idle", "inbox")
    (read,), (unread,) = (users.json("dc", "why", one)["messages"] for one in ("model.1", "model.2"))
    assert [event["kind"] for event in read["events"]] == ["accepted", "delivered", "surfaced", "done"]
    assert (read["state"], unread["surfaced_at"]) == ("done", None)
    assert "reached idle's model at " in users.run("dc", "why", "model.1")
    assert "after it was delivered" in users.run("dc", "why", "model.1")
    assert "model at" not in users.run("dc", "why", "model.2")
    assert "--peek" in users.run("idle", "inbox", "--peek", "--surface", code=Exit.USAGE)


def test_mailboxes(users: Users) -> None:
    users.run("dc", "send", "idle", "--text", "for later", "--id", "waits.1")
    (box,) = [one for one in users.json("operator", "mailboxes", "--agent", "idle") if one["address"] == "idle"]
    assert (box["pending"], box["consumer"], box["senders"]) == (1, None, [{"agent": "dc", "messages": 1}])
    assert box["oldest_at"] is not None
    (box,) = [one for one in users.json("operator", "mailboxes") if one["address"] == "bot"]
    assert (box["consumer"]["agent"], box["consumer"]["by"]) == ("bot", "attach")
    assert "for later" in users.run("operator", "mailboxes", "peek", "idle")
    assert "operator" in users.run("dc", "mailboxes", code=Exit.FORBIDDEN)
    assert "operator" in users.run("dc", "mailboxes", "peek", "idle", code=Exit.FORBIDDEN)
    # It was only looked at.
    assert "waits.1" in users.run("idle", "inbox")


def test_inbox_of_a_running_agent(users: Users) -> None:
    assert "bot" in users.run("bot", "inbox", code=Exit.REFUSED)
    # To look doesn't disturb it.
    users.run("bot", "inbox", "--peek")


def test_inbox_follow(users: Users) -> None:
    users.run("idle", "inbox")
    following = users.start("idle", "inbox", "--follow", "--json")
    try:
        users.run("dc", "send", "idle", "--text", "as it comes", "--id", "follow.1")
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["message"]["payload"] == "as it comes"
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=15)
        assert following.returncode == Exit.INTERRUPTED
    finally:
        following.kill()
        following.communicate()
    assert users.json("dc", "why", "follow.1")["messages"][0]["state"] == "done"


def test_watch(users: Users) -> None:
    watching = users.start("dc", "watch", "--max", "1", "--topic", "dc.nothing")
    try:
        assert watching.stderr is not None
        assert watching.stderr.readline().startswith("watching as dc/")
        users.run("dc", "send", "bot", "--text", "x", "--id", "watch.1", "--wait")
        out, _ = watching.communicate(timeout=15)
        assert watching.returncode == 0
        # Whatever came first: idle's session that ended, or what became of the message.
        assert "receipt" in out or "agent" in out
    finally:
        watching.kill()
        watching.communicate()


def test_audit(users: Users) -> None:
    users.run("dc", "send", "bot", "--text", "x", "--id", "audit.1", "--wait")
    told = users.json("operator", "audit", "query", "--id", "audit.1")
    assert [record["kind"] for record in told["records"]] == ["accepted", "delivered", "done"]
    between = ("--agent", "dc", "--with", "bot", "--type", "STATUS", "--outcome", "done", "--id", "audit.1")
    narrow = users.json("operator", "audit", "query", *between, "--kind", "accepted", "--kind", "done")
    assert [record["kind"] for record in narrow["records"]] == ["accepted", "done"]
    whole = users.run("operator", "audit", "query", "--all", "--id", "audit.1", "--format", "csv").splitlines()
    assert [row.split(",")[3] for row in whole] == ["kind", "accepted", "delivered", "done"]
    everything = users.json("operator", "audit", "query", "--limit", "5000")
    assert not everything["more"]
    numbers = [record["seq"] for record in everything["records"]]
    assert numbers == sorted(set(numbers))
    assert users.json("operator", "audit", "verify")["ok"]
    said = json.loads(users.run("dc", "audit", "query", "--json", code=Exit.FORBIDDEN))
    assert said["error"] == "trishula.error.not_allowed"
    assert said["message"].startswith("this needs an operator's token")


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (
            ["audit", "query", "--kind", "dnoe"],
            Exit.REFUSED,
            "the journal has no such kind of record; there are: accepted,",
        ),
        (["audit", "query", "--agent", "nobody"], Exit.NOT_FOUND, 'no agent "nobody" is registered'),
        (["audit", "query", "--node", "nowhere"], Exit.NOT_FOUND, 'no journal of a node "nowhere"'),
        (["audit", "query", "--after", "99999999"], Exit.USAGE, "the newest record of this node is "),
        (["dead", "list", "--agent", "nobody"], Exit.NOT_FOUND, 'no agent "nobody" is registered'),
        (["inbox", "purge", "nobody"], Exit.NOT_FOUND, 'no agent "nobody" is registered'),
        (["watch", "--topic", "nobody.load"], Exit.NOT_FOUND, 'no agent "nobody" is registered'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_nobodys(users: Users, args: list[str], code: Exit, sentence: str) -> None:
    assert sentence in users.run("operator", *args, code=code)


def test_the_newest_records_with_ids_to_ask_about(users: Users) -> None:
    users.run("dc", "send", "bot", "--text", "x", "--id", "newest.1", "--wait")
    for args in ([], ["--node", "*"], ["--node", "single"]):
        told = users.json("operator", "audit", "query", "--last", "8", *args)["records"]
        assert len(told) == 8
        assert [record["at"] for record in told] == sorted(record["at"] for record in told)
        assert "newest.1" in {record.get("id") for record in told}, args
    lines = users.run("operator", "audit", "query", "--kind", "accepted", "--last", "1").splitlines()
    assert len(lines) == 1
    assert "newest.1" in lines[0]


def test_a_wrong_token(users: Users) -> None:
    users.node.tokens["forged"] = "dc." + "x" * 43
    said = users.run("forged", "agents", code=Exit.FORBIDDEN)
    assert said.startswith("trishula: ")
    assert "x" * 43 not in said


def test_a_socket_that_ends_badly_is_told_in_our_words_alone(users: Users) -> None:
    with refusing("trishula.error.token_invalid", "nobody knows this token") as url:
        assert users.run("dc", "--url", url, "agents", code=Exit.FORBIDDEN) == "trishula: nobody knows this token\n"


def test_no_node_there(users: Users) -> None:
    said = users.run(
        "dc", "--url", "ws://127.0.0.1:1/ws", "send", "bot", "--text", "x", "--timeout", "300ms", code=Exit.UNREACHABLE
    )
    assert "ws://127.0.0.1:1/ws" in said


def test_bench_of_this_bus(users: Users) -> None:
    told = users.json("dc", "bench", "--duration", "1s", "--rate", "50", "--connections", "2", "--warm-up", "200ms")
    assert told["bus"] == {"url": [users.node.url], "own": False}
    assert (told["messages"], told["lost"], told["refused"], told["duplicates"]) == (100, 0, 0, 0)
    assert (told["success_rate"], told["durability"]) == (1.0, "durable on one node")
    for key in ("latency_p50_ms", "latency_p99_ms", "one_way_p50_ms", "one_way_p99_ms", "connect_ms"):
        assert 0 < told[key] < 10_000, key
    assert 0 < told["throughput_per_s"] < 103


def test_bench_at_most(users: Users) -> None:
    out = users.run("dc", "bench", "--max", "--duration", "1s", "--warm-up", "100ms")
    for name in ("Latency p50", "Latency p99", "Success rate", "Throughput"):
        assert any(line.startswith(name) for line in out.splitlines()), name
    assert "0 lost, 0 refused, 0 twice" in out


def test_bench_with_a_node_of_its_own(users: Users, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "bench", "--duration", "500ms", "--json"],
        capture_output=True,
        text=True,
        env=environment(TMPDIR=str(tmp_path)),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bus"]["own"]
    assert told["messages"] == 150
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    bench = subprocess.Popen(
        [sys.executable, "-m", "trishula.cli.main", "bench", "--duration", "60s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path)),
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("trishula-bench-*/state/node.json")):
            assert bench.poll() is None, bench.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
        bench.send_signal(number)
        _, err = bench.communicate(timeout=40)
        assert bench.returncode == 128 + number
        assert "Traceback" not in err
    finally:
        bench.kill()
        bench.communicate()
    assert list(tmp_path.iterdir()) == []
