"""Linear attention with rotary positions: O(S) in time and memory, and a recurrence of fixed size for decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from posjax import axes
from posjax.attention.dispatch import fit
from posjax.attention.documents import documents, numbered
from posjax.attention.features import Favor, elu_plus_one
from posjax.attention.masks import Causal, Mask, as_mask, indices_to
from posjax.attention.meshes import check_heads_told, vary_alike
from posjax.attention.reference import without_void
from posjax.encodings.base import Dims, Encoding, NoPE, Params, Role, turned
from posjax.encodings.parameters import given_params
from posjax.encodings.traits import scores_content
from posjax.errors import InputError
from posjax.mesh import by_compiler, explicit_axes, spec_of
from posjax.positions import check, contiguous

FeatureMap = Callable[[jax.Array], jax.Array] | Favor
"""What makes features of queries and keys: a function, whose features are turned, or positive random features."""

CHUNK = 128
"""LinearTokens whose pairs are multiplied out at a time: within the square of it, above the head size."""


@dataclass(frozen=True)
class LinearState:
    """All that linear attention keeps of the tokens it has read, whatever their number.

    `products [B, K, M, U]`: the sum of rotated key features times values. `features [B, K, M]`: the sum of key
    features, as many as channels but where the feature map says otherwise. `void [B, K]`: how many tokens without a
    meaning there were: what is to see them is NaN. `count`: tokens read. `segment [B]`: the document of the last one.
    Sums are float32.
    """

    products: jax.Array
    features: jax.Array
    void: jax.Array
    count: jax.Array
    segment: jax.Array


jax.tree_util.register_dataclass(LinearState, ["products", "features", "void", "count", "segment"], [])


def linear_attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    positions: Any = None,
    encoding: Encoding = NoPE(),
    params: Params = None,
    mask: Mask = Causal(),
    state: LinearState | None = None,
    feature: FeatureMap = elu_plus_one,
) -> tuple[jax.Array, LinearState]:
    """Linear attention with a rotation in its numerator.

        out_m = sum_n (R_m phi(q_m)) (R_n phi(k_n)) v_n / sum_n phi(q_m) phi(k_n)

    over the keys n <= m under `Causal()`, all keys under `Full()`. `q [B, T, N, H]`, `k [B, T, K, H]` and `v [B, T, K,
    U]` with N a multiple of K. `positions`, `[T]` or `[B, T]`, and `params` are as for `attend`. `Causal() &
    Segments(ids)` keeps packed documents apart, each a run of equal ids `[B, T]`, 0 for padding; an id that comes back
    after another one is a new document. `feature` is phi: a function that makes as many features as channels, or
    `Favor(...)`, which rotates before it maps. Returns the output `[B, T, N, U]` in the dtype of `q`, and the state
    after the last token: passed back as `state` with the tokens that follow, one or many, it continues the sequence at
    a cost that does not depend on its length.

    Convention: only the numerator is rotated, so weights may be negative, and they sum to one no more: as published. A
    schedule's attention factor is a temperature of the softmax; here its square multiplies the output, so give Yarn
    `attention_factor=1.0`. Sums are float32. A row that sees a token without a meaning, at a negative position or with
    a key or value that is not finite, is NaN, and no other is touched.

    Errors: `InputError` for an encoding that does more than rotate, a state under a mask that is not causal, or shapes
    that do not fit; `NotImplementedError` for another mask.
    Source: Su et al. 2021, RoFormer, arXiv:2104.09864, equation 19.

    >>> import jax, posjax
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 5, 2, 4))
    >>> first, state = linear_attend(q[:, :3], k[:, :3], v[:, :3], encoding=posjax.Rope())
    >>> rest, _ = linear_attend(q[:, 3:], k[:, 3:], v[:, 3:], encoding=posjax.Rope(), state=state)
    >>> bool(jnp.allclose(rest, linear_attend(q, k, v, encoding=posjax.Rope())[0][:, 3:], atol=1e-5))
    True
    """
    sizes = axes.check(q_BTNH=q, k_BTKH=k, v_BTKU=v)
    axes.check_floats(q=q, k=k, v=v)
    mask = as_mask(mask)
    fit(encoding, mask, sizes)
    sizes["M"] = sizes["H"]
    if isinstance(feature, Favor):
        sizes["M"] = feature.features
    _check(encoding, state, sizes)
    last = None
    if state is not None:
        last = state.segment
    segments = documents(mask, sizes, last)
    before = state
    if before is None:
        before = empty_state(sizes)
    params = given_params(encoding, params, Dims(sizes["N"], sizes["H"]))
    check_heads_told(encoding, params, q)
    # Inside a shard_map what a loop carries differs between devices from its first round on.
    before = vary_alike(before, q, k, v, segments, positions, params)
    if positions is None:
        at = contiguous(sizes["T"], before.count)
    else:
        at = check(positions, "positions", encoding.coordinates, (sizes["B"], sizes["T"]))
    attended = partial(_attended, encoding, feature, mask.causal)
    return _anywhere(attended, (q, k, v), at, params, segments, before)


def _anywhere(attended: Callable[..., Any], qkv: tuple[jax.Array, ...], *rest: Any) -> tuple[jax.Array, LinearState]:
    """What is attended, on a mesh of Explicit axes too: there the state lies as the keys do."""
    if not explicit_axes():
        return attended(qkv, *rest)
    q, k, _ = qkv
    # An array's type may name fewer axes than it has: those left out are not split.
    named = (*spec_of(k), None, None, None)
    rows, heads = named[0], named[2]
    sums: Any = PartitionSpec(rows, heads)
    of_rows: Any = PartitionSpec(rows)
    whole: Any = PartitionSpec()
    state = LinearState(products=sums, features=sums, void=sums, count=whole, segment=of_rows)
    return by_compiler(attended, (spec_of(q), state), qkv, *rest)


class LinearTokens(NamedTuple):
    """What a chunk, or a whole sequence, is to linear attention. Padding and void keys are zeros.

    `q` and `turned_q [B, T, K, G, M]`, `k` and `turned_k [B, T, K, M]`, `v [B, T, K, U]`: features, those turned by the
    encoding, and values. `void [B, T, K]` is 1 for tokens without a meaning. `segment [B, T]`: the number of their
    document, 0 for padding.
    """

    q: jax.Array
    turned_q: jax.Array
    k: jax.Array
    turned_k: jax.Array
    v: jax.Array
    void: jax.Array
    segment: jax.Array


class Sums(NamedTuple):
    """What queries see: `total [B, T, K, G, U]`, `weight [B, T, K, G, 1]`, and `void [B, T, K]`, a count of tokens."""

    total: jax.Array
    weight: jax.Array
    void: jax.Array


def _attended(
    encoding: Encoding,
    feature: FeatureMap,
    causal: bool,
    qkv: tuple[jax.Array, jax.Array, jax.Array],
    at: jax.Array,
    params: Params,
    segments: jax.Array,
    before: LinearState,
) -> tuple[jax.Array, LinearState]:
    """The output and the state after it, of arguments that fit."""
    q, k, v = qkv
    padding = segments[:, :, None] == 0
    nowhere = _nowhere(at)
    # What is not finite would reach every later token through the sums: it becomes 0, and is counted beside them.
    q_clean, q_void = _cleaned(q)
    k_clean, k_void = _cleaned(k)
    v_clean, v_void = _cleaned(v)
    no_key = k_void | v_void | nowhere
    void_BTK = no_key & ~padding
    at = jnp.maximum(at, 0)
    q_features, turned_q = _features_of(feature, partial(turned, encoding, params), q_clean, at, "query")
    k_features, turned_k = _features_of(feature, partial(turned, encoding, params), k_clean, at, "key")
    grouped = (*q.shape[:2], k.shape[2], -1, q_features.shape[-1])
    absent = padding | void_BTK
    k_BTKM = jnp.where(absent[..., None], 0.0, k_features)
    turned_k = jnp.where(absent[..., None], 0.0, turned_k)
    void = void_BTK.astype(jnp.float32)
    out_size = (*q.shape[:3], v.shape[-1])
    if 0 in q.shape[:3]:
        return jnp.zeros(out_size, q.dtype), replace(before, count=before.count + q.shape[1])
    tokens = LinearTokens(
        q_features.reshape(grouped), turned_q.reshape(grouped), k_BTKM, turned_k, v_clean, void, segments
    )
    sums, after = _summed(tokens, before, causal)
    seen = sums.weight != 0
    # Twice, since a division by 0 that is not taken would still make the gradient NaN.
    out = jnp.where(seen, sums.total / jnp.where(seen, sums.weight, 1.0), 0.0)
    no_query = q_void | nowhere
    lost = no_query & ~padding
    lost_BTN = jnp.broadcast_to(lost, q.shape[:3])
    lost_BTKG = lost_BTN.reshape(out.shape[:4])
    sees_void = sums.void > 0
    void_BTKG = lost_BTKG | sees_void[..., None]
    out = jnp.where(void_BTKG[..., None], jnp.nan, out)
    out_BTNU = out.reshape(out_size)
    return out_BTNU.astype(q.dtype), after


def _summed(tokens: LinearTokens, before: LinearState, causal: bool) -> tuple[Sums, LinearState]:
    """What queries see, and the state after the tokens, whose documents are told apart by number meanwhile."""
    numbers, last = numbered(tokens.segment, before.segment)
    tokens = tokens._replace(segment=numbers)
    state = replace(before, segment=jnp.ones_like(before.segment))
    if causal:
        sums, after = _causal(tokens, state)
    else:
        sums, after = _full(tokens, state)
    return sums, replace(after, segment=last)


def _cleaned(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows in float32 with those that are not finite at 0, and which these are."""
    wide = x.astype(jnp.float32)
    return without_void(wide)


def _nowhere(at: jax.Array) -> jax.Array:
    """Which tokens have no meaning, at a negative position or coordinate: bool `[b, T, 1]`."""
    if at.ndim == 3:
        return jnp.any(at < 0, axis=-1)[..., None]
    return jnp.atleast_2d(at < 0)[..., None]


def check_rotates(encoding: Encoding) -> None:
    """Errors: `InputError` for an encoding that does more than to rotate."""
    does_more = encoding.bias_kind != "none" or scores_content(encoding) or encoding.length_dependent
    # What scales queries by their position is a temperature of the softmax, and here would multiply the output.
    if does_more or not encoding.relative:
        raise InputError(
            f"linear attention got {encoding!r}: needed is an encoding that rotates, and no more, such as "
            "Rope(); there are no scores here for a bias or a temperature to join"
        )


def _check(encoding: Encoding, state: LinearState | None, sizes: dict[str, int]) -> None:
    check_rotates(encoding)
    if state is None:
        return
    have: Any = type(state).__name__
    if isinstance(state, LinearState):
        have = jax.tree.map(_sort, state)
    need = jax.tree.map(_sort, jax.eval_shape(lambda: empty_state(sizes)))
    if have != need:
        raise InputError(
            f"linear attention got the state {have}: needed is one that it returned for as many rows and heads, {need}"
        )


def _sort(array: Any) -> str:
    """The type and the shape of an array, in words."""
    return f"{jnp.result_type(array)}{list(jnp.shape(array))}"


def _features_of(
    feature: FeatureMap, rotate: Callable[..., jax.Array], x: jax.Array, at: jax.Array, role: Role
) -> tuple[jax.Array, jax.Array]:
    """The features of queries or keys, and the same turned.

    Errors: `InputError` where a function makes another number of them than there are channels.
    """
    if isinstance(feature, Favor):
        turned = rotate(x, at, role)
        made = feature.of_keys(turned)
        if role == "query":
            made = feature.of_queries(turned)
        return made, made
    if not callable(feature):
        raise InputError(f"feature is {feature!r}: needed is a function of an array, such as elu_plus_one")
    made = feature(x)
    if jnp.shape(made) != x.shape:
        raise InputError(f"feature made {jnp.shape(made)} of {x.shape}: needed are as many features as channels")
    # Features are turned, and not what they are made of: a rotation of the latter would not survive the map.
    return made, rotate(made, at, role)


def empty_state(sizes: dict[str, int]) -> LinearState:
    """What linear attention keeps before the first token, for sizes by their letters."""
    B = sizes["B"]
    K = sizes["K"]
    M = sizes["M"]
    U = sizes["U"]
    return LinearState(
        products=jnp.zeros((B, K, M, U), jnp.float32),
        features=jnp.zeros((B, K, M), jnp.float32),
        void=jnp.zeros((B, K), jnp.float32),
        count=jnp.zeros((), jnp.int32),
        # The document of tokens that no mask gives one: they go on with it.
        segment=jnp.ones((B,), jnp.int32),
    )


def _full(tokens: LinearTokens, state: LinearState) -> tuple[Sums, LinearState]:
    """Every query sees the same: one state, and no order among the tokens."""
    products = jnp.einsum("BTKM,BTKU->BKMU", tokens.turned_k, tokens.v)
    features = jnp.sum(tokens.k, axis=1)
    void = jnp.sum(tokens.void, axis=1)
    total = jnp.einsum("BTKGM,BKMU->BTKGU", tokens.turned_q, products)
    weight = jnp.einsum("BTKGM,BKM->BTKG", tokens.q, features)[..., None]
    length = tokens.q.shape[1]
    count = state.count + length
    after = LinearState(products, features, void, count, state.segment)
    void_BTK = jnp.broadcast_to(void[:, None], weight.shape[:3])
    sums = Sums(total, weight, void_BTK)
    return sums, after


def _causal(tokens: LinearTokens, state: LinearState) -> tuple[Sums, LinearState]:
    """Chunk after chunk, each with the state of those before it."""
    length = tokens.q.shape[1]
    chunk = min(CHUNK, length)
    blocks = -(-length // chunk)
    missing = blocks * chunk - length

    def cut(x: jax.Array) -> jax.Array:
        # Padding is of segment 0, whose keys are zero; it repeats no document, so the state stays that of the last.
        rest = ((0, 0),) * (x.ndim - 2)
        padded = jnp.pad(x, ((0, 0), (0, missing), *rest))
        # The scan runs over the first axis.
        cut_up = padded.reshape(x.shape[0], blocks, chunk, *x.shape[2:])
        return jnp.moveaxis(cut_up, 1, 0)

    def joined(x: jax.Array) -> jax.Array:
        in_order = jnp.moveaxis(x, 0, 1)
        whole = in_order.reshape(x.shape[1], blocks * chunk, *x.shape[3:])
        return whole[:, :length]

    # A chunk is computed anew on the way back: kept are the states between chunks, and no pairs.
    chunks = jax.tree.map(cut, tokens)
    state, found = lax.scan(jax.checkpoint(_step), state, chunks)
    # Padding is no token that was read.
    count = state.count - missing
    after = replace(state, count=count)
    return jax.tree.map(joined, found), after


def _step(state: LinearState, tokens: LinearTokens) -> tuple[LinearState, Sums]:
    """One chunk: what the state knows, the pairs within, and the state after it."""
    after = _state_after(state, tokens)
    return after, _sums_of(state, tokens)


def _sums_of(state: LinearState, tokens: LinearTokens) -> Sums:
    """What the queries of a chunk see: keys of the chunk, pair by pair, and all before it, by the state."""
    segment = tokens.segment
    length = segment.shape[1]
    order = indices_to(length)
    earlier = order[:, None] >= order[None, :]
    same_segment = segment[:, :, None] == segment[:, None, :]
    pairs = earlier[None] & same_segment
    seen = pairs[:, None, None].astype(jnp.float32)
    # The state is of one document: the queries of another know nothing of it.
    known = (segment == state.segment[:, None])[:, :, None, None, None]
    multiply = partial(jnp.einsum, "BTKGM,BSKM->BKGTS")
    total = jnp.einsum("BKGTS,BSKU->BTKGU", multiply(tokens.turned_q, tokens.turned_k) * seen, tokens.v)
    total_by_state = jnp.einsum("BTKGM,BKMU->BTKGU", tokens.turned_q, state.products)
    total += jnp.where(known, total_by_state, 0.0)
    # The denominator is that of the features as they are: only the numerator is rotated.
    weight = jnp.einsum("BKGTS->BTKG", multiply(tokens.q, tokens.k) * seen)[..., None]
    weight_by_state = jnp.einsum("BTKGM,BKM->BTKG", tokens.q, state.features)
    weight += jnp.where(known, weight_by_state[..., None], 0.0)
    void = jnp.einsum("BTS,BSK->BTK", pairs.astype(jnp.float32), tokens.void)
    void += jnp.where(known[..., 0, 0], state.void[:, None], 0.0)
    return Sums(total, weight, void)


def _state_after(state: LinearState, tokens: LinearTokens) -> LinearState:
    """The state after a chunk: sums over the document that goes on, begun anew where it is another one."""
    segment = tokens.segment
    length = segment.shape[1]
    order = indices_to(length)
    # The document that goes on is that of the last token which is no padding.
    real = jnp.where(segment != 0, order[None, :], -1)
    last = jnp.max(real, axis=1)
    there = jnp.maximum(last, 0)
    its_document = jnp.take_along_axis(segment, there[:, None], axis=1)[:, 0]
    now = jnp.where(last < 0, state.segment, its_document)
    goes_on = (segment == now[:, None])[:, :, None, None]
    unchanged = now == state.segment
    same = unchanged[:, None, None]
    products = jnp.where(same[..., None], state.products, 0.0)
    products += jnp.einsum("BSKM,BSKU->BKMU", jnp.where(goes_on, tokens.turned_k, 0.0), tokens.v)
    features = jnp.where(same, state.features, 0.0)
    features += jnp.sum(jnp.where(goes_on, tokens.k, 0.0), axis=1)
    void = jnp.where(same[..., 0], state.void, 0.0)
    void += jnp.sum(jnp.where(goes_on[..., 0], tokens.void, 0.0), axis=1)
    count = state.count + length
    return LinearState(products, features, void, count, now)
