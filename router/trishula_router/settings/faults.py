"""What is wrong in a configuration, and the reader that finds all of it: values of one map, each with its rule.

An operator who mends a configuration should not meet its faults one by one, so a :class:`Section` collects them and
goes on with the default. An unknown key is a fault, because a misspelt limit that is ignored in silence is a limit that
isn't there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from trishula.contract.units import parse_bytes, parse_duration_s, parse_rate_per_s

__all__ = ["MISSING", "TWICE", "WHOLE", "Asked", "ConfigError", "Fault", "Section", "show_value"]


_N = TypeVar("_N", int, float)


class _Mark:
    """The type of :data:`MISSING` and :data:`WHOLE`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: The value of a key that isn't there; ``null`` is a value.
MISSING: Final = _Mark("MISSING")
#: The value of a fault that concerns all below the path: showing it would tell nothing.
WHOLE: Final = _Mark("WHOLE")


#: The rule of keys, of which JSON keeps the last in silence.
TWICE = "it must not stand twice in one map, because only the last of the two would count"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a configuration.

    Attributes:
        path: where: the key path, such as ``workers[0].components[0].extra.limits.payload``.
        value: what stands there; :data:`MISSING` if nothing does, :data:`WHOLE` if it is not to be shown.
        rule: what should: a clause that begins with "it must" or "it is".
    """

    path: str
    value: object
    rule: str

    @property
    def sentence(self) -> str:
        """The fault as an operator reads it."""
        # A key of somebody's file may hold anything, and a terminal shows this.
        path = self.path if self.path.isprintable() else ascii(self.path)[1:-1]
        if self.value is MISSING:
            return f"{path} is missing; {self.rule}"
        if self.value is WHOLE:
            return f"{path}: {self.rule}"
        return f"{path} is {show_value(self.value)}; {self.rule}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One option that a reader asked a section for; the documentation's table of options is made of these.

    Attributes:
        path: its key path, such as ``extra.limits.payload``.
        default: what holds without it, as an operator would write it; :data:`MISSING` if it must be there.
        rule: what a value must be, to follow "it must be".
    """

    path: str
    default: object
    rule: str


class ConfigError(Exception):
    """A configuration that can't be used.

    Attributes:
        faults: all that is wrong with it, in the order of the file.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(fault.sentence for fault in faults))
        self.faults = faults


class Section:
    """One map of options: hands out checked values, collects the faults, and knows which keys nobody asked for.

    Args:
        raw: the map, as JSON gave it.
        path: its key path, for the faults.
        faults: where faults are added.
        asked: where each option that is asked for is added, of the sections below it too.
    """

    def __init__(self, raw: object, path: str, faults: list[Fault], asked: list[Asked] | None = None) -> None:
        if not isinstance(raw, Mapping):
            faults.append(Fault(path, raw, "it must be a map"))
            raw = {}
        self._raw: Mapping[object, object] = raw
        self._path = path
        self._faults = faults
        self._asked: list[Asked] = [] if asked is None else asked
        self._known: list[str] = []
        self._put_in: list[str] = []

    def section(self, key: str) -> Section:
        self._known.append(key)
        return Section(self._raw.get(key, {}), f"{self._path}.{key}", self._faults, self._asked)

    def text(self, key: str, default: str | None, rule: str, keeps: Callable[[str], bool]) -> str:
        self._ask(key, MISSING if default is None else default, rule)
        value = self._raw.get(key, MISSING if default is None else default)
        if isinstance(value, str) and keeps(value):
            return value
        self.fault(key, value, f"it must be {rule}")
        return default or "?"

    def word(self, key: str, rule: str) -> bool:
        """Whether the operator gave a word that is only theirs to give: true, or a sentence that says why."""
        self._ask(key, False, rule)
        value = self._raw.get(key, False)
        if isinstance(value, bool) or (isinstance(value, str) and value.strip() and value.isprintable()):
            return bool(value)
        self.fault(key, value, f"it must be {rule}")
        return False

    def flag(self, key: str, default: bool) -> bool:
        """Yes or no."""
        rule = "true or false"
        self._ask(key, default, rule)
        value = self._raw.get(key, default)
        if isinstance(value, bool):
            return value
        self.fault(key, value, f"it must be {rule}")
        return default

    def names(self, key: str, rule: str, keeps: Callable[[str], bool]) -> tuple[str, ...]:
        """The texts in a list, each at most once; none by default."""
        self._ask(key, [], f"a list; each of {rule}")
        raw = self._raw.get(key, [])
        if not isinstance(raw, list):
            self.fault(key, raw, "it must be a list")
            return ()
        found: list[str] = []
        for index, value in enumerate(raw):
            if not isinstance(value, str) or not keeps(value):
                self.fault(f"{key}[{index}]", value, f"it must be {rule}")
            elif value in found:
                self.fault(f"{key}[{index}]", value, "it must not be there twice")
            else:
                found.append(value)
        return tuple(found)

    def count(self, key: str, default: int, low: int, high: int) -> int:
        rule = f"a whole number from {low} to {high}"
        self._ask(key, default, rule)
        value = self._raw.get(key, default)
        # bool is an int to Python and not to an operator.
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.fault(key, value, f"it must be {rule}")
        return default

    def given(self, key: str) -> object:
        """What a command of ours has put in, and no operator writes; ``None`` if it is not there."""
        self._put_in.append(key)
        return self._raw.get(key)

    def part(self, key: str, default: float, low: float, high: float) -> float:
        """A part of something: 0.5 is a half."""
        rule = f"a number from {low:g} to {high:g}"
        self._ask(key, default, rule)
        value = self._raw.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        self.fault(key, value, f"it must be {rule}")
        return default

    def duration_s(self, key: str, default: str, low: str, high: str) -> float:
        def within(seconds: float) -> bool:
            return parse_duration_s(low) <= seconds <= parse_duration_s(high)

        return self._quantity(key, default, parse_duration_s, within, f"from {low} to {high}")

    def size_bytes(self, key: str, default: str, low: str, high: str) -> int:
        def within(count: int) -> bool:
            return parse_bytes(low) <= count <= parse_bytes(high)

        return self._quantity(key, default, parse_bytes, within, f"from {low} to {high}")

    def rate_per_s(self, key: str, default: str) -> float:
        def within(rate: float) -> bool:
            return 1 / 3600 <= rate <= 1_000_000

        return self._quantity(key, default, parse_rate_per_s, within, "from 1/h to 1000000/s")

    def _quantity(
        self, key: str, default: str, parse: Callable[[object], _N], within: Callable[[_N], bool], rule: str
    ) -> _N:
        self._ask(key, default, rule)
        value = self._raw.get(key, default)
        try:
            number = parse(value)
        except ValueError as error:
            self.fault(key, value, str(error))
            return parse(default)
        if not within(number):
            self.fault(key, value, f"it must be {rule}")
            return parse(default)
        return number

    def _ask(self, key: str, default: object, rule: str) -> None:
        self._known.append(key)
        self._asked.append(Asked(f"{self._path}.{key}", default, rule))

    def shown(self, key: str, default: object) -> object:
        """The value of ``key`` as the file has it, for a fault that concerns two keys."""
        return self._raw.get(key, default)

    def fault(self, key: str, value: object, rule: str) -> None:
        self._faults.append(Fault(f"{self._path}.{key}", value, rule))

    def close(self) -> None:
        """Refuse what was not asked for."""
        for key, value in self._raw.items():
            if key not in self._known and key not in self._put_in:
                self.fault(str(key), value, f"it is an unknown key; the known keys are {', '.join(self._known)}")


def show_value(value: object) -> str:
    """A value as a fault shows it: as JSON, short, on one line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
