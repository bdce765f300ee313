"""Where results go: a page and its figures for readers, and the numbers behind it as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posjax.files import write_json, write_whole


@dataclass(frozen=True)
class Folders:
    """Pages lie where people read. Their numbers, thousands of lines, lie apart."""

    pages: Path = Path("docs/benchmarks")
    numbers: Path = Path("experiments/results/benchmarks")


def folders(out: Path | None) -> Folders:
    """The repository's own folders, or the one that was asked for: a trial replaces nothing that is committed."""
    if out is None:
        return Folders()
    return Folders(out, out)


def write(to: Folders, name: str, content: Mapping[str, Any], page: str) -> None:
    """`NAME.json` and `NAME.md`, each whole or not at all. Errors: `StorageError`."""
    # Numbers first: from them the page can be made again, and nothing makes them again.
    write_json(to.numbers / f"{name}.json", dict(content))
    write_whole(to.pages / f"{name}.md", page.encode())


def command_line(module: str, arguments: Sequence[str]) -> str:
    """What a reader types to measure the same again."""
    return " ".join(["python -m", module, *arguments])
