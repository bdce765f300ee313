"""Numbers of a table over seeds: one for each seed, their mean with its interval, and how they are told in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from posjax.errors import InputError
from posjax.results import Coordinate, Measurement, Measurements, interval

BySeed = dict[Coordinate, Measurement]
"""The same number, once for each seed. What has no seeds, such as a published model, stands under ""."""

UNTOLD = ("suite", "label", "variant", "kind", "multiple", "evaluation")
"""Coordinates that words tell in a way of their own, or leave out."""


def by_seed(table: Measurements, metric: str, at: Mapping[str, Any]) -> BySeed:
    """A metric at some coordinates. Errors: `InputError` where there is none, or more than one for a seed."""
    found: BySeed = {}
    several = table.select(metric, **at)
    for row in several:
        seed = row.at("seed")
        # Of published models there is one of each, which no seed chose.
        if seed is None:
            seed = ""
        if seed in found:
            differ = sorted(name for name in row.coordinates if row.at(name) != found[seed].at(name))
            raise InputError(f"several of {metric} at {spelled(at)}: name one of each of {', '.join(differ)}")
        # A run that diverged measured nothing: its seed is missing, and told of by `lost`.
        if not math.isnan(row.value):
            found[seed] = row
    if not found:
        raise InputError(f"no {metric} at {spelled(at)}")
    return found


def mean(rows: BySeed) -> Measurement:
    """The mean over seeds with Student's 95 % interval and their count; one keeps the interval it came with."""
    values = list(rows.values())
    # The folders of a suite's runs are called by their seeds.
    bare = Measurements(tuple(row.without("run").without("seed").placed(seed=i) for i, row in enumerate(values)))
    return bare.averaged("seed").rows[0].without("seed")


def difference(a: BySeed, b: BySeed) -> tuple[Measurement, np.ndarray]:
    """Of the seeds that both have, a - b: the mean with its interval, and each.

    Errors: `InputError` where they share no seed.
    """
    # Paired: a seed draws the same batches for both, and what it does to them cancels.
    common = [seed for seed in a if seed in b]
    if not common:
        raise InputError("the two share no seed")
    each = np.array([a[seed].value - b[seed].value for seed in common])
    middle = float(each.mean())
    half = interval(each)
    return Measurement("difference", middle, middle - half, middle + half, len(common)), each


def settings(coordinates: Mapping[str, Any]) -> Iterator[dict[str, Coordinate]]:
    """Every choice from coordinates of which some are tuples of several.

    >>> list(settings({"label": "RoPE", "multiple": (2, 4)}))
    [{'label': 'RoPE', 'multiple': 2}, {'label': 'RoPE', 'multiple': 4}]
    """
    lists = []
    for given in coordinates.values():
        if not isinstance(given, tuple):
            given = (given,)
        lists.append(given)
    # The last coordinate runs fastest, as the lengths of a row of a table do.
    for chosen in product(*lists):
        yield dict(zip(coordinates, chosen, strict=True))


def divided(coordinates: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Coordinates of one value each, and those of which several are asked for: a multiple is one of these.

    >>> divided({"label": "RoPE", "multiple": 4, "depth": (0.0, 0.9)})
    ({'label': 'RoPE'}, {'multiple': 4, 'depth': (0.0, 0.9)})
    """
    fixed = {}
    swept = {}
    for name, given in coordinates.items():
        # Alone too, a multiple reads best behind its number: "1.28 at 4x".
        if isinstance(given, tuple) or name == "multiple":
            swept[name] = given
        else:
            fixed[name] = given
    return fixed, swept


def placed(text: str, at: Mapping[str, Any]) -> str:
    """A number with where it was taken, where that is worth saying.

    >>> placed("1.50", {"multiple": 4}), placed("1.50", {"depth": 0.9}), placed("1.50", {})
    ('1.50 at 4x', '1.50 (depth 0.9)', '1.50')
    """
    if not at:
        return text
    if list(at) == ["multiple"]:
        return f"{text} {spelled(at)}"
    return f"{text} ({spelled(at)})"


def spelled(at: Mapping[str, Any]) -> str:
    """Coordinates as a reader says them.

    >>> spelled({"label": "RoPE", "variant": "yarn", "multiple": 4, "depth": 0.0})
    'RoPE, yarn, at 4x, depth 0.0'
    """
    parts = []
    if "label" in at:
        parts.append(_listed(at["label"]))
    # A method as it was trained needs no word for that.
    if at.get("variant", "raw") != "raw":
        parts.append(_listed(at["variant"]))
    if "multiple" in at:
        parts.append(f"at {_listed(at['multiple'], 'x')}")
    parts += [f"{name.replace('_', ' ')} {_listed(given)}" for name, given in at.items() if name not in UNTOLD]
    return ", ".join(parts) or "any place"


def _listed(given: Any, unit: str = "") -> str:
    if not isinstance(given, tuple):
        given = (given,)
    return " or ".join(f"{each}{unit}" for each in given)


def number(row: Measurement) -> str:
    """A value with its interval.

    >>> number(Measurement("loss", 1.5, 1.25, 1.75)), number(Measurement("loss", 20452.23))
    ('1.50 [1.25, 1.75]', '20,452')
    """
    text = digits(row.value)
    if math.isnan(row.low):
        return text
    return f"{text} [{digits(row.low)}, {digits(row.high)}]"


def digits(value: float) -> str:
    """Three digits and no exponent, and thousands apart.

    >>> digits(1.004), digits(0.0123), digits(-24.4), digits(0.0)
    ('1.00', '0.0123', '-24.4', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    # Smaller than any number that is told, rounding would leave a row of zeros.
    if places > 6:
        return f"{value:.2g}"
    return f"{value:,.{places}f}"


def counted(count: int) -> str:
    """How many seeds are behind a number.

    >>> counted(1), counted(3)
    ('1 seed', '3 seeds')
    """
    if count == 1:
        return "1 seed"
    return f"{count} seeds"


def seeds_of(rows: BySeed) -> str:
    """How many seeds are behind some numbers, in words; what came without seeds says how many samples."""
    # Of what has no seeds the interval is of samples, and so is the count.
    if "" in rows:
        return f"{next(iter(rows.values())).count} samples"
    return counted(len(rows))


def lost(table: Measurements, at: Mapping[str, Any]) -> str:
    """A sentence about runs of these coordinates that diverged; empty for none."""
    # Of the whole run, which had no variants or lengths yet.
    known = {name: at[name] for name in ("suite", "label") if name in at}
    diverged = table.select("diverged", **known)
    if not diverged or "label" not in known:
        return ""
    return f" Of {_listed(known['label'])}, {counted(len(diverged))} diverged and left no number."
