"""Calls of the wire contract for tests: right ones, and ones with a fault, each with what must become of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.contract import LONG_WAIT_S, PROCEDURES, WAIT, Field, Param, Procedure
from trishula.contract import uris

__all__ = ["SERIALIZED_DEPTH", "Call", "calls", "calls_with", "garbage", "nested"]

#: As deep as every serializer of Autobahn reads and writes, with the frame around it.
SERIALIZED_DEPTH = 300
_numbers = itertools.count()


@dataclass(frozen=True)
class Call:
    """A call to make.

    Attributes:
        procedure: of what.
        args: positional ones.
        kwargs: those by name.
        must: whether it must be taken (``True``) or refused (``False``); ``None``: either.
        named: what the sentence of a refusal must hold.
        message: which message of a ``send`` the fault is in; ``None``: the call itself is refused.
    """

    procedure: Procedure
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    must: bool | None = True
    named: str = ""
    message: int | None = None

    def __repr__(self) -> str:
        try:
            shown = ascii((self.args, self.kwargs))
        except ValueError:
            shown = "(a number of thousands of digits among the arguments)"
        return f"{self.procedure.uri}{shown} must={self.must} named={self.named!r} message={self.message}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Asked for by hypothesis, when it shows a failing example."""
        printer.text(repr(self))


def nested(depth: int) -> list[Any]:
    """A list in a list in a list …"""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


#: What has been used to break out of somewhere, or to break something.
_STRANGE_TEXTS = (
    *(
        "",
        " ",
        ".",
        "..",
        "../../etc/passwd",
        ".hidden",
        "a/b",
        "/",
        "\\",
        "a" * 129,
        "x" * 3000,
        "a\x00b",
        "\n",
        "a\n",
    ),
    *(
        "witness",
        "vault/nobody",
        "Vault",
        "node:x",
        "null",
        "1",
        "1.1",
        "-1.1",
        "9" * 60 + ".1",
        "%s{0}",
        "';--",
        "\u0663.1",
    ),
    *("broadcast\n", "capability:", "\ufeff", "\U0001f600" * 100),
)
_STRANGE_NUMBERS = (0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 1e308, -1e308, 0.5, 1e-320, 61.0, 1e9)


def garbage(serializer: str) -> st.SearchStrategy[Any]:
    """Values of any kind that the serializer can carry."""
    some_text = st.text(max_size=10)
    if serializer == "json":
        # In WAMP's JSON, what begins with U+0000 is Base64, and what then is none can't be read at all.
        some_text = some_text.filter(lambda text: not text.startswith("\x00"))
    scalars: st.SearchStrategy[Any] = (
        st.none()
        | st.booleans()
        | st.sampled_from(_STRANGE_NUMBERS)
        | st.sampled_from([math.nan, math.inf, -math.inf])
        | st.integers(-(2**63), 2**63)
        | st.floats()
        | st.sampled_from(_STRANGE_TEXTS)
        | some_text
    )
    keys: st.SearchStrategy[Any] = st.text(max_size=5) | st.sampled_from(_STRANGE_TEXTS)
    if serializer == "json":
        scalars |= st.sampled_from(["\ud800", "a\udfff", "\x00QUJD", 10**30, -(10**600)])
        scalars |= st.text(st.characters(categories=["Cs", "L"]), max_size=5)
        keys |= st.just("\ud800")
    else:
        scalars |= st.binary(max_size=5) | st.sampled_from(["\x00", "\x00A", "\x00QUJD"])
    containers = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    )
    return scalars | containers | st.sampled_from([101, SERIALIZED_DEPTH]).map(nested)


@st.composite
def _maps(draw: st.DrawFn, fields: Sequence[Field]) -> dict[str, Any]:
    required = {field.name: field.good for field in fields if field.required}
    others = [field for field in fields if not field.required]
    some = draw(st.lists(st.sampled_from(others), max_size=4, unique_by=lambda field: field.name)) if others else []
    return {name: draw(good) for name, good in [*required.items(), *((field.name, field.good) for field in some)]}


def _right(param: Param) -> st.SearchStrategy[Any]:
    if param.good is not None:
        return param.good
    one = _maps(param.fields)
    return st.lists(one, min_size=1, max_size=4) if param.many else one


@st.composite
def calls(draw: st.DrawFn, serializer: str) -> Call:
    """A call that is right, or has one fault; ``serializer`` bounds what can be in it."""
    procedure = draw(st.sampled_from(PROCEDURES))
    count = draw(st.integers(procedure.least, len(procedure.params)))
    args = [draw(_right(param)) for param in procedure.params[:count]]
    kinds = ["right", "count", "kwargs", *(["value"] * 5 + ["key", "missing", "whole"] if args else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "right":
        return Call(procedure, tuple(args))
    if kind == "count":
        more = draw(st.booleans()) or not procedure.least
        extra = draw(st.lists(garbage(serializer), min_size=1, max_size=3))
        wrong = [*args, *[None] * (len(procedure.params) - count), *extra] if more else args[: procedure.least - 1]
        return Call(procedure, tuple(wrong), must=False, named="positional arguments")
    if kind == "kwargs":
        names = st.sampled_from(["args", "uri", "é", "x" * 500, *(["\ud800"] if serializer == "json" else [])])
        named = ((draw(names), draw(garbage(serializer))),)
        return Call(procedure, tuple(args), named, must=False, named="keyword arguments")
    return draw(_with_fault(procedure, args, draw(st.integers(0, count - 1)), kind, serializer))


@st.composite
def _with_fault(draw: st.DrawFn, procedure: Procedure, args: list[Any], at: int, kind: str, serializer: str) -> Call:
    param = procedure.params[at]
    strange = draw(garbage(serializer))
    if kind == "whole" or not param.fields:
        args[at] = strange
        return Call(procedure, tuple(args), must=_of_whole(param, strange), named=param.name)
    path, target = param.name, args[at]
    message = None
    if param.many:
        index = draw(st.integers(0, len(target) - 1))
        path, target = f"{path}[{index}]", target[index]
        message = index if procedure.uri == uris.MAILBOX_SEND else None
    required = [field for field in param.fields if field.required]
    if kind == "key":
        name = draw(st.sampled_from(["colour", "Id", "", "x" * 200, "accepted_at"]))
        target[name] = strange
        named = (
            f"{path}.accepted_at" if name == "accepted_at" and message is not None else f"{path} has the unknown key"
        )
        return Call(procedure, tuple(args), must=False, named=named, message=message)
    if kind == "missing" and required:
        field = draw(st.sampled_from(required))
        del target[field.name]
        return Call(procedure, tuple(args), must=False, named=f"{path}.{field.name} is missing", message=message)
    field = draw(st.sampled_from(param.fields))
    if field is WAIT and field.rule(strange) and strange > LONG_WAIT_S:
        strange = -strange
    target[field.name] = strange
    return Call(procedure, tuple(args), must=field.rule(strange), named=f"{path}.{field.name}", message=message)


def _of_whole(param: Param, value: Any) -> bool | None:
    if param.rule is not None:
        return param.rule(value)
    if param.many:
        return None if isinstance(value, list) else False
    # A map that is missing stands for an empty one.
    return None if value is None or isinstance(value, dict) else False


def _simplest(param: Param) -> Any:
    if param.good is not None:
        return param.plain
    one = {field.name: field.plain for field in param.fields if field.required}
    if "id" in one:
        # A repeat of what was accepted is answered as such, whatever it says now.
        one["id"] = f"plain-{next(_numbers)}"
    return [one] if param.many else one


def calls_with(value: Any) -> Iterator[Call]:
    """For each argument and each key of the contract one call that has ``value`` there, and is right otherwise."""
    for procedure in PROCEDURES:
        for at, param in enumerate(procedure.params):
            for field in (None, *param.fields):
                args = [_simplest(one) for one in procedure.params[: max(at + 1, procedure.least)]]
                if field is None:
                    args[at] = value
                    yield Call(procedure, tuple(args), must=_of_whole(param, value), named=param.name)
                    continue
                (args[at][0] if param.many else args[at])[field.name] = value
                path = f"{param.name}[0]" if param.many else param.name
                message = 0 if procedure.uri == uris.MAILBOX_SEND and param.many else None
                yield Call(procedure, tuple(args), (), field.rule(value), f"{path}.{field.name}", message)
