"""What the conformance suite iterates over: the registry's examples and some of their chains, and the backends."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import pytest

from posjax.attention import BACKENDS, Job
from posjax.encodings import REGISTRY, Alibi, Dims, Encoding, LongRope, NoPE, Rope, Shaw, T5Bias, chain
from posjax.encodings.examples import examples
from posjax.encodings.traits import defines, embeds, scores_content

# Six heads, so that no encoding may count on a power of two.
DIMS = Dims(heads=6, head_size=16, model_size=96)

SIZED: tuple[Encoding, ...] = (
    Rope(base=100.0, schedule=LongRope(4.0, 4, tuple(1 + n / 8 for n in range(8)), tuple(2 + n / 2 for n in range(8)))),
)
"""What fits one head size alone, that of DIMS."""

SINGLE: tuple[Encoding, ...] = (*(value for kind in REGISTRY for value in examples(kind)), *SIZED)


def _chains() -> tuple[Encoding, ...]:
    """One of each sort: embedding, rotation, bias by distance, by pair, content; two biases; and all that embed."""
    rotation, bias = Rope(), Alibi()
    firsts = [value for kind in REGISTRY for value in examples(kind)[:1] if not isinstance(value, NoPE)]
    relative = [value for value in firsts if value.bias_kind == "relative"]
    pairwise = [value for value in firsts if value.bias_kind == "pairwise"]
    content = [value for value in firsts if scores_content(value)]
    embedding = [value for value in firsts if embeds(value)]
    return (
        chain(rotation, bias),
        chain(rotation, *pairwise),
        chain(*relative),
        chain(*content[:1], bias),
        chain(*embedding, rotation, bias),
    )


CHAINS = _chains()
ENCODINGS = SINGLE + CHAINS
OF_ANY_SIZE = tuple(value for value in ENCODINGS if value not in SIZED)


def wide(values: Iterable[Any], few: Iterable[Any]) -> list[Any]:
    """All values for a test, those that are not among the few under the mark "exhaustive": each one compiles anew."""
    few = list(few)
    return [value if value in few else pytest.param(value, marks=pytest.mark.exhaustive) for value in values]


def first_of(names: str | Sequence[str], values: Iterable[Any], keep: int, **more: Any) -> pytest.MarkDecorator:
    """Values of a test, those past the first `keep` under the mark "exhaustive": more of what the first ones show."""
    several = not isinstance(names, str) or "," in names
    late = pytest.mark.exhaustive
    marked = list(values)
    for n, value in enumerate(marked[keep:], keep):
        if isinstance(value, type(pytest.param())):
            marked[n] = pytest.param(*value.values, marks=(*value.marks, late), id=value.id)
        else:
            marked[n] = pytest.param(*(value if several else (value,)), marks=late)
    return pytest.mark.parametrize(names, marked, **more)


def each_case(names: str, cases: Iterable[tuple], quick: Callable[[tuple], bool]) -> pytest.MarkDecorator:
    """Cases of a test, those that are not quick under the mark "exhaustive"."""
    late = pytest.mark.exhaustive
    marked = [case if quick(case) else pytest.param(*case, marks=late) for case in cases]
    return pytest.mark.parametrize(names, marked, ids=short)


def in_turn(cases: Iterable[tuple], last: Sequence[Any], whole: Sequence[Encoding]) -> list[tuple]:
    """Cases that begin with an encoding, with one more thing each: all if it is one of `whole`, else one after another.

    What is added moves on by one more after each round, or a case of each round would always meet the same.
    """
    longer = []
    for n, case in enumerate(cases):
        turn = (n + n // len(last)) % len(last)
        longer += [(*case, each) for each in last if case[0] in whole or each == last[turn]]
    return longer


def _sort(encoding: Encoding) -> tuple[Any, ...]:
    """What decides which code around it an encoding makes run."""
    learned = bool(jax.tree.leaves(jax.eval_shape(lambda: encoding.init(jax.random.key(0), DIMS))))
    hooks = [defines(encoding, hook) for hook in ("embed", "rotate", "score", "move")]
    return (encoding.bias_kind, learned, *hooks, encoding.length_dependent, encoding.relative, encoding.causal)


CORE = tuple({_sort(value): value for value in reversed(ENCODINGS)}.values())
"""The first value of each sort: those that every test iterates over, while the others wait for "exhaustive".

What a class computes is held by tests of its own, against its oracle.
"""
FEW = (chain(Rope(), Alibi()), T5Bias(buckets=8, max_distance=20), Shaw(clip=5))
"""A rotation, biases by distance, known and learned, and a score of content: what stands for all where one law would
take minutes for each."""
INTERPRETED = ("fused",)
"""Backends that a CPU interprets, slowly: the laws hold them under the mark "exhaustive" alone."""
BACKEND_NAMES = tuple(
    name
    for name, backend in BACKENDS.items()
    if name not in INTERPRETED and backend.refuse(Job("cpu", "float32", 8, 8, 6, 3, 16)) is None
)
"""The backends that run on a CPU; the others have tests of their own."""


def params_of(encoding: Encoding, dims: Dims = DIMS, seed: int = 0) -> object:
    """Joined parameters, as hooks take them; without the constants of those that have others for each length."""
    constants = None
    if not encoding.length_dependent:
        constants = encoding.constants(dims)
    return encoding.join(encoding.init(jax.random.key(seed), dims), constants)


def short(value: object) -> str:
    """A readable test id."""
    return repr(value) if isinstance(value, Encoding) else str(value)
