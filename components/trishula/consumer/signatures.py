"""A handler's signature: what came is fitted to it, or refused with the name of what doesn't fit.

What travels are JSON's types. A parameter with an annotation gets what the annotation says: dataclasses, msgspec's
structs, typed dictionaries, ``datetime`` and ``UUID``, enumerations, unions and collections of these (msgspec.convert),
and Pydantic's models where Pydantic is installed. A parameter without one gets the value as it came.

Handlers of messages have a say in what they get: a parameter of the type :class:`~trishula.contract.message.Message`,
or without a type, is the message, and one of another type is its payload.

An annotation that can't be read where the handler is (a name that only a type checker imports) or that no JSON can be
fitted to is no rule: its parameter gets the value as it came, and the log says so once.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from trishula.contract.message import Message
from trishula.errors import ArgumentInvalid

__all__ = ["Signature", "arguments_of"]

_log = logging.getLogger("trishula")

_KINDS = inspect.Parameter
_POSITIONAL = (_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD)
#: Fits everything, so that there is nothing to convert.
_ANYTHING = (inspect.Parameter.empty, Any, object)


class Signature:
    """That of one function.

    Args:
        function: the handler.
        name: how errors call it.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self._name = name
        self._signature = inspect.signature(function)
        self._fewest, self._names = _by_position(self._signature)
        # By parameter; made when the first value comes, because names may be defined below the handler.
        self._types: dict[str, Any] | None = None

    def __str__(self) -> str:
        parameters = self._signature.replace(return_annotation=inspect.Signature.empty)
        return f"{self._name}{parameters}"

    def fit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a call, as the function wants them.

        Raises:
            ArgumentInvalid: they don't fit; the sentence names the parameter and shows what the function takes.
        """
        if not kwargs and self._fewest <= len(args) <= len(self._names):
            # They fit by their number alone; to bind them takes longer than many a handler.
            types = self._resolved()
            if not types:
                return args, kwargs
            named = zip(self._names, args, strict=False)
            return tuple(self._converted(name, one, types[name]) if name in types else one for name, one in named), {}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentInvalid(f"{self._name} was called with wrong arguments: {error}; it is {self}") from None
        types = self._resolved()
        if not types:
            return args, kwargs
        for name, value in bound.arguments.items():
            if name not in types:
                continue
            kind = self._signature.parameters[name].kind
            if kind is _KINDS.VAR_POSITIONAL:
                many = [self._converted(f"{name}[{at}]", one, types[name]) for at, one in enumerate(value)]
                bound.arguments[name] = tuple(many)
            elif kind is _KINDS.VAR_KEYWORD:
                bound.arguments[name] = {key: self._converted(key, one, types[name]) for key, one in value.items()}
            else:
                bound.arguments[name] = self._converted(name, value, types[name])
        return bound.args, bound.kwargs

    def fit_message(self, message: Message) -> Sequence[Any]:
        """The arguments of a handler of messages: the message, its payload, or both.

        Raises:
            ArgumentInvalid: the payload doesn't fit; the sentence names the place in it.
        """
        types = self._resolved()
        if not types:
            return (message,)
        return [
            self._converted("payload", message.payload, types[parameter.name]) if parameter.name in types else message
            for parameter in self._signature.parameters.values()
            if parameter.kind in _POSITIONAL and (parameter.default is _KINDS.empty or parameter.name in types)
        ]

    def _resolved(self) -> dict[str, Any]:
        if self._types is None:
            self._types = {
                name: kind
                for name, kind in _annotations(self._function, self._signature).items()
                if kind not in _ANYTHING and kind is not Message and self._is_rule(name, kind)
            }
        return self._types

    def _is_rule(self, name: str, kind: Any) -> bool:
        if _model_of(kind) is not None:
            return True
        try:
            known = msgspec.inspect.type_info(kind)
        except Exception as error:
            _log.warning("%s: nothing is checked of %s, which is %s: %s", self._name, name, kind, error)
            return False
        # Some other class: no value that travels is one.
        return not isinstance(known, msgspec.inspect.CustomType)

    def _converted(self, place: str, value: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(value, kind, dec_hook=_from_builtins)
        except msgspec.ValidationError as error:
            raise ArgumentInvalid(f"{self._name} was called with wrong arguments: {_told(place, error)}") from None


def _by_position(signature: inspect.Signature) -> tuple[int, list[str]]:
    """How many arguments without a name a function wants at least, and the parameters that take such ones, in order.

    Of one that wants some by name, none will do: more than it takes.
    """
    parameters = signature.parameters.values()
    taking = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    if any(one.kind is _KINDS.KEYWORD_ONLY and one.default is _KINDS.empty for one in parameters):
        return len(taking) + 1, []
    return sum(one.default is _KINDS.empty for one in taking), [one.name for one in taking]


def _annotations(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        # One by one: one name that can't be read doesn't keep the others from counting.
        alone = SimpleNamespace(__annotations__={name: parameter.annotation})
        try:
            hints |= typing.get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)
        except Exception as error:
            _log.warning("%s: nothing is checked of %s: %s", getattr(function, "__name__", function), name, error)
    return hints


def _model_of(kind: Any) -> Any:
    """A class of Pydantic's models, or of another library that does it in its way; else ``None``."""
    return kind if isinstance(kind, type) and hasattr(kind, "model_validate") else None


def _from_builtins(kind: type, value: Any) -> Any:
    model = _model_of(kind)
    if model is None:
        return value
    try:
        return model.model_validate(value)
    except ValueError as error:
        raise ValueError(_first_fault(error)) from None


def _first_fault(error: Any) -> str:
    """What Pydantic says first, with the place; its whole text is a page."""
    faults = error.errors() if hasattr(error, "errors") else []
    if not faults:
        return str(error)
    place = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in faults[0]["loc"])
    return f"{faults[0]['msg']} - at `${place}`"


def _told(place: str, error: msgspec.ValidationError) -> str:
    """``b.c: expected int, got str``, of msgspec's "Expected `int`, got `str` - at `$.c`"."""
    what, *where = str(error).replace("`", "").split(" - at $")
    return f"{place}{''.join(reversed(where))}: {what[:1].lower()}{what[1:]}"


def arguments_of(command: Message) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments in a COMMAND's payload.

    Raises:
        ArgumentInvalid: the payload doesn't look like that.
    """
    payload = {} if command.payload is None else command.payload
    args = payload.get("args", []) if isinstance(payload, dict) else None
    kwargs = payload.get("kwargs", {}) if isinstance(payload, dict) else None
    if not isinstance(args, list) or not isinstance(kwargs, dict) or payload.keys() - {"args", "kwargs"}:
        raise ArgumentInvalid(
            f'the payload of the COMMAND {command.id} must be {{"args": […], "kwargs": {{…}}}}, with nothing else in it'
        )
    return args, kwargs
