"""Laws of encodings that stretch: the length of the context is followed, and a temperature counts once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import numpy as np

from posjax.encodings.base import Dims, Encoding
from posjax.encodings.rope import Rope
from posjax.encodings.schedules.base import Schedule
from posjax.encodings.several import Several
from posjax.encodings.traits import told_by_fields
from posjax.errors import InputError
from posjax.invariants.finding import Finding, assertion, expect, normal, worst_of
from posjax.invariants.hooks import scores

LENGTHS = (64, 4096)
"""Contexts that most schedules tell apart."""
DOUBLINGS = 30
"""From a length on, up to the last int32 position."""
ONCE = 1e-4
"""How exactly a rotation keeps lengths: cosines and sines are float32."""


@assertion
def assert_length(encoding: Encoding, dims: Dims, length: int) -> None:
    """The length law: an encoding that says that it depends on the context's length is not everywhere as at `length`.

    And where `at_length` sets nothing but swept fields, its constants alone make the others' scores.

    >>> import posjax
    >>> dynamic = posjax.Rope(schedule=posjax.DynamicNTK(2.0, 64))
    >>> assert_length(dynamic, Dims(heads=2, head_size=8), 64)
    """
    told_by_constants(encoding, dims).enforce(encoding)
    if not encoding.length_dependent or other_length(encoding, dims, length) is not None:
        return
    raise AssertionError(
        f"{encoding!r} breaks the law 'length': it says that it depends on the length of the context, and is the same "
        "at every length"
    )


def other_length(encoding: Encoding, dims: Dims, length: int) -> int | None:
    """A length at which an encoding is not what it is at `length`, the nearest doubling or half; `None` for none."""
    expect(encoding, dims)
    at_first = encoding.at_length(length).constants(dims)
    further = [length << n for n in range(1, DOUBLINGS) if length << n < 2**31]
    # One that changes where a trained length ends may have done so long ago.
    shorter = [length >> n for n in range(1, DOUBLINGS) if length >> n]
    last = length
    for tried in (*further, *shorter):
        try:
            then = encoding.at_length(tried).constants(dims)
        except InputError:  # A base that no float holds, or the end of a table.
            continue
        if not _alike(at_first, then):
            return tried
        last = max(last, tried)
    # It need not be by constants: a hook may read what `at_length` has set.
    if last > length and not _alike(_seen(encoding, dims, length), _seen(encoding, dims, last)):
        return last
    return None


def told_by_constants(encoding: Encoding, dims: Dims) -> Finding:
    """Measures whether constants tell the length, where `at_length` sets nothing but fields that are said to be swept.

    A model that reads tokens in a loop hands over constants, and its hooks see the fields as they were.
    """
    expect(encoding, dims)
    if not encoding.length_dependent or told_by_fields(encoding):
        return Finding("length", 0.0, 0.0, "no length, or one told by fields")
    pairs = {}
    for length in LENGTHS:
        try:
            told = encoding.at_length(length)
            pairs[f"length {length}"] = _seen(encoding, dims, length, encoding), _seen(encoding, dims, length, told)
        except InputError:  # A base that no float holds, or the end of a table.
            continue
    if not pairs:
        return Finding("length", 0.0, 0.0, "no length that it takes")
    return worst_of("length", pairs, 1e-5)


def _alike(one: object, other: object) -> bool:
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(mine, its) for mine, its in pairs)


def _seen(encoding: Encoding, dims: Dims, length: int, hooks: Encoding | None = None) -> jax.Array:
    """Scores of a few tokens in a context of a length, by the hooks of the encoding there, or by those of another."""
    there = encoding.at_length(length)
    # The same parameters at each length: what differs is the length's doing.
    params = there.join(there.init(jax.random.key(0), dims), there.constants(dims))
    there = hooks or there
    q, k = normal((2, 1, 8, dims.heads, dims.head_size), 0)
    at = jax.numpy.arange(8)
    return scores(there, params, jax.numpy.asarray(q), jax.numpy.asarray(k), at, at)


@assertion
def assert_temperature(encoding: Encoding, dims: Dims) -> None:
    """The temperature law: what a schedule scales queries and keys by is in a rotation once.

    >>> import posjax
    >>> assert_temperature(posjax.Rope(schedule=posjax.Yarn(4.0, 64)), Dims(heads=2, head_size=8))
    """
    finding = temperature(encoding, dims)
    finding.enforce(encoding)


def temperature(encoding: Encoding, dims: Dims) -> Finding:
    """Measures the temperature law, for each rotation that an encoding is made of."""
    expect(encoding, dims)
    worst = Finding("temperature", 0.0, ONCE, "no rotation")
    for part in parts_of(encoding):
        if isinstance(part, Rope):
            found = _temperature(part, dims)
            if found.worst > worst.worst:
                worst = found
    return worst


def parts_of(encoding: Encoding) -> Iterator[Encoding]:
    """What a chain, or encodings by head, are made of; of any other encoding itself."""
    if not isinstance(encoding, Several):
        yield encoding
        return
    for part in encoding.parts:
        yield from parts_of(part)


def _temperature(rope: Rope, dims: Dims) -> Finding:
    size = rope.rotary_size(dims.head_size)
    schedule = rope.schedule
    _, answered = schedule.frequencies(size, rope.base)
    published = _published(rope, size)
    errors = []
    # A model prepares its angles once for all layers; what is called alone makes them itself.
    for prepared in (False, True):
        found = temperature_of(rope, dims, prepared)
        errors.append(abs(found / answered - 1))
        # Another temperature may be meant; its square is the mistake of whoever scales twice.
        if math.isclose(found, published**2, rel_tol=ONCE):
            errors.append(abs(found / published - 1))
    return Finding("temperature", max(errors), ONCE, f"{rope!r}")


def _published(rope: Rope, size: int) -> float:
    """The temperature by the formula of the schedule that one of one's own derives from, of the same fields."""
    for kind in type(rope.schedule).__mro__:
        if kind.__module__.startswith("posjax.") and kind is not Schedule and issubclass(kind, Schedule):
            _, factor = kind.frequencies(rope.schedule, size, rope.base)
            return factor
    # Nothing but what it answers is known of a schedule from scratch.
    return 1.0


def temperature_of(rope: Rope, dims: Dims, prepared: bool = False) -> float:
    """By how much a rotation lengthens the channels that turn."""
    size = rope.rotary_size(dims.head_size)
    # Channels that pass have no part in it.
    x = np.zeros((1, 1, 1, dims.head_size), np.float32)
    x[..., :size] = 1.0
    at = jax.numpy.asarray([5])
    params = rope.constants(dims)
    if prepared:
        params = rope.prepare(params, at, dims)
    turned = np.asarray(rope.rotate(params, jax.numpy.asarray(x), at, "query"), np.float64)
    return float(np.linalg.norm(turned) / math.sqrt(size))
