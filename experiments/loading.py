"""Reads a config: the user's own Python file, run from its text, with whatever it raises told in one line."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import inspect
import sys
import traceback
import typing
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from posjax.errors import InputError
from posjax.runs import Experiment


def _at_defaults(kind: type) -> Any:
    return kind()


def load(path: Path, given: Callable[[type], Any] = _at_defaults) -> tuple[Experiment, str]:
    """The experiment of a config file, and the file's text.

    Parameters of its function `experiment` are the config's own options: `given` makes a value of the dataclass that
    has them as fields. Errors: `InputError`.
    """
    if not str(path).isprintable():
        raise InputError(f"the config is named {str(path)!a}: needed is a name that can be printed; rename it")
    if not path.is_file():
        raise InputError(_not_there(path))
    # Read once: what runs, what is told of it and what is kept beside the results are the same bytes.
    source = path.read_bytes()
    module = _module(path)
    try:
        exec(compile(source, str(path.absolute()), "exec"), vars(module))
        # Asked for by name: an AttributeError may come from anywhere in the config.
        if not callable(getattr(module, "experiment", None)):
            raise InputError("it has no function experiment()")
        kind = _options(module.experiment)
    except (Exception, SystemExit) as error:  # A config is the user's own code: whatever it raises is one line.
        raise InputError(_raised(path, error)) from error
    # Not the config's own mistake, where one is made here.
    chosen = {}
    if dataclasses.fields(kind):
        chosen = vars(given(kind))
    try:
        experiment = module.experiment(**chosen)
    except (Exception, SystemExit) as error:
        raise InputError(_raised(path, error)) from error
    if not isinstance(experiment, Experiment):
        raise InputError(
            f"{path}: experiment() returned a {type(experiment).__name__}; needed is a posjax.runs.Experiment"
        )
    return experiment, source.decode(errors="replace")


def _options(function: Callable[..., Any]) -> type:
    """A dataclass of a function's parameters."""
    # Annotations may be texts, which the config's own module resolves.
    hints = typing.get_type_hints(function)
    fields = []
    # In their order: help lists them as the config explains them.
    for name, parameter in inspect.signature(function).parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty:
            default = dataclasses.MISSING
        fields.append((name, hints.get(name, str), dataclasses.field(default=default)))
    made = dataclasses.make_dataclass("ConfigOptions", fields, frozen=True)
    made.__doc__ = inspect.getdoc(function) or "The options of the config."
    return made


def _not_there(path: Path) -> str:
    """What is told of a config that is no file, with the nearest that is one."""
    what = "is not there"
    if path.exists():
        what = "is a folder or no regular file"
    folder = path.parent
    if not folder.is_dir():
        folder = Path("configs")
    there = sorted(str(file) for file in folder.glob("*.py") if file.is_file())
    near = difflib.get_close_matches(str(path), there, n=1, cutoff=0.0)
    if not near:
        return f"the config {path} {what}"
    return f"the config {path} {what}: the nearest is {near[0]}"


def _raised(path: Path, error: BaseException) -> str:
    """What a config raised, with the last of its own lines on the way there."""
    # Only a file that does not parse has no frame of its own, and says its line itself.
    line = getattr(error, "lineno", "?")
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename) == path.absolute():
            line = frame.lineno
    said = str(error)
    if not isinstance(error, InputError):
        said = f"{type(error).__name__}: {error}"
    return f"the config raised an error, {path} line {line}: {said}"


class _FromSource(SourceFileLoader):
    """Reads a neighbour's own text, never what Python compiled of it before.

    Compiled text counts as new while its time and size are those of the file: an edit within a second may keep both.
    """

    def path_stats(self, path: str) -> NoReturn:
        raise OSError(f"{path} is compiled anew")


def _module(path: Path) -> ModuleType:
    """The config's module, not run yet. Errors: `InputError` for a file that is no Python."""
    # Dataclasses, inspect and typing look a class up in its module: encodings of a config's own need that.
    name = f"configs.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: a config is one whose experiment() returns an Experiment")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    neighbours = str(path.parent.absolute())
    if neighbours not in sys.path:  # Last, so that no neighbour takes the place of a library.
        sys.path.append(neighbours)
    kinds = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (_FromSource, SOURCE_SUFFIXES))
    sys.path_importer_cache[neighbours] = FileFinder(neighbours, *kinds)
    return module
