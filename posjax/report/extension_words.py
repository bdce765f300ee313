"""Which extension of a trained model is best, whether it rescues it, and whether a plain window does better."""

from __future__ import annotations

from posjax.report.cells import learned_too_little
from posjax.report.marks import number, short
from posjax.report.values import LanguageRun, Point, ReportedVariant
from posjax.report.verdicts import EXPLODES, RESCUED, Conclusion, is_below, judged_at, listed, worst_ratio


def extension_conclusions(run: LanguageRun) -> list[Conclusion]:
    """What extending one trained model did for it; nothing where no extension was tried past the trained length."""
    at = judged_at(run)
    tried = [(variant, point) for variant in run.of_kind("extension") if (point := variant.at(at))]
    raw = run.raw.at(at)
    if not tried or raw is None or at == 1:
        return []
    best, point = min(tried, key=worst_ratio)
    ratios = ", ".join(f"{short(run, variant)} {number(other.ratio)}" for variant, other in tried)
    text = (
        f"Without further training, the ratio at {at}x is {number(raw.ratio)} for {run.label} as trained; "
        f"extended, {ratios}.{_further(best, at, run)}{_against_window(run, best)}"
    )
    return [Conclusion(_topic(run, best, point, raw), text)]


def _topic(run: LanguageRun, best: ReportedVariant[Point], extended: Point, raw: Point) -> str:
    if learned_too_little(run):
        return f"{run.label} learned too little to tell what helps it"
    # Also false where a ratio is no number, and nothing can be claimed.
    if not extended.ratio < raw.ratio:
        return f"No extension helps {run.label}"
    if not is_below(extended, raw):
        return f"No extension is told apart from {run.label} as trained"
    is_good = extended.ratio <= RESCUED
    # Only what explodes needs a rescue; what leaks is helped.
    if is_good and raw.ratio > EXPLODES:
        return f"{short(run, best)} rescues {run.label}"
    helps = f"{short(run, best)} helps {run.label}"
    if is_good:
        return helps
    return f"{helps}, but does not rescue it"


def _further(best: ReportedVariant[Point], at: int, run: LanguageRun) -> str:
    """Where the best extension stands at the longest length: what rescues at 4x may fail later."""
    end = max(run.lengths)
    point = best.at(end)
    if point is None or end <= at:
        return ""
    return f" At {end}x the best of these, {short(run, best)}, stands at {number(point.ratio)}."


def _against_window(run: LanguageRun, best: ReportedVariant[Point]) -> str:
    """The control that sees only the trained length, against the best extension and against all of them."""
    at = judged_at(run)
    control, ours = _control(run, at), best.at(at)
    if control is None or ours is None:
        return ""
    order = "no better than"
    if control.loss < ours.loss:
        order = "below"
    said = (
        f" The windowed control, the same model allowed to see only the trained length, has a loss of "
        f"{number(control.loss)} nats per byte at {at}x, {order} {short(run, best)}'s {number(ours.loss)}"
    )
    return said + _where_control_wins(run)


def _where_control_wins(run: LanguageRun) -> str:
    past = [length for length in run.lengths if length > 1]
    wins = [length for length in past if _control_wins(run, length)]
    if wins == past:
        return ", and beats every extension at every length: none gains from text that lies further back."
    if not wins:
        return ", and at no length beats all extensions."
    return f"; it beats every extension only at {listed([f'{length}x' for length in wins])}."


def _control_wins(run: LanguageRun, length: int) -> bool:
    control = _control(run, length)
    if control is None:
        return False
    others = [point for variant in run.of_kind("extension") if (point := variant.at(length))]
    # An extension whose loss is no number has lost.
    return all(not point.loss <= control.loss for point in others)


def _control(run: LanguageRun, length: int) -> Point | None:
    if run.windowed is None:
        return None
    return run.windowed.at(length)
