"""What may stand behind a scenario's key: numbers with their allowed range, alike for all or one for each.

A quantity of several devices is written as a number, the same for all; as `[low, high]`, drawn between; or as
`{ each = [...] }`, one number or range for each. Two numbers in brackets are always a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Vector = NDArray[np.float64]

WRONG = "wrong_value"
"""The type of our own errors among pydantic's."""
IN_ORDER = ("round robin", "contiguous")


def wrong(message: str) -> PydanticCustomError:
    """What a validator raises: the end of a sentence that begins with the key and its value."""
    return PydanticCustomError(WRONG, "{message}", {"message": message})


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity of several devices.

    Attributes:
        ends: lower and upper end; one pair for all, or one for each.
        each: the pairs are one for each.
    """

    ends: tuple[tuple[float, float], ...]
    each: bool = False

    def low(self, count: int) -> Vector:
        """[count] the lower ends."""
        return self._column(0, count)

    def high(self, count: int) -> Vector:
        """[count] the upper ends."""
        return self._column(1, count)

    def drawn(self, count: int, chances: np.random.Generator) -> Vector:
        """[count] one value each, uniform between its ends."""
        low = self.low(count)
        return low + chances.random(count) * (self.high(count) - low)

    def content(self) -> Any:
        """As it is written in a file."""
        written = [low if low == high else [low, high] for low, high in self.ends]
        return {"each": written} if self.each else written[0]

    def __str__(self) -> str:
        low, high = min(low for low, _ in self.ends), max(high for _, high in self.ends)
        return f"{low:g}" if low == high else f"{low:g}..{high:g}"

    def _column(self, place: int, count: int) -> Vector:
        if self.each and len(self.ends) != count:
            raise ValueError(f"{len(self.ends)} values for {count}")
        column = np.array([ends[place] for ends in self.ends])
        return column if self.each else np.repeat(column, count)


@dataclass(frozen=True, slots=True)
class Between:
    """The allowed range of a key, as an annotation of its type: `int`, `float` or `Spread`.

    Attributes:
        low, high: the ends, both allowed.
        above: the lower end is not.
        whole: whole numbers only; always so for `int`.
    """

    low: float
    high: float
    above: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        start = f"above {_short(self.low)}, up" if self.above else f"from {_short(self.low)}"
        return f"{kind} {start} to {_short(self.high)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        if source is Spread:
            write = core_schema.plain_serializer_function_ser_schema(Spread.content)
            return core_schema.no_info_plain_validator_function(self.spread, serialization=write)
        limits = Between(self.low, self.high, self.above, self.whole or source is int)
        return core_schema.no_info_plain_validator_function(limits.number)

    def number(self, given: Any) -> float:
        """The number, if it is one and in range."""
        if not self.allows(given):
            raise wrong(f"must be {self}")
        return int(given) if self.whole else float(given)

    def spread(self, given: Any) -> Spread:
        """A number, a range, or one of either for each."""
        if isinstance(given, dict):
            entries = given.get("each")
            if given.keys() != {"each"} or not isinstance(entries, list) or not entries:
                raise wrong(f"must be {self}, [low, high], or {{ each = [...] }}")
            return Spread(tuple(self._ends(entry, f"entry {place} ") for place, entry in enumerate(entries)), True)
        return Spread((self._ends(given),))

    def _ends(self, given: Any, where: str = "") -> tuple[float, float]:
        pair = given if isinstance(given, list) else [given, given]
        if len(pair) != 2 or not all(map(self.allows, pair)):
            raise wrong(f"{where}must be {self}, or [low, high] of such")
        low, high = map(int if self.whole else float, pair)
        if low > high:
            raise wrong(f"{where}must rise from low to high, {low:g} is above {high:g}")
        return low, high

    def allows(self, given: Any) -> bool:
        """Whether it is a number in range; NaN is none."""
        kinds = (int,) if self.whole else (int, float)
        if isinstance(given, bool) or not isinstance(given, kinds):
            return False
        return (self.low < given if self.above else self.low <= given) and given <= self.high


@dataclass(frozen=True, slots=True)
class Numbers:
    """Annotation of a list of numbers, each in one range.

    Attributes:
        limits: of each.
        most: how many at most; at least one.
    """

    limits: Between
    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, given: Any) -> tuple[float, ...]:
        """The numbers, if they are some."""
        if not isinstance(given, list) or not 1 <= len(given) <= self.most:
            raise wrong(f"must be a list of 1 to {self.most} numbers")
        for place, entry in enumerate(given):
            if not self.limits.allows(entry):
                raise wrong(f"entry {place} must be {self.limits}")
        return tuple(map(int if self.limits.whole else float, given))


@dataclass(frozen=True, slots=True)
class Text:
    """Annotation of a text: one printable line.

    Attributes:
        most: characters.
        empty: it may be.
    """

    most: int
    empty: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, given: Any) -> str:
        """The text, if it is one."""
        least = 0 if self.empty else 1
        if not isinstance(given, str) or not least <= len(given) <= self.most or not given.isprintable():
            raise wrong(f"must be {least} to {self.most} printable characters in quotes")
        return given


@dataclass(frozen=True, slots=True)
class Names:
    """Annotation of a name, or a list of at least one and at most so many: always a tuple when read."""

    most: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, given: Any) -> tuple[str, ...]:
        """The names, if they are some."""
        entries = given if isinstance(given, list) else [given]
        if not 1 <= len(entries) <= self.most or not all(isinstance(entry, str) for entry in entries):
            raise wrong(f"must be a name in quotes, or a list of 1 to {self.most} of them")
        return tuple(entries)


@dataclass(frozen=True, slots=True)
class Choice:
    """Annotation of a text that is one of a few.

    Attributes:
        names: the few.
        numbers: a list of numbers may stand in its place.
    """

    names: tuple[str, ...]
    numbers: Numbers | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, given: Any) -> str | tuple[float, ...]:
        """The text, if it is one of the few."""
        if isinstance(given, list) and self.numbers is not None:
            return self.numbers.read(given)
        if not isinstance(given, str) or given not in self.names:
            listed = ", ".join(f'"{name}"' for name in self.names)
            beside = f", or a list of numbers, each {self.numbers.limits}" if self.numbers is not None else ""
            raise wrong(f"must be one of {listed}{beside}")
        return given


@dataclass(frozen=True, slots=True)
class Links:
    """Annotation of a connection: to which of the one kind each of the other belongs.

    Attributes:
        of, to: the kinds, in the singular.
    """

    of: str
    to: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def read(self, given: Any) -> str | tuple[int, ...]:
        """A rule, or one number for each."""
        if isinstance(given, str) and given in IN_ORDER:
            return given
        if not isinstance(given, list):
            rules = " or ".join(f'"{rule}"' for rule in IN_ORDER)
            raise wrong(f"must be {rules}, or a list with the number of the {self.to} of each {self.of}")
        for place, entry in enumerate(given):
            if isinstance(entry, list) and len(entry) != 1:
                many = f"has {len(entry)} {self.to}s" if entry else f"has no {self.to}"
                raise wrong(f"must name one {self.to} for each {self.of}: {self.of} {place} {many}")
            if isinstance(entry, bool) or not isinstance(entry, int) or entry < 0:
                raise wrong(f"must hold numbers of {self.to}s from 0: that of {self.of} {place} is not one")
        return tuple(given)


def _short(number: float) -> str:
    return f"{number:.10g}" if abs(number) < 1e7 else f"{number:g}"


def connected(links: str | Sequence[int], count: int, to: int) -> NDArray[np.int64]:
    """[count] the number of the one that each belongs to, of `to`."""
    if links == "round robin":
        return np.arange(count) % to
    if links == "contiguous":
        return np.arange(count) * to // count
    return np.array(links, dtype=np.int64)
