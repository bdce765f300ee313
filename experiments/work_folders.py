"""What a work folder says that was asked of it, held to the shape that commands use."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any

from posjax.files import built, entry, read_json
from posjax.workfolder import ANEW


def asked(folder: Path) -> dict[str, Any]:
    """The tree of a folder's experiment.json, with `commands` and `configs` by run, empty where there are none.

    Errors: `InputError` where it is damaged, with what is wrong in it; `FileNotFoundError`.
    """
    path = folder / "experiment.json"
    tree = read_json(path, ANEW)
    return built(path, lambda: _held(tree), ANEW)


def run_names(folder: Path) -> list[str]:
    """The runs of a work folder, those of its last command first, and then those of other commands that are there."""
    last: list[str] = []
    if (folder / "experiment.json").exists():
        last = asked(folder)["runs"]
    # Of another sweep, say, which the last command did not ask for.
    there = sorted(path.parent.name for path in folder.glob("*/run.json"))
    return list(dict.fromkeys([*last, *there]))


def _held(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with all entries that commands use. Errors: `KeyError` and `TypeError`, for `built`."""
    # Folders of posjax 0.1.0 have neither: they know the last command and the last text alone.
    tree = {"commands": {}, "configs": {}, **tree}
    entry(tree, "name", str)
    # By their places, so that what is wrong is named.
    runs = {str(place): name for place, name in enumerate(entry(tree, "runs", list))}
    for each in (runs, entry(tree, "commands", dict), entry(tree, "configs", dict)):
        for name in each:
            entry(each, name, str)
    # What a record and the next command tell again; a folder of another hand may lack it.
    for name in ("title", "question", "paper", "command", "config", "created"):
        tree.setdefault(name, None)
        entry(tree, name, str, NoneType)
    return tree
