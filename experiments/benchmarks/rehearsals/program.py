"""What steps of large models would need of TPUs that are not there.

    python -m experiments.benchmarks.rehearsals.program      minutes for each case on two CPU cores

Needs libtpu: pip install 'posjax[tpu]'. A case that is in the work folder already is not compiled again. Writes a page
into docs/benchmarks, and the numbers into experiments/results/benchmarks.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import cli
from experiments.benchmarks.common import pages
from experiments.benchmarks.common.tables import TextTable, seconds
from posjax.errors import InputError
from posjax.files import read_json

PROGRAM = "experiments.benchmarks.rehearsals.program"
CONFIG = "experiments/benchmarks/rehearsals/config.py"
# Vocabularies of Llama 2 and 3, since the text of the config is bytes.
CASES = {
    "1b-8k": ("--topology", "v5e:16x16", "--vocabulary", "32000"),
    "1b-32k": ("--topology", "v5e:16x16", "--vocabulary", "32000"),
    "8b-8k": ("--topology", "v5e:16x16", "--vocabulary", "128256"),
    "1b-128k-ring": ("--topology", "v5e:16x16", "--vocabulary", "32000"),
}
"""The runs of the config, with the options of `experiments.rehearse` for each."""


@dataclass(frozen=True)
class RehearsalsOptions:
    """Rehearse steps of large models, and write the page of them."""

    work: Path = Path("runs/rehearsals")
    """The folder of the single cases, each a file."""
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(RehearsalsOptions, PROGRAM, arguments)
    records = [_record(name, options.work) for name in CASES]
    content = {"command": pages.command_line(PROGRAM, arguments), "cases": records}
    pages.write(pages.folders(options.out), "rehearsals", content, page(records))
    print(table(records).columns())


def _record(name: str, work: Path) -> dict[str, Any]:
    """One case, compiled unless that is done. Errors: `InputError` where it cannot be."""
    kept = work / f"{name}.json"
    if not kept.exists():
        asked = ["--only", name, *CASES[name], "--work", str(work)]
        print(shlex.join(["python", "-m", "experiments.rehearse", CONFIG, *asked]), flush=True)
        # A process of its own: nothing of one compilation is in the memory of the next.
        done = subprocess.run([sys.executable, "-m", "experiments.rehearse", CONFIG, *asked])
        if done.returncode:
            raise InputError(f"the case {name} ended with exit code {done.returncode}, for the reason above")
    return read_json(kept)


def table(records: Sequence[dict[str, Any]]) -> TextTable:
    """All cases, a line each."""
    rows = []
    for record in records:
        times = record["times"]
        cells = [record["label"], record["topology"], _share(record)]
        cells += [seconds(times.get(name)) for name in ("compute", "memory", "links")]
        cells.append(max(times, key=lambda name: times[name], default="-"))
        rows.append(cells)
    return TextTable(("planned, not run", "TPU", "of memory", "compute", "memory", "links", "bound by"), rows)


def _share(record: dict[str, Any]) -> str:
    found = record["found"]
    memory = found["memory"]
    held = [memory[name] or 0.0 for name in ("parameters", "optimizer", "batch", "temporaries", "program")]
    share = (memory["refused"] or sum(held)) / found["chip"]["memory"]
    return f"{100 * share:.0f} %"


def page(records: Sequence[dict[str, Any]]) -> str:
    """The page, in Markdown."""
    parts = [HEAD.format(table=table(records).markdown(), command=f"python -m {PROGRAM}", config=CONFIG)]
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        told = "\n".join(record["lines"])
        parts.append(
            CASE.format(
                label=record["label"],
                topology=record["topology"],
                lines=told,
                date=record["date"],
                versions=versions,
                command=record["command"],
            )
        )
    return "\n".join(parts)


HEAD = """# Large models, rehearsed

Planned, not run: each step was compiled for TPUs that were not there, on a host without any.

{table}

Times are lower bounds: what a chip would need if one thing alone were waited for, at the peak of its table.
[Rehearsal](../rehearsal.md) says how each number is counted. All of this is made by

    {command}

from the runs of [`{config}`](../../{config}).
"""

CASE = """## {label} on {topology}

```
{lines}
```

Planned on {date} with {versions}, by

    {command}
"""


if __name__ == "__main__":
    cli.program(command)
