"""Compile the training steps of a config for devices that are not there, and tell what they would need.

python -m experiments.rehearse CONFIG --topology v5e:16x16 [--only NAME ...] [--train.devices.fsdp 16] [--work FOLDER]
"""

from __future__ import annotations

import datetime
import importlib.metadata
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments import cli
from posjax import rehearsal
from posjax.data import Mixture, Packed
from posjax.errors import InputError
from posjax.files import write_json
from posjax.rehearsal import Rehearsal
from posjax.runs import Run
from posjax.training import Train

VERSIONS = ("jax", "jaxlib", "libtpu", "posjax")


@dataclass(frozen=True)
class RehearseOptions(cli.Common):
    """Compile the training steps of a config for devices that are not there. Nothing is run, and no text is read."""

    topology: str = ""
    """The devices: v5e:16x16, v5p:4x4x8 or v6e:16x16, as libtpu knows them; or cpu:8, simulated ones of this CPU."""
    vocabulary: int | None = None
    """How many tokens there are, instead of what the run's data has."""
    work: Path | None = None
    """A folder that gets one file for each run, NAME.json, with all that was found; nothing is written without."""


def command(arguments: Sequence[str]) -> None:
    options, request = cli.read(RehearseOptions, "experiments.rehearse", arguments)
    if not options.topology:
        raise InputError("no topology is named: give --topology v5e:16x16, or another one; cpu:8 simulates")
    if options.vocabulary is not None and options.vocabulary < 1:
        raise InputError(f"--vocabulary is {options.vocabulary}: needed is 1 or more")
    runs = request.experiment.runs
    for run in runs:
        if not isinstance(run.train, Train):
            kind = type(run.train).__name__
            raise InputError(
                f"{run.name} is not one training: its train is a {kind}, needed is a Train; choose others with --only"
            )
    # Only now: what a config or an option has wrong is told without waiting for libtpu.
    devices = rehearsal.devices(options.topology)
    say = cli.teller(cli.console(cli.Product))
    for number, run in enumerate(runs):
        assert isinstance(run.train, Train)
        if number:
            say("")
        found = _one(run, options, devices)
        say(f"{run.name} on {options.topology}: planned, not run")
        for line in rehearsal.lines(found, run.train):
            say(line)
        if options.work is not None:
            write_json(options.work / f"{run.name}.json", _record(found, run, options, arguments))


def _one(run: Run, options: RehearseOptions, devices: list[Any]) -> Rehearsal:
    assert isinstance(run.train, Train)
    vocabulary = options.vocabulary
    if vocabulary is None:
        vocabulary = run.vocabulary
    try:
        return rehearsal.rehearse(run.train, run.model, vocabulary, devices, _is_packed(run.data))
    except InputError as why:
        raise InputError(f"{run.name}: {why}") from why


def _is_packed(data: Any) -> bool:
    """Whether rows hold several texts; of a mixture the parts are alike."""
    if isinstance(data, Mixture):
        return _is_packed(data.parts[0][0])
    return isinstance(data, Packed)


def _record(found: Rehearsal, run: Run, options: RehearseOptions, arguments: Sequence[str]) -> dict[str, Any]:
    assert isinstance(run.train, Train)
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "run": run.name,
        "label": run.label,
        "topology": options.topology,
        "date": datetime.date.today().isoformat(),
        "versions": versions,
        "command": shlex.join(["python", "-m", "experiments.rehearse", *arguments]),
        "lines": rehearsal.lines(found, run.train),
        "found": asdict(found),
        "times": found.times(),
        "fits": found.fits,
    }


if __name__ == "__main__":
    cli.program(command)
