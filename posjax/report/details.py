"""The page's small print: what was run, on what, with which text, and how to run it again."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence

from posjax.report.load import Report, ReportedRun


def facts(report: Report) -> str:
    """The line under the title: the sizes that a reader needs before any number."""
    runs = report.runs
    pairs = [
        ("trained length", _range([run.trained_length for run in runs])),
        ("parameters", _range([run.parameters for run in runs])),
        ("training tokens", _range([run.tokens for run in runs])),
        ("seeds", "1"),
    ]
    if report.language:
        pairs.insert(3, ("evaluation windows", _range([run.windows for run in report.language])))
    seconds = sum(value for run in runs for value in run.seconds.values() if math.isfinite(value))
    if seconds:
        pairs.append(("time", f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"))
    entries = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{entries}</dl>'


def reproduce(report: Report) -> str:
    """The commands, the text it was run on, versions and machine, and the config of the experiment and of each run."""
    experiment = report.experiment
    commands = _text("\n".join(experiment.commands))
    parts = [f"<pre>{commands}</pre>"] if commands else []
    if experiment.paper:
        parts.append(f"<p>Paper: {_text(experiment.paper)}</p>")
    parts += [_plain("Text", _corpora(report)), _plain("Runs", _runs(report)), _plain("Versions", _versions(report))]
    if experiment.config:
        parts.append(f"<details><summary>The config file</summary><pre>{_text(experiment.config)}</pre></details>")
    configs = "".join(
        f"<h3>{_text(run.name)}</h3><pre>{_text(run.manifest['config'])}</pre>"
        for run in report.runs
        if run.manifest.get("config")
    )
    if configs:
        parts.append(f"<details><summary>The config of each run</summary>{configs}</details>")
    return "\n".join(part for part in parts if part)


def _corpora(report: Report) -> list[Sequence[str]]:
    found = {json.dumps(run.corpus, sort_keys=True): run.corpus for run in report.language}
    rows = [
        (str(c.get("name", "")), str(c.get("fingerprint", "")), _files(c, "train"), _files(c, "validation"))
        for c in found.values()
    ]
    return [("corpus", "fingerprint", "train", "validation"), *rows] if rows else []


def _files(corpus: Mapping, split: str) -> str:
    size, files = corpus.get(f"{split}_bytes"), corpus.get(f"{split}_files")
    return " in ".join(
        part
        for part in (f"{size:,} bytes" if size is not None else "", f"{files:,} files" if files is not None else "")
        if part
    )


def _runs(report: Report) -> list[Sequence[str]]:
    head = ("run", "task", "parameters", "tokens", "train s", "evaluate s", "backend", "devices", "commit")
    return [
        head,
        *(
            (
                run.name,
                "needles" if run in report.retrieval else "text",
                f"{run.parameters:,}",
                f"{run.tokens:,}",
                _seconds(run, "train"),
                _seconds(run, "evaluate"),
                str(run.manifest.get("backend") or "–"),
                _devices(run),
                str(run.manifest.get("commit") or "–")[:10],
            )
            for run in report.runs
        ),
    ]


def _devices(run: ReportedRun) -> str:
    devices = list(map(str, run.manifest.get("devices") or ()))
    mesh = " × ".join(f"{axis} {size}" for axis, size in (run.manifest.get("mesh") or {}).items())
    listed = ", ".join(devices) if len(devices) <= 2 else f"{len(devices)} devices, {devices[0]} …"
    return f"{listed} ({mesh})" if mesh else listed or "–"


def _seconds(run: ReportedRun, what: str) -> str:
    return f"{run.seconds[what]:,.1f}" if what in run.seconds else "–"


def _versions(report: Report) -> list[Sequence[str]]:
    found: dict[str, dict[str, None]] = {}
    for run in report.runs:
        for package, version in (run.manifest.get("versions") or {}).items():
            found.setdefault(str(package), {})[str(version)] = None
    if not found:
        return []
    return [tuple(found), tuple(" and ".join(versions) for versions in found.values())]


def _plain(title: str, table: list[Sequence[str]]) -> str:
    if not table:
        return ""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table[0])
    body = "".join(f'<tr class="plain">{"".join(f"<td>{_text(cell)}</td>" for cell in row)}</tr>' for row in table[1:])
    return (
        f'<h3 class="spaced">{_text(title)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{_text(title)}"><table class="plain"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} – {high:,}"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
