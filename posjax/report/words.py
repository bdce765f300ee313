"""The verdict in words. Every sentence is built from the numbers of this folder; other numbers give other words."""

from __future__ import annotations

import dataclasses
import math

from posjax.report.load import LanguageRun, Point, Recall, Report, ReportedRun, ReportedVariant, RetrievalRun
from posjax.report.marks import name, number, short
from posjax.report.rows import is_broken

EXPLODES, LEAKS, RESCUED = 2.0, 1.1, 1.6
"""Ratios at 4x: above the first a method explodes, between the two it leaks; an extension below the third rescues."""
FOUND = 0.5
"""A needle found less often than this is lost."""


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """One claim: its topic in a few words, and the sentences with the numbers that carry it."""

    topic: str
    text: str


def verdict(ratio: float) -> str:
    """What a ratio of losses exp(loss past the trained length - loss within it) says of a method.

    >>> verdict(2.98), verdict(1.33), verdict(1.01)
    ('explodes', 'leaks', 'flat')
    """
    if not ratio <= EXPLODES:
        return "explodes"
    return "leaks" if ratio >= LEAKS else "flat"


def conclusions(report: Report) -> tuple[Conclusion, ...]:
    """What this folder shows, most important first: methods, extensions, memory."""
    found = [
        *_groups(report),
        *(finding for run in report.language for finding in _extensions(run)),
        *_memory(report),
        *_broken(report),
    ]
    return tuple(found)


def caveats(report: Report) -> tuple[str, ...]:
    """What a reader must know before comparing these numbers with others."""
    sentences = []
    if report.language:
        sentences.append(
            "Ratios are per byte, not per token: a token of code is some 3 to 4 bytes, so a ratio of 1.5 "
            "here is about 4 per token. Compare the order of methods with other work, not the values."
        )
    if report.runs:
        sentences.append(
            f"Each model saw {_span(run.tokens for run in report.runs)} tokens of training "
            f"({_span(run.parameters for run in report.runs)} parameters). How a method behaves past "
            "its trained length changes with that budget."
        )
    sentences.append(
        f"One seed: intervals cover the choice of windows, not of the seed, and values above "
        f"{EXPLODES:g} can differ twofold between seeds. Do not rank exploded methods among themselves."
    )
    return tuple(sentences)


def judged_at(run: ReportedRun) -> int:
    """The length at which a method is judged: 4x, or the longest one measured when that is shorter."""
    past = [length for length in run.lengths if length > 1]
    return max((length for length in past if length <= 4), default=min(past, default=1))


def _span(values) -> str:
    low, high = min(values := list(values)), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _past(run: LanguageRun) -> list[tuple[int, Point]]:
    return [(length, point) for length in run.lengths if length > 1 and (point := run.raw.at(length))]


def _groups(report: Report) -> list[Conclusion]:
    """Sorts methods by their raw ratio at 4x; a method that is flat there is watched up to its longest length."""
    groups: dict[str, list[str]] = {"explodes": [], "leaks": [], "flat": [], "later": [], "ended": []}
    for run in report.language:
        point = run.raw.at(judged_at(run))
        if point is None or not _past(run):
            groups["ended"].append(_ended(run))
            continue
        group = verdict(point.ratio)
        worst = max(_past(run), key=lambda pair: _or_infinite(pair[1].ratio))
        if group == "flat" and verdict(worst[1].ratio) != "flat":
            groups["later"].append(f"{run.label} ({number(worst[1].ratio)} at {worst[0]}x)")
        else:
            groups[group].append(f"{run.label} ({_trail(run)})")
    at = _span(judged_at(run) for run in report.language) if report.language else ""
    return _said(groups, at)


def _said(groups: dict[str, list[str]], at: str) -> list[Conclusion]:
    judged = groups["explodes"] or groups["leaks"] or groups["flat"] or groups["later"]
    said = []
    if groups["explodes"]:
        said.append(
            Conclusion(
                "Explodes past the trained length",
                f"{_listed(groups['explodes'])}: at {at}x the "
                f"per-byte perplexity is more than {EXPLODES:g} times that at 1x, on the same bytes.",
            )
        )
    elif judged:
        said.append(Conclusion("Nothing explodes", f"No method exceeds a ratio of {EXPLODES:g} at {at}x."))
    if groups["leaks"]:
        said.append(
            Conclusion(
                "Leaks", f"{_listed(groups['leaks'])}: at {at}x the ratio lies between {LEAKS:g} and {EXPLODES:g}."
            )
        )
    if groups["later"]:
        said.append(Conclusion("Holds at first", f"{_listed(groups['later'])}: below {LEAKS:g} at {at}x, not beyond."))
    if groups["flat"]:
        said.append(
            Conclusion("Stays flat", f"{_listed(groups['flat'])}: the ratio stays below {LEAKS:g} at every length.")
        )
    elif judged:
        said.append(
            Conclusion("Nothing stays flat", f"Every method that goes on reaches a ratio of {LEAKS:g} or more.")
        )
    if groups["ended"]:
        said.append(Conclusion("Ends", " ".join(groups["ended"])))
    return said


def _trail(run: LanguageRun) -> str:
    """The ratio where the method is judged, and at its longest length: "2.98 at 4x, 8.68 at 16x"."""
    past = dict(_past(run))
    lengths = dict.fromkeys((judged_at(run), max(past)))
    return ", ".join(f"{number(past[length].ratio)} at {length}x" for length in lengths)


def _ended(run: LanguageRun) -> str:
    if run.raw.ended_at is None:
        return f"{run.label} was not measured past the trained length."
    fills = [
        f"{short(run, variant)} {number(point.ratio)}"
        for variant in run.of_kind("fill")
        if (point := variant.at(judged_at(run)))
    ]
    filled = f" Filling its table gives these ratios at {judged_at(run)}x: {_listed(fills)}." if fills else ""
    return f"{run.label} has no positions past {run.raw.ended_at:g}x and cannot go on.{filled}"


def _extensions(run: LanguageRun) -> list[Conclusion]:
    """Which extension of a trained model is best, whether it rescues it, and whether a plain window does better."""
    at = judged_at(run)
    tried = [(variant, point) for variant in run.of_kind("extension") if (point := variant.at(at))]
    raw = run.raw.at(at)
    if not tried or raw is None or at == 1:
        return []
    best, point = min(tried, key=lambda pair: _or_infinite(pair[1].ratio))
    ratios = ", ".join(f"{short(run, variant)} {number(other.ratio)}" for variant, other in tried)
    if point.ratio <= RESCUED and raw.ratio > EXPLODES:
        topic = f"{short(run, best)} rescues {run.label}"
    elif point.ratio < raw.ratio:
        topic = f"{short(run, best)} helps {run.label}" + ("" if point.ratio <= RESCUED else ", but does not rescue it")
    else:
        topic = f"No extension helps {run.label}"
    text = (
        f"Without further training, the ratio at {at}x is {number(raw.ratio)} for {run.label} as trained; "
        f"extended, {ratios}.{_further(best, at, run)}{_against_window(run, best)}"
    )
    return [Conclusion(topic, text)]


def _further(best: ReportedVariant[Point], at: int, run: LanguageRun) -> str:
    end = max(run.lengths)
    point = best.at(end)
    return (
        f" At {end}x the best of these, {short(run, best)}, stands at {number(point.ratio)}."
        if point and end > at
        else ""
    )


def _against_window(run: LanguageRun, best: ReportedVariant[Point]) -> str:
    """The control that sees only the trained length, against the best extension and against all of them."""
    at = judged_at(run)
    control, ours = run.windowed and run.windowed.at(at), best.at(at)
    if not control or not ours:
        return ""
    wins = [length for length in run.lengths if length > 1 and _control_wins(run, length)]
    past = [length for length in run.lengths if length > 1]
    order = "below" if control.loss < ours.loss else "no better than"
    said = (
        f" The windowed control, the same model allowed to see only the trained length, has a loss of "
        f"{number(control.loss)} nats per byte at {at}x, {order} {short(run, best)}'s {number(ours.loss)}"
    )
    if wins == past:
        return said + ", and beats every extension at every length."
    if not wins:
        return said + ", and at no length beats all extensions."
    return said + f"; it beats every extension only at {_listed([f'{length}x' for length in wins])}."


def _control_wins(run: LanguageRun, length: int) -> bool:
    control = run.windowed and run.windowed.at(length)
    others = [point for variant in run.of_kind("extension") if (point := variant.at(length))]
    return bool(control) and all(not point.loss <= control.loss for point in others)


def _memory(report: Report) -> list[Conclusion]:
    """Far needles at the longest length: those whose perplexity is flat, against those who find them best."""
    trained = [run for run in report.retrieval if _learned(run)]
    failed = [run.label for run in report.retrieval if run not in trained]
    said = (
        [
            Conclusion(
                "Did not learn the needle task",
                f"{_listed(failed)}: below {100 * FOUND:g} % at the trained "
                "length, so longer texts say nothing about memory.",
            )
        ]
        if failed
        else []
    )
    far = [
        (run, variant, point) for run in trained for variant in run.variants if (point := variant.at(max(run.lengths)))
    ]
    flat = [entry for entry in far if _is_flat(report, entry[0], entry[1]) and not _repeats(report, *entry[:2])]
    others = [entry for entry in far if entry not in flat and entry[1].kind != "windowed"]
    if flat:
        return [_memory_of(flat, others), *said]
    if others:
        best = sorted(others, key=lambda entry: -entry[2].accuracy[0])
        said.append(
            Conclusion(
                "Memory",
                f"No method with a flat loss was tested on needles. At {max(best[0][0].lengths)}x"
                f" the farthest needle is found by {_needles(best)}; guessing finds "
                f"{100 * best[0][0].chance:.3g} %.",
            )
        )
    return said


def _repeats(report: Report, run: RetrievalRun, variant: ReportedVariant) -> bool:
    """A windowed control says nothing new where the method itself is flat."""
    return variant.kind == "windowed" and _is_flat(report, run, run.raw)


def _memory_of(flat: list, others: list) -> Conclusion:
    lost = [entry for entry in flat if not entry[2].accuracy[0] >= FOUND]
    kept = [entry for entry in flat if entry not in lost]
    finders = sorted((entry for entry in others if entry[2].accuracy[0] >= FOUND), key=lambda e: -e[2].accuracy[0])
    run = flat[0][0]
    text = f"At {max(run.lengths)}x, "
    if lost:
        topic = "Flat perplexity is not memory" if not kept else "Flat perplexity is not always memory"
        text += f"the needle farthest from the query is lost by {_needles(lost)} in spite of a flat loss"
        text += f"; it is found by {_needles(kept)}, flat in loss as well" if kept else ""
        text += f". {_needles(finders[:1])} finds it." if finders else "; no other variant finds it either."
        near = [f"{name(r, v)} {100 * point.accuracy[-1]:.0f} %" for r, v, point in lost]
        text += f" The nearest needle: {_listed(near)}."
    else:
        topic = "Here flat perplexity goes with memory"
        text += f"the needle farthest from the query is found by {_needles(kept)}, with a flat loss"
        text += f"; best of the others is {_needles(finders[:1])}." if finders else "."
    return Conclusion(topic, f"{text} Guessing finds {100 * run.chance:.3g} %.")


def _needles(entries: list) -> str:
    return _listed([f"{name(run, variant)} ({100 * point.accuracy[0]:.0f} %)" for run, variant, point in entries])


def _learned(run: RetrievalRun) -> bool:
    within: Recall | None = run.raw.at(min(run.lengths))
    return within is not None and within.accuracy[0] >= FOUND


def _is_flat(report: Report, run: RetrievalRun, variant: ReportedVariant) -> bool:
    """Whether the same variant of the same method has a flat loss in the language runs of this folder."""
    for language in report.language:
        for same in language.variants:
            if (language.label, same.name) == (run.label, variant.name):
                past = [point for length in language.lengths if length > 1 and (point := same.at(length))]
                return bool(past) and all(verdict(point.ratio) == "flat" for point in past)
    return False


def _broken(report: Report) -> list[Conclusion]:
    cells = []
    for run in report.language:
        for variant in run.variants:
            lengths = [f"{k}x" for k in run.lengths if (point := variant.at(k)) and is_broken(run, point)]
            if lengths:
                cells.append(f"{name(run, variant)} at {_listed(lengths)}")
    if not cells:
        return []
    unigram = number(report.language[0].yardsticks.get("unigram", math.nan))
    return [
        Conclusion(
            "Broken",
            f"{'; '.join(cells)}: worse than the unigram yardstick of {unigram} nats per byte, "
            "which knows only how often each byte occurs. The exact values of these cells are noise.",
        )
    ]


def _or_infinite(ratio: float) -> float:
    return math.inf if math.isnan(ratio) else ratio


def _listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
