"""What was measured, as one long table: a number a row, with its interval and the coordinates that it was taken at.

Evaluations yield measurements and nothing else. Tables, curves, exports and verdicts are made from them alone, so that
all of these exist for an evaluation that nobody has written yet.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from posjax.errors import InputError

Coordinate = str | int | float
Coordinates = Mapping[str, Coordinate]
"""Where a number was taken, by name: `length`, `variant`, `depth`, `seed`, `layer`, `head` and others."""
NUMBERS = ("value", "low", "high", "count")
"""What a row says beside its metric and its coordinates."""


@dataclass(frozen=True)
class Measurement:
    """One number: `value` of `metric`, and the 95 % interval from `low` to `high`, NaN where none was taken.

    `count` says how many samples are behind it. Losses are in nats, shares and accuracies from 0 to 1.

    Numbers may be those of numpy and jax too, and become Python's, which a file can keep.

    Errors: `InputError` for a coordinate that is called as a column of numbers, and for what is no number.

    >>> Measurement("loss", 1.5, coordinates={"length": 64}).at("length")
    64
    """

    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 1
    coordinates: Coordinates = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = {"metric", *NUMBERS} & set(self.coordinates)
        if taken:
            raise InputError(
                f"a measurement of {self.metric} has a coordinate called {sorted(taken)[0]!r}, which is a column of "
                "numbers: call it something else"
            )
        for name in ("value", "low", "high", "count"):
            object.__setattr__(self, name, _plain(self.metric, name, getattr(self, name)))
        places = {name: _plain(self.metric, name, given) for name, given in self.coordinates.items()}
        object.__setattr__(self, "coordinates", places)

    def at(self, name: str) -> Coordinate | None:
        """One of its coordinates; `None` where it has none of that name."""
        return self.coordinates.get(name)

    def placed(self, **coordinates: Coordinate) -> Measurement:
        """The same number with more coordinates, or with others of the same names."""
        return replace(self, coordinates={**self.coordinates, **coordinates})

    def without(self, name: str) -> Measurement:
        """The same number without one of its coordinates."""
        left = {key: given for key, given in self.coordinates.items() if key != name}
        return replace(self, coordinates=left)

    def tree(self) -> dict[str, Any]:
        """A flat dictionary for a JSON file, which leaves out what is at its default."""
        # An interval that was not taken would be two words in each of thousands of rows.
        numbers = {name: getattr(self, name) for name in ("low", "high")}
        told = {name: number for name, number in numbers.items() if not math.isnan(number)}
        if self.count != 1:
            told["count"] = self.count
        return {"metric": self.metric, **self.coordinates, "value": self.value, **told}


def _plain(metric: str, name: str, given: Any) -> Any:
    """A number of numpy or jax as Python has it. Errors: `InputError` for what is neither that nor a plain value."""
    if isinstance(given, str | int | float):
        return given
    try:
        return given.item()
    except (AttributeError, TypeError, ValueError) as error:
        told = repr(given)[:80]
        raise InputError(f"a measurement of {metric} has {name}={told}: needed is one number") from error


@dataclass(frozen=True)
class Measurements:
    """Measurements in the order in which they were taken.

    >>> taken = Measurements((Measurement("loss", 1.0, coordinates={"seed": 0}),
    ...                       Measurement("loss", 2.0, coordinates={"seed": 1})))
    >>> taken.one("loss", seed=1).value, taken.averaged("seed").one("loss").value
    (2.0, 1.5)
    """

    rows: tuple[Measurement, ...] = ()

    @classmethod
    def of(cls, taken: Iterable[Measurement]) -> Measurements:
        """What an evaluation yields, together."""
        return cls(tuple(taken))

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: Measurements) -> Measurements:
        return Measurements(self.rows + other.rows)

    def select(self, metric: str | None = None, /, **coordinates: Coordinate | tuple[Coordinate, ...]) -> Measurements:
        """Those of one metric at these coordinates; a tuple holds several to choose from."""
        kept = [row for row in self.rows if metric in (None, row.metric) and _lies_at(row, coordinates)]
        return Measurements(tuple(kept))

    def one(self, metric: str, /, **coordinates: Coordinate) -> Measurement:
        """The only one of that metric at these coordinates. Errors: `InputError` for none, or several."""
        found = self.select(metric, **coordinates)
        if len(found) == 1:
            return found.rows[0]
        where = ", ".join(f"{name}={given}" for name, given in coordinates.items())
        if not found:
            known = sorted({row.metric for row in self.rows})
            raise InputError(f"no measurement of {metric} at {where or 'any place'}: measured are {', '.join(known)}")
        several = sorted({name for row in found for name in row.coordinates} - set(coordinates))
        raise InputError(
            f"{len(found)} measurements of {metric} at {where or 'any place'}: name more of {', '.join(several)}"
        )

    def distinct(self, name: str) -> tuple[Coordinate, ...]:
        """The values of a coordinate, in the order in which they first stand."""
        seen: dict[Coordinate, None] = {}
        for row in self.rows:
            given = row.at(name)
            if given is not None:
                seen[given] = None
        return tuple(seen)

    @property
    def names(self) -> tuple[str, ...]:
        """The coordinates that any row has, in the order in which they first stand."""
        every = (name for row in self.rows for name in row.coordinates)
        return tuple(dict.fromkeys(every))

    def placed(self, **coordinates: Coordinate) -> Measurements:
        """All with more coordinates, such as the run and its seed."""
        return Measurements(tuple(row.placed(**coordinates) for row in self.rows))

    def averaged(self, name: str) -> Measurements:
        """The mean over a coordinate, such as `seed`, of rows that are equal in all others.

        The interval is Student's, 95 %, of the values that were averaged; `count` is how many there were. One value has
        no spread, and keeps the interval it came with.
        """
        # A dictionary keeps the order of first sight, so that means stand where their first value stood.
        together: dict[Any, list[Measurement]] = {}
        for row in self.rows:
            bare = row.without(name)
            at = (row.metric, tuple(sorted(bare.coordinates.items(), key=str)))
            together.setdefault(at, []).append(bare)
        return Measurements(tuple(_mean(rows) for rows in together.values()))

    def tree(self) -> list[dict[str, Any]]:
        """Rows for a JSON file, which `from_tree` reads."""
        return [row.tree() for row in self.rows]

    @classmethod
    def from_tree(cls, tree: Sequence[Mapping[str, Any]]) -> Measurements:
        """What `tree` gave. Errors: `KeyError`, `TypeError` or `ValueError` for what is no row."""
        return cls(tuple(_row(dict(each)) for each in tree))

    def csv(self) -> str:
        """One line a row, under a line of names: metric, the coordinates, value, low, high, count."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["metric", *self.names, *NUMBERS])
        for row in self.rows:
            places = [row.coordinates.get(name, "") for name in self.names]
            writer.writerow([row.metric, *places, *_spelled(row)])
        return text.getvalue()

    @classmethod
    def from_csv(cls, text: str) -> Measurements:
        """What `csv` gave: coordinates that look like numbers are numbers. Errors: `InputError` for another file."""
        lines = list(csv.reader(io.StringIO(text)))
        if not lines or lines[0][:1] != ["metric"] or tuple(lines[0][-4:]) != NUMBERS:
            raise InputError(
                f"a table of measurements begins with metric and ends with {', '.join(NUMBERS)}: this text does not"
            )
        head, *body = lines
        return cls(tuple(_of_line(head, line) for line in body))

    def latex(self, rows: str, columns: str, spelled: Callable[[Measurement], str] | None = None) -> str:
        """A LaTeX tabular of the values, one of its `rows` a coordinate's value, and one of its `columns`.

        `spelled` writes a cell; without it a value has three digits. Errors: `InputError` where two measurements share
        a cell: select, or average, first.
        """
        spelled = spelled or _short
        heads = self.distinct(columns)
        lines = [f"\\begin{{tabular}}{{l{'r' * len(heads)}}}", "\\hline"]
        lines.append(" & ".join([_escaped(rows), *map(_escaped, heads)]) + r" \\ \hline")
        # A cell without a number is a dash, so that the columns stay under their heads.
        for name in self.distinct(rows):
            cells = [self._cell(spelled, {rows: name, columns: head}) for head in heads]
            lines.append(" & ".join([_escaped(name), *cells]) + r" \\")
        lines += ["\\hline", "\\end{tabular}"]
        return "\n".join(lines) + "\n"

    def _cell(self, spelled: Callable[[Measurement], str], at: dict[str, Coordinate]) -> str:
        found = self.select(**at)
        if len(found) > 1:
            where = ", ".join(f"{name} {given}" for name, given in at.items())
            raise InputError(f"{len(found)} measurements stand at {where}: select or average until one is left")
        if not found:
            return "--"
        return spelled(found.rows[0])


def _lies_at(row: Measurement, coordinates: Mapping[str, Any]) -> bool:
    for name, wanted in coordinates.items():
        if not isinstance(wanted, tuple):
            wanted = (wanted,)
        if row.at(name) not in wanted:
            return False
    return True


def _mean(rows: list[Measurement]) -> Measurement:
    first = rows[0]
    # Its own interval is of samples, and says more than none of seeds.
    if len(rows) == 1:
        return first
    values = np.array([row.value for row in rows], np.float64)
    mean = float(values.mean())
    half = interval(values)
    return replace(first, value=mean, low=mean - half, high=mean + half, count=len(rows))


def interval(values: np.ndarray) -> float:
    """Half the width of the 95 % interval of a mean, by Student's t; NaN for one value.

    >>> round(interval(np.array([1.0, 2.0, 3.0])), 3)
    2.484
    """
    count = len(values)
    if count < 2:
        return math.nan
    # It costs a third of a second to import, which a report without several seeds need not wait for.
    from scipy.special import stdtrit

    deviation = np.std(values, ddof=1)
    quantile = stdtrit(count - 1, 0.975)
    return float(quantile * deviation / math.sqrt(count))


def _row(tree: dict[str, Any]) -> Measurement:
    metric = str(tree.pop("metric"))
    # JSON has no NaN: a number that is not finite was written as null.
    value = _number(tree.pop("value"))
    low = _number(tree.pop("low", None))
    high = _number(tree.pop("high", None))
    count = int(tree.pop("count", 1))
    return Measurement(metric, value, low, high, count, tree)


def _number(given: Any) -> float:
    if given is None:
        return math.nan
    return float(given)


def _spelled(row: Measurement) -> list[str]:
    numbers = [row.value, row.low, row.high]
    return [_digits(number) for number in numbers] + [str(row.count)]


def _digits(number: float) -> str:
    if math.isnan(number):
        return ""
    # What was counted is told whole, as far as a float tells whole numbers apart.
    if abs(number) <= 2**53 and float(number).is_integer():
        return f"{number:.0f}"
    # Six digits: what is behind them no experiment of this size resolves.
    return f"{number:.6g}"


def _of_line(head: list[str], line: list[str]) -> Measurement:
    if len(line) != len(head):
        raise InputError(f"a line of a table of measurements has {len(line)} cells under {len(head)} names: {line}")
    given = dict(zip(head, line, strict=True))
    metric = given.pop("metric")
    # An empty cell is a number that was not taken.
    numbers = {name: float(given.pop(name) or "nan") for name in ("value", "low", "high")}
    count = int(given.pop("count"))
    coordinates = {name: _coordinate(text) for name, text in given.items() if text}
    return Measurement(metric, **numbers, count=count, coordinates=coordinates)


def _coordinate(text: str) -> Coordinate:
    # A whole number first, or every length would come back with a point in it.
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _short(row: Measurement) -> str:
    return f"{row.value:.3g}"


def _escaped(text: Coordinate) -> str:
    """A text as LaTeX shows it."""
    # The backslash and the braces of what is put in would be escaped again by a second pass.
    escaped = str(text)
    for mark in "&%$#_{}":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
