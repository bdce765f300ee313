"""What training reports while it runs: one JSON line a step, and optional sinks beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from posjax.errors import InputError

Sink = Literal["tensorboard", "wandb"]


class Writer(Protocol):
    """A sink for numbers by step."""

    def write(self, step: int, numbers: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Metrics:
    """`metrics.jsonl`: one line a step, complete up to the last step that was written, whatever kills the process.

    Starting again from `step` drops the lines after it, which a killed run wrote past its last checkpoint.
    """

    def __init__(self, path: Path, step: int, sinks: tuple[Sink, ...] = ()):
        lines = [line for line in read(path) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._sinks = [_sink(name, path.parent) for name in sinks]
        self._file = path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Appends one line and hands it to the operating system."""
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for sink in self._sinks:
            sink.write(step, numbers)


def read(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file, none where there is no file."""
    if not path.exists():
        return []
    # A line without its end was cut off by a kill.
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]


class _TensorBoard:
    def __init__(self, folder: Path):
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError("the sink 'tensorboard' is not installed: pip install 'posjax[tensorboard]'") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, folder: Path):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError("the sink 'wandb' is not installed: pip install 'posjax[wandb]'") from error
        self._run = wandb.init(project="posjax", name=folder.name, dir=str(folder), resume="allow", id=folder.name)

    def write(self, step: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()


def _sink(name: Sink, folder: Path) -> Writer:
    return _TensorBoard(folder) if name == "tensorboard" else _WandB(folder)
