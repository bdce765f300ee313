"""An encoding of a user's own is another one once anything that it computes with was edited."""

from __future__ import annotations

import importlib
import sys
from itertools import count

import pytest

from posjax.definitions import definition

NUMBER = count()
USE = """
class Mine:
    def bias(self):
        return {use}
"""
KEEPS = "class K:\n    def __init__(self, f):\n        self.f = f"
WITHIN = "class Mine:\n    def bias(self):\n        {imports}\n        return {{use}}\n"
EDITED = {
    "a jitted function": ("@jax.jit\ndef f(x):\n    return x * 1.0", "f(2.0)"),
    "a jitted name": ("def g(x):\n    return x * 1.0\nf = jax.jit(g)", "f(2.0)"),
    "partially jitted": ("@partial(jax.jit, static_argnums=1)\ndef f(x, y):\n    return x * 1.0", "f(2.0, 3)"),
    "a derivative of its own": ("@jax.custom_jvp\ndef f(x):\n    return x * 1.0", "f(2.0)"),
    "a cached function": ("@lru_cache\ndef f(x):\n    return x * 1.0", "f(2.0)"),
    "a scalar of numpy": ("F = np.float32(1.0)", "F"),
    "a dtype": ("F = np.dtype('float64' if 1.0 > 1.5 else 'float32')", "F"),
    "a dataclass": ("@dataclass\nclass S:\n    f: float\nF = S(1.0)", "F.f"),
    "an encoding": ("F = posjax.Alibi(factor=1.0)", "F.factor"),
    "a fraction": ("F = Fraction(1.0)", "F"),
    "a namespace": ("F = SimpleNamespace(f=1.0)", "F.f"),
    "a queue": ("F = deque([1.0])", "F[0]"),
    "an object": (f"{KEEPS}\nF = K(1.0)", "F.f"),
    "a method": (f"{KEEPS}\n    def m(self):\n        pass\nF = K(1.0).m", "F()"),
}
IMPORTS = (
    "import jax, posjax\nimport numpy as np\nfrom collections import deque\nfrom dataclasses import dataclass\n"
    "from fractions import Fraction\nfrom functools import lru_cache, partial\nfrom types import SimpleNamespace\n"
)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What defines a class, in a module of its own that each text is written to, and forgotten again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def of(text: str, name: str = "author") -> str | None:
        # Told apart by the cache of lines: a file of another name each time, under one name of a module.
        folder = tmp_path / str(next(NUMBER))
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        try:
            return definition(importlib.import_module(name).Mine)
        finally:
            sys.modules.pop(name, None)

    return of


@pytest.mark.parametrize("what", EDITED)
def test_an_edit_of_what_a_definition_uses_is_noticed(what, written):
    made, use = EDITED[what]
    before = IMPORTS + made + USE.format(use=use)
    assert written(before) == written(before) is not None
    assert written(before) != written(before.replace("1.0", "2.0", 1))


NEIGHBOUR = {
    "dotted": ("import pk.sub\n" + USE, "pk.sub.FACTOR"),
    "a dotted function": ("import pk.sub\n" + USE, "pk.sub.helper()"),
    "within": (WITHIN.format(imports="from pk.sub import FACTOR"), "FACTOR"),
    "a module within": (WITHIN.format(imports="import pk.sub"), "pk.sub.FACTOR"),
    "renamed within": (WITHIN.format(imports="import pk.sub as s"), "s.FACTOR"),
}


@pytest.mark.parametrize("how", NEIGHBOUR)
def test_an_edit_of_a_neighbour_is_noticed(how, written, tmp_path):
    text, use = NEIGHBOUR[how]
    found = []
    for factor in ("1.0", "1.0", "2.0"):
        package = tmp_path / "pk"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "sub.py").write_text(f"FACTOR = {factor}\n\n\ndef helper():\n    return FACTOR\n")
        for name in ("pk", "pk.sub"):
            sys.modules.pop(name, None)
        found.append(written(text.format(use=use)))
    assert found[0] == found[1] != found[2]
