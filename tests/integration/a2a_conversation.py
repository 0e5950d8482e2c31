"""Callers played by the official SDK's client of A2A, in its own environment; ``test_a2a_door.py`` starts it.

What the test must do meanwhile (kill the node, kill the door) it is asked for by a line on standard output, and answers
with one on standard input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError
from a2a.utils.signing import create_signature_verifier
from google.protobuf.json_format import ParseDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DOOR = os.environ["DOOR"]
_ENDED = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")


def tell_test(line: str) -> None:
    """Say something to the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def ask_test(for_what: str) -> None:
    """Have the test do something."""
    tell_test(for_what)
    await asyncio.to_thread(sys.stdin.readline)


def state_of(task: Any) -> str:
    return str(pb.TaskState.Name(task.status.state)).removeprefix("TASK_STATE_")


def texts_of(task: Any) -> list[str]:
    return [part.text for artifact in task.artifacts for part in artifact.parts]


def message(message_id: str, text: str, **more: Any) -> Any:
    return ParseDict({"messageId": message_id, "role": "ROLE_USER", "parts": [{"text": text}], **more}, pb.Message())


@asynccontextmanager
async def caller(agent: str, binding: str = "JSONRPC", name: str = "partner", **config: Any) -> AsyncIterator[Client]:
    """A client of an agent's card, as its maker would write it."""
    token = os.environ[f"TOKEN_{name.upper()}"]
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        card = await A2ACardResolver(http, f"{DOOR}/agents/{agent}").get_agent_card()
        settings = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], **config)
        yield ClientFactory(settings).create(card)


async def sent(client: Client, what: Any, **configuration: Any) -> Any:
    """The task that a message begins."""
    request = pb.SendMessageRequest(message=what, configuration=pb.SendMessageConfiguration(**configuration))
    async for response in client.send_message(request):
        return response.task
    raise AssertionError("no answer")


async def insist(client: Client, what: Any) -> Any:
    """Send as a careful caller does: the same message again until the door says that it has it."""
    while True:
        try:
            return await sent(client, what, return_immediately=True)
        except A2AError:
            await asyncio.sleep(0.1)


async def ended(client: Client, task_id: str) -> Any:
    while True:
        try:
            task = await client.get_task(pb.GetTaskRequest(id=task_id))
        except A2AError:
            await asyncio.sleep(0.1)
            continue
        if state_of(task) in _ENDED:
            return task
        await asyncio.sleep(0.1)


async def crash(count: int) -> dict[str, Any]:
    """Tasks are given while the node, and then the door, is killed; each is repeated at the end."""
    tasks: dict[str, str] = {}
    async with caller("worker", streaming=False) as client:
        for number in range(count):
            tasks[f"m{number}"] = (await insist(client, message(f"m{number}", f"job {number}"))).id
            if number == count // 3:
                await ask_test("kill_node")
            if number == 2 * count // 3:
                await ask_test("kill_door")
        repeated = [(await insist(client, message(f"m{number}", f"job {number}"))).id for number in range(count)]
        await ask_test("wake")
        found = [await ended(client, task_id) for task_id in tasks.values()]
        try:
            await sent(client, message("m0", "something else"))
            reused = ""
        except A2AError as error:
            reused = str(error)
        listed = await client.list_tasks(pb.ListTasksRequest(page_size=7))
        pages = [len(listed.tasks)]
        while listed.next_page_token:
            listed = await client.list_tasks(pb.ListTasksRequest(page_size=7, page_token=listed.next_page_token))
            pages.append(len(listed.tasks))
    return {
        "ids": list(tasks.values()),
        "repeated": repeated,
        "states": [state_of(task) for task in found],
        "answers": [texts_of(task) for task in found],
        "reused": reused,
        "pages": pages,
        "total": listed.total_size,
    }


async def streams() -> dict[str, Any]:
    """A stream that the end of the door breaks, and that goes on when it is taken up again; over HTTP+JSON."""
    seen: list[str] = []
    async with caller("worker", "HTTP+JSON") as client:
        request = pb.SendMessageRequest(message=message("s0", "slow"))
        task_id = ""
        try:
            async for response in client.send_message(request):
                seen.append(kind_of(response))
                if response.HasField("task"):
                    task_id = response.task.id
                    await ask_test("kill_door")
        except A2AError:
            seen.append("broken")
        while True:
            try:
                stream = client.subscribe(pb.SubscribeToTaskRequest(id=task_id))
                first = await anext(stream)
                break
            except A2AError:
                await asyncio.sleep(0.1)
        seen.append(kind_of(first))
        await ask_test("wake")
        async for response in stream:
            seen.append(kind_of(response))
        task = await ended(client, task_id)
    return {"seen": seen, "answers": texts_of(task)}


def kind_of(response: Any) -> str:
    if response.HasField("task"):
        return f"task {state_of(response.task)}"
    if response.HasField("status_update"):
        return state_of(response.status_update)
    return "artifact"


async def look() -> dict[str, Any]:
    """The shapes of the protocol: cards, skills, errors, cancel, other callers, sizes, 0.3."""
    found: dict[str, Any] = {}
    async with httpx.AsyncClient() as http:
        url = f"{DOOR}/agents/worker/.well-known/agent-card.json"
        raw = await http.get(url)
        found["card"] = raw.json()
        found["again"] = (await http.get(url, headers={"If-None-Match": raw.headers["etag"]})).status_code
        key = jwt.PyJWK((await http.get(f"{DOOR}/.well-known/jwks.json")).json()["keys"][0])
        card = await A2ACardResolver(http, f"{DOOR}/agents/worker").get_agent_card(
            signature_verifier=create_signature_verifier(lambda kid, jku: key, ["ES256"])
        )
        found["signed"] = len(card.signatures)
        found["agents"] = sorted((await http.get(f"{DOOR}/agents")).json()["agents"])
        rpc = f"{DOOR}/agents/worker/rpc"
        bearer = {"Authorization": f"Bearer {os.environ['TOKEN_PARTNER']}", "A2A-Version": "1.0"}
        found["statuses"] = {
            "nobody": (await http.get(f"{DOOR}/agents/nobody/.well-known/agent-card.json")).status_code,
            "no token": (await http.post(rpc, json={})).status_code,
            "wrong token": (await http.post(rpc, json={}, headers={"Authorization": "Bearer partner.x"})).status_code,
            "a page": (await http.post(rpc, json={}, headers={**bearer, "Origin": "https://x.example"})).status_code,
            "another host": (await http.post(rpc, json={}, headers={**bearer, "Host": "x.example"})).status_code,
            "too large": (await http.post(rpc, content=b" " * 3_000_000, headers=bearer)).status_code,
        }
        legacy = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "message/send",
            "params": {
                "message": {
                    "kind": "message",
                    "messageId": "old",
                    "role": "user",
                    "parts": [{"kind": "text", "text": "old"}],
                }
            },
        }
        del bearer["A2A-Version"]
        found["0.3"] = (await http.post(rpc, json=legacy, headers=bearer, timeout=30)).json()
        # A2A's conformance kit asks with a slash at the end, and follows no redirect.
        found["0.3 again"] = (await http.post(f"{rpc}/", json=legacy, headers=bearer, timeout=30)).json()
    async with caller("worker", streaming=False) as client:
        skill = message("k", "", metadata={"skill": "add"})
        del skill.parts[:]
        skill.parts.append(ParseDict({"data": {"a": 1, "b": 2}}, pb.Part()))
        task = await sent(client, skill)
        answers = [part.data.number_value for artifact in task.artifacts for part in artifact.parts]
        found["skill"] = [state_of(task), answers, *(part.text for part in task.status.message.parts)]
        for name, skill_name in (("misfit", "add"), ("raises", "fail")):
            task = await sent(client, message(name, "x", metadata={"skill": skill_name}))
            found[name] = [state_of(task), task.status.message.parts[0].text]
        task = await sent(client, message("c", "slow"), return_immediately=True)
        found["canceled"] = state_of(await client.cancel_task(pb.CancelTaskRequest(id=task.id)))
        found["errors"] = {
            "cancel": await refused(lambda: client.cancel_task(pb.CancelTaskRequest(id=task.id))),
            "get": await refused(lambda: client.get_task(pb.GetTaskRequest(id="a2a-nothing"))),
            "say": await refused(lambda: sent(client, message("d", "x", taskId=task.id))),
            "hook": await refused(lambda: hook(client, task.id, "http://127.0.0.1:9/")),
            "metadata": await refused(lambda: hook(client, task.id, "http://169.254.169.254/latest")),
        }
        async with caller("worker", name="stranger", streaming=False) as other:
            found["errors"]["foreign"] = await refused(lambda: other.get_task(pb.GetTaskRequest(id=task.id)))
            found["errors"]["forbidden"] = await refused(lambda: sent(other, message("f", "x")))
    return found


async def refused(asked: Callable[[], Any]) -> str:
    try:
        await asked()
    except A2AError as error:
        return f"{type(error).__name__}: {error}"
    return "it was not refused"


async def hook(client: Client, task_id: str, url: str, **more: Any) -> Any:
    return await client.create_task_push_notification_config(
        pb.TaskPushNotificationConfig(task_id=task_id, url=url, **more)
    )


async def pushes() -> dict[str, Any]:
    """A webhook that fails twice, and gets each notification all the same, signed, also from the next door."""
    got: list[dict[str, Any]] = []
    failures = 2
    async with httpx.AsyncClient() as http:
        key = jwt.PyJWK((await http.get(f"{DOOR}/.well-known/jwks.json")).json()["keys"][0])

    async def hear(request: Request) -> Response:
        nonlocal failures
        body = await request.body()
        proof = request.headers["x-trishula-signature"]
        claims = jwt.decode(proof, key.key, algorithms=["ES256"], audience=url)
        assert claims["request_body_sha256"] == hashlib.sha256(body).hexdigest()
        if failures:
            failures -= 1
            return Response(status_code=500)
        update = json.loads(body)
        said = update.get("statusUpdate", {}).get("status", {}).get("state", "artifact")
        got.append({"said": said, "jti": claims["jti"], "token": request.headers.get("x-a2a-notification-token")})
        return Response()

    import uvicorn

    app = Starlette(routes=[Route("/hook", hear, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/hook"
    async with caller("worker", streaming=False) as client:
        config = pb.TaskPushNotificationConfig(url=url, token="secret")
        task = await sent(client, message("p", "slow"), return_immediately=True, task_push_notification_config=config)
        await ask_test("kill_door")
        await ask_test("wake")
        while not any(one["said"] == "TASK_STATE_COMPLETED" for one in got):
            await asyncio.sleep(0.05)
    server.should_exit = True
    await serving
    return {"got": got, "task": task.id}


async def main() -> None:
    scene, *arguments = sys.argv[1:]
    scenes: dict[str, Callable[..., Any]] = {"crash": crash, "streams": streams, "look": look, "pushes": pushes}
    async with asyncio.timeout(100):
        found = await scenes[scene](*map(int, arguments))
    tell_test(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
