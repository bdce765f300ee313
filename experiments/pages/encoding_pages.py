"""One page in Markdown for each encoding and schedule, and the index of all."""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any

import posjax
from experiments.pages import pictures, references
from experiments.pages.facts import by_length, facts
from experiments.pages.markdown import cell, linked, one_line, sentence, table
from experiments.pages.references import ReferenceTest
from experiments.pages.subjects import PageSubject, subjects

ROOT = Path(__file__).resolve().parents[2]
INDEX = "README.md"


def pages(folder: Path) -> dict[str, str]:
    """The pages and their index by file name, with links as from `folder`.

    Errors: `InputError` for a docstring that lacks a part, or something that no test is marked to hold.
    """
    about = subjects()
    # Once for all pages: the tests are imported, which takes seconds.
    tests = references.marked()
    written = {INDEX: index(about)}
    for subject in about:
        held_by = references.of(subject.told_by, tests)
        written[f"{subject.name}.md"] = page(subject, held_by, folder)
    return written


def page(subject: PageSubject, tests: Sequence[ReferenceTest], folder: Path) -> str:
    """One page in Markdown, with links as from `folder`."""
    text = subject.text
    labelled = {label: linked(sentence(paragraph)) for label, paragraph in text.labelled.items()}
    sections = {
        "Formula": _formula(text.body),
        "Fields": _fields(subject.told_by),
        "Convention": labelled["Convention"],
        "Good at": labelled["Good at"],
        "Bad at": labelled["Bad at"],
        "Picture": _picture(subject),
        "Errors": labelled["Errors"],
        "Source": labelled["Source"],
        "Example": f"```pycon\n{_imports(text.example)}{text.example}\n```",
        "Reference test": _held_by(tests, folder),
    }
    written = f"# {subject.name}\n\n{text.summary}\n\n{_declared(subject)}\n"
    for title, content in sections.items():
        written += f"\n## {title}\n\n{content}\n"
    return written + f"\n[All encodings]({INDEX})\n"


def picture_of(subject: PageSubject) -> str:
    """Where a page's picture is, from the page."""
    return f"pictures/{subject.name}.png"


def index(about: Sequence[PageSubject]) -> str:
    """The table of all pages."""
    encodings = [subject for subject in about if not subject.is_schedule]
    schedules = [subject for subject in about if subject.is_schedule]
    encoding_rows = [[*_entry(subject), *facts(subject).values()] for subject in encodings]
    schedule_rows = [[*_entry(subject), by_length(subject)] for subject in schedules]
    return (
        "# The encodings, one page each\n\n"
        "Written by `python -m experiments.docs` from the docstrings. Each page has the formula, the convention,\n"
        "what the encoding is good and bad at, its picture, its paper, an example, and the tests that hold it.\n\n"
        "*acts on*: where it enters the model. *relative*: scores stay when all positions move alike. *learned*:\n"
        "it has trained parameters. *causal*: for keys at or before the query alone. *by length*: it changes with\n"
        "the length of the context. *some*: with some of its fields.\n\n"
        + table(["encoding", "what it does", *facts(encodings[0])], encoding_rows)
        + "\n\n## RoPE's frequency schedules\n\n`Rope(schedule=...)` takes one of these.\n\n"
        + table(["schedule", "what it does", "by length"], schedule_rows)
        + "\n"
    )


def _entry(subject: PageSubject) -> list[str]:
    link = f"[`{subject.name}`]({subject.name}.md)"
    return [link, cell(subject.text.summary)]


def _declared(subject: PageSubject) -> str:
    """The table of what it declares, or for a schedule where it is used."""
    if subject.is_schedule:
        return f"A frequency schedule: `Rope(schedule={subject.name}(...))`."
    told = facts(subject)
    row = [value or "no" for value in told.values()]
    return table(list(told), [row])


def _formula(body: str) -> str:
    """Indented blocks as code, paragraphs as lines of their own."""
    written = []
    for block in body.split("\n\n"):
        if block.startswith("    "):
            written.append(f"```text\n{inspect.cleandoc(block)}\n```")
        elif block.strip():
            written.append(one_line(block))
    return "\n\n".join(written)


def _fields(told_by: Callable[..., Any]) -> str:
    fields = inspect.signature(told_by).parameters.values()
    if not fields:
        return "None."
    # Annotations are strings under `from __future__ import annotations`, so they read as the source does.
    return table(["field", "type", "default"], [_field(field, told_by) for field in fields])


def _field(field: inspect.Parameter, told_by: Callable[..., Any]) -> list[str]:
    name, default = field.name, ""
    if field.kind is field.VAR_POSITIONAL:
        name = f"*{name}"
    if field.default is not field.empty:
        default = f"`{field.default!r}`"
    return [f"`{name}`", f"`{cell(_plain_type(field, told_by))}`", default]


def _plain_type(field: inspect.Parameter, told_by: Callable[..., Any]) -> str:
    """A type as the source has it, without the range that it is annotated with: the error tells that."""
    written = str(field.annotation)
    hint = typing.get_type_hints(told_by, include_extras=True)[field.name]
    if typing.get_origin(hint) is not typing.Annotated:
        return written
    node = ast.parse(written, mode="eval").body
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        return ast.get_source_segment(written, node.slice.elts[0]) or written
    # A name that several encodings share, which stands for a number.
    return typing.get_args(hint)[0].__name__


def _picture(subject: PageSubject) -> str:
    shows, drawn = pictures.caption(subject.name, subject.values[0])
    # The words stand twice: as the picture's text for those who cannot see it, and beneath it.
    return f"![{shows}]({picture_of(subject)})\n\n{shows}. Drawn from `{drawn}`."


def _imports(example: str) -> str:
    """The import lines that an example needs outside its module."""
    # An example runs inside its module, where its names are; who copies it from a page has none of them.
    missing = _unbound_names(example)
    lines = []
    if "jax" in missing:
        lines.append("import jax")
    if "jnp" in missing:
        lines.append("import jax.numpy as jnp")
    ours = [name for name in missing if _is_public(name)]
    if ours:
        lines.append(f"from posjax import {', '.join(sorted(ours, key=str.lower))}")
    return "".join(f">>> {line}\n" for line in lines)


def _is_public(name: str) -> bool:
    # A variable of an example may be called like a module of the package, such as positions.
    return not isinstance(getattr(posjax, name, None), (ModuleType, NoneType))


def _unbound_names(example: str) -> set[str]:
    """The names that an example reads and does not import itself."""
    used: set[str] = set()
    imported: set[str] = set()
    for statement in doctest.DocTestParser().get_examples(example):
        for node in ast.walk(ast.parse(statement.source)):
            if isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                imported |= {_bound_name(alias) for alias in node.names}
    return used - imported


def _bound_name(alias: ast.alias) -> str:
    """`import a.b` binds a, `import a.b as c` binds c."""
    name = alias.asname or alias.name
    return name.partition(".")[0]


def _held_by(tests: Sequence[ReferenceTest], folder: Path) -> str:
    """The tests, file by file, each with the oracles that it compares with."""
    # Most encodings have one file of tests, that of their module; a composition may be held in another's too.
    by_file: dict[Path, list[ReferenceTest]] = {}
    for test in tests:
        by_file.setdefault(test.file, []).append(test)
    return "\n\n".join(_held_in(file, found, folder) for file, found in by_file.items())


def _held_in(file: Path, tests: Sequence[ReferenceTest], folder: Path) -> str:
    against = "Stated by hand, no oracle applies"
    if any(test.oracles for test in tests):
        against = "Against a float64 oracle or golden vectors"
    # Relative, so that the link works in a checkout, on the web, and from a folder that --out names.
    link = Path(os.path.relpath(file, folder.resolve())).as_posix()
    lines = [_test_line(test) for test in tests]
    return f"{against}, in [{file.relative_to(ROOT).as_posix()}]({link}):\n\n" + "\n".join(lines)


def _test_line(test: ReferenceTest) -> str:
    if not test.oracles:
        return f"- `{test.name}`"
    listed = ", ".join(f"`{oracle}`" for oracle in test.oracles)
    return f"- `{test.name}`: {listed}"
