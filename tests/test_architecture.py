"""The house stands: imports point down, files and functions stay small, everything public is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import posjax
from posjax.attention import BACKENDS
from posjax.encodings import REGISTRY

pytestmark = pytest.mark.versionless

ROOT = Path(__file__).resolve().parents[1]

FLOORS = {
    "arguments": 0,
    "axes": 0,
    "errors": 0,
    "fields": 0,
    "version": 0,
    "definitions": 0,
    "lines": 0,
    "owners": 0,
    "trees": 0,
    "files": 1,
    "identity": 1,
    "positions": 1,
    "mesh": 1,
    "results": 1,
    "encodings": 2,
    "data": 2,
    "attention": 3,
    "invariants": 3,
    "surroundings": 4,
    "models": 4,
    "training": 5,
    "evaluation": 6,
    "rehearsal": 6,
    "interop": 6,
    "report": 7,
    "workfolder": 6,
    "search": 7,
    "stages": 7,
    "feasibility": 7,
    "runs": 8,
}
"""The rooms of posjax; experiments and configs live above them all."""
TOP = {"experiments": 9, "configs": 9}
NEIGHBOURS = {
    ("invariants", "attention"),
    ("arguments", "errors"),
    ("axes", "errors"),
    ("lines", "errors"),
    ("fields", "arguments"),
    ("fields", "errors"),
    ("feasibility", "stages"),
}
"""Rooms of one floor where the first may use the second."""
FORBIDDEN = {("evaluation", "training")}
READS_FILES_ONLY = "report"

LINES, FUNCTION_LINES, PARAMETERS = 400, 50, 8
WIDE = {"attend": 14, "attention": 12, "explain": 13, "linear_attend": 9}
"""Functions with more parameters than the budget, and how many: the calls that a user's own model makes."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


PACKAGE = sources("posjax")
SHIPPED = sources("posjax", "experiments", "configs")
ALL = [*SHIPPED, *sources("tests")]


def room(module: str) -> str | None:
    """The room of a dotted module name: "posjax.models.decoder" -> "models", "posjax" -> "", "numpy" -> None."""
    top, _, rest = module.partition(".")
    if top in TOP:
        return top
    return rest.partition(".")[0] if top == "posjax" else None


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import; a name taken from `posjax` itself counts as a module where it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level + (node.module or "")
            elif node.module == "posjax":
                for alias in node.names:
                    yield node.lineno, f"posjax.{alias.name}" if alias.name in FLOORS else "posjax"
            else:
                yield node.lineno, node.module or ""


def upward_imports(path: Path, here: str) -> list[str]:
    """The imports of a file in the room `here` that do not point down."""
    wrong = []
    for line, module in imports(ast.parse(path.read_text())):
        there = room(module)
        if module.startswith("."):
            wrong.append(f"line {line}: {module} is relative")
        elif there is not None and not _may(here, there):
            wrong.append(f"line {line}: {here} imports {module}")
    return wrong


def _may(here: str, there: str) -> bool:
    if here == there or here in TOP:
        return here == there or there not in TOP
    if here == READS_FILES_ONLY:
        return there in ("errors", "files", "lines", "results")
    # The front page of the package imports every room, so no room may import it.
    if there == "" or there in TOP or there not in FLOORS or (here, there) in FORBIDDEN:
        return False
    return FLOORS[there] < FLOORS[here] or (here, there) in NEIGHBOURS


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def over_budget(path: Path) -> list[str]:
    """What is longer, or takes more parameters, than it may."""
    text = path.read_text()
    lines = len(text.splitlines())
    wrong = [f"{lines} lines"] if lines > LINES else []
    for node in functions(ast.parse(text)):
        size = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
        if size > FUNCTION_LINES:
            wrong.append(f"line {node.lineno}: {node.name} has {size} lines")
        taken = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in taken if name not in ("self", "cls")])
        if count > WIDE.get(node.name, PARAMETERS):
            wrong.append(f"line {node.lineno}: {node.name} takes {count} parameters")
    return wrong


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def unexplained(path: Path, public: bool = True) -> list[str]:
    """The module, and the public functions and classes at its top, that have no docstring."""
    tree = ast.parse(path.read_text())
    wrong = [] if ast.get_docstring(tree) else ["the module has no docstring"]
    for node in tree.body if public else []:
        named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if named and not node.name.startswith("_") and ast.get_docstring(node) is None:
            wrong.append(f"line {node.lineno}: {node.name} has no docstring")
    return wrong


def caches(path: Path) -> list[str]:
    """Memories that outlive a call: functools' caches, and containers that begin empty at the top of a module."""
    tree = ast.parse(path.read_text())
    wrong = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("cache", "lru_cache")
            and ast.unparse(node.value) == "functools"
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "functools"
            and {alias.name for alias in node.names} & {"cache", "lru_cache"}
        )
    ]
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and _empty(node.value):
            wrong.append(f"line {node.lineno}: {ast.unparse(node)}")
    return wrong


def _empty(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).rpartition(".")[2]
        return name in ("dict", "list", "set", "defaultdict", "OrderedDict", "WeakKeyDictionary") and not (
            name != "defaultdict" and value.args
        )
    return (isinstance(value, ast.Dict) and not value.keys) or (isinstance(value, ast.List) and not value.elts)


def outside_paths(path: Path) -> list[str]:
    """Lines that name a place outside the repository."""
    outside = ("../" + "shared", "/" + "work/")
    return [
        f"line {i}: {line.strip()}"
        for i, line in enumerate(path.read_text().splitlines(), 1)
        if any(name in line for name in outside)
    ]


def encodings_defined(folder: Path) -> set[str]:
    """The classes in a folder that derive from an encoding, directly or not."""
    bases: dict[str, set[str]] = {}
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    # What others derive from, and no user makes.
    abstract = {"Encoding", "RelativeBias", "Several", "Moved"}
    found: set[str] = set(abstract)
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return {name for name in found - abstract if not name.startswith("_")}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [p for p in SHIPPED if p != ROOT / "posjax/__init__.py"], ids=relative)
def test_imports_point_down(path):
    here = path.relative_to(ROOT).with_suffix("").parts
    name = here[1] if here[0] == "posjax" else here[0]
    assert name in FLOORS or name in TOP, f"{name} has no floor in the house: give it one in DESIGN and in FLOORS"
    assert upward_imports(path, name) == []


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_files_and_functions_stay_small(path):
    assert over_budget(path) == []


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_everything_public_is_explained(path):
    # A config's header explains its functions, and a command's module its `command`.
    complaints = unexplained(path, public=relative(path).startswith(("posjax/", "experiments/")))
    if relative(path).startswith("experiments/"):
        complaints = [line for line in complaints if ": command has" not in line]
    assert complaints == []


@pytest.mark.parametrize("path", SHIPPED, ids=relative)
def test_nothing_is_remembered_between_calls(path):
    assert caches(path) == []


def test_nothing_outside_the_tests_names_a_place_outside():
    texts = [p for pattern in ("*.md", "*.cfg", "*.toml", ".ci/*") for p in ROOT.glob(pattern) if p.is_file()]
    found = {relative(path): lines for path in [*SHIPPED, *texts] if (lines := outside_paths(path))}
    assert found == {}


def test_the_registry_holds_every_encoding():
    assert {kind.__name__ for kind in REGISTRY} == encodings_defined(ROOT / "posjax/encodings")
    # What a function makes stands among the public names by that function.
    made = {"Chain": "chain", "NearFar": "near_far", "ByHead": "by_head"}
    assert {made.get(kind.__name__, kind.__name__) for kind in REGISTRY} <= set(dir(posjax))
    assert "chain" in dir(posjax)


def test_every_attention_backend_is_listed():
    folder = ROOT / "posjax/attention"
    files = {path.stem: path for path in folder.glob("*.py")} | {
        path.parent.name: path for path in folder.glob("*/__init__.py")
    }
    found = {
        name
        for name, path in files.items()
        if {"attention", "refuse"} <= {getattr(node, "name", "") for node in ast.parse(path.read_text()).body}
    }
    assert found == set(BACKENDS)


def test_public_names_are_there():
    for name in dir(posjax):
        assert hasattr(posjax, name), name


def planted(tmp_path: Path, source: str) -> Path:
    path = tmp_path / "planted.py"
    path.write_text(source)
    return path


@pytest.mark.parametrize(
    ("here", "source"),
    [
        ("encodings", "from posjax.attention import attend"),
        ("encodings", "from posjax.data import Batches"),
        ("encodings", "def f():\n    import posjax.models.decoder"),
        ("positions", "from posjax import attention"),
        ("models", "from posjax import Rope"),
        ("models", "import posjax"),
        ("models", "from ..attention import attend"),
        ("attention", "from posjax import invariants"),
        ("evaluation", "from posjax.training import fit"),
        ("report", "from posjax.evaluation import Variant"),
        ("report", "from posjax import axes"),
        ("training", "from posjax.evaluation.variants import Variant"),
        ("runs", "from experiments.cli import load"),
        ("runs", "from posjax.unheard import of"),
        ("experiments", "import configs.quickstart"),
    ],
)
def test_an_upward_import_is_noticed(tmp_path, here, source):
    assert upward_imports(planted(tmp_path, source), here)


@pytest.mark.parametrize(
    ("here", "source"),
    [
        ("invariants", "from posjax.attention import attend"),
        ("evaluation", "from posjax import attention\nimport jax.numpy as jnp\nfrom posjax.positions import LARGEST"),
        ("report", "from posjax.errors import InputError\nfrom posjax.report.load import Run"),
        ("experiments", "from posjax import Rope\nfrom posjax import runs\nfrom experiments import cli"),
    ],
)
def test_a_downward_import_is_welcome(tmp_path, here, source):
    assert upward_imports(planted(tmp_path, source), here) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = 1\n" * 401, 1),
        ("x = 1\n" * 400, 0),
        ("def f():\n" + "    x = 1\n" * 50, 1),
        ("def f():\n    '''\n" + "    why\n" * 60 + "    '''\n" + "    x = 1\n" * 49, 0),
        ("class A:\n    def f(self, a, b, c, d, e, f, g, h): ...", 0),
        ("def f(a, b, c, d, e, f, *, g, h, i): ...", 1),
    ],
)
def test_a_broken_budget_is_noticed(tmp_path, source, count):
    assert len(over_budget(planted(tmp_path, source))) == count


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        '"""Said."""\ndef f(): ...',
        '"""Said."""\nclass A:\n    x = 1',
    ],
)
def test_a_missing_docstring_is_noticed(tmp_path, source):
    assert len(unexplained(planted(tmp_path, source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import functools\n@functools.lru_cache\ndef f(): ...",
        "import functools\n@functools.cache\ndef f(): ...",
        "from functools import lru_cache, partial",
        "TABLES = {}",
        "TABLES: dict[int, float] = dict()",
        "from collections import defaultdict\nTABLES = defaultdict(list)",
        "SEEN = []",
    ],
)
def test_a_cache_is_noticed(tmp_path, source):
    assert len(caches(planted(tmp_path, source))) == 1


@pytest.mark.parametrize("source", ["open('../" + "shared/reference')", "ROOT = '/" + "work/main'"])
def test_a_place_outside_is_noticed(tmp_path, source):
    assert len(outside_paths(planted(tmp_path, source))) == 1


def test_an_unlisted_encoding_is_noticed(tmp_path):
    planted(
        tmp_path,
        "class Mine(base.RelativeBias): ...\nclass Mine2(Mine): ...\nclass _Not(Encoding): ...\n"
        "class Other(Schedule): ...",
    )
    assert encodings_defined(tmp_path) == {"Mine", "Mine2"}
