"""Values that have a spelling which everybody knows: dates, UUIDs, decimals, enumerations, and models of these.

A payload is JSON (:mod:`trishula.contract.payload`). A handler with annotations reads such a value back from its
spelling (:mod:`trishula.consumer.signatures`), and so does a program in any other language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

__all__ = ["spelled"]

_SPELLINGS: dict[type, Callable[[Any], object]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    # "PT5400S", of ISO 8601.
    timedelta: msgspec.to_builtins,
    Decimal: str,
    UUID: str,
    bytearray: bytes,
    memoryview: bytes,
}


def spelled(value: Any) -> Any:
    """A payload with everything in it spelled out that can be; what can't is left as it is.

    Raises:
        RecursionError: it is nested without end.
    """
    if isinstance(value, Enum):
        return spelled(value.value)
    spelling = _SPELLINGS.get(type(value))
    if spelling is not None:
        return spelling(value)
    if isinstance(value, dict):
        return {key.value if isinstance(key, Enum) else key: spelled(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(one) for one in value]
    if isinstance(value, type):
        return value
    if isinstance(value, msgspec.Struct):
        return {name: spelled(getattr(value, name)) for name in value.__struct_fields__ if hasattr(value, name)}
    if dataclasses.is_dataclass(value):
        return {one.name: spelled(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        # Pydantic's, which knows how its fields are to be spelled.
        return value.model_dump(mode="json")
    return value
