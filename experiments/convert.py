"""Write a published model anew, in another type or with another rotation; or a trained run as a published model.

python -m experiments.convert hf:EleutherAI/pythia-160m models/pythia-160m
python -m experiments.convert stories260K.bin models/stories260K
python -m experiments.convert models/llama models/long --encoding 'Rope(schedule=Yarn(4.0, 2048))' --dtype bfloat16
python -m experiments.convert runs/quickstart/rope models/rope
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments import check, cli, trained
from posjax.errors import InputError
from posjax.interop import read, write
from posjax.interop.writing import finish_exchange


@dataclass(frozen=True)
class ConvertOptions:
    """Read a published model, or a trained run, and write it as its family is published."""

    source: Annotated[str, tyro.conf.Positional]
    """A folder with config.json and safetensors, a file of llama2.c's, hf:OWNER/NAME, or a trained run's folder."""
    destination: Annotated[Path, tyro.conf.Positional]
    """The folder that is made."""
    encoding: str = ""
    """Another encoding in place of the model's, as in Python; its own unless given."""
    dtype: Literal["stored", "float32", "bfloat16", "float16"] = "stored"
    """The type of the weights."""
    overwrite: bool = False
    """Replace a model that the folder holds."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(ConvertOptions, "experiments.convert", arguments)
    encoding, dtype = None, None
    if options.encoding:
        encoding = check.value(options.encoding)
    if options.dtype != "stored":
        dtype = options.dtype
    # Where this command wrote a model over itself and was interrupted: half of it would be read.
    finish_exchange(Path(options.source))
    if (Path(options.source) / "run.json").is_file():
        model, config = trained.read(Path(options.source))
        if encoding is not None:
            raise InputError("--encoding is of a published model: convert the run first, and then what it became")
        model = trained.typed(model, dtype or "float32")
    else:
        model, config = read(options.source, encoding=encoding, dtype=dtype), None
    write(model, options.destination, config=config, overwrite=options.overwrite)
    size = sum(file.stat().st_size for file in options.destination.glob("*.safetensors"))
    print(f"{options.destination}: {size / 2**20:.1f} MiB of weights, {model.architecture.encoding!r}")


if __name__ == "__main__":
    cli.program(command)
