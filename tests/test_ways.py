"""The ways in which people use JAX, as laws: each changes nothing, for every encoding and backend."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import posjax
from posjax import Alibi, Causal, Dims, Full, Kerple, Rope, Segments, T5Bias, Window, attend, chain
from posjax.attention import attention, blocks
from posjax.encodings.parameters import counts_heads
from posjax.encodings.traits import moves_tokens
from tests.cases import CORE, ENCODINGS, FEW, each_case, first_of, in_turn, short, wide
from tests.ways import LENGTHS, assert_close, each_backend, each_way, every, one_way, pulled, quick, setting, ways


def holds(encoding, length):
    return encoding.max_length is None or length <= encoding.max_length


each_length = each_case("encoding, length", LENGTHS, lambda case: case[0] in FEW and case[1] == 257)


# Meshes ---------------------------------------------------------------------------------------------------------------
@each_length
def test_inside_a_shard_map_with_its_checks(encoding, length):
    trained, arrays, run = setting(encoding, length if holds(encoding, length) else 5)
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))
    rows = PartitionSpec("data")

    def each(trained, *arrays):
        return pulled(run, trained, arrays, backend="auto")

    split = jax.shard_map(
        each,
        mesh=mesh,
        in_specs=(PartitionSpec(), rows, rows, rows),
        out_specs=(rows, (PartitionSpec(), rows, rows, rows)),
    )
    assert_close(jax.jit(split)(trained, *arrays), jax.jit(each)(trained, *arrays))


@pytest.mark.parametrize("encoding", wide(ENCODINGS, CORE[::2]), ids=short)
def test_heads_that_a_shard_map_splits_are_those_of_one_device_or_refused(encoding):
    trained, (q, k, v), _ = setting(encoding, 7)
    k, v = k[:, :, :2], v[:, :, :2]
    mesh = jax.make_mesh((2,), ("tensor",), (AxisType.Auto,))
    heads = PartitionSpec(None, None, "tensor")
    # What leads with its heads is split with them.
    specs = jax.tree.map(lambda x: PartitionSpec("tensor") if x.shape[:1] == (6,) else PartitionSpec(), trained)

    def each(trained, q, k, v):
        return attend(q, k, v, encoding=encoding, params=trained, mask=Causal(), backend="reference")

    split = jax.shard_map(each, mesh=mesh, in_specs=(specs, heads, heads, heads), out_specs=heads)
    by_number = counts_heads(encoding, trained, Dims(3, 16))
    if by_number:
        with pytest.raises(posjax.InputError, match=r"number among all heads|heads: needed|given_slopes for"):
            jax.jit(split)(trained, q, k, v)
        return
    assert_close(jax.jit(split)(trained, q, k, v), jax.jit(each)(trained, q, k, v))


@dataclasses.dataclass(frozen=True)
class ByNumber(posjax.RelativeBias):
    """Steeper the later the head, by its number and no parameter."""

    def by_distance(self, params, distance, head):
        return -jnp.abs(distance).astype(jnp.float32) / (1 + head.index)


@dataclasses.dataclass(frozen=True)
class ByCount(posjax.RelativeBias):
    """Flatter the more heads there are."""

    def by_distance(self, params, distance, head):
        return -jnp.abs(distance).astype(jnp.float32) / head.count


@dataclasses.dataclass(frozen=True)
class TurnsByNumber(posjax.Encoding):
    """Heads are scaled by their number."""

    def rotate(self, params, x, positions, role):
        by_head = jnp.arange(1.0, 1 + x.shape[-2])[None, None, :, None]
        return x * by_head.astype(x.dtype)


@pytest.mark.parametrize("encoding", [ByNumber(), ByCount(), TurnsByNumber(), Alibi("halves", learned=True)], ids=repr)
def test_what_goes_by_a_heads_number_is_known_by_what_it_does(encoding):
    learned = encoding.init(jax.random.key(0), Dims(3, 16))
    assert counts_heads(encoding, learned, Dims(3, 16))
    for other in (Rope(), Alibi(given_slopes=(0.5,)), T5Bias(), Kerple(), Alibi(learned=True)):
        assert not counts_heads(other, other.init(jax.random.key(0), Dims(3, 16)), Dims(3, 16))
    # Of an even number, the halves of each device are those of all.
    assert not counts_heads(Alibi("halves", learned=True), learned_of("halves", 4), Dims(4, 16))


def learned_of(direction, heads):
    return Alibi(direction, learned=True).init(jax.random.key(0), Dims(heads, 16))


@pytest.mark.exhaustive
def test_constants_of_all_heads_may_be_split_with_them():
    """Which is what the refusal says to do."""
    encoding = Alibi()
    joined = jax.tree.map(jnp.asarray, encoding.join({}, encoding.constants(Dims(6, 16))))
    _, (q, k, v), _ = setting(encoding, 7)
    k, v = k[:, :, :2], v[:, :, :2]
    mesh = jax.make_mesh((2,), ("tensor",), (AxisType.Auto,))
    heads = PartitionSpec(None, None, "tensor")
    specs = {"slopes": PartitionSpec("tensor"), "rate": PartitionSpec()}

    def each(params, q, k, v):
        return attend(q, k, v, encoding=encoding, params=params)

    split = jax.shard_map(each, mesh=mesh, in_specs=(specs, heads, heads, heads), out_specs=heads)
    assert_close(jax.jit(split)(joined, q, k, v), each(joined, q, k, v))


@first_of("encoding", [Kerple(), Alibi(learned=True), chain(Rope(), T5Bias())], ids=short, keep=1)
def test_explicit_axes_may_split_what_is_learned_for_each_head(encoding):
    trained, arrays, run = setting(encoding, 7)
    arrays = [x[:, :, :2] for x in arrays]
    trained = jax.tree.map(lambda x: x[:2], trained)
    mesh = jax.make_mesh((2,), ("tensor",), (AxisType.Explicit,))
    each = jax.jit(lambda trained, *arrays: pulled(run, trained, arrays, backend="auto"))
    wanted = each(trained, *arrays)
    with jax.set_mesh(mesh):
        spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec(None, None, "tensor")))
        held = jax.device_put(trained, NamedSharding(mesh, PartitionSpec("tensor")))
        assert_close(each(held, *spread), wanted)


@pytest.mark.parametrize("encoding", [T5Bias(8, 64)], ids=short)
def test_gradients_of_16_bit_parameters_are_summed_in_float32(encoding):
    T = 1536
    at, falling = jnp.arange(T), jnp.linspace(0.0, 1.0, T)[None, :, None]
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, T, 1, 4))
    held = encoding.init(jax.random.key(0), Dims(1, 4))
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), held)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)

    def loss(params):
        out = attend(q, k, v, encoding=encoding, params=params, q_positions=at, k_positions=at, backend="chunked")
        return jnp.sum(out[..., 0] * falling)

    gradient = jax.jit(jax.grad(loss))
    for got, wanted in zip(*map(jax.tree.leaves, (gradient(narrow), gradient(wide))), strict=True):
        # As near as 16 bits hold it.
        np.testing.assert_allclose(got.astype(jnp.float32), wanted, rtol=2**-8, atol=1e-6)


@each_length
def test_on_a_mesh_of_explicit_axes(encoding, length):
    trained, arrays, run = setting(encoding, length if holds(encoding, length) else 5)
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Explicit,))
    each = jax.jit(lambda trained, *arrays: pulled(run, trained, arrays, backend="auto"))
    wanted = each(trained, *arrays)
    with jax.set_mesh(mesh):
        spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
        assert_close(each(jax.device_put(trained, NamedSharding(mesh, PartitionSpec())), *spread), wanted)


@pytest.mark.exhaustive
def test_linear_attention_inside_a_shard_map():
    x = jax.random.normal(jax.random.key(0), (2, 300, 2, 8))
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))

    def run(x):
        return posjax.attention.linear_attend(x, x, x, encoding=Rope())[0]

    split = jax.shard_map(run, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
    assert_close(jax.jit(split)(x), run(x))


@pytest.mark.exhaustive
def test_linear_attention_with_constants_of_each_device():
    x = jax.random.normal(jax.random.key(0), (2, 6, 2, 8))
    constants = [Rope(base).constants(Dims(2, 8)) for base in (1e4, 1e2)]
    apart = jax.tree.map(lambda *each: jnp.stack(each), *constants)
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))

    def run(x, own):
        own = jax.tree.map(lambda leaf: leaf[0], own)
        return posjax.attention.linear_attend(x, x, x, encoding=Rope(), params=own)[0][None]

    rows = PartitionSpec("data")
    split = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows)
    got = jax.jit(split)(x, apart)
    assert_close(got[1], posjax.attention.linear_attend(x, x, x, encoding=Rope(1e2))[0])


# Transforms -----------------------------------------------------------------------------------------------------------
@each_way
def test_under_vmap_checkpoint_and_scan(encoding, backend):
    trained, arrays, run = setting(encoding, 7)
    plain = partial(run, backend=backend)
    wanted = jax.jit(plain)(trained, *arrays)
    rows = [x[:, None] for x in arrays]
    assert_close(jax.jit(jax.vmap(plain, (None, 0, 0, 0)))(trained, *rows)[:, 0], wanted)
    many = jax.tree.map(lambda x: jnp.stack([x, x]), trained)
    if jax.tree.leaves(trained):
        assert_close(jax.jit(jax.vmap(plain, (0, None, None, None)))(many, *arrays)[1], wanted)
    assert_close(jax.jit(jax.checkpoint(plain))(trained, *arrays), wanted)
    scanned = jax.jit(lambda rows: jax.lax.scan(lambda carry, row: (carry, plain(trained, *row)), 0, rows)[1])
    assert_close(scanned(tuple(rows))[:, 0], wanted)


@each_backend
def test_vmap_over_masks(backend):
    x = jax.random.normal(jax.random.key(0), (1, 9, 2, 8))
    ids = jnp.array([[[1, 1, 1, 2, 2, 2, 2, 0, 0]], [[1, 1, 1, 1, 1, 1, 1, 1, 1]]])

    def run(ids):
        return attend(x, x, x, mask=Causal() & Segments(ids), backend=backend)

    assert_close(jax.vmap(run)(ids), jnp.stack([run(each) for each in ids]))


@one_way
def test_64_bits_with_strict_promotion_change_nothing(encoding, backend):
    trained, arrays, run = setting(encoding, 7)
    mask = Causal() & Window(5)
    wanted = pulled(run, trained, arrays, backend=backend, mask=mask)
    with jax.enable_x64(True):
        assert_close(pulled(run, trained, arrays, backend=backend, mask=mask), wanted)


@one_way
def test_nothing_that_is_right_trips_the_debug_flags(encoding, backend):
    trained, arrays, run = setting(encoding, 6)
    padded = jnp.array([[0, 0, 1, 1, 1, 1]])
    with jax.debug_nans(True), jax.debug_infs(True):
        # Of what is compiled whole, the flags would see the results alone.
        pulled(run, trained, arrays, compiled=False, backend=backend, mask=Causal() & Segments(padded))


@one_way
def test_float16_is_float32_but_for_its_rounding(encoding, backend):
    trained, arrays, run = setting(encoding, 7)
    wanted = pulled(run, trained, arrays, backend=backend)
    halves = [x.astype(jnp.float16) for x in arrays]
    out, gradients = pulled(run, trained, halves, backend=backend)
    assert {x.dtype for x in (out, *gradients[1:])} == {jnp.dtype("float16")}
    assert_close((out, gradients), wanted, 1e-2)


def test_forward_mode_works_by_the_reference_and_others_name_it():
    q = jax.random.normal(jax.random.key(0), (1, 5, 2, 8))
    jax.jvp(lambda q: attend(q, q, q, backend="reference"), (q,), (q,))
    with pytest.raises(NotImplementedError, match="backend='reference'"):
        jax.jvp(lambda q: attend(q, q, q, backend="chunked"), (q,), (q,))


@pytest.mark.exhaustive
def test_a_gradient_of_fire_has_a_forward_mode_and_its_bias_says_that_it_has_none():
    q = jax.random.normal(jax.random.key(0), (1, 4, 1, 4))
    encoding = posjax.Fire(2)
    trained = encoding.init(jax.random.key(0), Dims(1, 4))

    def run(trained):
        out = attend(q, q, q, encoding=encoding, params=trained, backend="reference")
        return jnp.sum(jnp.square(out))

    along = jax.tree.map(jnp.ones_like, trained)
    _, forward = jax.jvp(jax.grad(run), (trained,), (along,))
    reverse = jax.grad(lambda x: sum(map(jnp.sum, jax.tree.leaves(jax.grad(run)(x)))))(trained)
    assert_close(forward, reverse)
    with pytest.raises(NotImplementedError, match="the encoding has a derivative of its own"):
        jax.jvp(run, (trained,), (along,))


@first_of("backend", ["reference", "chunked"], keep=1)
def test_a_traced_first_index_may_be_of_any_whole_type(backend):
    x = jax.random.normal(jax.random.key(0), (1, 5, 2, 8))

    def run(first):
        return attention(x[:, :2], x, x, q_offset=first, backend=backend)[0]

    for kind in ("int8", "uint32", "int64"):
        with jax.enable_x64(True):
            assert_close(jax.jit(run)(jnp.asarray(2, kind)), run(2))


# Sizes and ranges -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sizes", [(0, 5, 5), (2, 0, 0), (2, 0, 3), (2, 3, 0)], ids=str)
@each_backend
@every(FEW[:1], FEW)
def test_no_token_at_all(encoding, backend, sizes):
    test_any_number_of_tokens(encoding, backend, sizes)


@each_case("encoding, backend, sizes", in_turn(ways(), [(2, 1, 4), (2, 7, 3)], FEW), quick)
def test_any_number_of_tokens(encoding, backend, sizes):
    B, T, S = sizes
    trained, (q, k, v), run = setting(encoding, 7)
    arrays = q[:B, :T], k[:B, :S], v[:B, :S]
    out, gradients = pulled(run, trained, arrays, backend=backend)
    assert out.shape == arrays[0].shape and all(np.isfinite(x).all() for x in jax.tree.leaves((out, gradients)))
    assert (np.asarray(out)[:, : max(T - S, 0)] == 0).all()


@each_backend
@pytest.mark.parametrize("size", [8, 16, 44])
def test_scores_past_the_integers_of_float32(backend, size):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, size))
    run = partial(attend, backend=backend)
    out = jax.jit(run)(1e5 * q, 1e5 * k, v)
    assert_close(out, run(1e5 * q, 1e5 * k, v, backend="reference"))


@first_of("backend", ["reference", "chunked"], keep=1)
def test_weights_sum_to_one_however_far_the_best_key_is(backend):
    """All keys at one huge negative logit: each has an equal share, forward and backward."""
    k = v = jnp.ones((1, 4, 1, 8))
    q = jnp.full((1, 1, 1, 8), -1e9)
    d_v = jax.grad(lambda v: attend(q, k, v, mask=Full(), backend=backend)[..., 0].sum())(v)
    np.testing.assert_allclose(d_v[0, :, 0, 0], 0.25, rtol=1e-6)


# Marks ----------------------------------------------------------------------------------------------------------------
PADDED = jnp.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


@each_way
def test_padding_at_minus_one_reaches_no_real_token_forward_or_backward(encoding, backend):
    """The real tokens of a padded row give the output and the gradients that they give alone."""
    trained, arrays, run = setting(encoding, 6)
    if encoding.coordinates > 1 or moves_tokens(encoding):
        pytest.skip("its positions are not those of tokens alone")
    at = jnp.where(PADDED == 1, jnp.cumsum(PADDED, 1) - 1, -1)[:1]
    row = [x[:1] for x in arrays]

    def real(trained, *arrays, **more):
        return run(trained, *arrays, backend=backend, **more)[:, -4:]

    out, gradients = pulled(real, trained, row, mask=Causal() & Segments(PADDED[:1]), q_positions=at, k_positions=at)
    wanted, expected = pulled(real, trained, [x[:, 2:] for x in row])
    assert_close(out, wanted)
    assert_close(gradients[0], expected[0])
    for got, alone in zip(gradients[1:], expected[1:], strict=True):
        assert (np.asarray(got)[:, :2] == 0).all()
        assert_close(got[:, 2:], alone)


@pytest.mark.parametrize("mark", [np.nan, np.inf])
@each_backend
def test_what_a_mask_hides_may_be_anything(backend, mark):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 8))
    run = partial(attend, encoding=Alibi(), mask=Causal() & Segments(PADDED[:1]), backend=backend)
    gradients = jax.jit(jax.grad(lambda *x: run(*x)[:, 2:].sum(), (0, 1, 2)))
    wanted, got = gradients(q, k, v), gradients(q, k.at[:, :2].set(mark), v.at[:, :2].set(mark))
    assert_close(run(q, k.at[:, :2].set(mark), v.at[:, :2].set(mark)), run(q, k, v))
    assert_close(got, wanted)
    assert np.isnan(attend(q, k, v.at[:, :2].set(mark), backend=backend)[:, 2:]).all()  # Seen, it is told.


# Positions, not lengths -----------------------------------------------------------------------------------------------
LONG = Rope(base=100.0, schedule=posjax.LongRope(8.0, 16, (1.0,) * 8, tuple(float(n + 1) for n in range(8))))


@pytest.mark.parametrize("encoding", [LONG, Rope(schedule=posjax.DynamicNTK(4.0, 16))], ids=["LongRope", "DynamicNTK"])
def test_a_context_is_as_long_as_its_largest_position(encoding):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 32, 2, 16))
    ids = jnp.repeat(jnp.arange(1, 5), 8)[None]
    at = posjax.positions.packed(ids)
    run = partial(attend, encoding=encoding)
    packed = jax.jit(partial(run, q_positions=at, k_positions=at, mask=Causal() & Segments(ids)))(q, k, v)
    alone = jax.jit(run)(q[:, :8], k[:, :8], v[:, :8])
    assert_close(packed[:, :8], alone)
    # One query at place 7 of a roomy cache.
    places = dict(q_positions=jnp.array([7]), k_positions=jnp.arange(32), mask=(jnp.arange(32) <= 7)[None])
    assert_close(jax.jit(partial(run, **places, length=8))(q[:, 7:8], k, v), alone[:, 7:])
    with pytest.raises(posjax.InputError, match="pass length="):
        jax.jit(lambda at: attend(q, k, v, encoding=encoding, q_positions=at, k_positions=at))(at)


def test_blocks_are_as_long_as_the_lengths_above():
    assert blocks.BLOCK == 256  # Lengths of 5 and 257 lie on both sides of the first border.
