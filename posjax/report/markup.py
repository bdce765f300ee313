"""Text as HTML: everything that comes from a work folder passes through here before it is on the page."""

from __future__ import annotations

import html
from collections.abc import Iterable


def text(value: object) -> str:
    """A value as text that is no markup, in an attribute too."""
    return html.escape(str(value), quote=True)


def aligned(value: str) -> str:
    """Spaces as wide as digits, which HTML does not fold into one."""
    return text(value).replace(" ", "\u2007")


def paragraphs(sentences: Iterable[str]) -> str:
    """Each sentence as a paragraph."""
    return "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)


def definitions(kind: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms, each with what is said of it."""
    entries = "".join(f"<div><dt>{text(term)}</dt><dd>{text(said)}</dd></div>" for term, said in pairs)
    return f'<dl class="{kind}">{entries}</dl>'
