"""The contract of a claim: a sentence that circulates, where it stands, and the test that decides it.

A new claim is a value in the tuple CLAIMS of a file beside this one:

    Claim(
        name="alibi-is-flat",
        words="ALiBi's loss stays flat to 16 times the trained length.",
        source="Press et al. 2021, arXiv:2108.12409",
        suite="extrapolation",
        test=at_most("loss_ratio", 1.05, label="ALiBi", variant="raw", multiple=(2, 4, 8, 16)),
    )

Its suite is the config whose record of results, `experiments/results/SUITE`, the test reads. What is computed from
posjax itself has none, and its test is given an empty table. `experiments/claims/deciding.py` has the tests to compose
from. Words of a verdict come from numbers, never from whoever wrote the claim.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from posjax.errors import InputError
from posjax.results import Measurement, Measurements

# Words and not numbers: they are what a page and a terminal show.
Kind = Literal["holds", "does not hold", "partly", "needs scale", "not run"]
KINDS: tuple[Kind, ...] = ("holds", "does not hold", "partly", "needs scale", "not run")
"""Needs scale: what was seen decides nothing, by its interval or its number of seeds."""
DECIDED: tuple[Kind, ...] = ("holds", "does not hold", "partly")


@dataclass(frozen=True)
class Verdict:
    """What a test found: the kind, the numbers in words with interval and seeds, and the measurements behind them."""

    kind: Kind
    words: str
    measurements: tuple[Measurement, ...] = ()


ON_TEXT = frozenset(
    {
        "base_scaling",
        "extension",
        "extrapolation",
        "layouts",
        "masked_lm",
        "performer",
        "search",
        "use_of_context",
    }
)
"""Suites whose models learn one text: another may decide otherwise, and a verdict says where none was tried."""

Test = Callable[[Measurements], Verdict]
"""From the table of a claim's suites to its verdict. Errors: `InputError` where the table lacks what it reads."""


@dataclass(frozen=True)
class Claim:
    """A sentence and what decides it.

    `words` is the claim as it circulates, true or false. `source` says who says so. `published` is their number with
    its table, empty unless it was read there. `suite` is the config, or several, whose records are read together, each
    row with the coordinate `suite`. `also` are suites in which the same test is repeated, on another text, say: a
    verdict that does not survive them says so. `command` is what makes the records, that of the suites unless given.

    Errors: `InputError` for a name that is no slug.
    """

    name: str
    words: str
    test: Test
    source: str
    published: str = ""
    suite: str | tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    command: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise InputError(
                f"a claim is called {self.name!r}: small letters, digits and single hyphens, as in a-claim"
            )

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites whose records the test needs; none for what is computed."""
        if isinstance(self.suite, str):
            return (self.suite,)
        return self.suite

    @property
    def how(self) -> str:
        """What to type to have it decided."""
        if self.command:
            return self.command
        return " && ".join(f"python -m experiments.run configs/{suite}.py" for suite in self.suites)


def decide(claim: Claim, tables: Mapping[str, Measurements]) -> Verdict:
    """The verdict on a claim by the records that there are, by suite. It never raises for one that is missing."""
    # Before anything is read: half of the records would decide half of the claim.
    missing = [suite for suite in claim.suites if suite not in tables]
    if missing:
        return Verdict("not run", f"No results of {' and '.join(missing)} yet: {claim.how}")
    table = Measurements()
    for suite in claim.suites:
        table += _of_suite(suite, tables[suite])
    found = _tested(claim, table)
    again = [suite for suite in claim.also if suite in tables]
    for suite in again:
        # A repetition that was not made yet takes nothing from what was seen.
        found = _joined(found, suite, _tested(claim, _of_suite(suite, tables[suite])))
    if not again and found.kind in DECIDED and set(claim.suites) & ON_TEXT:
        return replace(found, words=f"{found.words} Seen on one text alone.")
    return found


def _of_suite(suite: str, table: Measurements) -> Measurements:
    """A table whose rows say of which suite they are, as its folder is called."""
    # Every record says so already: thousands of rows need not be made anew for each claim.
    if table.distinct("suite") == (suite,) and all("suite" in row.coordinates for row in table):
        return table
    return table.placed(suite=suite)


def _tested(claim: Claim, table: Measurements) -> Verdict:
    try:
        return claim.test(table)
    except InputError as error:
        # A record of a few of its runs, or of before an evaluation was added.
        return Verdict("not run", f"The results lack what this needs ({error}): {claim.how}")


def _joined(first: Verdict, suite: str, again: Verdict) -> Verdict:
    """A verdict with what became of it in another suite."""
    if first.kind not in DECIDED or again.kind == "not run":
        return first
    rows = first.measurements + again.measurements
    if again.kind == first.kind:
        return Verdict(first.kind, f"{first.words} So too in {suite}: {again.words}", rows)
    if again.kind == "needs scale":
        return Verdict(first.kind, f"{first.words} Undecided in {suite}: {again.words}", rows)
    # What another text decides otherwise is no property of the encoding alone.
    return Verdict("partly", f"{first.words} Otherwise in {suite}: {again.words}", rows)
