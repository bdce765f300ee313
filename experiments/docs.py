"""Write a page for each encoding and each schedule, from their docstrings.

python -m experiments.docs
python -m experiments.docs --out docs/encodings --no-pictures
"""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

import posjax
from experiments import cli, pictures, references
from posjax.encodings import REGISTRY, Dims, Encoding, Schedule, schedules
from posjax.errors import InputError
from posjax.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
MADE_BY = {"ByHead": "by_head", "ByLayer": "by_layer", "NearFar": "near_far", "Chain": "chain"}
"""The classes that a public function makes: the function is what is explained."""
LABELS = ("Convention", "Good at", "Bad at", "Errors", "Source")
INDEX = "README.md"


@dataclass(frozen=True)
class Options:
    """Write a page with a picture for each encoding and schedule, and an index, from their docstrings."""

    out: Path = Path("docs/encodings")
    """The folder of the pages."""
    pictures: bool = True
    """Whether the pictures are drawn too; a page links to its picture either way."""


@dataclass(frozen=True)
class Text:
    """A docstring, taken apart: its first paragraph, its formula and what follows, labelled paragraphs, its example."""

    summary: str
    body: str
    labelled: dict[str, str]
    example: str


@dataclass(frozen=True)
class Subject:
    """What a page is about: a public name, the class behind it, what carries its docstring, and values of it."""

    name: str
    kind: type[Encoding] | type[Schedule]
    told_by: Callable[..., Any]
    text: Text
    values: tuple[Any, ...]


def command(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, prog="python -m experiments.docs", args=["--help"])
    options, unknown = cli.parse(Options, "experiments.docs", arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}: there are --out and --no-pictures")
    for name, text in pages(options.out).items():
        print(write_whole(options.out / name, text.encode()))
    for subject in subjects() if options.pictures else ():
        print(write_whole(options.out / picture_of(subject), pictures.draw(subject.name, subject.values[0])))


def pages(folder: Path) -> dict[str, str]:
    """The pages and their index by file name, with links as from `folder`.

    Errors: `InputError` for a docstring that lacks a part, or something that no reference test names.
    """
    about = subjects()
    return {INDEX: index(about), **{f"{subject.name}.md": page(subject, folder) for subject in about}}


def subjects() -> list[Subject]:
    """Every encoding of the registry, by name, then every schedule. Errors: `InputError` for a lacking docstring."""
    every: list[type[Any]] = [
        *REGISTRY,
        *(
            kind
            for kind in vars(schedules).values()
            if isinstance(kind, type) and issubclass(kind, Schedule) and kind is not Schedule
        ),
    ]
    named = [(MADE_BY.get(kind.__name__, kind.__name__), kind) for kind in every]
    ordered = sorted(named, key=lambda pair: (issubclass(pair[1], Schedule), pair[0].lower()))
    return [_subject(name, kind) for name, kind in ordered]


def _subject(name: str, kind: type[Any]) -> Subject:
    told_by = getattr(posjax, name)
    text = read(told_by, name)
    examples = kind.examples() if issubclass(kind, Encoding) else ()
    return Subject(name, kind, told_by, text, examples or (_value(name, text.example),))


def _value(name: str, example: str) -> Any:
    """The value that the example makes first, where there are no others."""
    for statement in doctest.DocTestParser().get_examples(example):
        for node in ast.walk(ast.parse(statement.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("posjax.") == name:
                return eval(ast.unparse(node), {**vars(posjax), "posjax": posjax})
    raise InputError(f"the docstring of {name} has no example with {name}(...): write one, since its page draws it")


def read(told_by: Callable[..., Any], name: str) -> Text:
    """A docstring, taken apart. Errors: `InputError` that names the part that is missing."""
    text = inspect.getdoc(told_by) or ""
    parts = re.split(rf"^(?=(?:{'|'.join(LABELS)}): )|^(?=>>> )", text, maxsplit=0, flags=re.M)
    summary, _, body = parts[0].strip().partition("\n\n")
    labelled = {
        label: _line(part.partition(": ")[2]) for part in parts[1:] if (label := part.partition(": ")[0]) in LABELS
    }
    example = text[text.index(">>> ") :].rstrip() if ">>> " in text else ""
    lacking = [label for label in LABELS if label not in labelled]
    lacking += [] if re.search(r"^    \S", body, re.M) else ["indented formula"]
    lacking += [] if example else ["example"]
    if lacking:
        raise InputError(
            f"the docstring of {name} has no {', no '.join(lacking)}: write what is missing, since its "
            "page is made of it"
        )
    return Text(_line(summary), body.strip("\n"), labelled, example)


def page(subject: Subject, folder: Path) -> str:
    """One page in Markdown, with links as from `folder`."""
    text = subject.text
    shows, drawn = pictures.caption(subject.name, subject.values[0])
    sections = {
        "Formula": _formula(text.body),
        "Fields": _fields(subject.told_by),
        **{label: linked(_sentence(text.labelled[label])) for label in ("Convention", "Good at", "Bad at")},
        "Picture": f"![{shows}]({picture_of(subject)})\n\n{shows}. Drawn from `{drawn}`.",
        **{label: linked(_sentence(text.labelled[label])) for label in ("Errors", "Source")},
        "Example": f"```pycon\n{_imports(text.example)}{text.example}\n```",
        "Reference test": _tests(subject, folder),
    }
    head = f"# {subject.name}\n\n{text.summary}\n\n{_declared(subject)}\n"
    return (
        head
        + "".join(f"\n## {title}\n\n{content}\n" for title, content in sections.items())
        + (f"\n[All encodings]({INDEX})\n")
    )


def picture_of(subject: Subject) -> str:
    """Where a page's picture is, from the page."""
    return f"pictures/{subject.name}.png"


def index(about: Sequence[Subject]) -> str:
    """The table of all pages."""
    encodings = [subject for subject in about if issubclass(subject.kind, Encoding)]
    rows = [[_link(s), _cell(s.text.summary), *facts(s).values()] for s in encodings]
    others = [
        [_link(s), _cell(s.text.summary), _any(s.kind.at_length is not Schedule.at_length)]
        for s in about
        if s not in encodings
    ]
    return (
        "# The encodings, one page each\n\n"
        "Written by `python -m experiments.docs` from the docstrings. Each page has the formula, the convention,\n"
        "what the encoding is good and bad at, its picture, its paper, an example, and the tests that hold it.\n\n"
        "*acts on*: where it enters the model. *relative*: scores stay when all positions move alike. *learned*:\n"
        "it has trained parameters. *causal*: for keys at or before the query alone. *by length*: it changes with\n"
        "the length of the context. *some*: with some of its fields.\n\n"
        + _table(["encoding", "what it does", *facts(encodings[0])], rows)
        + "\n\n## RoPE's frequency schedules\n\n`Rope(schedule=...)` takes one of these.\n\n"
        + _table(["schedule", "what it does", "by length"], others)
        + "\n"
    )


def facts(subject: Subject) -> dict[str, str]:
    """What an encoding declares over its values: "yes", "" for no, or "some"."""
    values = subject.values
    if hasattr(values[0], "parts"):
        others = ("relative", "learned", "causal", "by length")
        return {"acts on": "what its parts do", **dict.fromkeys(others, "by parts")}
    return {
        "acts on": ", ".join(dict.fromkeys(place for value in values for place in _acts_on(value))) or "nothing",
        "relative": _any(*(value.relative for value in values)),
        "learned": _any(*(bool(jax.tree.leaves(_init(value))) for value in values)),
        "causal": _any(*(value.causal for value in values)),
        "by length": _any(*(value.length_dependent for value in values)),
    }


def _init(value: Encoding) -> Any:
    """The shapes of what it trains, without the cost of drawing them."""
    dims = Dims(heads=12, head_size=64, model_size=768)
    return jax.eval_shape(lambda key: value.init(key, dims), jax.random.key(0))


def _acts_on(value: Encoding) -> Iterator[str]:
    hooks = {"place": "positions", "embed": "embedding", "rotate": "queries and keys", "score": "scores"}
    for hook, place in hooks.items():
        if getattr(type(value), hook) is not getattr(Encoding, hook):
            yield place
    if value.bias_kind != "none":
        yield "bias"


def _any(*told: bool) -> str:
    return "yes" if all(told) else "some" if any(told) else ""


def _declared(subject: Subject) -> str:
    """The table of what it declares, or for a schedule where it is used."""
    if issubclass(subject.kind, Schedule):
        return f"A frequency schedule: `Rope(schedule={subject.name}(...))`."
    told = facts(subject)
    return _table(list(told), [[value or "no" for value in told.values()]])


def _formula(body: str) -> str:
    """Indented blocks as code, paragraphs as lines of their own."""
    blocks = (block for block in body.split("\n\n") if block.strip())
    return "\n\n".join(
        f"```text\n{inspect.cleandoc(block)}\n```" if block.startswith("    ") else _line(block) for block in blocks
    )


def _fields(told_by: Callable[..., Any]) -> str:
    fields = inspect.signature(told_by).parameters.values()
    if not fields:
        return "None."
    rows = [
        [
            f"`{'*' * (f.kind is f.VAR_POSITIONAL)}{f.name}`",
            f"`{_cell(str(f.annotation))}`",
            "" if f.default is f.empty else f"`{f.default!r}`",
        ]
        for f in fields
    ]
    return _table(["field", "type", "default"], rows)


def _imports(example: str) -> str:
    """The import lines that an example needs outside its module."""
    trees = [ast.parse(statement.source) for statement in doctest.DocTestParser().get_examples(example)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    had = {
        (alias.asname or alias.name).partition(".")[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    ours = sorted((name for name in used - had if name in posjax.__all__), key=str.lower)
    lines = ["import jax"] * ("jax" in used - had) + ["import jax.numpy as jnp"] * ("jnp" in used - had)
    lines += [f"from posjax import {', '.join(ours)}"] * bool(ours)
    return "".join(f">>> {line}\n" for line in lines)


def _tests(subject: Subject, folder: Path) -> str:
    found = references.of(subject.name, subject.kind, ROOT / "tests")
    link = Path(os.path.relpath(found.file, folder.resolve())).as_posix()
    against = "Against a float64 oracle or golden vectors" if found.oracles else "Stated by hand, no oracle applies"
    lines = [
        f"- `{test}`" + (f": {', '.join(f'`{o}`' for o in oracles)}" if oracles else "")
        for test, oracles in found.tests
    ]
    return f"{against}, in [{found.file.relative_to(ROOT).as_posix()}]({link}):\n\n" + "\n".join(lines)


def linked(text: str) -> str:
    """A text whose arXiv numbers and addresses are links.

    >>> linked("Su et al. 2021, arXiv:2104.09864.")
    'Su et al. 2021, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864).'
    """
    text = re.sub(r"(?<!\()(https?://[^\s,;]*[^\s,;.])", r"<\1>", text)
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _link(subject: Subject) -> str:
    return f"[`{subject.name}`]({subject.name}.md)"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    # A word of one letter is a symbol, all but the article.
    return text[:1].upper() + text[1:] if text[1:2].isalpha() or text.startswith("a ") else text


if __name__ == "__main__":
    sys.exit(cli.main(command))
