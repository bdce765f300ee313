"""Markdown as the pages need it: tables, links, and text that does not break them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    rule = ["---"] * len(head)
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return "\n".join(lines)


def cell(text: str) -> str:
    """A text as a table's cell, which a bar would end."""
    return text.replace("|", "\\|")


def one_line(text: str) -> str:
    """A wrapped paragraph as one line."""
    return " ".join(text.split())


def linked(text: str) -> str:
    """A text whose arXiv numbers and addresses are links.

    >>> linked("Su et al. 2021, arXiv:2104.09864.")
    'Su et al. 2021, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864).'
    """
    # Addresses first: those that the second step writes stand behind a bracket and must stay as they are.
    addresses = re.sub(r"(?<!\()(https?://[^\s,;]*[^\s,;.])", r"<\1>", text)
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", addresses)


def sentence(text: str) -> str:
    """A labelled paragraph as a sentence of its own."""
    # A word of one letter is a symbol, all but the article, and a symbol keeps its case.
    begins_with_word = text[1:2].isalpha() or text.startswith("a ")
    if not begins_with_word:
        return text
    return text[:1].upper() + text[1:]
