"""What all commands share: a config file, typed overrides of its runs, and one clear line for each mistake."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from rich.console import Console

from experiments import sweeps
from experiments.choices import with_chosen
from experiments.ends import main as main, program as program, silence
from experiments.loading import load
from experiments.named_values import NAMED
from experiments.option_names import option_names
from posjax.errors import InputError, StorageError
from posjax.files import require_folder
from posjax.runs import Experiment, Run
from posjax.training import TrainingProgress

Options = TypeVar("Options", bound="Common")
Chosen = TypeVar("Chosen")


@dataclass(frozen=True)
class Common:
    """The options of every command."""

    config: Annotated[Path, tyro.conf.Positional]
    """A Python file whose experiment() returns a posjax.runs.Experiment."""
    work: Path | None = None
    """The folder of the results; runs/NAME of the config unless given."""
    only: tuple[str, ...] = ()
    """Names of runs: only these, of a sweep all or one."""
    sweep: tyro.conf.UseAppendAction[tuple[tuple[str, str], ...]] = ()
    """A field of the runs and values for it, such as train.optimizer.learning-rate 1e-3,3e-3; once for each field."""
    seeds: str | None = None
    """Seeds that every run is repeated with, such as 0,1,2."""

    @property
    def folder(self) -> Path:
        if self.work is None:
            return Path("runs", self.config.stem)
        return self.work


@dataclass(frozen=True)
class Request:
    """A command line, read: the experiment with its overrides, cut to the runs chosen of `every` one, and its text.

    `written` are the runs as the config has them, without overrides.
    """

    experiment: Experiment
    overrides: tuple[str, ...]
    source: str
    every: tuple[Run, ...]
    written: tuple[Run, ...]

    def folder(self, options: Common, run: Run) -> Path:
        return options.folder / run.name


def read(kind: type[Options], program: str, arguments: Sequence[str]) -> tuple[Options, Request]:
    """The command's own options and the config with its options and overrides. Errors: `InputError`."""
    if {"-h", "--help"} & set(arguments):
        _help(kind, program, [a for a in arguments if a not in ("-h", "--help")])
    options, everything = parse(kind, program, arguments)
    if options.work is not None:
        require_folder(options.work, "choose another folder with --work")
    rest = everything
    kinds: list[type] = [kind]

    # What the config takes for itself is no field of a run: the rest is what runs may know.
    def of_config(wanted: type) -> Any:
        nonlocal rest
        kinds.append(wanted)
        chosen, rest = parse(wanted, program, everything)
        return chosen

    experiment, source = load(options.config, of_config)
    axes = sweeps.axes(options.sweep, options.seeds)
    sweeps.require_free(axes, rest)

    def override(run: Run, words: Sequence[str]) -> tuple[Run, tuple[str, ...]]:
        return _override(run, program, [*rest, *words])

    every: dict[Run, str] = {}
    # Runs may have other encodings, and so other options: wrong is what none of them knows.
    unknown_to_all = None
    for run in experiment.runs:
        made, unknown = sweeps.expanded(run, axes, override)
        every |= dict.fromkeys(made, run.name)
        unknown_to_all = sweeps.in_both(unknown_to_all, unknown)
    asked = [*rest, *(axis.option for axis in axes)]
    _refuse_unknown(kinds, experiment.runs, unknown_to_all or set(), asked)
    cut = replace(experiment, runs=tuple(_choose(every, options.only)))
    return options, Request(cut, tuple(everything), source, tuple(every), experiment.runs)


def parse(kind: Any, program: str, arguments: Sequence[str], default: Any = None) -> tuple[Any, list[str]]:
    """One dataclass from a command line, and what it does not know. Errors: `InputError` in one line."""
    said = io.StringIO()
    settings: dict[str, Any] = {
        "prog": f"python -m {program}",
        "args": list(arguments),
        # The rest is for somebody else: the command's own options come first, then those of each run.
        "return_unknown_args": True,
        "add_help": False,
        "config": (tyro.conf.AvoidSubcommands,),
        "registry": NAMED,
    }
    if default is not None:
        settings["default"] = default
    try:
        # tyro draws a box of many lines around its one sentence.
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return tyro.cli(kind, **settings)
    except SystemExit as stop:
        raise InputError(f"{_reason(said.getvalue())}; see python -m {program} --help") from stop


def options(kind: type[Chosen], program: str, arguments: Sequence[str], remedy: str = "") -> Chosen:
    """The options of a command that takes nothing else, read from its command line; or its help, and the end.

    `remedy`: what the refusal of an unknown option says after it, where that is more than "see --help". Errors:
    `InputError`.
    """
    if {"-h", "--help"} & set(arguments):
        # Help for all of the command, whatever else was typed: what is wrong with it may be why help is asked for.
        tyro.cli(kind, prog=f"python -m {program}", args=["--help"])
    chosen, unknown = parse(kind, program, arguments)
    if unknown:
        advice = f"; see python -m {program} --help"
        if remedy:
            advice = f": {remedy}"
        raise InputError(f"unknown option {unknown[0]}{advice}")
    return chosen


def _reason(box: str) -> str:
    """The sentence inside the box that tyro draws: what stands between its title and the next rule."""
    lines = [line.strip("│╭╮╰╯─- ") for line in box.strip().splitlines()][1:]
    while lines and not lines[0]:
        lines.pop(0)
    if "" in lines:
        lines = lines[: lines.index("")]
    return " ".join(lines).rstrip(".")


def _override(run: Run, program: str, arguments: Sequence[str]) -> tuple[Run, tuple[str, ...]]:
    # Which kinds first: their fields are options of what was chosen.
    chosen, rest = with_chosen(run, arguments)
    changed, unknown = parse(Run, program, rest, default=chosen)
    # One value for all runs, where each needs its own: two would share a folder.
    for field in ("name", "label"):
        if getattr(changed, field) != getattr(run, field):
            raise InputError(
                f"--{field} cannot be given: every run has its own in the config; choose runs with "
                "--only, and another folder with --work"
            )
    return changed, tuple(unknown)


def _refuse_unknown(kinds: Sequence[type], runs: Sequence[Run], unknown: set[str], arguments: Sequence[str]) -> None:
    """Errors: `InputError` for an option that no run knows, with the nearest name."""
    named = [a for a in arguments if a in unknown and a.startswith("--")]
    if not named and unknown:
        raise InputError(f"{sorted(unknown)[0]!r} is not an option: options begin with --, such as --train.steps 50")
    for option in named:
        known: set[str] = set()
        for one in (*kinds, *runs):
            known.update(option_names(one))
        near = difflib.get_close_matches(option.split("=")[0].replace("_", "-"), sorted(known), n=1)
        nearest = "".join(f": the nearest is {name}" for name in near)
        raise InputError(f"unknown option {option}{nearest}; --help lists them all")


def _choose(runs: Mapping[Run, str], only: tuple[str, ...]) -> list[Run]:
    """The runs that are named, of which each is told with its name in the config, where a sweep has made many of it."""
    names = list(dict.fromkeys([*runs.values(), *(run.name for run in runs)]))
    # Each name given must be one: a run that is left out by a slip would be missed in a table only.
    for name in only:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise InputError(f"there is no run {name!r}: the nearest is {near!r}, of {', '.join(names)}")
    return [run for run, of in runs.items() if not only or {run.name, of} & set(only)]


def _help(kind: type[Common], program: str, arguments: list[str]) -> NoReturn:
    """The command's options; and, where a config is named, every field of its first run."""
    with contextlib.suppress(SystemExit):
        tyro.cli(kind, prog=f"python -m {program}", args=["--help"])
    configs = [Path(a) for a in arguments if a.endswith(".py")]

    def of_config(wanted: type) -> Any:
        print(f"\nThe options of {configs[0]} itself.\n")
        with contextlib.suppress(SystemExit):
            tyro.cli(wanted, prog=f"python -m {program} {configs[0]}", args=["--help"])
        chosen, _ = parse(wanted, program, parse(kind, program, arguments)[1])
        return chosen

    if configs:
        print(f"\nEvery field of the runs in {configs[0]} can be given too; here those of the first run.\n")
        experiment, _ = load(configs[0], of_config)
        prog = f"python -m {program} {configs[0]}"
        # Not a choice between kinds of encodings: what a run has is what can be changed.
        flat = (tyro.conf.AvoidSubcommands,)
        with contextlib.suppress(SystemExit):
            tyro.cli(Run, prog=prog, args=["--help"], default=experiment.runs[0], config=flat, registry=NAMED)
    else:
        print("Name a config before --help to see every field of its runs, which can be given too: --train.steps 50")
    raise SystemExit(0)


def teller(console: Console) -> Callable[[str], None]:
    """What tells notes on this console, a line each, as they are."""
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress_from(run: Run, console: Console) -> Callable[[int], TrainingProgress]:
    """What shows a run's training on this console."""
    return lambda start: TrainingProgress(run.name, run.train.steps, start, console)


class Steady(Console):
    """A console whose reader may go away, as `| head` does, or whose file may fill a disk: then it is silent, and the
    work goes on."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        silence(sys.stdout)


class Product(Steady):
    """A console whose text is what the command is for: a disk that does not take it is an error."""

    def _check_buffer(self) -> None:
        try:
            Console._check_buffer(self)
        except BrokenPipeError:  # A reader such as head has enough.
            self.on_broken_pipe()
        except OSError as error:
            raise StorageError(
                f"cannot write to standard output ({error.strerror or error}): make room there and give the same "
                "command again"
            ) from error


def console(kind: type[Steady] = Steady) -> Console:
    """The terminal, 80 columns wide where it does not say how wide it is."""
    told = os.environ.get("COLUMNS", "80")
    # Of a width of 0 or a billion rich makes nothing, or a line that takes all memory.
    if not (told.isdecimal() and len(told) < 5 and int(told) > 0):
        os.environ["COLUMNS"] = "80"
    return kind()
