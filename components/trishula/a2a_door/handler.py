"""One agent's side of A2A, on the official SDK: its requests become verbs of :mod:`trishula.a2a_door.tasks`.

The SDK has the transports, the shapes and the errors. Its own handler of requests keeps streams and running tasks in
memory; here everything is read from the door's file, so a stream that broke goes on where it is taken up again, and a
task is there whichever process began it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types import a2a_pb2 as pb
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE
from a2a.utils.errors import (
    A2AError,
    ExtendedAgentCardNotConfiguredError,
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import (
    ListTasksCursor,
    apply_history_length,
    decode_list_tasks_cursor,
    encode_list_tasks_cursor,
    validate_history_length,
    validate_page_size,
)
from google.protobuf.json_format import MessageToDict, ParseDict, SerializeToJsonError
from google.protobuf.message import Message as Proto

from trishula.a2a_door.callers import Caller
from trishula.a2a_door.gate import CALLER
from trishula.a2a_door.ledger import TaskRow
from trishula.a2a_door.life import Event
from trishula.a2a_door.owed import Hook
from trishula.a2a_door.parts import is_task_id
from trishula.a2a_door.shapes import stream_response_of, task_of
from trishula.a2a_door.tasks import Tasks
from trishula.a2a_door.webhooks import Webhooks
from trishula.errors import CapabilityForbidden, NotAllowed, RecipientForbidden, TrishulaError

__all__ = ["AgentHandler"]

_MOST_HOOKS = 10
_MOST_STREAMS = 64
_LONGEST_OF_HOOK = 4096

T = TypeVar("T", bound=Proto)


class AgentHandler(RequestHandler):
    """See the module's docstring.

    Args:
        agent: the agent whose side it is.
        tasks: all tasks of the door.
        webhooks: notifications.
        wait_s: how long a caller that wants to wait for a task's end waits at most.
        streams: how many streams each caller has open, by name; one map for all agents.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        agent: str,
        tasks: Tasks,
        webhooks: Webhooks,
        wait_s: float,
        streams: dict[str, int],
        now_ms: Callable[[], int],
    ) -> None:
        self._agent = agent
        self._tasks = tasks
        self._webhooks = webhooks
        self._wait_s = wait_s
        self._streams = streams
        self._now_ms = now_ms

    # -- giving tasks --------------------------------------------------------------------------------------------------

    @validate_request_params
    async def on_message_send(self, params: pb.SendMessageRequest, context: ServerCallContext) -> pb.Task:
        """Give a task; wait for its end if the caller wants to, as long as the door waits."""
        validate_history_length(params.configuration)
        with _told():
            task = await self._given(params, _caller(context))
            if not params.configuration.return_immediately:
                await self._tasks.ended(task.id, self._wait_s)
        return apply_history_length(self._shape(task.id), params.configuration)

    @validate_request_params
    async def on_message_send_stream(
        self, params: pb.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        """Give a task, and tell what becomes of it."""
        validate_history_length(params.configuration)
        with _told():
            task = await self._given(params, _caller(context))
        async with aclosing(self._streamed(task.id, _caller(context), params.configuration)) as events:
            async for event in events:
                yield event

    async def _given(self, params: pb.SendMessageRequest, caller: Caller) -> TaskRow:
        message = _plain(params.message)
        hook = None
        if params.configuration.HasField("task_push_notification_config"):
            hook = params.configuration.task_push_notification_config
            await self._check(hook)
        if params.message.task_id:
            task = await self._row(params.message.task_id, caller)
            if task.stage == "ended":
                raise UnsupportedOperationError(f"the task {task.id} is {task.state}: give a new one")
            if params.message.context_id and params.message.context_id != task.context:
                raise InvalidParamsError(f"the task {task.id} is in another context: {task.context}")
            await self._tasks.say(caller, task, message)
        else:
            task = await self._tasks.begin(caller, self._agent, message)
        if hook is not None:
            self._put(task.id, hook)
        return task

    # -- looking at them -----------------------------------------------------------------------------------------------

    @validate_request_params
    async def on_get_task(self, params: pb.GetTaskRequest, context: ServerCallContext) -> pb.Task:
        """One task."""
        validate_history_length(params)
        row = await self._row(params.id, _caller(context))
        return apply_history_length(self._shape(row.id), params)

    @validate_request_params
    async def on_list_tasks(self, params: pb.ListTasksRequest, context: ServerCallContext) -> pb.ListTasksResponse:
        """The caller's tasks for this agent, the latest change first."""
        validate_history_length(params)
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
        size = params.page_size or DEFAULT_LIST_TASKS_PAGE_SIZE
        where: dict[str, Any] = {"caller": _caller(context).name, "agent": self._agent}
        if params.context_id:
            where["context"] = params.context_id
        if params.status:
            if params.status not in pb.TaskState.values():
                raise InvalidParamsError(f"status is {params.status}, which is no state of a task")
            where["state"] = pb.TaskState.Name(params.status).removeprefix("TASK_STATE_").lower()
        if params.HasField("status_timestamp_after"):
            where["since_ms"] = params.status_timestamp_after.ToMilliseconds()
        rows, total = self._tasks.ledger.tasks(where, _position(params.page_token), size + 1)
        page = []
        for row in rows[:size]:
            task = apply_history_length(self._shape(row.id), params)
            if not params.include_artifacts:
                task.ClearField("artifacts")
            page.append(task)
        following = ""
        if len(rows) > size:
            last = rows[size - 1]
            following = encode_list_tasks_cursor(ListTasksCursor(last.changed_ms * 1_000_000, last.id))
        return pb.ListTasksResponse(tasks=page, next_page_token=following, page_size=size, total_size=total)

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: pb.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any, None]:
        """The task as it is, and then what becomes of it."""
        row = await self._row(params.id, _caller(context))
        if row.stage == "ended":
            raise UnsupportedOperationError(f"the task {row.id} is {row.state}: there is nothing more to come")
        async with aclosing(self._streamed(row.id, _caller(context), None)) as events:
            async for event in events:
                yield event

    async def _streamed(
        self, task_id: str, caller: Caller, configuration: pb.SendMessageConfiguration | None
    ) -> AsyncGenerator[Any, None]:
        if self._streams.get(caller.name, 0) >= _MOST_STREAMS:
            raise InternalError(f"{caller.name} has {_MOST_STREAMS} streams open; close some, or ask for the task")
        self._streams[caller.name] = self._streams.get(caller.name, 0) + 1
        try:
            known = self._tasks.ledger.events(task_id)
            row = self._tasks.ledger.task(task_id)
            if row is None:
                raise TaskNotFoundError
            yield apply_history_length(_proto(task_of(row, known), pb.Task()), configuration)
            async with aclosing(self._tasks.follow(task_id, known[-1][0])) as events:
                async for number, at_ms, event in events:
                    if (update := _event(row, number, at_ms, event)) is not None:
                        yield update
        finally:
            self._streams[caller.name] -= 1

    async def on_cancel_task(self, params: pb.CancelTaskRequest, context: ServerCallContext) -> pb.Task:
        """Take a task back."""
        caller = _caller(context)
        row = await self._row(params.id, caller)
        if row.stage == "ended":
            raise TaskNotCancelableError(f"the task {row.id} is {row.state}")
        with _told():
            if not await self._tasks.cancel(caller, row):
                raise TaskNotCancelableError(f"the task {row.id} is over, and its answer is on the way")
        return self._shape(row.id)

    # -- webhooks ------------------------------------------------------------------------------------------------------

    @validate_request_params
    async def on_create_task_push_notification_config(
        self, params: pb.TaskPushNotificationConfig, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        """Set a webhook."""
        row = await self._row(params.task_id, _caller(context))
        with _told():
            await self._check(params)
        return self._put(row.id, params)

    async def _check(self, config: pb.TaskPushNotificationConfig) -> None:
        said = config.authentication
        for name, value in (("token", config.token), ("scheme", said.scheme), ("credentials", said.credentials)):
            if len(value) > _LONGEST_OF_HOOK or not value.isascii() or not value.isprintable():
                raise InvalidParamsError(
                    f"the webhook's {name} travels as a header: it must be printable ASCII of at most "
                    f"{_LONGEST_OF_HOOK} characters"
                )
        if len(config.id) > _LONGEST_OF_HOOK:
            raise InvalidParamsError(f"a webhook's id may have {_LONGEST_OF_HOOK} characters")
        await self._webhooks.check(config.url)

    def _put(self, task_id: str, config: pb.TaskPushNotificationConfig) -> pb.TaskPushNotificationConfig:
        owed = self._tasks.ledger.owed
        kept = pb.TaskPushNotificationConfig()
        kept.CopyFrom(config)
        kept.task_id = task_id
        kept.id = kept.id or task_id
        known = {hook.id for hook in owed.hooks(task_id)}
        if kept.id not in known and len(known) >= _MOST_HOOKS:
            raise InvalidParamsError(f"the task {task_id} has {_MOST_HOOKS} webhooks; remove one")
        owed.put_hook(Hook(task_id, kept.id, MessageToDict(kept)), self._now_ms())
        self._webhooks.wake()
        return kept

    @validate_request_params
    async def on_get_task_push_notification_config(
        self, params: pb.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> pb.TaskPushNotificationConfig:
        """One webhook."""
        for config in await self._configs(params.task_id, context):
            if config.id == params.id:
                return config
        raise TaskNotFoundError(f"the task {params.task_id} has no webhook {params.id}")

    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: pb.ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> pb.ListTaskPushNotificationConfigsResponse:
        """All of a task's webhooks."""
        return pb.ListTaskPushNotificationConfigsResponse(configs=await self._configs(params.task_id, context))

    async def _configs(self, task_id: str, context: ServerCallContext) -> list[pb.TaskPushNotificationConfig]:
        row = await self._row(task_id, _caller(context))
        return [_proto(one.config, pb.TaskPushNotificationConfig()) for one in self._tasks.ledger.owed.hooks(row.id)]

    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: pb.DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Remove one, if it is there."""
        row = await self._row(params.task_id, _caller(context))
        self._tasks.ledger.owed.drop_hook(row.id, params.id)

    async def on_get_extended_agent_card(
        self, params: pb.GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> pb.AgentCard:
        """There is none: the public card says all."""
        raise ExtendedAgentCardNotConfiguredError

    # -- helpers -------------------------------------------------------------------------------------------------------

    async def _row(self, task_id: str, caller: Caller) -> TaskRow:
        """A task of this caller for this agent; others are not there for it."""
        row = self._tasks.ledger.task(task_id)
        if row is None and is_task_id(task_id):
            with _told():
                row = await self._tasks.adopt(caller, self._agent, task_id)
        if row is None or row.stage == "sending" or (row.caller, row.agent) != (caller.name, self._agent):
            raise TaskNotFoundError(f"{caller.name} gave {self._agent} no task {task_id}")
        return row

    def _shape(self, task_id: str) -> pb.Task:
        row = self._tasks.ledger.task(task_id)
        if row is None:
            raise TaskNotFoundError
        return _proto(task_of(row, self._tasks.ledger.events(task_id)), pb.Task())


def _caller(context: ServerCallContext) -> Caller:
    caller = context.state[CALLER]
    if not isinstance(caller, Caller):
        raise InternalError("nobody calls")
    return caller


def _event(row: TaskRow, number: int, at_ms: int, event: Event) -> Proto | None:
    told = stream_response_of(row, number, at_ms, event)
    if told is None:
        return None
    response = _proto(told, pb.StreamResponse())
    found: Proto = getattr(response, str(response.WhichOneof("payload")))
    return found


def _proto(value: dict[str, Any], into: T) -> T:
    ParseDict(value, into, ignore_unknown_fields=True)
    return into


def _plain(message: pb.Message) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = MessageToDict(message)
    except SerializeToJsonError as error:
        raise InvalidParamsError(f"the message has a number that JSON doesn't have: {error}") from None
    return plain


def _position(page_token: str) -> tuple[int, str] | None:
    if not page_token:
        return None
    cursor = decode_list_tasks_cursor(page_token)
    # A number that the file can't have is none of ours, either.
    if cursor is None or cursor.timestamp_ns is None or not 0 <= cursor.timestamp_ns < 2**63:
        raise InvalidParamsError("pageToken is none of this door's")
    return cursor.timestamp_ns // 1_000_000, cursor.task_id


@contextmanager
def _told() -> Any:
    """Our errors as A2A's."""
    try:
        yield
    except TrishulaError as error:
        raise _a2a_error(error) from None


def _a2a_error(error: TrishulaError) -> A2AError:
    if isinstance(error, NotAllowed | RecipientForbidden | CapabilityForbidden):
        return UnsupportedOperationError(error.sentence)
    if error.temporary or error.uri is None:
        data = {"temporary": "true"} if error.temporary else {}
        if error.retry_after_s is not None:
            data["retryAfterS"] = f"{error.retry_after_s:g}"
        return InternalError(error.sentence + ("; this may pass: try again" if error.temporary else ""), data)
    return InvalidParamsError(error.sentence, {"error": error.uri})
