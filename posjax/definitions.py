"""How the classes of a user's own are defined, so that one which was edited is not taken for what it was."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import io
import json
import re
import sys
import textwrap
import tokenize
from collections import deque
from dataclasses import is_dataclass
from pathlib import Path
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import jax
import numpy as np

LAMBDA = "<lambda>"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What the text of an object has that says nothing of itself, and differs in each process."""


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


def _gather(made: type | FunctionType, found: dict[str, str], bound: str = "") -> None:
    """Adds the source of a class or function, and of whatever it names that its author wrote too.

    `bound`: what a function without a name of its own is called.
    """
    name = f"{made.__module__}.{made.__qualname__}"
    if made.__name__ == LAMBDA or "<locals>" in name:
        # All of a module's, or all that one function made, share one name.
        name += f" {bound}"
    # Found already: functions may call each other.
    if name in found or not _of_an_author(made.__module__):
        return
    try:
        source = _source(made)
    except (OSError, TypeError):  # Typed at a prompt: there is no text to compare with.
        return
    words = _words(source)
    found[name] = " ".join(words)
    _gather_cells(made, name, found)
    module = sys.modules[made.__module__]
    _gather_imported(source, module, found)
    for place, word in enumerate(words):
        # An attribute, which the module's own names say nothing of.
        if place > 0 and words[place - 1] == ".":
            continue
        _gather_dotted(module, word, words[place + 1 :], found)


def _gather_dotted(owner: ModuleType, word: str, after: list[str], found: dict[str, str]) -> None:
    """Adds what a word names, through the modules before it: a neighbour's, as in `package.neighbour.FACTOR`."""
    while isinstance(vars(owner).get(word), ModuleType) and after[:1] == ["."]:
        owner = vars(owner)[word]
        word = after[1]
        after = after[2:]
    _gather_named(owner, word, found)


def _gather_imported(source: str, module: ModuleType, found: dict[str, str]) -> None:
    """Adds what a definition imports for itself, of modules that are there."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:  # A part of a statement.
        return
    words = _words(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            owner = _module("." * node.level + (node.module or ""), module)
            if owner is not None:
                for alias in node.names:
                    _gather_named(owner, alias.name, found)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                _gather_uses(alias, words, module, found)


def _gather_uses(alias: ast.alias, words: list[str], beside: ModuleType, found: dict[str, str]) -> None:
    """Adds what words name of a module that is imported among them."""
    owner = _module(alias.name, beside)
    if owner is None:
        return
    # Without another name it is the first of its parts that is bound.
    bound = alias.asname or alias.name.partition(".")[0]
    if alias.asname is None:
        owner = sys.modules[bound]
    for place, word in enumerate(words):
        after = words[place + 1 :]
        if word == bound and after[:1] == ["."]:
            _gather_dotted(owner, after[1], after[2:], found)


def _module(name: str, beside: ModuleType) -> ModuleType | None:
    """A module of the author's by its name, as another one would import it; `None` for all others."""
    # What it runs is what the definition would run, and nothing that fails there has to fail here.
    with contextlib.suppress(Exception):
        top = name.partition(".")[0]
        # An installed package is known by its name, and may take seconds to import. What begins with a dot is a
        # neighbour.
        found = importlib.util.find_spec(top) if top else beside.__spec__
        if found is not None and found.origin is not None and _is_an_authors(top or beside.__name__, found.origin):
            return importlib.import_module(name, beside.__package__)
    return None


def _gather_cells(made: type | FunctionType, name: str, found: dict[str, str]) -> None:
    """Adds what the functions of a definition have from the function that they were made in."""
    functions = [made]
    if isinstance(made, type):
        functions = list(vars(made).values())
    for function in functions:
        if not isinstance(function, FunctionType):
            continue
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for free, cell in cells:
            with contextlib.suppress(ValueError):  # Not bound yet.
                _gather_value(cell.cell_contents, f"{name} {function.__name__}.{free}", found)


def _gather_value(value: Any, name: str, found: dict[str, str], depth: int = 20) -> None:
    """Adds what a value is made of: definitions, plain values, arrays by their bytes, and what holds any of these."""
    if depth and not isinstance(value, FunctionType) and callable(getattr(value, "__wrapped__", None)):
        # What jax.jit and functools.lru_cache make is no function any more, and holds the one that was written.
        _gather_value(value.__wrapped__, f"{name} wrapped", found, depth - 1)
    elif isinstance(value, type | FunctionType):
        found.setdefault(name, f"{value.__module__}.{value.__qualname__}")
        _gather(value, found, name)
    elif _is_plain(value):
        found[name] = f"{_settled(value)!r}"
    elif isinstance(value, np.ndarray | jax.Array):
        array = _numbers(value)
        found[name] = f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    elif depth and isinstance(value, functools.partial):
        _gather_value((value.func, value.args, value.keywords), name, found, depth - 1)
    elif depth and isinstance(value, dict):
        for place, (key, item) in enumerate(value.items()):
            _gather_value(key, f"{name}.{place} key", found, depth - 1)
            _gather_value(item, f"{name}.{place}", found, depth - 1)
    elif depth and isinstance(value, tuple | list | deque):
        for place, item in enumerate(value):
            _gather_value(item, f"{name}.{place}", found, depth - 1)
    elif depth and isinstance(value, MethodType):
        _gather_value((value.__func__, value.__self__), name, found, depth - 1)
    elif depth and not isinstance(value, ModuleType):
        # At a higher price: objects may hold each other, and the ways through them double at every step.
        _gather_object(value, name, found, max(depth - 5, 0))


def _gather_object(value: Any, name: str, found: dict[str, str], depth: int) -> None:
    """Adds an object by its class and what it holds, or by its text where that says what it is."""
    _gather(type(value), found, name)
    held = getattr(value, "__dict__", None)
    # A library's may hold half of a program, as a logger does: of these the text has to do.
    is_open = is_dataclass(value) or isinstance(value, SimpleNamespace) or _of_an_author(type(value).__module__)
    if is_open and isinstance(held, dict):
        found[name] = type(value).__qualname__
        _gather_value(held, name, found, depth)
    elif not ADDRESS.search(repr(value)):
        found[name] = repr(value)


def _numbers(array: Any) -> np.ndarray:
    """An array on the host; of random keys their data."""
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array)


def described(value: Any) -> str | None:
    """A hash of what a value is made of, as `definition` has it of a class; `None` where nothing tells two apart."""
    found: dict[str, str] = {}
    _gather_value(value, "", found)
    if not found:
        return None
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()[:16]


def _source(made: type | FunctionType) -> str:
    """The text of a definition. Errors: `OSError` and `TypeError` where there is none."""
    if made.__name__ != LAMBDA or not isinstance(made, FunctionType):
        return inspect.getsource(made)
    # Its own lines may be a part of a statement, which is no text that could be read: the whole statement is.
    text = inspect.getsource(sys.modules[made.__module__])
    first = made.__code__.co_firstlineno
    for statement in ast.parse(text).body:
        if statement.lineno <= first <= (statement.end_lineno or statement.lineno):
            return ast.get_source_segment(text, statement) or ""
    return ""


def _gather_named(module: ModuleType, name: str, found: dict[str, str]) -> None:
    """Adds what a module of the author's calls by a name: a definition with its source, other values as they are.

    Objects whose text is their address alone are left out, since nothing tells two of them apart.
    """
    named = vars(module).get(name)
    if isinstance(named, type | FunctionType):
        _gather(named, found, f"{module.__name__}.{name}")
    elif name in vars(module) and _of_an_author(module.__name__):
        _gather_value(named, f"{module.__name__}.{name}", found)


def _is_plain(value: Any, depth: int = 20) -> bool:
    """Whether a value is told by its text; one that is deeper holds itself, and is not."""
    if depth and isinstance(value, dict):
        return all(_is_plain(item, depth - 1) for pair in value.items() for item in pair)
    if depth and isinstance(value, tuple | list | set | frozenset):
        return all(_is_plain(item, depth - 1) for item in value)
    return isinstance(value, bool | int | float | complex | str | bytes | None)


def _settled(value: Any) -> Any:
    """A plain value with its sets as sorted texts, whose order is another in each process."""
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(repr(_settled(item)) for item in value)
    if isinstance(value, dict):
        # In the order in which it was written, which a reader of its items sees too.
        return {repr(_settled(name)): _settled(item) for name, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_settled, value))
    return value


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
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and _is_an_authors(module, file)


def _is_an_authors(module: str, file: str) -> bool:
    top = module.partition(".")[0]
    if top == "posjax" or top in sys.stdlib_module_names:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)
