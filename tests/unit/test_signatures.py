"""What came is fitted to a handler's annotations, or refused with the name of what doesn't fit."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel

from trishula.consumer.signatures import Signature
from trishula.contract.message import Message
from trishula.errors import ArgumentInvalid

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Disk:
    path: str
    free_bytes: int = 0


class Host(msgspec.Struct):
    name: str
    disks: list[Disk] = []


class Load(TypedDict):
    cores: int


class Deploy(BaseModel):
    version: str
    replicas: int = 1


class Other:
    """A class that nothing that travels is of."""


def plain(a, b=2, *rest, **named):  # type: ignore[no-untyped-def]
    return a, b, rest, named


def dataclass_(disk: Disk) -> object:
    return disk


def struct(host: Host, at: datetime, colour: Colour = Colour.RED) -> object:
    return host, at, colour


def mixed(load: Load, key: UUID, mode: Literal["fast", "slow"], share: float | None = None) -> object:
    return load, key, mode, share


def model(deploy: Deploy, also: list[Deploy] | None = None) -> object:
    return deploy, also


def many(*numbers: int, **sizes: float) -> object:
    return numbers, sizes


def other(thing: Other, anything: Any, a: object) -> object:
    return thing, anything, a


def unreadable(a: Unknown, b: int) -> object:
    return a, b


def call(function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    args_, kwargs_ = Signature(function, function.__name__).fit(args, kwargs)
    return function(*args_, **kwargs_)


def test_values_come_as_the_annotations_say() -> None:
    at = datetime(2026, 11, 28, 12, tzinfo=UTC)
    key = UUID("12345678123456781234567812345678")
    assert call(dataclass_, {"path": "/"}) == Disk("/")
    host = {"name": "agni", "disks": [{"path": "/", "free_bytes": 3}]}
    assert call(struct, host, at=at.isoformat()) == (Host("agni", [Disk("/", 3)]), at, Colour.RED)
    assert call(struct, host, at.isoformat(), "red")[2] is Colour.RED
    assert call(mixed, {"cores": 2}, str(key), "fast", 1) == ({"cores": 2}, key, "fast", 1.0)
    assert call(model, {"version": "2"}, [{"version": "3", "replicas": 2}]) == (
        Deploy(version="2"),
        [Deploy(version="3", replicas=2)],
    )
    assert call(many, 1, 2, free=3) == ((1, 2), {"free": 3.0})


def test_what_says_nothing_changes_nothing() -> None:
    assert call(plain, 1, c=3) == (1, 2, (), {"c": 3})
    assert call(plain, 1, 2, [3]) == (1, 2, ([3],), {})
    assert call(other, {"a": 1}, {"b": [2]}, None) == ({"a": 1}, {"b": [2]}, None)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "sentence"),
    [
        (plain, (), {}, "missing a required argument: 'a'; it is plain(a, b=2, *rest, **named)"),
        (dataclass_, (7,), {}, "disk: expected object, got int"),
        (dataclass_, ({"path": 7},), {}, "disk.path: expected str, got int"),
        (struct, ({"name": "a", "disks": [{}]}, ""), {}, "host.disks[0]: object missing required field path"),
        (struct, ({"name": "a"}, "yesterday"), {}, "at: invalid RFC3339 encoded datetime"),
        (struct, ({"name": "a"}, "2026-11-28T12:00:00Z", "blue"), {}, "colour: invalid enum value 'blue'"),
        (mixed, ({}, "x", "fast"), {}, "load: object missing required field cores"),
        (mixed, ({"cores": 1}, "x", "fast"), {}, "key: invalid UUID"),
        (model, ({"replicas": "many"},), {}, "deploy.version: field required"),
        (
            model,
            ({"version": "1"}, [{"version": "1", "replicas": "x"}]),
            {},
            "also[0].replicas: input should be a valid",
        ),
        (many, (1, "2"), {}, "numbers[1]: expected int, got str"),
        (many, (), {"free": "x"}, "free: expected float, got str"),
    ],
)
def test_what_does_not_fit_is_named(
    function: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        call(function, *args, **kwargs)
    assert str(caught.value).startswith(f"{function.__name__} was called with wrong arguments: {sentence}")


def test_an_annotation_that_can_not_be_read_is_told_once_and_no_rule(caplog: pytest.LogCaptureFixture) -> None:
    signature = Signature(unreadable, "unreadable")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert signature.fit(("a", 1), {}) == (("a", 1), {})
    assert [record.getMessage() for record in caplog.records] == [
        "unreadable: nothing is checked of a: name 'Unknown' is not defined"
    ]
    with pytest.raises(ArgumentInvalid, match="b: expected int, got str"):
        signature.fit(("a", "b"), {})


# -- handlers of messages ----------------------------------------------------------------------------------------------


def untyped(message):  # type: ignore[no-untyped-def]
    return message


def whole(message: Message) -> object:
    return message


def typed(disk: Disk) -> object:
    return disk


def both(disk: Disk, message: Message) -> object:
    return disk, message


def with_default(message: Message, verbose=False) -> object:  # type: ignore[no-untyped-def]
    return message, verbose


MESSAGE = Message(type="STATUS", id="m1", to="agni", timestamp=1, payload={"path": "/", "free_bytes": 5})


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (untyped, [MESSAGE]),
        (whole, [MESSAGE]),
        (typed, [Disk("/", 5)]),
        (both, [Disk("/", 5), MESSAGE]),
        (with_default, [MESSAGE]),
    ],
)
def test_a_handler_gets_the_message_its_payload_or_both(function: Callable[..., Any], args: list[object]) -> None:
    assert list(Signature(function, "handler").fit_message(MESSAGE)) == args


def test_a_payload_that_does_not_fit_names_the_place() -> None:
    message = msgspec.structs.replace(MESSAGE, payload={"path": "/", "free_bytes": "5"})
    with pytest.raises(ArgumentInvalid, match=r"typed was called with .*: payload\.free_bytes: expected int, got str"):
        Signature(typed, "typed").fit_message(message)


def two(a, b):  # type: ignore[no-untyped-def]
    return a, b


def one_or_two(a, /, b=2):  # type: ignore[no-untyped-def]
    return a, b


def by_name(a, *, b):  # type: ignore[no-untyped-def]
    return a, b


def by_name_or_not(a=1, *, b=2, **more):  # type: ignore[no-untyped-def]
    return a, b, more


def any_number(*many):  # type: ignore[no-untyped-def]
    return many


@pytest.mark.parametrize("function", [plain, two, one_or_two, by_name, by_name_or_not, any_number, dataclass_])
@pytest.mark.parametrize("kwargs", [{}, {"b": 5}, {"c": 6}])
def test_what_fits_is_what_python_takes(function: Callable[..., object], kwargs: dict[str, Any]) -> None:
    given = [{"path": "/"}, 2, 3]
    for count in range(len(given) + 1):
        args = given[:count]
        try:
            taken = function(*args, **kwargs)
        except TypeError:
            with pytest.raises(ArgumentInvalid, match="wrong arguments"):
                Signature(function, "f").fit(args, kwargs)
        else:
            fitted, named = Signature(function, "f").fit(args, kwargs)
            expected = Disk("/") if function is dataclass_ else taken
            assert function(*fitted, **named) == expected
