"""What training reports while it runs: one JSON line a step, and optional sinks beside it."""

from __future__ import annotations

import errno
import json
import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from posjax.errors import InputError, StorageError
from posjax.files import refused, write_whole
from posjax.identity import tree

Sink = Literal["tensorboard", "wandb"]


class Writer(Protocol):
    """A sink for numbers by step."""

    def write(self, step: int, numbers: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Metrics:
    """`metrics.jsonl`: lines are added at its end and never changed, so that no kill and no full disk takes one away.

    Going on from a step adds the line `{"from": step}`: what a killed run wrote past it counts no more, as
    `posjax.lines.read` has it.

    `training`: the fingerprint of the run, which each line then carries: a file may be put into another run's folder.
    `config`: what the run depends on, which sinks show beside its curves.

    Errors: `StorageError` for a disk that refuses.
    """

    def __init__(
        self, path: Path, step: int, sinks: tuple[Sink, ...] = (), training: str | None = None, config: Any = None
    ):
        self._path = path
        self._mark = {}
        if training is not None:
            self._mark = {"run": training}
        session = Session(path.parent, step, training, tree(config))
        self._sinks = [_sink(name, session) for name in sinks]
        try:
            if path.is_file() and path.stat().st_nlink > 1:
                # A copy by hard links is somebody's backup, which must not grow with this one.
                write_whole(path, path.read_bytes())
            self._file = path.open("ab", buffering=0)
            before = path.read_bytes()
        except OSError as error:
            raise refused(path, error) from error
        if before:
            # Half a line of a killed process stays a line of its own.
            end = b"\n"
            if before.endswith(end):
                end = b""
            self._add(end, {"from": step})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Adds one line and hands it to the operating system."""
        self._add(b"", {"step": step, **numbers})
        for sink in self._sinks:
            sink.write(step, numbers)

    def keep(self) -> None:
        """Has the disk keep what was written."""
        try:
            os.fsync(self._file.fileno())
            # An editor, or a copy that is put back, leaves this handle on a file without a name.
            mine, there = os.fstat(self._file.fileno()), self._path.stat()
        except OSError as error:
            raise refused(self._path, error) from error
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise StorageError(
                f"{self._path} was replaced by another file while training, and what is written since would be lost: "
                "leave it alone, and the same command goes on from the last step that was kept"
            )

    def _add(self, before: bytes, line: dict[str, Any]) -> None:
        text = before + json.dumps({**line, **self._mark}).encode() + b"\n"
        try:
            # One unbuffered call a line, so that a kill leaves half of one line at most.
            if self._file.write(text) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise refused(self._path, error) from error


class NoMetrics:
    """Metrics of a process that is not the first of many, whose numbers are the same."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Writes nothing."""

    def keep(self) -> None:
        """Keeps nothing."""


@dataclass(frozen=True)
class Session:
    """What a sink is told as a run begins or goes on: its folder, the steps done, its fingerprint, its config."""

    folder: Path
    step: int
    training: str | None
    config: Any


class _TensorBoard:
    def __init__(self, session: Session):
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError("the sink 'tensorboard' is not installed: pip install 'posjax[tensorboard]'") from error
        # What a killed process wrote past its last checkpoint comes again: it would else be in the curve twice.
        self._writer = SummaryWriter(str(session.folder / "tensorboard"), purge_step=session.step + 1)
        # Indented, which is code there.
        text = textwrap.indent(json.dumps(session.config, indent=1), "    ")
        self._writer.add_text("config", text, session.step)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, session: Session):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError("the sink 'wandb' is not installed: pip install 'posjax[wandb]'") from error
        name = session.folder.name
        # The same at each start, so that a run which goes on is one curve there; and another for each configuration,
        # since runs of two experiments may have one name.
        known_as = "-".join(filter(None, (name, session.training)))
        self._run = wandb.init(
            project="posjax",
            name=name,
            dir=str(session.folder),
            resume="allow",
            id=known_as,
            config=session.config,
        )

    def write(self, step: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


def _sink(name: Sink, session: Session) -> Writer:
    if name == "tensorboard":
        return _TensorBoard(session)
    return _WandB(session)
