"""Whether a flat loss means that far text is used: the farthest needle at the longest length says so, or not."""

from __future__ import annotations

import dataclasses

from posjax.report.marks import name
from posjax.report.values import Recall, Report, ReportedVariant, RetrievalRun
from posjax.report.verdicts import FOUND, Conclusion, listed, verdict


@dataclasses.dataclass(frozen=True)
class FarNeedle:
    """One variant of a needle task at its longest length."""

    run: RetrievalRun
    variant: ReportedVariant[Recall]
    recall: Recall

    @property
    def farthest(self) -> float:
        """How often the needle farthest from the query is found."""
        return self.recall.accuracy[0]

    @property
    def nearest(self) -> float:
        """How often the needle nearest to the query is found."""
        return self.recall.accuracy[-1]


def memory_conclusions(report: Report) -> list[Conclusion]:
    """Far needles at the longest length: those whose perplexity is flat, against those who find them best."""
    trained = [run for run in report.retrieval if _learned(run)]
    failed = [run.label for run in report.retrieval if not _learned(run)]
    said = []
    if failed:
        said.append(
            Conclusion(
                "Did not learn the needle task",
                f"{listed(failed)}: below {100 * FOUND:g} % at the trained "
                "length, so longer texts say nothing about memory.",
            )
        )
    far = _far_needles(trained)
    flat = [needle for needle in far if _is_flat(report, needle.run, needle.variant) and not _repeats(report, needle)]
    # A window cannot see a far needle, so it is no example of a method that finds one.
    others = [needle for needle in far if needle not in flat and needle.variant.kind != "windowed"]
    if flat:
        return [_of_flat(flat, others), *said]
    if others:
        said.append(_without_flat(others))
    return said


def _far_needles(runs: list[RetrievalRun]) -> list[FarNeedle]:
    found = []
    for run in runs:
        for variant in run.variants:
            # A variant that ends earlier says nothing of that length.
            if recall := variant.at(max(run.lengths)):
                found.append(FarNeedle(run, variant, recall))
    return found


def _without_flat(others: list[FarNeedle]) -> Conclusion:
    # Best first; equals stay in the order of the report.
    best = sorted(others, key=lambda needle: -needle.farthest)
    run = best[0].run
    return Conclusion(
        "Memory",
        f"No method with a flat loss was tested on needles. At {max(run.lengths)}x"
        f" the farthest needle is found by {_needles(best)}; guessing finds "
        f"{100 * run.chance:.3g} %.",
    )


def _repeats(report: Report, needle: FarNeedle) -> bool:
    """A windowed control says nothing new where the method itself is flat."""
    return needle.variant.kind == "windowed" and _is_flat(report, needle.run, needle.run.raw)


def _of_flat(flat: list[FarNeedle], others: list[FarNeedle]) -> Conclusion:
    # Asked this way round, an accuracy that is no number is a needle lost.
    lost = [needle for needle in flat if not needle.farthest >= FOUND]
    kept = [needle for needle in flat if needle not in lost]
    finders = [needle for needle in others if needle.farthest >= FOUND]
    best = sorted(finders, key=lambda needle: -needle.farthest)[:1]
    run = flat[0].run
    if lost:
        topic, text = _of_lost(lost, kept, best)
    else:
        topic, text = _of_kept(kept, best)
    return Conclusion(topic, f"At {max(run.lengths)}x, {text} Guessing finds {100 * run.chance:.3g} %.")


def _of_lost(lost: list[FarNeedle], kept: list[FarNeedle], best: list[FarNeedle]) -> tuple[str, str]:
    """Topic and text where some method with a flat loss does not find the far needle."""
    topic = "Flat perplexity is not memory"
    text = f"the needle farthest from the query is lost by {_needles(lost)} in spite of a flat loss"
    if kept:
        topic = "Flat perplexity is not always memory"
        text += f"; it is found by {_needles(kept)}, flat in loss as well"
    # That another variant finds it shows that it could be found: the text is not to blame.
    if best:
        text += f". {_needles(best)} finds it."
    else:
        text += "; no other variant finds it either."
    near = [f"{name(needle.run, needle.variant)} {100 * needle.nearest:.0f} %" for needle in lost]
    return topic, f"{text} The nearest needle: {listed(near)}."


def _of_kept(kept: list[FarNeedle], best: list[FarNeedle]) -> tuple[str, str]:
    """Topic and text where every method with a flat loss finds the far needle."""
    text = f"the needle farthest from the query is found by {_needles(kept)}, with a flat loss"
    if best:
        text += f"; best of the others is {_needles(best)}"
    return "Here flat perplexity goes with memory", f"{text}."


def _needles(needles: list[FarNeedle]) -> str:
    return listed([f"{name(needle.run, needle.variant)} ({100 * needle.farthest:.0f} %)" for needle in needles])


def _learned(run: RetrievalRun) -> bool:
    # At the shortest length, as a rule the trained one: a model that fails there has not learned the task.
    within = run.raw.at(min(run.lengths))
    return within is not None and within.accuracy[0] >= FOUND


def _is_flat(report: Report, run: RetrievalRun, variant: ReportedVariant) -> bool:
    """Whether the same variant of the same method has a flat loss in the language runs of this folder."""
    for language in report.language:
        for same in language.variants:
            # Runs of the two tasks are told to be of one method by their labels alone.
            if (language.label, same.name) == (run.label, variant.name):
                past = [point for length in language.lengths if length > 1 and (point := same.at(length))]
                return bool(past) and all(verdict(point.ratio) == "flat" for point in past)
    return False
