"""Make a text into tokens on a disk, once, which `posjax.data.StoredText(folder)` then reads as it is needed.

python -m experiments.prepare a/folder another.txt --to corpora/mine
python -m experiments.prepare stories.txt --to corpora/stories --tokenizer tokenizer.json --begin "<s>"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments import cli
from posjax.data import Text, prepare


@dataclass(frozen=True)
class PrepareOptions:
    """Write a text of any size as tokens, in bounded memory; give the same command again if it was interrupted."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files and folders, as `Text` takes them."""
    to: Path
    """The folder that is made."""
    tokenizer: str | None = None
    """A tokenizer.json; bytes unless given."""
    begin: str | None = None
    """The token that each file and each window begins with, such as <s>."""
    validation_share: float = 0.1
    """The share of the files that is held out; of the bytes where there is one file."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(PrepareOptions, "experiments.prepare", arguments)
    text = Text(options.sources, options.validation_share, options.tokenizer, options.begin)
    header = prepare(text, options.to)
    for side in ("train", "validation"):
        files = header["sizes"][f"{side}_files"]
        size = header["sizes"][f"{side}_bytes"]
        # Without a tokenizer each byte is one.
        tokens = header["sizes"].get(f"{side}_tokens", size)
        print(f"{side}: {tokens:,} tokens of {size:,} bytes in {files:,} files")
    print(f"{options.to}: vocabulary {header['vocabulary']:,}, fingerprint {header['fingerprint']}")


if __name__ == "__main__":
    cli.program(command)
