"""A sketch of durations: counts by size, from which any quantile can be told within 1 %, however many there were.

A sketch is DDSketch's (Masson, Rim, Lee, 2019): values that differ by less than 2 % share a *bin*, and a bin's number
is the logarithm of its values. Sketches of several minutes or several nodes add up to the sketch of all. As bytes a
sketch has some tens to some hundreds of bytes, whatever it has counted.

The bins and what they stand for are those of the library ``ddsketch``, and a test compares. It is not used here: a node
in memory runs on agents' machines too, which would get it for two formulas. Bins are held as a map, because most of
them are empty.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable, Iterator

__all__ = ["ACCURACY", "Sketch", "SketchInvalid"]

#: A quantile differs from the true one by at most this part of it.
ACCURACY = 0.01
#: The first byte of a sketch as bytes.
_FORM = 1
#: What is smaller counts as nothing.
_LEAST = 1e-6
#: Far beyond what any duration needs: a month in ms is bin 1,100.
_MOST_KEY = 100_000
#: The largest value of a bin by that of the bin before.
_GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GROWTH = math.log(_GROWTH)


class SketchInvalid(ValueError):
    """Bytes that are no sketch; the text says why."""


class Sketch:
    """See the module's docstring. Values are at least 0, in whatever unit they are added.

    Attributes:
        count: how many values there are.
    """

    __slots__ = ("_bins", "_zeros", "count")

    def __init__(self) -> None:
        self._bins: dict[int, int] = {}
        self._zeros = 0
        self.count = 0

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, as often as it came."""
        self.count += count
        if value < _LEAST:
            self._zeros += count
        else:
            key = _key_of(value)
            self._bins[key] = self._bins.get(key, 0) + count

    def merge(self, other: Sketch) -> None:
        """Count all that another sketch has counted."""
        self.count += other.count
        self._zeros += other._zeros
        bins = self._bins
        for key, count in other._bins.items():
            bins[key] = bins.get(key, 0) + count

    def quantile(self, part: float) -> float | None:
        """The value that a part of all values doesn't exceed (0.99: the p99), within :data:`ACCURACY`.

        ``None`` if there is no value.
        """
        if not self.count:
            return None
        rank = part * (self.count - 1)
        if rank < self._zeros:
            return 0.0
        passed, found = self._zeros, 0
        for found in sorted(self._bins):
            passed += self._bins[found]
            if passed > rank:
                break
        return _value_of(found)

    def above(self, bound: float) -> int:
        """How many values are larger than a bound, as far as the bins tell them apart."""
        return sum(count for key, count in self._bins.items() if _value_of(key) > bound)

    # -- as bytes ------------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """As bytes: the form, how many zeros, then of each bin its distance to the one before, and its count."""
        told = bytearray([_FORM])
        told += _varint(self._zeros)
        before = 0
        for key in sorted(self._bins):
            told += _varint(_zigzag(key - before)) + _varint(self._bins[key])
            before = key
        return bytes(told)

    def text(self) -> str:
        """The bytes in base64, as they travel."""
        return base64.b64encode(self.encode()).decode()

    @classmethod
    def decode(cls, data: bytes) -> Sketch:
        """The sketch of some bytes.

        Raises:
            SketchInvalid: they are no sketch, or one of a later release.
        """
        if not data or data[0] != _FORM:
            raise SketchInvalid(f"a sketch begins with the byte {_FORM}, and this one doesn't")
        numbers = _varints(data[1:])
        found = cls()
        found._zeros = found.count = next(numbers, 0)
        key = 0
        for told in numbers:
            key += _unzigzag(told)
            count = next(numbers, 0)
            if not count or abs(key) > _MOST_KEY:
                raise SketchInvalid("a sketch's bins each have a number and a count, and one of these has not")
            found._bins[key] = found._bins.get(key, 0) + count
            found.count += count
        return found

    @classmethod
    def of_text(cls, text: str) -> Sketch:
        """The sketch of a text that travelled.

        Raises:
            SketchInvalid: it is none.
        """
        try:
            return cls.decode(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            raise SketchInvalid(str(error)) from None

    @classmethod
    def sum(cls, sketches: Iterable[Sketch]) -> Sketch:
        """The sketch of all that several have counted."""
        total = cls()
        for one in sketches:
            total.merge(one)
        return total


def _key_of(value: float) -> int:
    """The number of a value's bin."""
    return math.ceil(math.log(value) / _LOG_GROWTH)


def _value_of(key: int) -> float:
    """What a bin stands for: no value in it differs by more than :data:`ACCURACY`."""
    return math.exp(key * _LOG_GROWTH) * 2 / (1 + _GROWTH)


def _zigzag(number: int) -> int:
    return number * 2 if number >= 0 else -number * 2 - 1


def _unzigzag(number: int) -> int:
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def _varint(number: int) -> bytes:
    """Seven bits a byte, the low ones first; the highest bit says that more follow."""
    told = bytearray()
    while number > 0x7F:
        told.append(number & 0x7F | 0x80)
        number >>= 7
    told.append(number)
    return bytes(told)


def _varints(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise SketchInvalid("a number in a sketch has more than 10 bytes")
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise SketchInvalid("a sketch ends in the middle of a number")
