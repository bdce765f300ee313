"""A docstring, taken apart into what a page is made of, or the name of the part that it lacks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.pages.markdown import one_line
from posjax.errors import InputError

LABELS = ("Convention", "Good at", "Bad at", "Errors", "Source")
"""The paragraphs that every encoding's docstring has, each begun by its label and a colon."""
PROMPT = ">>> "


@dataclass(frozen=True)
class DocstringParts:
    """A docstring, taken apart: its first paragraph, its formula and what follows, labelled paragraphs, its example."""

    summary: str
    body: str
    labelled: dict[str, str]
    example: str


def taken_apart(told_by: Callable[..., Any], name: str) -> DocstringParts:
    """The parts of a docstring. Errors: `InputError` that names the part that is missing."""
    text = inspect.getdoc(told_by) or ""
    any_label = "|".join(LABELS)
    # A part begins where a line begins with a label or with an example's prompt; the first is all before.
    beginning = rf"^(?=(?:{any_label}): )|^(?={PROMPT})"
    unlabelled, *others = re.split(beginning, text, flags=re.M)
    summary, _, body = unlabelled.strip().partition("\n\n")
    parts = DocstringParts(one_line(summary), body.strip("\n"), _labelled(others), _example(text))
    _refuse_lacking(parts, name)
    return parts


def _labelled(parts: list[str]) -> dict[str, str]:
    found = {}
    for part in parts:
        label, _, paragraph = part.partition(": ")
        # What begins with a prompt has no label: examples are kept whole elsewhere.
        if label in LABELS:
            found[label] = one_line(paragraph)
    return found


def _example(text: str) -> str:
    """All from the first prompt on: blank lines and words between its statements belong to it."""
    if PROMPT not in text:
        return ""
    return text[text.index(PROMPT) :].rstrip()


def _refuse_lacking(parts: DocstringParts, name: str) -> None:
    lacking = [label for label in LABELS if label not in parts.labelled]
    # A formula is told by its indent, which nothing else before the labels has.
    if not re.search(r"^    \S", parts.body, re.M):
        lacking.append("indented formula")
    if not parts.example:
        lacking.append("example")
    if lacking:
        raise InputError(
            f"the docstring of {name} has no {', no '.join(lacking)}: write what is missing, since its "
            "page is made of it"
        )
