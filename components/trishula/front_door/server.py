"""The front door as a server of MCP, on the official SDK; here over stdio, for the client that started it.

This module and :mod:`~trishula.front_door.web_server` are those that import the SDK, which can't be installed beside
Crossbar and comes with the extra ``mcp``.
What the tools do is in :mod:`trishula.front_door.tools`; here they get their schemas, and their errors become results
that the model reads: a :class:`~trishula.errors.TrishulaError` as its sentence, a bug of ours as one that says so.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import Resource, ResourceTemplate, ToolAnnotations
from msgspec import Meta
from pydantic import Field

from trishula import distribution
from trishula.errors import ArgumentInvalid, MessageUnknown, TrishulaError
from trishula.front_door.resources import RESOURCES, TEMPLATES, read_resource
from trishula.front_door.tools import INSTRUCTIONS, READS_ONLY, TOOLS, Tools
from trishula.front_door.wording import error_told

__all__ = ["Calling", "make_server", "over_stdio"]

_TEXT = "text/plain"
#: What a tool is told of its call; it leads to the tools of whoever calls.
Calling: TypeAlias = "Context[Tools, Any]"


def over_stdio(opened: Callable[[], Tools]) -> None:
    """Serve the client at our standard input and output, until it goes.

    Args:
        opened: makes the tools, in the server's loop.
    """

    @asynccontextmanager
    async def life(_: MCPServer[Tools]) -> AsyncIterator[Tools]:
        tools = opened()
        async with tools:
            yield tools

    async def of(context: Calling) -> Tools:
        tools: Tools = context.request_context.lifespan_context
        return tools

    make_server(of, life).run("stdio")


def make_server(
    of: Callable[[Calling], Awaitable[Tools]], life: Callable[[MCPServer[Tools]], Any] | None = None
) -> MCPServer[Tools]:
    """A server with the tools, for whichever transport.

    Args:
        of: the tools of whoever calls.
        life: what the server's lifespan does.
    """
    server: MCPServer[Tools] = _Server(
        of,
        "trishula",
        title="TRISHULA: the bus between agents",
        instructions=INSTRUCTIONS,
        version=distribution.version(),
        lifespan=life,
        log_level="WARNING",
    )
    for name in TOOLS:
        verb = getattr(Tools, name)
        server.add_tool(
            _tool(name, of),
            name=name,
            description=inspect.getdoc(verb),
            annotations=ToolAnnotations(read_only_hint=name in READS_ONLY, open_world_hint=True),
            # The text is the result; the same as JSON would be paid for twice.
            structured_output=False,
        )
    return server


class _Server(MCPServer[Tools]):
    """A server whose resources are the caller's: the SDK's own functions for resources without a template aren't told
    who calls.
    """

    def __init__(self, of: Callable[[Calling], Awaitable[Tools]], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._of = of

    async def list_resources(self) -> list[Resource]:
        return [Resource(uri=one.uri, name=one.name, description=one.description, mime_type=_TEXT) for one in RESOURCES]

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        return [
            ResourceTemplate(uri_template=one.uri, name=one.name, description=one.description, mime_type=_TEXT)
            for one in TEMPLATES
        ]

    async def read_resource(self, uri: Any, context: Calling | None = None) -> Iterable[ReadResourceContents]:
        try:
            if context is None:
                raise ArgumentInvalid("nobody says whose resources these are")
            return [ReadResourceContents(await read_resource(await self._of(context), str(uri)), mime_type=_TEXT)]
        except (ArgumentInvalid, MessageUnknown) as error:
            raise ResourceNotFoundError(error_told(error)) from None
        except TrishulaError as error:
            raise ResourceError(error_told(error)) from None


def _tool(name: str, of: Callable[[Calling], Awaitable[Tools]]) -> Callable[..., Awaitable[str]]:
    """A tool as the SDK wants it: a function with pydantic's words for what each argument is."""

    async def tool(context: Calling, **arguments: Any) -> str:
        try:
            return await (await of(context)).call(name, arguments)
        except TrishulaError as error:
            raise ToolError(error_told(error)) from None

    signature = inspect.signature(getattr(Tools, name), eval_str=True)
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=Context)
    parameters = [_in_pydantics_words(one) for one in list(signature.parameters.values())[1:]]
    tool.__signature__ = inspect.Signature([*parameters, context], return_annotation=str)  # type: ignore[attr-defined]
    tool.__annotations__ = {"context": Context}
    return tool


def _in_pydantics_words(parameter: inspect.Parameter) -> inspect.Parameter:
    annotation = parameter.annotation
    if get_origin(annotation) is not Annotated:
        return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    plain, *notes = get_args(annotation)
    fields = [
        Field(description=note.description, ge=note.ge, le=note.le, min_length=note.min_length)
        for note in notes
        if isinstance(note, Meta)
    ]
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[plain, *fields])
