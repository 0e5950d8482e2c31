"""A model that follows a script, on this machine, in the place of a vendor's: what a coding client asks it, it answers.

Told that mail waits, it calls the tool ``inbox``; to a tool's result, and to all else, it says a word. It speaks what
the vendors' clients speak: OpenAI's chat completions (``/v1/chat/completions``) and responses (``/v1/responses``),
Anthropic's messages (``/v1/messages``) and Google's generateContent (``/v1beta/models/…``).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

__all__ = ["Asked", "ScriptedModel"]

#: What our hooks and wakes have in their line for a model.
POINTER = "Call the tool inbox of the server trishula"
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked the model.

    Attributes:
        tools: the tools that it may call; of one in a namespace ``(namespace, name)``.
        heard: the texts that came since the model spoke last.
        is_result: whether a tool's result is among them.
    """

    tools: list[tuple[str, str]]
    heard: list[str] = field(default_factory=list)
    is_result: bool = False

    @property
    def call(self) -> tuple[str, str] | None:
        """The tool that the script calls now."""
        if self.is_result or not any(POINTER in text for text in self.heard):
            return None
        return next((tool for tool in self.tools if tool[1] == "inbox" or tool[1].endswith("_inbox")), None)


def _text(content: object) -> str:
    """All strings below ``content``, one a line."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = list(content.values())
    return "\n".join(map(_text, content)) if isinstance(content, list) else ""


def _since(turns: list[dict[str, Any]], is_own: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    own = [number for number, turn in enumerate(turns) if is_own(turn)]
    return turns[own[-1] + 1 :] if own else turns


def _events(chunks: list[Any], *, named: bool = False, done: bool = False) -> bytes:
    text = "".join((f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n" for one in chunks)
    return (text + ("data: [DONE]\n\n" if done else "")).encode()


_SAID = "I have read it."


class _Completions:
    """``POST /v1/chat/completions``."""

    def asked(self, body: dict[str, Any]) -> Asked:
        last = _since(body["messages"], lambda one: one["role"] == "assistant")
        return Asked(
            [("", one["function"]["name"]) for one in body.get("tools", ())],
            [_text(one.get("content")) for one in last if one["role"] == "user"],
            any(one["role"] == "tool" for one in last),
        )

    def answer(self, call: tuple[str, str] | None) -> bytes:
        delta: dict[str, Any] = {"role": "assistant", "content": _SAID}
        if call is not None:
            function = {"name": call[1], "arguments": "{}"}
            called = {"index": 0, "id": f"call_{next(_NUMBERS)}", "type": "function", "function": function}
            delta = {"role": "assistant", "tool_calls": [called]}
        base = {"id": f"c{next(_NUMBERS)}", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
        reason = "stop" if call is None else "tool_calls"
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return _events(
            [
                {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
                {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage},
            ],
            done=True,
        )


class _Responses:
    """``POST /v1/responses``."""

    def asked(self, body: dict[str, Any]) -> Asked:
        tools = []
        for one in body.get("tools", ()):
            if one.get("type") == "namespace":
                tools += [(one["name"], inner["name"]) for inner in one["tools"]]
            elif "name" in one:
                tools.append(("", one["name"]))
        given = body["input"]
        own = ("function_call", "reasoning", "custom_tool_call")
        last = _since(given, lambda one: one.get("type") in own or one.get("role") == "assistant")
        return Asked(
            tools,
            [_text(one.get("content")) for one in last if one.get("role") in ("user", "developer")],
            any(str(one.get("type")).endswith("_output") for one in last),
        )

    def answer(self, call: tuple[str, str] | None) -> bytes:
        number = next(_NUMBERS)
        item: dict[str, Any]
        if call is None:
            content = [{"type": "output_text", "text": _SAID, "annotations": []}]
            item = {"type": "message", "id": f"m{number}", "role": "assistant", "status": "completed"}
            item["content"] = content
        else:
            item = {"type": "function_call", "id": f"f{number}", "call_id": f"call_{number}", "name": call[1]}
            item |= {"arguments": "{}", "status": "completed"}
            if call[0]:
                item["namespace"] = call[0]
        response: dict[str, Any] = {"id": f"r{number}", "object": "response", "status": "in_progress", "output": []}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, **details}
        ended = {**response, "status": "completed", "output": [item], "usage": usage}
        return _events(
            [
                {"type": "response.created", "response": response},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": "response.completed", "response": ended},
            ],
            named=True,
        )


class _Messages:
    """``POST /v1/messages``."""

    def asked(self, body: dict[str, Any]) -> Asked:
        last = _since(body["messages"], lambda one: one["role"] == "assistant")
        blocks = [
            block
            for one in last
            for block in (
                one["content"] if isinstance(one["content"], list) else [{"type": "text", "text": one["content"]}]
            )
        ]
        return Asked(
            [("", one["name"]) for one in body.get("tools", ()) if "name" in one],
            [block["text"] for block in blocks if block["type"] == "text"],
            any(block["type"] == "tool_result" for block in blocks),
        )

    def answer(self, call: tuple[str, str] | None) -> bytes:
        number = next(_NUMBERS)
        start: dict[str, Any] = {"type": "text", "text": ""}
        delta: dict[str, Any] = {"type": "text_delta", "text": _SAID}
        if call is not None:
            start = {"type": "tool_use", "id": f"toolu_{number}", "name": call[1], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": "{}"}
        message: dict[str, Any] = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "scripted"}
        message |= {"content": [], "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        reason = {"stop_reason": "end_turn" if call is None else "tool_use", "stop_sequence": None}
        return _events(
            [
                {"type": "message_start", "message": message},
                {"type": "content_block_start", "index": 0, "content_block": start},
                {"type": "content_block_delta", "index": 0, "delta": delta},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": reason, "usage": {"output_tokens": 1}},
                {"type": "message_stop"},
            ],
            named=True,
        )


class _Generate:
    """``POST /v1beta/models/NAME:generateContent`` and ``…:streamGenerateContent``."""

    def asked(self, body: dict[str, Any]) -> Asked:
        last = _since(body["contents"], lambda one: one.get("role") == "model")
        parts = [part for one in last for part in one["parts"]]
        return Asked(
            [("", one["name"]) for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())],
            [part["text"] for part in parts if "text" in part],
            any("functionResponse" in part for part in parts),
        )

    def answer(self, call: tuple[str, str] | None) -> bytes:
        part = {"text": _SAID} if call is None else {"functionCall": {"name": call[1], "args": {}}}
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return _events([{"candidates": [candidate], "usageMetadata": usage}])


def _unstreamed(events: bytes, path: str) -> bytes:
    """One value for who asked for no stream."""
    chunks = [json.loads(line[6:]) for line in events.decode().splitlines() if line.startswith("data: {")]
    if "/messages" in path:
        block = {**chunks[1]["content_block"]}
        if block["type"] == "text":
            block["text"] = _SAID
        return json.dumps({**chunks[0]["message"], "content": [block], **chunks[4]["delta"]}).encode()
    if "/responses" in path:
        return json.dumps(chunks[-1]["response"]).encode()
    if "/chat/completions" in path:
        message = chunks[0]["choices"][0]["delta"]
        choice = {"index": 0, "message": message, "finish_reason": chunks[1]["choices"][0]["finish_reason"]}
        return json.dumps({**chunks[1], "object": "chat.completion", "choices": [choice]}).encode()
    return json.dumps(chunks[0]).encode()


class ScriptedModel:
    """The server, from ``with`` on.

    Attributes:
        asked: all that was asked, in order.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def has_heard(self, text: str) -> bool:
        """Whether it was told ``text`` in a turn's own words."""
        return any(text in one for asked in list(self.asked) for one in asked.heard)

    def __enter__(self) -> ScriptedModel:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, path: str, body: dict[str, Any]) -> tuple[str, bytes] | None:
        dialect: _Completions | _Responses | _Messages | _Generate
        if path.endswith("/chat/completions"):
            dialect = _Completions()
        elif path.endswith("/responses"):
            dialect = _Responses()
        elif path.endswith("/messages"):
            dialect = _Messages()
        elif path.lower().endswith(":generatecontent") or path.endswith(":streamGenerateContent"):
            dialect = _Generate()
        else:
            return None
        asked = dialect.asked(body)
        self.asked.append(asked)
        events = dialect.answer(asked.call)
        if body.get("stream") or "stream" in path:
            return "text/event-stream", events
        return "application/json", _unstreamed(events, path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                path = self.path.partition("?")[0]
                text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = None
                if path.endswith(("/count_tokens", ":countTokens")):
                    answer = "application/json", b'{"input_tokens": 1, "totalTokens": 1}'
                else:
                    with contextlib.suppress(ValueError):
                        answer = model._take(path, json.loads(text or b"{}"))
                self._send(answer)

            def do_GET(self) -> None:
                self._send(None)

            do_HEAD = do_GET

            def _send(self, answer: tuple[str, bytes] | None) -> None:
                kind, text = answer or ("application/json", b'{"error": {"message": "there is nothing"}}')
                self.send_response(200 if answer else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
