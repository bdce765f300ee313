"""Where the runs of some folders stand, from their files alone: nothing is written, and no process is disturbed.

python -m experiments.status runs/quickstart [FOLDER ...]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.table import Table

from experiments import cli, work_folders
from posjax import lines, workfolder
from posjax.errors import InputError
from posjax.owners import Owner, owner

RECENT = 20
"""Of how many of the last steps the time of a step is the mean: the first ones compiled."""


@dataclass(frozen=True)
class StatusOptions:
    """Show where the runs of some folders stand."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders that experiments.run or experiments.train writes, such as runs/quickstart; or those of single runs."""


@dataclass(frozen=True)
class RunStatus:
    """Where one run stands; `None` for what its files do not tell."""

    name: str
    state: str
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    speed: float | None = None
    left: float | None = None
    age: float | None = None


def command(arguments: Sequence[str]) -> None:
    remedy = "the arguments are folders, such as runs/quickstart"
    options = cli.options(StatusOptions, "experiments.status", arguments, remedy)
    if not options.folders:
        raise InputError(f"no folder is named: {remedy}")
    # All of them first: a folder that is none would else be told below a table that scrolls away.
    every = [(folder, _runs_of(folder)) for folder in options.folders]
    console = cli.console(cli.Product)
    for folder, runs in every:
        shown = [status(run) for run in runs]
        console.print(f"{folder}: {_counted(shown)}", markup=False, highlight=False, soft_wrap=True)
        console.print(_table(shown))
        if any(run.state.endswith("?") for run in shown):
            console.print("?: its process is of another machine or container, and not to be seen from here.")


def _runs_of(folder: Path) -> list[Path]:
    """The folders of the runs of a work folder, in the order of its config, those not begun too; or of one run."""
    if (folder / "run.json").is_file():
        return [folder]
    names = work_folders.run_names(folder)
    if not names:
        raise InputError(f"{folder} holds no runs: name a folder that experiments.run writes, such as runs/quickstart")
    return [folder / name for name in names]


def status(folder: Path) -> RunStatus:
    """Where the run of a folder stands."""
    # Results without it are no run that was never begun: it was taken away since.
    there = [name for name in ("run.json", "results.json", "diverged.json") if (folder / name).is_file()]
    if not there:
        return RunStatus(folder.name, "never begun")
    try:
        manifest = workfolder.read(folder)
        parts = [(path, lines.read(path, training)) for path, training in lines.sources(folder, manifest)]
    except InputError:
        # The others are shown all the same; the command that reads it says what to do.
        return RunStatus(folder.name, "damaged")
    written = lines.through(part for _, part in parts)
    steps = _steps(manifest, [part for _, part in parts])
    last: dict[str, Any] = {"step": 0}
    age = None
    if written:
        last = written[-1]
        # A clock may have been set back since.
        age = max(time.time() - max(path.stat().st_mtime for path, part in parts if part.steps), 0.0)
    state = _state(folder, last["step"], steps, _are_kept(*parts[-1]))
    left = None
    # Of a run that will take no further step nothing is left.
    if steps is not None and last["step"] < steps and state != "diverged":
        left = _left(written, steps - last["step"])
    return RunStatus(
        folder.name, state, last["step"], steps, last.get("loss"), last.get("tokens_per_second"), left, age
    )


def _steps(manifest: dict[str, Any], parts: Sequence[lines.Lines]) -> int | None:
    """How many steps a run takes, fewer if it stopped early; `None` for a published model, which takes none."""
    if "stages" in manifest:
        return sum(part.end(stage["steps"]) for part, stage in zip(parts, manifest["stages"], strict=True))
    found: Any = manifest
    for name in ("config_tree", "train", "steps"):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    if found is None:
        return None
    return parts[0].end(found)


def _are_kept(path: Path, part: lines.Lines) -> bool:
    """Whether the checkpoint of the last line of a training is there."""
    if not part.steps:
        return False
    return (path.parent / "checkpoints" / str(part.steps[-1]["step"])).is_dir()


def _state(folder: Path, step: int, steps: int | None, are_kept: bool) -> str:
    # Ends first: a process that goes on to the next run may still own the folder of one that has ended.
    if workfolder.finished(folder):
        return "evaluated"
    if (folder / "diverged.json").is_file():
        return "diverged"
    is_trained = steps is None or step >= steps
    who = owner(folder)
    if who is not None and who.is_alive is not False:
        return _busy(who, is_trained)
    # Lines alone are no model: without its last checkpoint the same command trains the rest again.
    if steps is not None and is_trained and are_kept:
        return "trained"
    return "interrupted"


def _busy(who: Owner, is_trained: bool) -> str:
    doing = "training"
    if is_trained:
        doing = "evaluating"
    if who.is_alive is None:
        return f"{doing} on {who.machine}?"
    return f"{doing}, process {who.process}"


def _left(written: Sequence[dict[str, Any]], steps: int) -> float | None:
    """How many seconds some further steps take, by the last ones."""
    seconds = [line["seconds"] for line in written[-RECENT:] if "seconds" in line]
    if not seconds:
        return None
    return steps * sum(seconds) / len(seconds)


def _counted(shown: Sequence[RunStatus]) -> str:
    """How many runs there are in each state."""
    # Without the process or the machine, which are another for each.
    states = [run.state.partition(",")[0].partition(" on ")[0] for run in shown]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join(counts)


def _table(shown: Sequence[RunStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    # Folded and never cut: the end of a swept run's name is what tells it apart.
    table.add_column("run", overflow="fold")
    table.add_column("state", overflow="fold")
    for column in ("step", "loss", "tok/s", "left", "last line"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in shown:
        step = ""
        if run.steps is not None:
            step = f"{run.step}/{run.steps}"
        numbers = (step, _number(run.loss, ".3f"), _number(run.speed, ",.0f"))
        table.add_row(run.name, run.state, *numbers, duration(run.left), duration(run.age))
    return table


def _number(number: float | None, how: str) -> str:
    if number is None:
        return ""
    return format(number, how)


UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def duration(seconds: float | None) -> str:
    """A time in the largest unit of which there are two.

    >>> duration(90), duration(7300), duration(None)
    ('90 s', '2 h', '')
    """
    if seconds is None:
        return ""
    for size, unit in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    cli.program(command)
