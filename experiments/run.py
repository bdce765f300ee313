"""Train, evaluate and report every run of a config; what is done already is not done again.

python -m experiments.run configs/quickstart.py [--work DIR] [--list] [--smoke] [--only NAME ...] [--train.steps N]
python -m experiments.run configs/quickstart.py --sweep train.optimizer.learning-rate 1e-3,3e-3 --seeds 0,1,2 [--list]
python -m experiments.run configs/quickstart.py --distributed
python -m experiments.run configs/quickstart.py --coordinator HOST:PORT --processes 4 --process 0
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from experiments import cli, sweeps, work_folders
from experiments.processes import together
from posjax import report, runs, workfolder
from posjax.data import Documents, Loaded, Task
from posjax.encodings.traits import advice
from posjax.errors import Diverged, InputError
from posjax.files import identity_of, owned, probe, require_unmoved, write_json
from posjax.interop import Pretrained
from posjax.report.load import copied
from posjax.runs import Experiment, Run
from posjax.stages import Stages, TrainingPart, Untrained, own_text
from posjax.training import Train, launch, speed
from posjax.training.paths import expect_plain


@dataclass(frozen=True)
class RunOptions(cli.Common):
    """Train, evaluate and report. Safe to stop and to start again: it goes on where it was."""

    list: bool = False
    """Show what would run and what it costs, and end; of a sweep the commands, one for each run."""
    smoke: bool = False
    """Two steps of everything, in a temporary folder: does this config work here?"""


def command(arguments: Sequence[str]) -> None:
    with together(arguments) as rest:
        _command(rest)


def _command(arguments: Sequence[str]) -> None:
    options, request = cli.read(RunOptions, "experiments.run", arguments)
    console = cli.console()
    # Of many processes one speaks.
    console.quiet = not launch.first()
    if options.list and (options.sweep or options.seeds is not None):
        show_commands(request, options, cli.console(cli.Product))
    elif options.list:
        show_list(request, console)
    elif options.smoke:
        if jax.process_count() > 1:
            raise InputError("--smoke works in a temporary folder of one process: leave it, or start one alone")
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            small = replace(request.experiment, runs=tuple(map(smaller, request.experiment.runs)))
            elsewhere = replace(options, work=Path(folder))
            execute(replace(request, experiment=small), elsewhere, console, keep=False)
            console.print(f"smoke: {len(small.runs)} runs worked in {time.perf_counter() - began:.0f} s")
    else:
        execute(request, options, console)


def execute(request: cli.Request, options: cli.Common, console: Console, keep: bool = True) -> None:
    """Every run in turn, then the report, whose place is told where it stays.

    Errors: `Diverged`, after everything else is done, where a run has.
    """
    # Each text is read once, for all runs that read it: a corpus of many files takes seconds, and might change between.
    documents: dict[Any, Loaded] = {}
    for run in request.experiment.runs:
        for data in {part.data: None for part in run.parts()} | {run.data: None}:
            if not isinstance(data, Task) and data not in documents:
                documents[data] = data.load()
    # All before the first is trained: a mistake in the last run would else show after hours.
    for run in request.experiment.runs:
        runs.check(run, documents)
    if launch.first():
        # The report comes last, and what it would replace is told now.
        report.require_ours(options.folder)
        write_experiment(request, options)
    launch.meet("what was asked is written")
    work = identity_of(options.folder)
    say = cli.teller(console)
    parts = [part for run in request.experiment.runs for part in run.parts()]
    trained_on = {part.data for part in parts if isinstance(part.train, Train)}
    for data, text in documents.items():
        for line in _told_of(text, data in trained_on):
            say(line)
    # One that diverges is told of at the end: the others answer their part of the question without it.
    diverged = []
    for number, run in enumerate(request.experiment.runs, 1):
        title = f"[{number}/{len(request.experiment.runs)}] {run.name}"
        require_unmoved(options.folder, work)
        try:
            _one(run, request.folder(options, run), title, console, documents)
        except Diverged as why:
            say(f"{title}: diverged, {why}")
            diverged.append(run.name)
    require_unmoved(options.folder, work)
    if launch.first():
        finish(options.folder, console, keep)
    if diverged:
        raise Diverged(
            f"of {len(request.experiment.runs)} runs {len(diverged)} diverged, {', '.join(diverged)}: the "
            "others are done, and the report says why"
        )


def _told_of(text: Loaded, is_trained_on: bool) -> list[str]:
    """What is told of a corpus before it is used."""
    told = text.describe()
    if not isinstance(text, Documents):
        sizes = {name.replace("_", " "): size for name, size in told.items() if isinstance(size, int)}
        amounts = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
        return [f"data: {told['name']}, {amounts}, fingerprint {told['fingerprint']}"]
    what = f"{told['validation_bytes']:,} bytes to measure on"
    if is_trained_on:
        what = f"{told['train_bytes']:,} bytes to train on and {told['validation_bytes']:,} held out"
    lines = [f"corpus: {told['name']}, {what}, fingerprint {told['fingerprint']}"]
    if text.encoded is not None:
        lines.append(
            f"corpus: {told['train_tokens']:,} and {told['validation_tokens']:,} tokens of {told['tokenizer']}, which "
            f"has {told['vocabulary']:,}"
        )
    return lines


def _one(run: Run, folder: Path, title: str, console: Console, documents: Mapping[Any, Loaded]) -> None:
    """Trains and evaluates one run, unless that is done, as the one that writes to its folder."""
    say = cli.teller(console)
    # The first may still be evaluating the run before, and what it finishes all must see alike.
    launch.meet(f"before {run.name}")
    if (folder / "run.json").exists() and workfolder.finished(folder):
        workfolder.hold(run, folder)
        say(f"{title}: done before{_of_another_text(folder, documents.get(run.data))}")
        return
    if (folder / "run.json").exists():
        workfolder.hold(run, folder)
        workfolder.require_undiverged(folder)
    launch.meet(f"{run.name} is looked at")
    with launch.owned_by_first(folder):
        if isinstance(run.train, Pretrained):
            say(f"{title}: reading {run.train.folder}")
        elif isinstance(run.train, Untrained):
            say(f"{title}: initial weights")
        else:
            say(f"{title}: training {run.train.steps} steps")
        for sentence in advice(run.model.encoding, run.train.length):
            say(f"note: {sentence}")
        material = runs.Material.open(run, documents)
        trained_model = runs.train(run, folder, cli.progress_from(run, console), material, say)
        if not launch.first():
            return
        say(f"{title}: evaluating")
        runs.evaluate(run, folder, trained_model, material, say=say)


def _of_another_text(folder: Path, documents: Loaded | None) -> str:
    """What is told of a finished run whose text has changed since."""
    was = own_text(workfolder.read(folder)["corpus"])
    if documents is None or documents.fingerprint == was:
        return ""
    return f", on a text of fingerprint {was}; the text is {documents.fingerprint} now, and losses do not compare"


def finish(folders: Path | Sequence[Path], console: Console, keep: bool = True, to: Path | None = None) -> None:
    """The table and the page of a folder of finished runs, or of several. Errors: `InputError` for results of another
    run."""
    if isinstance(folders, Path):
        folders = [folders]
    for path in (path for folder in folders for path in folder.glob("*/run.json")):
        # What is a copy of another run is left out of the report.
        if path.is_file() and not copied(path.parent):
            workfolder.check_results(path.parent)
    written = report.write(folders, to)
    report.show(folders, console)
    for path in written:
        if keep and path.suffix == ".html":
            console.print(f"\nThe report: {path}", markup=False, highlight=False, soft_wrap=True)


def write_experiment(request: cli.Request, options: cli.Common, to: Path | None = None) -> None:
    """What was asked, beside the runs that answer it, or in another folder."""
    target = options.folder
    if to is not None:
        target = to
    for run in request.experiment.runs:
        _refuse_text_in(target, run)
        # What is measured alone keeps no checkpoints.
        if to is None and run.trains and not workfolder.finished(target / run.name):
            expect_plain(target)
    probe(target)
    for run in request.experiment.runs:  # Before anything is written: a folder of another config stays as it is.
        if (request.folder(options, run) / "run.json").exists():
            workfolder.hold(run, request.folder(options, run))
    _refuse_another_question(target, options.config.stem, request)
    with contextlib.ExitStack() as held:
        # As the one whom every run that is still to do belongs to: else what another process does would be told wrong.
        for run in request.experiment.runs:
            if not workfolder.finished(target / run.name):
                held.enter_context(owned(target / run.name))
        # Another command may fill this folder with other runs at the same time, and takes its turn.
        held.enter_context(owned(target, patience=10.0))
        _write_experiment(options, request, target)


def _refuse_text_in(target: Path, run: Run) -> None:
    """Errors: `InputError` where a run's text lies where its own files will, which would become text themselves."""
    written = [target, target / "figures", target / run.name]
    for path in getattr(run.data, "paths", ()):
        for folder in written:
            # What lies further down is passed over where posjax wrote it, as `Text` says.
            if Path(path).resolve() == folder.resolve():
                raise InputError(
                    f"{folder} is where the text of {run.name} lies, and what is written there would become text: "
                    "choose another folder with --work"
                )


def _write_experiment(options: cli.Common, request: cli.Request, target: Path) -> None:
    experiment = request.experiment
    command_now = spelled(options, request)
    by_run = {}
    texts: dict[str, str] = {}
    # None yet, in a folder that begins.
    with contextlib.suppress(FileNotFoundError):
        kept = work_folders.asked(target)
        # Each run has its own: a folder may be filled by several commands, each with other overrides.
        by_run = _of_runs_there(kept["commands"], target, request)
        texts = _texts_before(kept, target, request)
    for run in experiment.runs:
        by_run[run.name] = command_now
    asked = {
        "name": options.config.stem,
        "title": experiment.title,
        "question": experiment.question,
        "paper": experiment.paper,
        "command": command_now,
        "commands": by_run,
        "config": request.source,
        "configs": texts,
        "runs": [run.name for run in request.every],
        "created": time.strftime("%Y-%m-%d"),
    }
    write_json(target / "experiment.json", asked)


def _of_runs_there(told: Mapping[str, str], target: Path, request: cli.Request) -> dict[str, str]:
    """What is told of each run that is there, or whose turn may come: of others, nobody asks any more."""
    known = {run.name for run in request.every}
    return {name: text for name, text in told.items() if name in known or (target / name / "run.json").exists()}


def _texts_before(kept: Mapping[str, Any], target: Path, request: cli.Request) -> dict[str, str]:
    """The texts that runs of this folder were asked for in which the config of now has no more, by the runs' names."""
    names = {run.name for run in request.every}
    earlier = {}
    if kept["config"] is not None:
        earlier = dict.fromkeys(kept["runs"], kept["config"])
    texts = {name: text for name, text in {**earlier, **kept["configs"]}.items() if name not in names}
    return _of_runs_there(texts, target, request)


def _refuse_another_question(target: Path, stem: str, request: cli.Request) -> None:
    """Errors: `InputError` where the folder holds runs of another config, whose question and text would be lost."""
    with contextlib.suppress(FileNotFoundError):
        kept = work_folders.asked(target)
        known = {run.name for run in request.every}
        of_it = [name for name in kept["runs"] if name not in known]
        there = [name for name in of_it if (target / name / "run.json").exists()]
        asked = {"title": request.experiment.title, "question": request.experiment.question}
        # Folders of another hand may not say what was asked.
        changed = [name for name, text in asked.items() if kept[name] not in (None, text)]
        if there and kept["name"] != stem:
            raise InputError(
                f"{target} holds runs of the config {kept['name']} ({', '.join(there)}), and tells its question: "
                "choose another folder with --work"
            )
        # Two configs of one name in two folders write to one by default.
        if there and changed:
            name = changed[0]
            raise InputError(
                f"{target} holds runs of another config named {stem} ({', '.join(there)}): its {name} is "
                f"{kept[name]!r} there and {asked[name]!r} here; choose another folder with --work"
            )


def spelled(options: cli.Common, request: cli.Request) -> str:
    """The command that does this again, for a shell; not where to, since --work changes no result."""
    only: tuple[str, ...] = ()
    if options.only:
        only = ("--only", *options.only)
    swept = sweeps.spelled(options.sweep, options.seeds)
    return shlex.join(["python", "-m", "experiments.run", str(options.config), *only, *swept, *request.overrides])


def show_commands(request: cli.Request, options: RunOptions, console: Console) -> None:
    """One command for each run, a line each, which a cluster can run apart: together they fill the same folder."""
    for run in request.experiment.runs:
        # With the whole sweep, from which the name of the run, and so its folder, follows.
        line = spelled(replace(options, only=(run.name,)), request)
        if options.work is not None:
            line += f" --work {shlex.quote(str(options.work))}"
        cli.teller(console)(line)


def smaller(run: Run) -> Run:
    """The run at two steps, with everything that it would do."""
    evaluations = tuple(evaluation.smaller() for evaluation in run.evaluations)
    return replace(run, train=_smaller(run.train), evaluation=evaluations)


def _smaller(train: Train | Pretrained | Stages | Untrained) -> Any:
    if isinstance(train, Stages):
        return Stages(tuple(replace(stage, train=_smaller(stage.train)) for stage in train.stages))
    if not isinstance(train, Train):
        return train
    stop = train.stop
    if stop is not None:
        stop = replace(stop, every=1, windows=2)
    return replace(train, steps=2, checkpoint_every=1, stop=stop)


def show_list(request: cli.Request, console: Console) -> None:
    """What a config runs, and its size in tokens and in floating-point operations."""
    experiment: Experiment = request.experiment
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run")
    for column in ("parameters", "steps", "tokens", "train TFLOP"):
        table.add_column(column, justify="right")
    total = 0.0
    for run in experiment.runs:
        total += work(run)
        sizes = (f"{parameters(run):,}", f"{run.train.steps:,}", f"{tokens(run):,}")
        table.add_row(run.name, *sizes, f"{work(run):.3g}")
    console.print(f"{experiment.title}: {experiment.question}", highlight=False)
    console.print(table)
    spent = f"{total:.3g} TFLOP of training; evaluation adds about as much time."
    # Published models alone: what training would cost is no measure of the time.
    if total == 0:
        spent = "none of which trains here; evaluation is all that takes time."
    console.print(f"{len(experiment.runs)} runs, {spent}", highlight=False)
    lines = [line.strip() for line in request.source.splitlines()]
    costs = [line for line in lines if line.startswith("Costs")]
    # What a config says of its own cost is of the config as it is written.
    if costs and experiment.runs != request.written:
        console.print(
            f"This command changes or leaves out runs. The config as it is written, {len(request.written)} "
            f"runs and {sum(map(work, request.written)):.3g} TFLOP of training, says of itself:",
            highlight=False,
        )
    for line in costs[:1]:
        console.print(line, highlight=False)


def tokens(run: Run) -> int:
    """How many tokens a run trains on."""
    return run.train.tokens


def work(run: Run) -> float:
    """The floating-point operations of training, in units of 1e12."""
    return sum(_work(part) for part in run.parts())


def _work(part: TrainingPart) -> float:
    """Of one training."""
    return part.train.tokens * speed.operations(part.model, part.vocabulary, part.train.length) / 1e12


def parameters(run: Run) -> int:
    """The number of trained numbers, from shapes alone."""
    return sum(speed.trained(run.model, run.vocabulary).values())


if __name__ == "__main__":
    cli.program(command)
