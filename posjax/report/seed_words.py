"""What the seeds say: how many there are, and whether a verdict holds in each of them."""

from __future__ import annotations

from posjax.report.marks import number
from posjax.report.seeds import counts
from posjax.report.values import LanguageRun, Report, ReportedRun
from posjax.report.verdicts import EXPLODES, Conclusion, judged_at, listed, span, verdict


def seeds_told(report: Report) -> str:
    """What the intervals of this folder cover."""
    found = counts(report)
    ranking = "Do not rank exploded methods among themselves."
    if found == (1,):
        # Where nothing extrapolates, there is no ratio to warn of.
        if not report.language and not report.retrieval:
            return "One seed: intervals, where there are some, cover the choice of samples, not of the seed."
        return (
            f"One seed: intervals cover the choice of windows, not of the seed, and values above "
            f"{EXPLODES:g} can differ twofold between seeds. {ranking}"
        )
    if 1 not in found:
        said = f"{span(found)} seeds: numbers are means over them, with Student's 95 % interval."
    else:
        several = [run for run in report.runs if run.members]
        names = listed([f"{run.label} ({len(run.members)})" for run in several])
        said = (
            f"Several seeds of {names}: their numbers are means, with Student's 95 % interval. All others are of one "
            "seed, which their intervals do not cover."
        )
    if report.language:
        said += f" Values above {EXPLODES:g} can differ twofold between seeds. {ranking}"
    return said


def differing(report: Report) -> list[Conclusion]:
    """The methods of which not every seed says what their mean says: a verdict on them would be one on a seed."""
    told = []
    for run in report.language:
        at = judged_at(run)
        mean = run.raw.at(at)
        if mean is None or at == 1:
            continue
        other = [seed for seed in run.members if _verdict(seed, at) != verdict(mean.ratio)]
        if other:
            ratios = ", ".join(number(seed.raw.lengths[at].ratio) for seed in run.members if at in seed.raw.lengths)
            told.append(f"{run.label} ({verdict(mean.ratio)} by the mean at {at}x, of {ratios})")
    if not told:
        return []
    return [Conclusion("Not the same in every seed", f"{listed(told)}.")]


def _verdict(run: ReportedRun, at: int) -> str:
    point = run.raw.at(at)
    if point is None or not isinstance(run, LanguageRun):
        return ""
    return verdict(point.ratio)
