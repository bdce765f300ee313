"""Laws of the hooks alone: what an encoding embeds, rotates and biases at some positions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.typing import DTypeLike

from posjax.arguments import LARGEST, whole
from posjax.encodings.base import Dims, Encoding, Head, Pairs, Params
from posjax.encodings.traits import embeds, slopes
from posjax.errors import InputError
from posjax.invariants.finding import Finding, assertion, error_of, expect, normal, worst_of

OFFSETS = (1, 1000, 2**17, 2**24 + 1, 2**31 - 1 - 16)
"""Where float32 angles go wrong: past a window, past bfloat16's integers, past float32's, and at the end of int32."""


def scores(
    encoding: Encoding, params: Params, q: jax.Array, k: jax.Array, q_positions: jax.Array, k_positions: jax.Array
) -> jax.Array:
    """What attention sees of an encoding: `(R_q q)(R_k k) / sqrt(H) + bias`, in float32.

    `q [B, T, N, H]`, `k [B, S, N, H]`, positions `[T]` and `[S]` -> `[B, N, T, S]`.
    """
    _, _, heads, _ = q.shape
    chex.assert_equal_shape_suffix([q, k], 2)
    # No mask: every pair is seen, those ahead of the query too.
    q_index = jnp.arange(q.shape[1])
    k_index = jnp.arange(k.shape[1])
    pairs = Pairs(q_positions, k_positions, q_index, k_index)
    q = encoding.rotate(params, q, q_positions, "query")
    k = encoding.rotate(params, k, k_positions, "key")

    def score(q: jax.Array, k: jax.Array) -> jax.Array:
        return encoding.score(params, q, k, pairs)

    content = jax.vmap(score)(q, k)
    biases = [encoding.bias(params, q_positions, k_positions, Head(n, heads)) for n in range(heads)]
    # The same in every row of the batch.
    bias = jnp.stack(biases)
    return content + bias[None]


@assertion
def assert_relative(
    encoding: Encoding,
    params: Params,
    dims: Dims,
    offsets: Sequence[int] = OFFSETS[:4],
    length: int = 16,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """The shift law: scores stay the same when all positions move by one offset.

    The difference is measured against the scores' own scale, at each offset; positions stay below 2^31. Inside a
    function wrapped by `chex.chexify` it works under jit.

    >>> import posjax
    >>> assert_relative(posjax.Rope(), {}, Dims(heads=2, head_size=8), offsets=(1, 2**31 - 17))
    """
    # Under a trace nothing is known yet: chex asserts when the function has run.
    moved = moved_by(encoding, params, dims, offsets, length, seed)
    if any(isinstance(after, core.Tracer) for after, _ in moved):
        for after, before in moved:
            chex.assert_trees_all_close(after, before, atol=tolerance, rtol=0.0)
        return
    finding = shift(moved, offsets, tolerance)
    if not finding.holds:
        raise AssertionError(
            f"{encoding!r} is not relative: moving all positions by {finding.where} changes a score "
            f"by {finding.worst:.2g} of the scores' scale, and {tolerance:.2g} is allowed"
        )


def moved_by(
    encoding: Encoding,
    params: Params,
    dims: Dims,
    offsets: Sequence[int],
    length: int,
    seed: int,
    dtype: DTypeLike = jnp.float32,
) -> list[tuple[jax.Array, jax.Array]]:
    """For each offset the scores after and before the move, both over the scale of those before."""
    expect(encoding, dims, params)
    length = whole(length, "length", least=1)
    offsets = [whole(offset, "an offset", least=-LARGEST) for offset in offsets]
    if offsets and max(offsets) > LARGEST - length:
        raise InputError(
            f"an offset is {max(offsets)}: needed are {LARGEST - length} at most, so that positions stay below 2^31"
        )
    shape = (2, 2, length, dims.heads, dims.head_size)
    q, k = normal(shape, seed, dtype)
    x = normal((1, length, dims.model_size), seed, dtype)

    @jax.jit
    def measure(q: jax.Array, k: jax.Array, offset: Any) -> tuple[jax.Array, jax.Array]:
        """The scores at positions from an offset on, with what is embedded there if anything is, and their scale."""
        steps = jnp.arange(length, dtype=jnp.int32)
        at = offset + steps
        # Pairs that a head is blind to have one huge score, which would hide all others.
        found = scores(encoding, params, q, k, at, at)
        seen = jnp.maximum(found, -1e6)
        is_seen = seen > -1e6
        sizes = jnp.where(is_seen, jnp.abs(seen), 0.0)
        largest = jnp.max(sizes)
        # At least 1: errors of scores that are all small are measured as they are.
        scale = jnp.maximum(largest, 1.0)
        if not embeds(encoding):
            return seen, scale
        # Scores are of tokens, so what is added to these moves them too.
        embedded = encoding.embed(params, jnp.asarray(x), at).astype(jnp.float32)
        return jnp.concatenate([seen.ravel(), embedded.ravel()]), scale

    before, scale = measure(q, k, np.int32(0))
    moved = []
    for offset in offsets:
        after, _ = measure(q, k, np.int32(offset))
        moved.append((after / scale, before / scale))
    return moved


def shift(moved: list[tuple[jax.Array, jax.Array]], offsets: Sequence[int], tolerance: float) -> Finding:
    """The finding of the shift law: the worst of what moved positions changed."""
    errors = [error_of(after, before) for after, before in moved]
    if not errors:
        return Finding("shift", 0.0, tolerance, "no offset")
    worst = int(np.argmax(errors))
    where = str(offsets[worst])
    return Finding("shift", max(errors), tolerance, where)


@assertion
def assert_tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> None:
    """The tile law: every hook of a slice of positions is the slice of the hook.

    So it is of rows that stand at positions of their own. Shapes and types stay. What `prepare` has made for the
    positions, and the slopes of a bias, say the same as the hooks without them.

    >>> import posjax
    >>> assert_tile(posjax.Alibi(), {}, Dims(heads=3, head_size=8, model_size=24))
    """
    finding = tile(encoding, params, dims, length, seed)
    finding.enforce(encoding)


def tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> Finding:
    """Measures the tile law."""
    expect(encoding, dims, params)
    # Past its end a table is NaN, which equals nothing.
    length = min(length, encoding.max_length or length)
    at = np.arange(length, dtype=np.int32)
    x = normal((2, length, dims.model_size), seed)
    heads = normal((2, length, dims.heads, dims.head_size), seed)
    # Neither begins where the whole does, nor ends there; queries and keys are cut apart.
    rows = slice(length // 3, length - 1)
    columns = slice(1, length // 2)
    # Compiled, as a model runs them.
    hooks = jax.jit(partial(_hooks, encoding, params))
    # Two programs, compiled apart: in one the compiler could make the slice and the whole the same computation.
    entire = hooks(x, heads, at, at)
    x_part = x[:, rows]
    heads_part = heads[:, rows]
    part = hooks(x_part, heads_part, at[rows], at[columns])
    pairs = {}
    for name, whole_of_it in entire.items():
        known = np.asarray(whole_of_it)
        if name.startswith("bias"):
            cut = known[rows, columns]
        else:
            cut = known[:, rows]
        pairs[name] = part[name], cut
    pairs |= _by_row(encoding, params, (x, heads), at)
    pairs |= _shapes(encoding, params, (x, heads), at)
    if type(encoding).prepare is not Encoding.prepare:
        ready = jax.jit(encoding.prepare, static_argnums=2)(params, at, dims)
        prepared = jax.jit(partial(_tokens, encoding))(ready, x, heads, at)
        pairs |= {f"{name}, prepared": (found, entire[name]) for name, found in prepared.items()}
    steep = slopes(encoding, params, dims.heads)
    if steep is not None:
        distance = at[:, None] - at[None, :]
        for n, slope in enumerate(np.asarray(steep)):
            straight = np.where(distance >= 0, -slope * distance, 0.0)
            bias = np.asarray(entire[f"bias of head {n}"])
            pairs[f"slopes, of head {n}"] = straight, np.where(distance >= 0, bias, 0.0)
    return worst_of("tile", pairs, 1e-5)


def _by_row(
    encoding: Encoding, params: Params, tokens: tuple[np.ndarray, np.ndarray], at: np.ndarray
) -> dict[str, tuple[Any, Any]]:
    """What is done to the second of two rows that stand elsewhere, and what is done to it alone."""
    x, heads = tokens
    places = np.stack([at, at[::-1]])
    if encoding.coordinates > 1:  # Each of them is another.
        places = np.stack([places + n * at for n in range(encoding.coordinates)], axis=-1)
    done = jax.jit(partial(_tokens, encoding))
    together = done(params, x, heads, places)
    alone = done(params, x[1:], heads[1:], places[1:])
    return {f"{name} of a second row": (found[1], np.asarray(alone[name])[0]) for name, found in together.items()}


def _shapes(
    encoding: Encoding, params: Params, tokens: tuple[np.ndarray, np.ndarray], at: np.ndarray
) -> dict[str, tuple[Any, Any]]:
    """An infinite error for each hook that gives another shape or type than it gets, of bfloat16 and of positions."""
    places = jax.ShapeDtypeStruct((2, len(at)), jnp.int32)
    wanted = {"move": places}
    given = {"move": jax.eval_shape(encoding.move, params, places, jax.random.key(0))}
    x, heads = tokens
    narrow = jax.ShapeDtypeStruct(x.shape, jnp.bfloat16)
    of_heads = jax.ShapeDtypeStruct(heads.shape, jnp.bfloat16)
    wanted |= {"embed": narrow, "query": of_heads, "key": of_heads}
    given |= jax.eval_shape(partial(_tokens, encoding), params, narrow, of_heads, at)
    pairs = {}
    for name, want in wanted.items():
        got = given[name]
        if got.shape != want.shape or got.dtype != want.dtype:
            pairs[f"{name}: {_sort(got)} of {_sort(want)}"] = np.inf, 0.0
    return pairs


def _sort(array: jax.ShapeDtypeStruct) -> str:
    """The type and the shape of an array, in words."""
    return f"{array.dtype}{list(array.shape)}"


def _tokens(encoding: Encoding, params: Params, x: jax.Array, heads: jax.Array, at: jax.Array) -> dict[str, jax.Array]:
    """What the hooks of tokens give, by name."""
    return {
        "embed": encoding.embed(params, x, at),
        "query": encoding.rotate(params, heads, at, "query"),
        "key": encoding.rotate(params, heads, at, "key"),
    }


def _hooks(
    encoding: Encoding, params: Params, x: jax.Array, heads: jax.Array, q_at: jax.Array, k_at: jax.Array
) -> dict[str, jax.Array]:
    """What each hook gives, by name."""
    count = heads.shape[-2]
    biases = {f"bias of head {n}": encoding.bias(params, q_at, k_at, Head(n, count)) for n in range(count)}
    return {**_tokens(encoding, params, x, heads, q_at), **biases}


@assertion
def assert_distinct(encoding: Encoding, params: Params, dims: Dims, positions: Sequence[int], seed: int = 0) -> None:
    """The distinct law, for encodings that embed or rotate: different positions give different results.

    >>> import posjax
    >>> assert_distinct(posjax.Rope(), {}, Dims(heads=1, head_size=8, model_size=8), (0, 1, 2**31 - 1))
    """
    finding = distinct(encoding, params, dims, positions, seed)
    if not finding.holds:
        raise AssertionError(f"{encoding!r} does not tell {finding.where}")


def distinct(encoding: Encoding, params: Params, dims: Dims, positions: Sequence[int], seed: int = 0) -> Finding:
    """Counts the pairs of positions that cannot be told apart."""
    expect(encoding, dims, params)
    positions = [whole(position, "a position") for position in positions]
    # One token: whatever differs between positions is then the encoding's doing.
    at = np.asarray(positions, np.int32)
    x = normal((1, 1, dims.model_size), seed)
    heads = normal((1, 1, dims.heads, dims.head_size), seed)

    @jax.jit
    def told(x: jax.Array, heads: jax.Array, at: jax.Array) -> jax.Array:
        """For each position what is embedded and rotated there."""
        # The same input everywhere: what differs afterwards differs by the position alone.
        count = at.size
        everywhere = jnp.broadcast_to(x, (1, count, *x.shape[2:]))
        heads_everywhere = jnp.broadcast_to(heads, (1, count, *heads.shape[2:]))
        embedded = encoding.embed(params, everywhere, at)
        rotated = encoding.rotate(params, heads_everywhere, at, "query")
        rotated_rows = rotated[0].reshape(count, -1)
        return jnp.concatenate([embedded[0], rotated_rows], axis=1)

    found = told(x, heads, at)
    both = np.asarray(found)
    same = []
    for i in range(len(at)):
        for j in range(i):
            # To the bit: positions that come close are still told apart.
            if np.array_equal(both[i], both[j]):
                pair = positions[j], positions[i]
                same.append(pair)
    where = f"{len(at)} positions"
    if same:
        earlier, later = same[0]
        where = f"position {earlier} from {later}"
    count = float(len(same))
    return Finding("distinct", count, 0.0, where)
