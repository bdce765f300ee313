"""The laws, as theorems about every encoding of the registry, their chains, and every backend."""

import dataclasses
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import Causal, Segments, chain, invariants
from posjax.encodings import Chain, Chunks, Encoding, Head, NoPE, Pairs, Schedule
from posjax.encodings.traits import structure
from tests.cases import CHAINS, CORE, DIMS, ENCODINGS, FEW, INTERPRETED, params_of, short, wide
from tests.laws import (
    FAST,
    attend,
    each_backend,
    each_encoding,
    each_encoding_at,
    each_single,
    every_second,
    mask_of,
    may_refuse,
    qkv,
)


# 1 Tile -------------------------------------------------------------------------------------------------------------
@each_encoding
def test_tile(encoding):
    invariants.assert_tile(encoding, params_of(encoding), DIMS)


# 2 Head -------------------------------------------------------------------------------------------------------------
@each_encoding
def test_the_head_index_may_be_traced(encoding):
    params, at = params_of(encoding), jnp.arange(9)
    if encoding.bias_kind == "none":
        return
    traced = jax.jit(jax.vmap(lambda n: encoding.bias(params, at, at, Head(n, DIMS.heads))))(jnp.arange(DIMS.heads))
    for n in range(DIMS.heads):
        np.testing.assert_allclose(traced[n], encoding.bias(params, at, at, Head(n, DIMS.heads)), rtol=1e-6, atol=1e-6)


@each_single
def test_every_bias_parameter_leads_with_its_heads(encoding):
    if encoding.bias_kind != "none":
        for leaf in jax.tree.leaves(encoding.init(jax.random.key(0), DIMS)):
            assert leaf.shape[0] in (1, DIMS.heads)


@every_second
@each_backend
def test_heads_split_over_two_devices_give_the_same(encoding, backend):
    params, (q, k, v) = params_of(encoding), qkv(10, kv_heads=6)

    def run(q, k, v, params):
        return attend(q, k, v, encoding=encoding, params=params, mask=mask_of(encoding), backend=backend)

    mesh = jax.make_mesh((2,), ("tensor",), (jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, None, "tensor"))
    there = jax.jit(run)(*(jax.device_put(x, split) for x in (q, k, v)), params)
    np.testing.assert_allclose(there, run(q, k, v, params), atol=2e-6)


# 3 Decode -----------------------------------------------------------------------------------------------------------
@each_encoding_at(4, 8)
def test_one_token_at_a_time_equals_the_full_pass(encoding, backend, t):
    # Without constants, so that what depends on the length of the context is resolved for each.
    params, (q, k, v) = encoding.init(jax.random.key(0), DIMS), qkv(9)
    run = dict(encoding=encoding, params=params, mask=Causal(), backend=backend)
    full = attend(q[:, : t + 1], k[:, : t + 1], v[:, : t + 1], **run)
    one = attend(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1], **run)
    np.testing.assert_allclose(one[:, 0], full[:, t], atol=2e-6)


@each_encoding
@each_backend
def test_what_comes_later_changes_nothing_before(encoding, backend):
    params, (q, k, v) = params_of(encoding), qkv(9)
    run = dict(encoding=encoding, params=params, mask=Causal(), backend=backend, length=9)
    longer = attend(q, k, v, **run)
    np.testing.assert_allclose(longer[:, :5], attend(q[:, :5], k[:, :5], v[:, :5], **run), atol=2e-6)


# 4 Pack -------------------------------------------------------------------------------------------------------------
@each_encoding
@each_backend
def test_two_documents_packed_equal_the_two_apart(encoding, backend):
    params, (q, k, v) = encoding.init(jax.random.key(0), DIMS), qkv(10)  # No constants, which would fix a length.
    segments = jnp.array([[1] * 5 + [2] * 5] * 2)
    at = posjax.positions.packed(segments)
    run = dict(encoding=encoding, params=params, backend=backend)
    together = attend(q, k, v, q_positions=at, k_positions=at, mask=Causal() & Segments(segments), **run)
    for part in (slice(0, 5), slice(5, 10)):
        apart = attend(q[:, part], k[:, part], v[:, part], mask=Causal(), **run)
        np.testing.assert_allclose(together[:, part], apart, atol=2e-6)


@each_encoding
@each_backend
def test_left_padding_equals_none(encoding, backend):
    params, (q, k, v) = encoding.init(jax.random.key(0), DIMS), qkv(9)
    real = jnp.arange(9)[None, :] >= jnp.array([[4], [4 if encoding.length_dependent else 0]])
    at, mask = posjax.positions.left_padded(real), Causal() & Segments(real)
    run = dict(encoding=encoding, params=params, backend=backend)  # One context has one length, whatever the row.
    padded = attend(q, k, v, q_positions=at, k_positions=at, mask=mask, **run)
    alone = attend(q[:, 4:], k[:, 4:], v[:, 4:], mask=Causal(), **run)
    np.testing.assert_allclose(padded[0, 4:], alone[0], atol=2e-6)
    whole = alone[1] if encoding.length_dependent else attend(q, k, v, mask=Causal(), **run)[1]
    np.testing.assert_allclose(padded[1, -len(whole) :], whole, atol=2e-6)
    assert not padded[0, :4].any(), "padding sees nothing and comes out as zero"


# 5 Shift ------------------------------------------------------------------------------------------------------------
@each_encoding
def test_a_relative_encoding_ignores_a_common_offset(encoding):
    if encoding.relative:
        last = (encoding.max_length or 2**31) - 17
        offsets = [offset for offset in (1, 200, 2**24 + 1, last) if offset <= last]
        invariants.assert_relative(encoding, params_of(encoding), DIMS, offsets=offsets)


@pytest.mark.parametrize("encoding", [posjax.Sinusoidal(), posjax.Learned()], ids=short)
def test_absolute_encodings_do_not_claim_to_be_relative(encoding):
    assert not encoding.relative and not chain(encoding, posjax.Rope()).relative


# 6 Compose ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", CHAINS, ids=short)
def test_chain_is_associative_with_a_unit(encoding):
    a, *rest = encoding.parts
    assert chain(a, chain(*rest)) == chain(chain(a), *rest) == encoding
    assert chain(NoPE(), a, chain(NoPE()), *rest, NoPE()) == encoding
    assert chain() == NoPE() and chain(a) == a


def test_chain_applies_each_part():
    both, (q, k, v) = chain(posjax.Rope(), posjax.Alibi()), qkv(6)
    at = jnp.arange(6)
    turned = [posjax.Rope().rotate({}, x, at, role) for x, role in ((q, "query"), (k, "key"))]
    expected = attend(*turned, v, encoding=posjax.Alibi())
    np.testing.assert_allclose(attend(q, k, v, encoding=both), expected, atol=1e-6)


# 7 Value ------------------------------------------------------------------------------------------------------------
@each_encoding
def test_an_encoding_is_a_value(encoding):
    again = eval(repr(encoding), vars(posjax))
    assert again == encoding and hash(again) == hash(encoding)
    traces = []

    @jax.jit
    def count(x):
        return x

    def f(x, encoding):
        traces.append(encoding)
        return x

    jitted = jax.jit(f, static_argnames="encoding")
    for value in (encoding, again):
        jitted(jnp.zeros(1), encoding=value)
    assert len(traces) == 1
    for field in dataclasses.fields(encoding):
        assert not isinstance(getattr(encoding, field.name), jax.Array | np.ndarray)


# 8 No dead field ----------------------------------------------------------------------------------------------------
def others(owner: object, name: str) -> list[object]:
    """Other values of a field: what a user might write there."""
    value, hint = getattr(owner, name), typing.get_type_hints(type(owner))[name]
    if typing.get_origin(hint) is typing.Literal:
        return [choice for choice in typing.get_args(hint) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, Schedule):
        nested = [f.name for f in dataclasses.fields(value)]
        changed = [dataclasses.replace(value, **{n: o}) for n in nested for o in others(value, n)[:1]]
        return [posjax.Interpolation(3.0), *changed]
    if value is None:
        return [50] if name == "length" else []
    if isinstance(value, Encoding):
        return [posjax.Rope(base=50.0)]
    if isinstance(value, Chunks):
        return [Chunks(value.size + 1, value.count), Chunks(value.size, value.count + 1)]
    if isinstance(value, tuple):
        return [value[::-1] if value[::-1] != value else value[:-1]]
    # Twice nothing is no other value.
    return [value / 2] if name in ("fraction", "keep") else [type(value)(value * 2 or 1)]


def behaviour(encoding: Encoding) -> list[np.ndarray]:
    """All that an encoding does, on fixed input, at three lengths of the context."""
    lengths = (encoding.at_length(3), encoding.at_length(40)) if encoding.length_dependent else ()
    return [np.asarray(array) for value in (encoding, *lengths) for array in _behaviour(value)]


@partial(jax.jit, static_argnums=0)
def _behaviour(encoding: Encoding) -> list[jax.Array]:
    params, at = params_of(encoding), jnp.arange(40)
    x = jax.random.normal(jax.random.key(3), (1, 40, DIMS.model_size))
    heads = x.reshape(1, 40, DIMS.heads, DIMS.head_size)
    biases = [encoding.bias(params, at, at, Head(n, DIMS.heads)) for n in range(DIMS.heads)]
    corner = jnp.stack([at // (a + 1) for a in range(encoding.coordinates)], -1)[None]
    turned = encoding.rotate(params, heads, corner if encoding.coordinates > 1 else at, "query")
    scored = encoding.score(params, heads[0], heads[0], Pairs(at, at, at, at))
    placed = encoding.move(params, at, jax.random.key(1))
    return [encoding.embed(params, x, at), turned, scored, placed, *biases]


@every_second
def test_changing_any_field_changes_something(encoding):
    before = behaviour(encoding)
    leaves = jax.tree.structure(encoding.init(jax.random.key(0), DIMS))
    for field in dataclasses.fields(encoding):
        for other in others(encoding, field.name):
            changed = dataclasses.replace(encoding, **{field.name: other})
            if changed.max_length != encoding.max_length:  # A longer table shows past the end of the shorter one.
                continue
            try:
                after = behaviour(changed)
            except posjax.InputError:  # It raises: LongRope's lists fit one rotary size.
                continue
            same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
            trained = jax.tree.structure(changed.init(jax.random.key(0), DIMS))
            assert not same or trained != leaves, (field.name, other)


# 9 Gradient ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", wide(ENCODINGS, (*CORE[::4], *FEW)), ids=short)
@pytest.mark.parametrize("backend", wide([*FAST, *INTERPRETED], FAST))
def test_gradients_equal_the_reference(encoding, backend, monkeypatch):
    monkeypatch.setattr("posjax.attention.blocks.BLOCK", 8)  # Several blocks, the last one not full.
    params, (q, k, v) = params_of(encoding), qkv(19)
    leaves, tree = jax.tree.flatten(params)
    trained = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    cotangent = jax.random.normal(jax.random.key(9), q.shape)

    @partial(jax.jit, static_argnums=0)
    def both(way, at, *arguments):
        def run(q, k, v, *some):
            given = dict(zip(trained, some, strict=True))
            own = [given.get(i, leaf) for i, leaf in enumerate(leaves)]
            return posjax.attend(
                q,
                k,
                v,
                q_positions=at,
                k_positions=at,
                encoding=encoding,
                backend=way,
                params=tree.unflatten(own),
                mask=mask_of(encoding),
                length=19,
            )

        out, pull = jax.vjp(run, *arguments)
        return out, pull(cotangent)

    arguments = (q, k, v, *(jnp.asarray(leaves[i]) for i in trained))
    expected, wanted = both("reference", None, *arguments)
    for at in (None, posjax.positions.contiguous(19)):
        with may_refuse(backend):
            out, gradients = both(backend, at, *arguments)
        np.testing.assert_allclose(out, expected, atol=3e-6)
        for got, want in zip(gradients, wanted, strict=True):
            np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-4)


@each_single
def test_every_parameter_gets_a_gradient(encoding):
    params = encoding.init(jax.random.key(0), DIMS)
    length = encoding.max_length if encoding.max_length and encoding.max_length < 1000 else 160
    x = jax.random.normal(jax.random.key(1), (1, length, DIMS.model_size))
    encoding = encoding.at_length(length)

    def loss(params):
        joined = encoding.join(params, encoding.constants(DIMS))
        y = encoding.embed(joined, x, jnp.arange(length)).reshape(1, length, DIMS.heads, DIMS.head_size)
        out = attend(y, y, y, encoding=encoding, params=joined, mask=mask_of(encoding), backend="reference")
        return jnp.sum(out * jax.random.normal(jax.random.key(2), out.shape))

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        # T5's bucket of distance 0 ahead of the query is never used, and some of FIRE's units never open.
        assert np.mean(np.asarray(gradient) != 0) > 0.3, f"{jax.tree_util.keystr(path)} has no gradient in places"


# 10 Distinct --------------------------------------------------------------------------------------------------------
@each_single
def test_positions_stay_distinct_up_to_the_declared_length(encoding):
    kind = type(encoding)
    if not encoding.injective or (kind.embed is Encoding.embed and kind.rotate is Encoding.rotate):
        return
    most = encoding.max_length
    some = (0, 1, 2, 255, 256, 257, 511) if most else (0, 1, 257, 2**24, 2**24 + 1, 2**31 - 2, 2**31 - 1)
    invariants.assert_distinct(encoding, params_of(encoding), DIMS, some)


@each_single
def test_positions_outside_give_nan_and_never_another_row(encoding):
    params, x = params_of(encoding), jnp.ones((1, 2, DIMS.model_size))
    outside = [-1, encoding.max_length] if encoding.max_length else [-1, -5]
    at = jnp.array(outside)
    embedded = encoding.embed(params, x, at)
    rotated = encoding.rotate(params, x.reshape(1, 2, DIMS.heads, -1), at, "query")
    assert bool((embedded == x).all()) or bool(jnp.isnan(embedded).any(-1).all())
    assert bool((rotated == x.reshape(rotated.shape)).all()) or bool(jnp.isnan(rotated).any((-1, -2)).all())


# Structure: constants are data ----------------------------------------------------------------------------------------
@each_encoding
def test_within_a_structure_constants_may_be_exchanged(encoding):
    parts = encoding.parts if isinstance(encoding, Chain) else (encoding,)
    for i, part in enumerate(parts):
        for name in part.swept:
            for other in others(part, name)[:1]:
                changed = chain(*parts[:i], dataclasses.replace(part, **{name: other}), *parts[i + 1 :])
                assert structure(changed) == structure(encoding)
                # Of one length, which constants are of.
                changed = changed.at_length(7)
                params = changed.join(changed.init(jax.random.key(0), DIMS), changed.constants(DIMS))
                q, k, v = qkv(7)
                swapped = attend(q, k, v, encoding=encoding.at_length(7), params=params, mask=mask_of(encoding))
                own = attend(q, k, v, encoding=changed, params=params, mask=mask_of(encoding))
                np.testing.assert_array_equal(swapped, own)


@each_encoding
def test_what_is_not_swept_separates_structures(encoding):
    if not isinstance(encoding, Chain):
        for field in dataclasses.fields(encoding):
            if field.name not in encoding.swept and not isinstance(getattr(encoding, field.name), Encoding):
                assert all(
                    structure(dataclasses.replace(encoding, **{field.name: o})) != structure(encoding)
                    for o in others(encoding, field.name)
                )


@each_encoding
def test_prepared_parameters_change_nothing(encoding):
    params, at = params_of(encoding), jnp.arange(9)
    x = jax.random.normal(jax.random.key(5), (1, 9, DIMS.model_size))
    heads = x.reshape(1, 9, DIMS.heads, -1)
    prepared = encoding.prepare(params, at, DIMS)
    np.testing.assert_array_equal(encoding.embed(prepared, x, at), encoding.embed(params, x, at))
    turned, again = (encoding.rotate(p, heads, at, "key") for p in (prepared, params))
    np.testing.assert_array_equal(turned, again)
