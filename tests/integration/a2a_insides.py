"""The parts of the door for A2A that need its SDK, in its own environment; ``test_a2a_door.py`` starts it.

Each scene asserts by itself. One line of JSON tells the names of the scenes, and what was wrong with each.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from a2a.server.context import ServerCallContext
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError
from a2a.utils.task import ListTasksCursor, encode_list_tasks_cursor
from google.protobuf.json_format import ParseDict

from trishula.a2a_door.callers import Caller
from trishula.a2a_door.gate import CALLER
from trishula.a2a_door.handler import AgentHandler
from trishula.a2a_door.keys import DoorKey
from trishula.a2a_door.ledger import Ledger
from trishula.a2a_door.life import Told, events_after
from trishula.a2a_door.owed import Hook
from trishula.a2a_door.remote import RemoteAgent
from trishula.a2a_door.service import Service
from trishula.a2a_door.tasks import Tasks
from trishula.a2a_door.webhooks import Webhooks
from trishula.contract.message import Message
from trishula.runtime.pending import resolved

HERE = [ipaddress.ip_network("127.0.0.0/8")]


def now_ms() -> int:
    return int(time.time() * 1000)


class Node:
    """It takes everything, and nothing comes of it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.cancelled: list[str] = []

    async def send(self, to: str, **more: Any) -> Any:
        self.sent.append((to, more))
        return SimpleNamespace(status="accepted")

    async def status(self, *ids: str, timeout: float) -> dict[str, Any]:
        return {}

    async def cancel(self, *ids: str, timeout: float) -> None:
        self.cancelled += ids


class Door:
    def __init__(self, directory: Path) -> None:
        self.ledger = Ledger.open(directory)
        self.webhooks = Webhooks(
            self.ledger,
            DoorKey.load(directory, "http://x"),
            HERE,
            lambda task, number: {"n": number},
            now_ms,
            lambda: 0.5,
        )
        self.tasks = Tasks(self.ledger, now_ms, self.webhooks.wake)
        self.handler = AgentHandler("worker", self.tasks, self.webhooks, 0.0, {}, now_ms)

    def caller(self, name: str) -> ServerCallContext:
        return ServerCallContext(state={CALLER: Caller(name, f"{name}.s", Node(), resolved(None), 0.0)})  # type: ignore[arg-type]

    async def given(self, who: ServerCallContext, message_id: str, **more: Any) -> str:
        task = await self.handler.on_message_send(request(message_id, **more), who)
        return str(task.id)

    def hooked(self, task: str, caller: str, url: str, **more: Any) -> None:
        """A task with a webhook that is owed one notification."""
        row = self.tasks._row(task, caller, "worker", "c", {"payload": "x"}, "sending")
        self.ledger.begin(row, {"said": {"messageId": task}})
        self.ledger.owed.put_hook(Hook(task, "h", {"url": url, **more}), now_ms())
        self.ledger.note(task, [{"status": {"state": "submitted", "parts": []}}], now_ms())

    def outcome(self, task: str) -> str:
        return self.ledger.owed.of(task)[0].outcome

    @contextlib.asynccontextmanager
    async def notifying(self) -> AsyncIterator[None]:
        running = asyncio.ensure_future(self.webhooks.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def request(message_id: str, **more: Any) -> pb.SendMessageRequest:
    message = {"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": "x"}], **more}
    configuration = {"returnImmediately": True}
    return ParseDict({"message": message, "configuration": configuration}, pb.SendMessageRequest())


@contextlib.asynccontextmanager
async def webhook(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers the same each time, or never: its port, and what it was asked."""
    asked: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await over.wait()
        else:
            writer.write(b"HTTP/1.1 " + answer + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        over.set()


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(8):
        while not is_so():
            await asyncio.sleep(0.01)


async def refused(asked: Awaitable[Any]) -> str:
    try:
        await asked
    except A2AError as error:
        return f"{type(error).__name__}: {error}"
    return "it was not refused"


# -- whose task it is --------------------------------------------------------------------------------------------------


async def a_task_is_there_for_its_caller_alone(door: Door) -> None:
    owner, other = door.caller("partner"), door.caller("other")
    task = await door.given(owner, "m")
    ours = await door.given(other, "m")
    config = pb.TaskPushNotificationConfig(task_id=task, id="h", url="http://127.0.0.1:9/")
    await door.handler.on_create_task_push_notification_config(config, owner)
    handler = door.handler
    verbs: dict[str, Callable[[ServerCallContext], Awaitable[Any]]] = {
        "get": lambda who: handler.on_get_task(pb.GetTaskRequest(id=task), who),
        "cancel": lambda who: handler.on_cancel_task(pb.CancelTaskRequest(id=task), who),
        "subscribe": lambda who: anext(handler.on_subscribe_to_task(pb.SubscribeToTaskRequest(id=task), who)),
        "say": lambda who: handler.on_message_send(request("say", taskId=task), who),
        "stream": lambda who: anext(handler.on_message_send_stream(request("say", taskId=task), who)),
        "create": lambda who: handler.on_create_task_push_notification_config(config, who),
        "read": lambda who: handler.on_get_task_push_notification_config(
            pb.GetTaskPushNotificationConfigRequest(task_id=task, id="h"), who
        ),
        "list": lambda who: handler.on_list_task_push_notification_configs(
            pb.ListTaskPushNotificationConfigsRequest(task_id=task), who
        ),
        "delete": lambda who: handler.on_delete_task_push_notification_config(
            pb.DeleteTaskPushNotificationConfigRequest(task_id=task, id="h"), who
        ),
    }
    for name, verb in verbs.items():
        said = await refused(verb(other))
        assert said.startswith("TaskNotFoundError"), (name, said)
    assert [hook.id for hook in door.ledger.owed.hooks(task)] == ["h"]
    client: Any = other.state[CALLER].client
    assert (len(client.sent), client.cancelled) == (1, [])
    for who, expected in ((owner, task), (other, ours)):
        listed = await handler.on_list_tasks(pb.ListTasksRequest(), who)
        assert [one.id for one in listed.tasks] == [expected]
    # Of another agent, it is not there for its owner, either.
    elsewhere = AgentHandler("planner", door.tasks, door.webhooks, 0.0, {}, now_ms)
    assert (await refused(elsewhere.on_get_task(pb.GetTaskRequest(id=task), owner))).startswith("TaskNotFoundError")
    for name in ("get", "subscribe", "say", "read", "list", "delete"):
        assert await refused(verbs[name](owner)) == "it was not refused", name


# -- bounds ------------------------------------------------------------------------------------------------------------


async def a_task_has_ten_webhooks_and_a_caller_64_streams(door: Door) -> None:
    who = door.caller("partner")
    task = await door.given(who, "m")

    async def put(number: int) -> str:
        config = pb.TaskPushNotificationConfig(task_id=task, id=f"h{number}", url="http://127.0.0.1:9/")
        return await refused(door.handler.on_create_task_push_notification_config(config, who))

    assert [await put(number) for number in range(10)] == ["it was not refused"] * 10
    assert "has 10 webhooks" in await put(10)
    assert await put(3) == "it was not refused"
    streams = [
        door.handler.on_subscribe_to_task(pb.SubscribeToTaskRequest(id=task), one)
        for one in [who] * 65 + [door.caller("partner")]
    ]
    for stream in streams[:64]:
        await anext(stream)
    assert "has 64 streams open" in await refused(anext(streams[64]))
    await streams[0].aclose()
    await anext(streams[65])
    for stream in streams:
        await stream.aclose()


async def what_no_header_can_have_is_refused(door: Door) -> None:
    who = door.caller("partner")
    task = await door.given(who, "m")
    for more in (
        {"token": "\u00e9"},
        {"token": "a\r\nX-Evil: 1"},
        {"token": "a" * 4097},
        {"authentication": {"scheme": "Bearer", "credentials": "\u00e9"}},
        {"authentication": {"scheme": "B\n", "credentials": "x"}},
    ):
        config = ParseDict({"taskId": task, "url": "http://127.0.0.1:9/", **more}, pb.TaskPushNotificationConfig())
        said = await refused(door.handler.on_create_task_push_notification_config(config, who))
        assert "printable ASCII" in said, said
        params = request("n")
        params.configuration.task_push_notification_config.CopyFrom(config)
        assert "printable ASCII" in await refused(door.handler.on_message_send(params, who))
    # Nothing was begun with such a webhook.
    assert [one.id for one in door.ledger.unfinished("partner")] == [task]


# -- lists -------------------------------------------------------------------------------------------------------------


async def no_answer_spoils_the_list(door: Door) -> None:
    who = door.caller("partner")
    payloads: list[Any] = ["fine", {"parts": [{"raw": "not base64!"}]}, {"parts": [{"text": "a", "data": 1}]}]
    for levels in (39, 40, 41, 97, 400):
        deep: object = 1
        for _ in range(levels):
            deep = [deep]
        payloads += [deep, {"parts": [{"data": deep}]}]
    for number, payload in enumerate(payloads):
        task = await door.given(who, f"m{number}")
        answer = Message(type="RESULT", id="r", to="partner", sender="worker", payload=payload, timestamp=0)
        door.ledger.note(task, events_after("submitted", "", Told("done", answer=answer), 1), now_ms())
    listed = await door.handler.on_list_tasks(pb.ListTasksRequest(include_artifacts=True), who)
    assert len(listed.tasks) == len(payloads)
    # What a caller says itself comes back in the task, and that must be readable as well.
    deepest = 0
    for levels in range(1, 46):
        deep = 1
        for _ in range(levels):
            deep = [deep]
        parts = [{"data": deep}]
        if await refused(door.given(who, f"d{levels}", parts=parts)) == "it was not refused":
            deepest = levels
    assert 30 < deepest < 40, deepest
    assert (await door.handler.on_list_tasks(pb.ListTasksRequest(page_size=100), who)).total_size == len(
        payloads
    ) + deepest


async def what_is_forged_in_a_question_is_a_sentence(door: Door) -> None:
    who = door.caller("partner")
    for nanoseconds in (10**40, 2**63, -1):
        token = encode_list_tasks_cursor(ListTasksCursor(nanoseconds, "x"))
        said = await refused(door.handler.on_list_tasks(pb.ListTasksRequest(page_token=token), who))
        assert said.startswith("InvalidParamsError"), said
    for token in ("x", "\u00e9", "e30=", "bnVsbA=="):
        said = await refused(door.handler.on_list_tasks(pb.ListTasksRequest(page_token=token), who))
        assert said.startswith("InvalidParamsError"), (token, said)
    said = await refused(door.handler.on_list_tasks(pb.ListTasksRequest(status=99), who))
    assert said.startswith("InvalidParamsError"), said
    odd = request("nan")
    odd.message.parts[0].data.number_value = float("nan")
    said = await refused(door.handler.on_message_send(odd, who))
    assert said.startswith("InvalidParamsError"), said


# -- webhooks ----------------------------------------------------------------------------------------------------------


async def what_cannot_be_sent_has_its_pause(door: Door) -> None:
    # As a door of before has kept it.
    door.hooked("bad", "partner", "http://127.0.0.1:9/", token="\u00e9")
    async with webhook(b"200 OK") as (port, asked), door.notifying():
        door.hooked("good", "partner", f"http://127.0.0.1:{port}/")
        door.webhooks.wake()
        await until(lambda: door.outcome("good") and door.outcome("bad"))
        await asyncio.sleep(0.3)
    (bad,) = door.ledger.owed.of("bad")
    assert (bad.attempts, len(asked)) == (1, 1)
    assert "UnicodeEncodeError" in bad.outcome
    assert bad.due_ms is not None
    assert bad.due_ms > bad.created_ms + 700


async def a_full_disk_sends_nothing_twice_at_once_and_passes(door: Door) -> None:
    async with webhook(b"200 OK") as (port, asked):
        door.hooked("t", "partner", f"http://127.0.0.1:{port}/")
        full = sqlite3.OperationalError("database or disk is full")
        with patch.object(door.ledger.owed, "note", side_effect=full):
            async with asyncio.timeout(5):
                running = asyncio.ensure_future(door.webhooks.run())
                await until(lambda: asked)
                await asyncio.sleep(0.5)
            assert len(asked) == 1
        with patch.object(door.ledger.owed, "due", side_effect=full):
            door.webhooks.wake()
            await asyncio.sleep(0.1)
            assert not running.done()
        await until(lambda: door.outcome("t") == "HTTP 200")
        assert len(asked) == 2
        running.cancel()


async def slow_webhooks_of_one_caller_delay_no_other_ones(door: Door) -> None:
    async with webhook(None) as (slow, hanging), webhook(b"200 OK") as (port, _):
        for number in range(80):
            door.hooked(f"slow{number}", "partner", f"http://127.0.0.1:{slow}/")
        await asyncio.sleep(0.01)
        door.hooked("good", "other", f"http://127.0.0.1:{port}/")
        async with door.notifying():
            await until(lambda: door.outcome("good") == "HTTP 200")
            await until(lambda: len(hanging) == 8)
            await asyncio.sleep(0.3)
            assert len(hanging) == 8


async def slow_names_of_one_caller_delay_no_other_ones(door: Door) -> None:
    looked_up: list[str] = []

    def getaddrinfo(host: str, *more: Any, **options: Any) -> Any:
        looked_up.append(host)
        if host.startswith("slow"):
            time.sleep(1.5)
            raise socket.gaierror("none")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    async with webhook(b"200 OK") as (port, asked):
        for number in range(20):
            door.hooked(f"slow{number}", "partner", f"http://slow{number}.example/")
        await asyncio.sleep(0.01)
        door.hooked("good", "other", f"http://127.0.0.1:{port}/")
        door.hooked("named", "other", f"http://hook.example:{port}/a?b=c")
        began_s = time.monotonic()
        with patch.object(socket, "getaddrinfo", getaddrinfo):
            async with door.notifying():
                await until(lambda: door.outcome("good") and door.outcome("named"))
                assert time.monotonic() - began_s < 1.2
        assert "127.0.0.1" not in looked_up
        # Once, and connected to what was looked at; the name goes along.
        assert looked_up.count("hook.example") == 1
        assert door.outcome("named") == "HTTP 200"
        assert any(b"POST /a?b=c " in one and f"Host: hook.example:{port}\r\n".encode() in one for one in asked)


async def a_redirect_is_not_followed(door: Door) -> None:
    redirect = "302 Found\r\nLocation: http://127.0.0.1:{}/secret"
    async with (
        webhook(b"200 OK") as (inner, inside),
        webhook(redirect.format(inner).encode()) as (port, asked),
        door.notifying(),
    ):
        door.hooked("t", "partner", f"http://127.0.0.1:{port}/")
        door.webhooks.wake()
        await until(lambda: door.outcome("t"))
        assert (door.outcome("t"), len(asked), inside) == ("HTTP 302", 1, [])


# -- agents ------------------------------------------------------------------------------------------------------------


async def of_agents_that_are_not_served_nothing_is_kept(door: Door) -> None:
    service: Any = Service.__new__(Service)
    service._ledger, service._agents, service._only = door.ledger, {}, frozenset({"worker"})
    service._own = SimpleNamespace(address=SimpleNamespace(agent="door"))
    announced = {f"agent{number}": ("x",) for number in range(50)}
    service._note_agents({**announced, "worker": ("add",)})
    assert service._agents == {"worker": ("add",)}
    assert door.ledger.capabilities("agent7") == ()
    with patch.object(door.ledger, "_transaction", side_effect=AssertionError("nothing has changed")):
        service._note_agents({**announced, "worker": ("add",)})
        service._note_agents({**announced, "worker": ()})
    assert service._agents == {"worker": ("add",)}


async def an_inner_error_of_one_task_is_not_counted_for_others(door: Door) -> None:
    from a2a.utils.errors import InternalError

    from trishula.a2a_door.outgoing import RemoteUnreachable
    from trishula.errors import CallFailed

    class Client:
        async def get_task(self, request: pb.GetTaskRequest) -> Any:
            raise InternalError("broken")

    remote = RemoteAgent("http://127.0.0.1:9", None)
    remote._client = Client()
    found = []
    for task in [f"t{number}" for number in range(10)] + ["t0"] * 4:
        try:
            await remote.look(task)
        except (RemoteUnreachable, CallFailed) as error:
            found.append(type(error).__name__)
    assert found == ["RemoteUnreachable"] * 13 + ["CallFailed"]
    await remote.close()


SCENES: list[Callable[[Door], Awaitable[None]]] = [
    a_task_is_there_for_its_caller_alone,
    a_task_has_ten_webhooks_and_a_caller_64_streams,
    what_no_header_can_have_is_refused,
    no_answer_spoils_the_list,
    what_is_forged_in_a_question_is_a_sentence,
    what_cannot_be_sent_has_its_pause,
    a_full_disk_sends_nothing_twice_at_once_and_passes,
    slow_webhooks_of_one_caller_delay_no_other_ones,
    slow_names_of_one_caller_delay_no_other_ones,
    a_redirect_is_not_followed,
    of_agents_that_are_not_served_nothing_is_kept,
    an_inner_error_of_one_task_is_not_counted_for_others,
]


async def main() -> None:
    logging.getLogger("trishula").setLevel(logging.CRITICAL)
    wrong: dict[str, str] = {}
    for scene in SCENES:
        with tempfile.TemporaryDirectory() as directory:
            door = Door(Path(directory))
            try:
                async with asyncio.timeout(12):
                    await scene(door)
            except Exception:
                wrong[getattr(scene, "__name__", "")] = traceback.format_exc()
            door.ledger.close()
    sys.stdout.write(json.dumps({"scenes": len(SCENES), "wrong": wrong}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
