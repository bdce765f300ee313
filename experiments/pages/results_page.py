"""The page of the results of record: each suite's question, how it was answered, and its figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import records
from experiments.claims import CLAIMS
from experiments.pages.record_figures import chart_of, draw

FIGURE = "figure.png"
HEAD = """# Results of record

What the suites of `configs/` measured, as it was kept by `python -m experiments.record`.
This page and its figures are written by `python -m experiments.docs` from the kept tables; no number of it is typed.
A line is the mean over seeds, its band reaches from the lowest seed to the highest.
Dotted lines see a window of the trained length; dashed ones are extended. The [claims](claims.md) say what follows.
"""


def page(folder: Path = records.RESULTS) -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for name in records.names(folder):
        record = records.read(name, folder)
        parts.append(_section(name, record, chart_of(record.table) is not None))
    return "\n".join(parts)


def figures(folder: Path = records.RESULTS) -> dict[str, bytes]:
    """The figure of each record that has one, by its name."""
    found = {}
    for name, table in records.tables(folder).items():
        chart = chart_of(table)
        if chart is not None:
            found[name] = draw(chart)
    return found


def _section(name: str, record: records.Record, is_drawn: bool) -> str:
    about = record.about
    there = f"../experiments/results/{name}"
    table = f"[Table]({there}/{records.TABLE})"
    lines = [f"## {about['title']}", "", about["question"], ""]
    if is_drawn:
        lines += [f"![{about['title']}]({there}/{FIGURE})", ""]
    lines += [f"    {command}" for command in about["commands"]]
    decided = sum(name in claim.suites for claim in CLAIMS)
    lines += ["", f"{_how(about)} Claims that it decides: {decided}. {table}", ""]
    return "\n".join(lines)


def _how(about: Mapping[str, Any]) -> str:
    """On which day and machine, of which code, and how long it took."""
    machine, versions = about["machine"], about["versions"][0]
    minutes = sum(about["seconds"].values()) / 60
    commit = about["commits"][0].rstrip("+")[:9]
    where = f"{machine['processor']}, {machine['cores']} cores, jax {versions['jax']}, commit {commit}"
    return f"{about['runs']} runs on {about['date']}, {minutes:.0f} minutes: {where}."
