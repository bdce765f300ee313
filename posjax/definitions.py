"""How the classes of a user's own are defined, so that one which was edited is not taken for what it was."""

from __future__ import annotations

import hashlib
import inspect
import io
import sys
import tokenize
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any


def definition(kind: type) -> str | None:
    """A hash of the source of a class, and of all of its author's that it names; `None` for what posjax defines.

    Comments, docstrings and the layout do not count. What an installed package defines is known by its name alone.

    >>> from posjax import Rope
    >>> definition(Rope)
    """
    found: dict[str, str] = {}
    _gather(kind, found)
    if not found:
        return None
    # In the order of their names, so that the order in which they were met does not count.
    texts = [found[name] for name in sorted(found)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _gather(made: type | FunctionType, found: dict[str, str]) -> None:
    """Adds the source of a class or function, and of whatever it names that its author wrote too."""
    name = f"{made.__module__}.{made.__qualname__}"
    # Found already: functions may call each other.
    if name in found or not _of_an_author(made.__module__):
        return
    try:
        source = inspect.getsource(made)
    except (OSError, TypeError):  # Typed at a prompt: there is no text to compare with.
        return
    words = _words(source)
    found[name] = " ".join(words)
    module = sys.modules[made.__module__]
    for place, word in enumerate(words):
        # An attribute, which the module's own names say nothing of.
        if place > 0 and words[place - 1] == ".":
            continue
        named = vars(module).get(word)
        if isinstance(named, ModuleType) and words[place + 1 : place + 2] == ["."]:
            # A neighbour's, as in `neighbour.FACTOR`.
            _gather_named(named, words[place + 2], found)
        else:
            _gather_named(module, word, found)


def _gather_named(module: ModuleType, name: str, found: dict[str, str]) -> None:
    """Adds what a module of the author's calls by a name: a class or function with its source, a plain value as it is.

    Arrays and other objects are left out, since nothing tells two of them apart for sure.
    """
    named = vars(module).get(name)
    if isinstance(named, type | FunctionType):
        _gather(named, found)
    elif _is_plain(named) and _of_an_author(module.__name__):
        found[f"{module.__name__}.{name}"] = f"{name} = {named!r}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def _words(source: str) -> list[str]:
    """The words of a source text, without comments and docstrings.

    >>> _words("def f(x):\\n    'Doubles.'\\n    return 2 * x  # twice")
    ['def', 'f', '(', 'x', ')', ':', 'return', '2', '*', 'x']
    """
    words = []
    begins = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        # A text where a statement begins is a docstring.
        if token.type in (tokenize.COMMENT, tokenize.NL) or (begins and token.type == tokenize.STRING):
            continue
        begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.string.strip():
            words.append(token.string)
    return words


def _of_an_author(module: str) -> bool:
    """Whether a module is a user's own, and no part of posjax, of Python or of an installed package."""
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or top == "posjax" or top in sys.stdlib_module_names:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)
