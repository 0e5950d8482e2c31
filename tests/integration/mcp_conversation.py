"""Models played by the official SDK's client, in its own environment; ``test_front_door.py`` starts it.

Each model is a client over stdio of a ``trishula mcp`` of its own. What the test must do meanwhile (kill the node, kill
a server) it is asked for by a line on standard output, and answers with one on standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

_HEADING = re.compile(r"^=== message (\S+) from (\S+) \(the bus vouches for the sender\) ===$", re.MULTILINE)


def model(name: str, *options: str) -> Client:
    """A client whose server is the agent of that name."""
    environment = {**os.environ, "TRISHULA_TOKEN": os.environ[f"TOKEN_{name.upper()}"]}
    command = ["-m", "trishula.cli.main", "mcp", *options]
    return Client(StdioServerParameters(command=sys.executable, args=command, env=environment))


async def said(client: Client, tool: str, **arguments: Any) -> tuple[str, bool]:
    """What a tool says, and whether that is an error."""
    result = await client.call_tool(tool, arguments)
    return "\n".join(getattr(block, "text", "") for block in result.content), bool(result.is_error)


async def read(client: Client, uri: str) -> str:
    """What a resource says, or why there is none."""
    try:
        (content,) = (await client.read_resource(uri)).contents
    except MCPError as error:
        return f"error: {error}"
    return str(getattr(content, "text", ""))


def tell_test(line: str) -> None:
    """Say something to the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def ask_test(for_what: str) -> None:
    """Have the test do something."""
    tell_test(for_what)
    await asyncio.to_thread(sys.stdin.readline)


async def until_accepted(client: Client, to: str, message_id: str) -> None:
    """Send as a model is told to: the same id again as long as the outcome is unknown."""
    while True:
        _, is_error = await said(client, "send", to=to, text=f"this is {message_id}", message_id=message_id)
        if not is_error:
            return


async def send_all(client: Client, to: str, prefix: str, count: int, break_at: int | None) -> None:
    for number in range(count):
        await until_accepted(client, to, f"{prefix}{number}")
        if number == break_at:
            await ask_test("break")


async def take_all(client: Client, count: int, shown: list[str]) -> None:
    while len(shown) < count:
        text, _ = await said(client, "wait_for_message", wait_s=20)
        ids = [message_id for message_id, _ in _HEADING.findall(text)]
        shown += ids
        if ids:
            await said(client, "ack", message_ids=ids)


async def talk(count: int) -> dict[str, Any]:
    """Two models send each other ``count`` messages each; the node is killed and started again in between."""
    shown: dict[str, list[str]] = {"agni": [], "dc": []}
    async with model("agni") as agni, model("dc") as dc:
        await asyncio.gather(
            send_all(agni, "dc", "a", count, count // 3),
            send_all(dc, "agni", "d", count, None),
            take_all(agni, count, shown["agni"]),
            take_all(dc, count, shown["dc"]),
        )
        rest = [(await said(one, "inbox", wait_s=2))[0] for one in (agni, dc)]
        status = (await said(agni, "status", message_ids=[f"a{number}" for number in range(count)]))[0]
    surfaced = status.count("in a model's context since")
    return {"shown": shown, "rest": rest, "done": status.count(": done, "), "surfaced": surfaced}


async def be_killed() -> dict[str, Any]:
    """A server is killed while its model holds messages; the model's next session goes on."""
    async with model("agni") as agni:
        for number in range(5):
            await until_accepted(agni, "dc", f"k{number}")
        try:
            async with model("dc") as dc:
                first = (await said(dc, "inbox"))[0]
                await said(dc, "ack", message_ids=["k0", "k1"])
                await ask_test("kill dc")
                await said(dc, "who_am_i")
        except BaseException as error:
            broken = type(error).__name__
        async with model("dc") as dc:
            second = (await said(dc, "inbox", wait_s=20))[0]
            await said(dc, "ack", message_ids=["k2", "k3", "k4"])
            rest = (await said(dc, "inbox"))[0]
    return {"first": first, "broken": broken, "second": second, "rest": rest}


async def look_around() -> dict[str, Any]:
    """What a client is told of the tools, what a question comes to, and how a mistake is answered."""
    async with model("agni") as agni, model("dc") as dc:
        tools = (await agni.list_tools()).tools
        asking = asyncio.create_task(said(agni, "ask", to="dc", text="why?", wait_s=30))
        question = (await said(dc, "wait_for_message", wait_s=30))[0]
        replied = (await said(dc, "reply", message_id=_HEADING.findall(question)[0][0], text="because"))[0]
        return {
            "instructions": agni.instructions,
            "tools": {tool.name: [tool.description, tool.input_schema, bool(tool.annotations)] for tool in tools},
            "me": await said(agni, "who_am_i"),
            "question": question,
            "replied": replied,
            "answer": await asking,
            "found again": (await said(dc, "search", words="why", agent="agni"))[0],
            "resources": [str(one.uri) for one in (await dc.list_resources()).resources],
            "templates": [one.uri_template for one in (await dc.list_resource_templates()).resource_templates],
            "resource": await read(dc, f"trishula://message/{_HEADING.findall(question)[0][0]}"),
            "no resource": await read(dc, "trishula://message/never-seen"),
            "mistakes": [
                await said(agni, "send", to="nobody", text="x"),
                await said(agni, "send", to="dc", text="x", priority=9),
                await said(agni, "ack", message_ids=["never-seen"]),
            ],
        }


async def over_http() -> dict[str, Any]:
    """Two models over one server of HTTP, one of each era of the protocol, and strangers."""
    url = os.environ["MCP_URL"]
    found: dict[str, Any] = {}
    async with httpx2.AsyncClient(headers=bearer("agni")) as one, httpx2.AsyncClient(headers=bearer("dc")) as other:
        for mode in ("legacy", "2026-07-28"):
            async with (
                Client(streamable_http_client(url, http_client=one), mode=mode) as agni,
                Client(streamable_http_client(url, http_client=other), mode=mode) as dc,
            ):
                found[f"version {mode}"] = agni.protocol_version
                found[f"me {mode}"] = (await said(agni, "who_am_i"))[0]
                waiting = asyncio.create_task(said(dc, "wait_for_message", wait_s=30))
                await until_accepted(agni, "dc", f"over-{mode}")
                found[f"shown {mode}"] = (await waiting)[0]
                found[f"read {mode}"] = [await read(dc, "trishula://inbox"), await read(agni, "trishula://inbox")]
        # Another session of the same model: what is open is open there as well.
        async with Client(streamable_http_client(url, http_client=other)) as dc:
            found["open"] = (await said(dc, "inbox"))[0]
            found["acked"] = (await said(dc, "ack", message_ids=["over-legacy", "over-2026-07-28"]))[0]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(headers=accept) as stranger:
        for name, headers in {
            "no token": {},
            "wrong token": {"Authorization": "Bearer dc.0000000000000000000000000000000000000000"},
            "no token at all": {"Authorization": "Bearer what"},
            "a page": {**bearer("dc"), "Origin": "https://evil.example"},
            "another host": {**bearer("dc"), "Host": "evil.example"},
        }.items():
            answer = await stranger.post(url, json=body, headers=headers)
            found[name] = [answer.status_code, answer.text]
    return found


def bearer(name: str) -> dict[str, str]:
    """The header that says who a client is."""
    return {"Authorization": f"Bearer {os.environ[f'TOKEN_{name.upper()}']}"}


async def cancelled_wait() -> dict[str, Any]:
    """A client gives up waiting; the message that comes then is shown to its next call."""
    async with model("agni") as agni, model("dc") as dc:
        try:
            await dc.call_tool("wait_for_message", {"wait_s": 60}, read_timeout_seconds=1.0)
        except Exception as error:
            gave_up = type(error).__name__
        await until_accepted(agni, "dc", "late")
        return {"gave_up": gave_up, "shown": (await said(dc, "inbox", wait_s=20))[0]}


def main() -> None:
    """Play one of the scenes."""
    modes = {"talk": lambda: talk(int(sys.argv[2])), "killed": be_killed, "look": look_around}
    modes |= {"wait": cancelled_wait, "http": over_http}
    tell_test(json.dumps(asyncio.run(modes[sys.argv[1]]())))


if __name__ == "__main__":
    main()
