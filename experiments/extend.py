"""Find a rotary schedule by which a trained run reads further than it was trained to, without training it.

python -m experiments.extend runs/quickstart/rope --to 8x
python -m experiments.extend runs/quickstart/needle-rope --to 4x --steps 100 --to-file extension.json
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from experiments import cli, trained
from posjax import runs, workfolder
from posjax.data import Documents, Task
from posjax.encodings.published_writing import to_rope_parameters
from posjax.errors import InputError
from posjax.files import named, read_json, write_json
from posjax.results import Measurement, Measurements
from posjax.runs import Run
from posjax.search import CheckedSchedule, Comparison, Found, GradientSearch
from posjax.search.formulas import formula
from posjax.search.model import rope_of
from posjax.search.rows import On, kind
from posjax.stages import own_text

NAMES = {"raw": "as trained", "linear": "linear (PI)", "ntk": "NTK", "yarn": "YaRN", "found": "found"}


@dataclass(frozen=True)
class ExtendOptions:
    """Find a schedule for a trained run at a multiple of its length, and compare it with those by formula."""

    run: Annotated[Path, tyro.conf.Positional]
    """The folder of a trained run, such as runs/quickstart/rope."""
    to: str
    """The multiple of the trained length to reach, such as 8x."""
    steps: int = 60
    """Steps of the search."""
    on: On | None = None
    """What the loss is of: text, or needles; that of a task's answers, or of the text, unless given."""
    windows: int = 64
    """How many windows or questions the comparison is on."""
    to_file: Path | None = None
    """Where the result is written; extension.json in the run's folder unless given."""


def command(arguments: Sequence[str]) -> None:
    remedy = "name the folder of one trained run"
    options = cli.options(ExtendOptions, "experiments.extend", arguments, remedy)
    multiple = _multiple(options.to)
    if options.windows < 1:
        raise InputError(f"--windows {options.windows}: needed is 1 or more")
    path = options.run / "extension.json"
    # Before the search, which may take minutes.
    if options.to_file is not None:
        path = named(options.to_file)
    # Both sides of a typing error in one line, before a file is read.
    search = GradientSearch(steps=options.steps, on=options.on)
    run = trained.run_of(options.run)
    # What costs nothing first: the text and the weights may take a while.
    search.check(run.model, run.train.length, multiple)
    data = _data(run)
    _hold_text(options.run, data)
    on = kind(data, options.on)
    told = {"run": run.name, "to": multiple, "on": on}
    _refuse_another(path, told)
    console = cli.console(cli.Product)
    model = runs.restore(run, options.run, cli.teller(console))
    # Drawn before the search, which may take minutes: a text too short is told at once.
    compared = Comparison.draw(model, data, multiple, options.windows, run.seed)
    began = time.perf_counter()

    def say(step: CheckedSchedule) -> None:
        console.print(f"step {step.number}: {step.loss:.4f}  {type(step.schedule).__name__}", highlight=False)

    found = search.find(model, data, multiple, run.seed, say)
    seconds = time.perf_counter() - began
    schedules = {name: formula(name, float(multiple), model.trained_length) for name in ("linear", "ntk", "yarn")}
    table = Measurements.of(compared.of(multiple, {**schedules, "found": found.schedule}))
    # The rotation alone: what it is chained with stays as it is in the config.
    extended = replace(rope_of(run.model), schedule=found.schedule)
    _print(console, table, found, f"{run.name}, {multiple} times {model.trained_length} tokens, on {on}")
    console.print(f"\n{extended!r}", markup=False, highlight=False, soft_wrap=True)
    # Last, so that a file which is there is of a search that ended.
    write_json(path, {**told, "seconds": seconds, **_kept(extended, found, table)})
    console.print(f"\n{path}", markup=False, highlight=False, soft_wrap=True)


def _data(run: Run) -> Documents | Task:
    """The text of a run, read, or its task. Errors: `InputError` for a run of something else than the next token."""
    if isinstance(run.data, Task):
        return run.data
    read = run.data.load()
    if not isinstance(read, Documents):
        raise InputError(f"{run.name} reads {type(run.data).__name__}: needed is a run of a text or of a task")
    return read


def _hold_text(folder: Path, data: Documents | Task) -> None:
    """Errors: `InputError` for a text that is another than when the run was trained, as its evaluation has it."""
    # A task is a part of the config, which the folder itself has told.
    if isinstance(data, Task):
        return
    was = own_text(workfolder.read(folder)["corpus"])
    if data.fingerprint != was:
        raise InputError(
            f"{folder} was trained on a text of fingerprint {was}, and it is {data.fingerprint} now: restore the text"
        )


def _refuse_another(path: Path, told: dict[str, Any]) -> None:
    """Errors: `InputError` where the file holds what was found for another run, multiple or loss."""
    if not path.exists():
        return
    there = read_json(path)
    for name, asked in told.items():
        if there.get(name) != asked:
            raise InputError(
                f"{path} holds what was found with {name} {there.get(name)!r}, and this is {asked!r}: name another "
                "file with --to-file, or take that away"
            )


def _multiple(text: str) -> int:
    """The number of "8x" or "8". Errors: `InputError` for anything else, and what is not past the trained length."""
    read = re.fullmatch(r"(\d{1,6})x?", text)
    if not read or int(read[1]) < 2:
        raise InputError(f"--to {text}: needed is a whole multiple of the trained length, 2x or more, such as 8x")
    return int(read[1])


def _print(console: Console, table: Measurements, found: Found, title: str) -> None:
    metric, head = "loss_ratio", "by its loss at 1x"
    # A task has no target that stays the same at another length, and right answers instead.
    if not table.select(metric):
        metric, head = "accuracy", "right answers"
    shown = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for column in ("schedule", "loss", head, "by YaRN's loss"):
        shown.add_column(column, justify="left" if column == "schedule" else "right")
    for variant in table.distinct("variant"):
        loss = table.one("loss", variant=variant)
        cells = [table.one(name, variant=variant) for name in (metric, "ratio_to_yarn")]
        shown.add_row(NAMES[str(variant)], f"{loss.value:.3f}", *map(_with_interval, cells))
    console.print()
    console.print(shown)
    console.print(_verdict(table.one("ratio_to_yarn", variant="found"), found), highlight=False)


def _with_interval(row: Measurement) -> str:
    # NaN, which is not equal to itself: no interval was taken.
    if row.low != row.low:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _verdict(row: Measurement, found: Found) -> str:
    """What the comparison says of what was found, on rows that the search did not read."""
    # The start is a formula, about which the table says all there is.
    if found.best.number == 0:
        return f"No step was better than its start, {NAMES.get(found.start, found.start)}: that is what is found."
    if row.high < 1:
        return f"Found at step {found.best.number}: better than YaRN."
    if row.low > 1:
        return f"Found at step {found.best.number}: worse than YaRN here; take YaRN, or more --steps."
    return f"Found at step {found.best.number}: these windows do not tell it from YaRN; give more --windows."


def _kept(extended: Any, found: Found, table: Measurements) -> dict[str, Any]:
    """What the file says of the result: the value, the same as published models spell it, and how it was come by."""
    return {
        "encoding": repr(extended),
        "rope_parameters": to_rope_parameters(extended),
        "start": found.start,
        "checked": [{"step": step.number, "loss": step.loss} for step in found.checked],
        "measurements": table.tree(),
    }


if __name__ == "__main__":
    cli.program(command)
