"""Which methods explode past the trained length, which leak, which stay flat, and which end."""

from __future__ import annotations

from collections.abc import Iterator

from posjax.report.cells import learned_too_little
from posjax.report.marks import number, short
from posjax.report.values import LanguageRun, Report
from posjax.report.verdicts import (
    EXPLODES,
    LEAKS,
    Conclusion,
    judged_at,
    listed,
    past_trained,
    span,
    verdict,
    worst_ratio,
)

GROUPS = ("explodes", "leaks", "flat", "controlled", "later", "ended", "unlearned")
"""What may be said of a method; "controlled" of one that is flat, as its windowed control is too."""


def method_conclusions(report: Report) -> list[Conclusion]:
    """Sorts methods by their raw ratio at 4x; a method that is flat there is watched up to its longest length."""
    groups: dict[str, list[str]] = {name: [] for name in GROUPS}
    for run in report.language:
        group, words = _judged(run)
        groups[group].append(words)
        if group == "flat" and _control_is_flat(run):
            groups["controlled"].append(run.label)
    at = ""
    if report.language:
        at = span(judged_at(run) for run in report.language)
    return list(_of_groups(groups, at))


def _judged(run: LanguageRun) -> tuple[str, str]:
    """The group of a method, and the method with the numbers that put it there."""
    if learned_too_little(run):
        return "unlearned", run.label
    point = run.raw.at(judged_at(run))
    past = past_trained(run)
    if point is None or not past:
        return "ended", _ended(run)
    # Flat at 4x is a claim about longer texts as well, so its worst length has a say.
    length, worst = max(past, key=worst_ratio)
    if verdict(point.ratio) == "flat" and verdict(worst.ratio) != "flat":
        return "later", f"{run.label} ({number(worst.ratio)} at {length}x)"
    return verdict(point.ratio), f"{run.label} ({_trail(run)})"


def _of_groups(groups: dict[str, list[str]], at: str) -> Iterator[Conclusion]:
    # Where every method ended, nothing was seen that could have exploded or stayed flat.
    judged = groups["explodes"] or groups["leaks"] or groups["flat"] or groups["later"]
    if groups["explodes"]:
        yield Conclusion(
            "Explodes past the trained length",
            f"{listed(groups['explodes'])}: at {at}x the "
            f"per-byte perplexity is more than {EXPLODES:g} times that at 1x, on the same bytes.",
        )
    elif judged:
        yield Conclusion("Nothing explodes", f"No method exceeds a ratio of {EXPLODES:g} at {at}x.")
    if groups["leaks"]:
        leaking = listed(groups["leaks"])
        yield Conclusion("Leaks", f"{leaking}: at {at}x the ratio lies between {LEAKS:g} and {EXPLODES:g}.")
    if groups["later"]:
        yield Conclusion("Holds at first", f"{listed(groups['later'])}: below {LEAKS:g} at {at}x, not beyond.")
    if groups["flat"]:
        flat = f"{listed(groups['flat'])}: the ratio stays below {LEAKS:g} at every length."
        yield Conclusion("Stays flat", flat + _controls(groups["controlled"]))
    elif judged:
        yield Conclusion("Nothing stays flat", f"Every method that goes on reaches a ratio of {LEAKS:g} or more.")
    if groups["ended"]:
        yield Conclusion("Ends", " ".join(groups["ended"]))
    if groups["unlearned"]:
        yield Conclusion(
            "Learned too little",
            f"{listed(groups['unlearned'])}: at the trained length already the loss is above the unigram yardstick, so "
            "that a ratio says nothing. Train for longer.",
        )


def _control_is_flat(run: LanguageRun) -> bool:
    """Whether the model is as flat where it sees the trained length alone."""
    if run.windowed is None:
        return False
    points = [point for length in run.lengths if length > 1 and (point := run.windowed.at(length))]
    return bool(points) and all(verdict(point.ratio) == "flat" for point in points)


def _controls(labels: list[str]) -> str:
    """What the control says to a flat ratio."""
    if not labels:
        return ""
    return (
        f" So does the windowed control of {listed(labels)}, which sees the trained length alone: that a ratio is flat "
        "does not show that more is read."
    )


def _trail(run: LanguageRun) -> str:
    """The ratio where the method is judged, and at its longest length: "2.98 at 4x, 8.68 at 16x"."""
    past = dict(past_trained(run))
    # A short run has both at one length, which is then said once.
    lengths = dict.fromkeys((judged_at(run), max(past)))
    return ", ".join(f"{number(past[length].ratio)} at {length}x" for length in lengths)


def _ended(run: LanguageRun) -> str:
    """Why a method has no number past the trained length, and what filling its table would give."""
    if run.raw.ended_at is None:
        return f"{run.label} was not measured past the trained length."
    sentence = f"{run.label} has no positions past {run.raw.ended_at:g}x and cannot go on."
    at = judged_at(run)
    fills = []
    for variant in run.of_kind("fill"):
        if point := variant.at(at):
            fills.append(f"{short(run, variant)} {number(point.ratio)}")
    if fills:
        sentence += f" Filling its table gives these ratios at {at}x: {listed(fills)}."
    return sentence
