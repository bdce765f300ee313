"""How a run looks wherever it appears: its name, its colour, and the line style of its variant."""

from __future__ import annotations

import itertools
import math

from posjax.report.values import Report, ReportedRun, ReportedVariant

# Hues of Okabe and Ito's palette, distinct under the common colour-vision deficiencies; the pale ones are darkened
# to stand out from white by 3:1 or more, and all are lightened for a dark page. The second eight are the same, further
# from the page.
LIGHT = (
    *("#0072B2", "#D55E00", "#00875F", "#B3568F", "#A87500", "#2F8FCB", "#6B4BA3", "#5F6670"),
    *("#003B5C", "#7A3600", "#00402D", "#66234B", "#573C00", "#164F73", "#38215F", "#23282E"),
)
DARK = (
    *("#4FA8E0", "#F0803C", "#2EC79A", "#E29AC4", "#E8B53A", "#8FD0F5", "#A98BE0", "#A9B1BC"),
    *("#B5DDF5", "#FBC6A4", "#A5F0D8", "#F8DCEB", "#F8E2AE", "#D6EEFC", "#D9CBF5", "#E3E7EC"),
)
# Lengths in pixels for lines with round ends, which add a line's width to each dash.
SOLID, DOTTED = (1.0, 0.0), (0.1, 4.0)
DASHES = ((12.0, 5.0), (8.0, 4.5, 0.1, 4.5), (4.0, 5.0), (12.0, 4.5, 0.1, 4.5, 0.1, 4.5), (1.5, 7.0))


def name(run: ReportedRun, variant: ReportedVariant) -> str:
    """A variant's full name: "RoPE", "RoPE, windowed", "RoPE + Yarn"."""
    if variant.kind == "raw":
        return run.label
    if variant.kind == "windowed":
        return f"{run.label}, windowed"
    return f"{run.label} + {short(run, variant)}"


def short(run: ReportedRun, variant: ReportedVariant) -> str:
    """A variant's name where its run is plain from the place: "RoPE", "windowed", "Yarn"."""
    if variant.kind == "raw":
        return run.label
    if variant.kind == "windowed":
        return "windowed"
    # A label may repeat its run's: "RoPE + Yarn" of RoPE is Yarn.
    return variant.label.removeprefix(run.label).strip(" +,:()") or variant.name


def colours(report: Report) -> dict[str, int]:
    """The index of each method's colour; the same method has the same colour in every run, figure and chart."""
    # By label, in the order of the runs: a method's text run and its needle run are one method to a reader.
    labels = dict.fromkeys(run.label for run in report.runs)
    return {label: index % len(LIGHT) for index, label in enumerate(labels)}


def dashes(report: Report) -> dict[str, tuple[float, ...]]:
    """The line style of each variant: solid as trained, dotted windowed, and one kind of dashes for each other."""
    # By name and not by place, so that Yarn has the same dashes in every run that it was tried on.
    kinds = {variant.name: variant.kind for run in report.evaluated for variant in run.variants}
    # What is measured of no variant is drawn as the model itself.
    kinds = {"raw": "raw"} | kinds
    fixed = {"raw": SOLID, "windowed": DOTTED}
    others = itertools.cycle(DASHES)
    return {variant: fixed.get(kind) or next(others) for variant, kind in kinds.items()}


def styles(report: Report) -> dict[str, str]:
    """What each line style stands for, by variant name: "as trained", "windowed", "Yarn"."""
    found = {}
    for run in report.evaluated:
        for variant in run.variants:
            found[variant.name] = short(run, variant)
            # Here a method's own name would say nothing: every method has such a line.
            if variant.kind == "raw":
                found[variant.name] = "as trained"
    return found


def number(value: float) -> str:
    """Three significant digits, two decimals at most.

    >>> number(1.357), number(12.34), number(120.4), number(3.2e16), number(float("nan"))
    ('1.36', '12.3', '120', '3.2e16', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    size = abs(value)
    if size >= 99_999.5:
        return f"{value:.1e}".replace("e+", "e")
    # The bounds are where rounding adds a digit: 9.995 is printed as 10.0.
    decimals = 2
    if size >= 99.95:
        decimals = 0
    elif size >= 9.995:
        decimals = 1
    return f"{value:,.{decimals}f}"


def digits(value: float) -> str:
    """Three significant digits, for numbers of which nothing says how large they are.

    >>> digits(0.001234), digits(64), digits(0.5), digits(12345.6), digits(float("nan"))
    ('0.00123', '64', '0.5', '12,346', '–')
    """
    if not math.isfinite(value) or abs(value) >= 99_999.5:
        return number(value)
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share in whole percent, a dash where there is none."""
    if math.isnan(share):
        return "–"
    return f"{100 * share:.0f}"
