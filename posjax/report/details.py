"""The page's small print: what was run, on what, with which text, and how to run it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from posjax.report.markup import definitions, text
from posjax.report.seeds import counts
from posjax.report.values import Report, ReportedRun

UNKNOWN = "–"
"""For what a run's files do not tell."""
MANY_RUNS = 8
"""Runs up to which their costs are not added up."""
DEVICES = 2
"""Devices that are named one by one; of more, the first stands for all."""


def facts(report: Report) -> str:
    """The line under the title: the sizes that a reader needs before any number."""
    runs = report.runs
    pairs = [
        ("trained length", _range([run.trained_length for run in runs])),
        ("parameters", _range([run.parameters for run in runs])),
        ("training tokens", _range([run.tokens for run in runs])),
    ]
    if report.language:
        windows = _range([run.windows for run in report.language])
        pairs.append(("evaluation windows", windows))
    # Whether intervals cover the seed, a reader must know before any number.
    pairs.append(("seeds", _range(list(counts(report)))))
    seconds = sum(value for run in report.each for value in run.seconds.values() if math.isfinite(value))
    if seconds:
        pairs.append(("time", _duration(seconds)))
    return definitions("facts", pairs)


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min"


def reproduce(report: Report) -> str:
    """The commands, the text it was run on, versions and machine, and the config of the experiment and of each run."""
    experiment = report.experiment
    parts = []
    if experiment.commands:
        # In one box, to be copied at once.
        commands = "\n".join(experiment.commands)
        parts.append(f"<pre>{text(commands)}</pre>")
    if experiment.paper:
        parts.append(f"<p>Paper: {text(experiment.paper)}</p>")
    parts.append(_table("Text", _corpora(report)))
    parts.append(_table("Runs", _runs(report)))
    parts.append(_table("Versions", _versions(report)))
    if experiment.config:
        parts.append(_folded("The config file", f"<pre>{text(experiment.config)}</pre>"))
    parts.append(_configs(report))
    return "\n".join(part for part in parts if part)


def _configs(report: Report) -> str:
    """The config of each run, which overrides on the command line may have changed from that of the file."""
    written = ""
    for run in report.each:
        if config := run.manifest.get("config"):
            written += f"<h3>{text(run.name)}</h3><pre>{text(config)}</pre>"
    if not written:
        return ""
    return _folded("The config of each run", written)


def _folded(summary: str, content: str) -> str:
    # Long and rarely read, so it opens when asked for.
    return f"<details><summary>{summary}</summary>{content}</details>"


def _corpora(report: Report) -> list[Sequence[str]]:
    # Runs on the same text say the same of it, which then stands once.
    found = {json.dumps(run.corpus, sort_keys=True): run.corpus for run in report.language}
    if not found:
        return []
    return [("corpus", "fingerprint", "train", "validation"), *(_corpus(corpus) for corpus in found.values())]


def _corpus(corpus: Mapping) -> Sequence[str]:
    name = str(corpus.get("name", ""))
    if "tokenizer" in corpus:
        name += f", read by {corpus['tokenizer']} with {corpus.get('vocabulary')} tokens"
    fingerprint = str(corpus.get("fingerprint", ""))
    return (name, fingerprint, _files(corpus, "train"), _files(corpus, "validation"))


def _files(corpus: Mapping, split: str) -> str:
    """The size of a split, as far as the run tells it."""
    size = corpus.get(f"{split}_bytes")
    files = corpus.get(f"{split}_files")
    tokens = corpus.get(f"{split}_tokens")
    parts = []
    if tokens is not None:
        parts.append(f"{tokens:,} tokens")
    if size is not None:
        parts.append(f"{size:,} bytes")
    if files is not None:
        parts.append(f"{files:,} files")
    return " in ".join(parts)


def _runs(report: Report) -> list[Sequence[str]]:
    head = ("run", "task", "parameters", "tokens", "train s", "evaluate s", "backend", "devices", "commit")
    return [head, *(_run(run) for run in report.each), *_total(report.each)]


def _total(runs: Sequence[ReportedRun]) -> list[Sequence[str]]:
    """What all runs cost together, where there are so many that a reader would have to add them up."""
    if len(runs) <= MANY_RUNS:
        return []
    tokens = sum(run.tokens for run in runs)
    spent = [sum(run.seconds.get(what, math.nan) for run in runs) for what in ("train", "evaluate")]
    seconds = [UNKNOWN if math.isnan(each) else f"{each:,.1f}" for each in spent]
    return [(f"all {len(runs)}", "", "", f"{tokens:,}", *seconds, "", "", "")]


def _run(run: ReportedRun) -> Sequence[str]:
    return (
        run.name,
        run.task,
        f"{run.parameters:,}",
        f"{run.tokens:,}",
        _seconds(run, "train"),
        _seconds(run, "evaluate"),
        str(run.manifest.get("backend") or UNKNOWN),
        _devices(run),
        # Ten digits of a commit are enough for git to find it.
        str(run.manifest.get("commit") or UNKNOWN)[:10],
    )


def _devices(run: ReportedRun) -> str:
    devices = [str(device) for device in run.manifest.get("devices") or ()]
    listed = ", ".join(devices)
    if len(devices) > DEVICES:
        listed = f"{len(devices)} devices, {devices[0]} …"
    # The mesh tells how the batch and the parameters were split over the devices.
    axes = run.manifest.get("mesh") or {}
    if axes:
        mesh = " × ".join(f"{axis} {size}" for axis, size in axes.items())
        return f"{listed} ({mesh})"
    return listed or UNKNOWN


def _seconds(run: ReportedRun, what: str) -> str:
    if what not in run.seconds:
        return UNKNOWN
    return f"{run.seconds[what]:,.1f}"


def _versions(report: Report) -> list[Sequence[str]]:
    # A folder that was filled over weeks may have seen an upgrade: all versions of a package are told.
    found: dict[str, dict[str, None]] = {}
    for run in report.each:
        for package, version in (run.manifest.get("versions") or {}).items():
            found.setdefault(str(package), {})[str(version)] = None
    if not found:
        return []
    return [tuple(found), tuple(" and ".join(versions) for versions in found.values())]


def _table(title: str, table: list[Sequence[str]]) -> str:
    """A table whose first row is its head, or nothing where there are no rows."""
    if not table:
        return ""
    columns, *rows = table
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join(_row(row) for row in rows)
    return (
        f'<h3 class="spaced">{text(title)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{text(title)}"><table class="plain"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[str]) -> str:
    cells = "".join(f"<td>{text(cell)}</td>" for cell in row)
    return f'<tr class="plain">{cells}</tr>'


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    if low == high:
        return f"{low:,}"
    return f"{low:,} – {high:,}"
