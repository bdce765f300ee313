"""The ways in which people use JAX and Flax, as laws: each changes nothing, for every encoding and backend."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import posjax
from posjax import Alibi, Causal, Fire, Full, Kerple, Rope, Segments, Shaw, T5Bias, Window, attend, chain
from posjax.attention import chunked
from posjax.models import EncodingParams
from tests.cases import BACKEND_NAMES, DIMS, ENCODINGS, INTERPRETED, OF_ANY_SIZE, short

FEW = (chain(Rope(), Alibi()), T5Bias(buckets=8, max_distance=20), Shaw(clip=5))
"""A rotation, biases by distance, known and learned, and a score of content. All others are held under the mark
"exhaustive"."""


def every(few=FEW, all_of=ENCODINGS):
    rest = [pytest.param(value, marks=pytest.mark.exhaustive) for value in all_of if value not in few]
    return pytest.mark.parametrize("encoding", [*few, *rest], ids=short)


each_backend = pytest.mark.parametrize("backend", [
    *BACKEND_NAMES, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in INTERPRETED)])


@pytest.fixture(autouse=True)
def _what_is_interpreted_runs_for_a_few(request):
    """An interpreted kernel takes seconds; the laws of `test_laws` hold it for every encoding."""
    given = getattr(request.node, "callspec", None)
    if given and given.params.get("backend") in INTERPRETED and given.params.get("encoding", FEW[0]) not in FEW:
        pytest.skip("interpreted, for one encoding of each sort alone")


def setting(encoding, T, S=None, dtype="float32"):
    """Queries, keys and values, what is learned, and attention as a function of all of them."""
    S = T if S is None else S
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (2, n, heads, DIMS.head_size), dtype)
               for key, n, heads in zip(keys, (T, S, S), (6, 3, 3), strict=True))
    trained = encoding.init(jax.random.key(0), DIMS)

    def run(trained, q, k, v, backend, **more):
        try:
            return attend(q, k, v, encoding=encoding, params=trained, backend=backend, **more)
        except NotImplementedError as why:
            if backend not in INTERPRETED:
                raise
            pytest.skip(str(why))

    return trained, (q, k, v), run


def pulled(run, trained, arrays, **more):
    """The output, and the gradients of the sum of its squares."""
    def loss(trained, q, k, v):
        out = run(trained, q, k, v, **more)
        return jnp.sum(jnp.square(out.astype(jnp.float32))), out

    gradients, out = jax.grad(loss, (0, 1, 2, 3), has_aux=True)(trained, *arrays)
    return out, gradients


def assert_close(got, wanted, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0.0)))


def holds(encoding, length):
    return encoding.max_length is None or length <= encoding.max_length


# Meshes ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [5, 257])
@every()
def test_inside_a_shard_map_with_its_checks(encoding, length):
    trained, arrays, run = setting(encoding, length if holds(encoding, length) else 5)
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))
    rows = PartitionSpec("data")

    def each(trained, *arrays):
        return pulled(run, trained, arrays, backend="auto")

    split = jax.shard_map(each, mesh=mesh, in_specs=(PartitionSpec(), rows, rows, rows),
                          out_specs=(rows, (PartitionSpec(), rows, rows, rows)))
    assert_close(jax.jit(split)(trained, *arrays), jax.jit(each)(trained, *arrays))


@pytest.mark.parametrize("length", [5, 257])
@every()
def test_on_a_mesh_of_explicit_axes(encoding, length):
    trained, arrays, run = setting(encoding, length if holds(encoding, length) else 5)
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Explicit,))
    each = jax.jit(lambda trained, *arrays: pulled(run, trained, arrays, backend="auto"))
    wanted = each(trained, *arrays)
    with jax.set_mesh(mesh):
        spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
        assert_close(each(jax.device_put(trained, NamedSharding(mesh, PartitionSpec())), *spread), wanted)


def test_linear_attention_inside_a_shard_map():
    x = jax.random.normal(jax.random.key(0), (2, 300, 2, 8))
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))

    def run(x):
        return posjax.attention.linear_attend(x, x, x, encoding=Rope())[0]

    split = jax.shard_map(run, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
    assert_close(jax.jit(split)(x), run(x))


# Transforms -----------------------------------------------------------------------------------------------------------
@each_backend
@every()
def test_under_vmap_checkpoint_and_scan(encoding, backend):
    trained, arrays, run = setting(encoding, 7)
    plain = partial(run, backend=backend)
    wanted = jax.jit(plain)(trained, *arrays)
    rows = [x[:, None] for x in arrays]
    assert_close(jax.vmap(plain, (None, 0, 0, 0))(trained, *rows)[:, 0], wanted)
    many = jax.tree.map(lambda x: jnp.stack([x, x]), trained)
    if jax.tree.leaves(trained):
        assert_close(jax.vmap(plain, (0, None, None, None))(many, *arrays)[1], wanted)
    assert_close(jax.checkpoint(plain)(trained, *arrays), wanted)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, plain(trained, *row)), 0, tuple(rows))
    assert_close(scanned[:, 0], wanted)


@each_backend
def test_vmap_over_masks(backend):
    x = jax.random.normal(jax.random.key(0), (1, 9, 2, 8))
    ids = jnp.array([[[1, 1, 1, 2, 2, 2, 2, 0, 0]], [[1, 1, 1, 1, 1, 1, 1, 1, 1]]])

    def run(ids):
        return attend(x, x, x, mask=Causal() & Segments(ids), backend=backend)

    assert_close(jax.vmap(run)(ids), jnp.stack([run(each) for each in ids]))


@each_backend
@every()
def test_64_bits_with_strict_promotion_change_nothing(encoding, backend):
    trained, arrays, run = setting(encoding, 7)
    mask = Causal() & Window(5)
    wanted = pulled(run, trained, arrays, backend=backend, mask=mask)
    with jax.enable_x64(True):
        assert_close(pulled(run, trained, arrays, backend=backend, mask=mask), wanted)


@each_backend
@every()
def test_nothing_that_is_right_trips_the_debug_flags(encoding, backend):
    trained, arrays, run = setting(encoding, 6)
    padded = jnp.array([[0, 0, 1, 1, 1, 1]])
    with jax.debug_nans(True), jax.debug_infs(True):
        pulled(run, trained, arrays, backend=backend, mask=Causal() & Segments(padded))


def test_forward_mode_works_by_the_reference_and_others_name_it():
    q = jax.random.normal(jax.random.key(0), (1, 5, 2, 8))
    jax.jvp(lambda q: attend(q, q, q, backend="reference"), (q,), (q,))
    with pytest.raises(NotImplementedError, match="backend='reference'"):
        jax.jvp(lambda q: attend(q, q, q, backend="chunked"), (q,), (q,))


# Sizes and ranges -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sizes", [(0, 5, 5), (2, 0, 0), (2, 0, 3), (2, 3, 0)], ids=str)
@each_backend
@every(FEW[:1], FEW)
def test_no_token_at_all(encoding, backend, sizes):
    test_any_number_of_tokens(encoding, backend, sizes)


@pytest.mark.parametrize("sizes", [(2, 1, 4), (2, 7, 3)], ids=str)
@each_backend
@every()
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


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_weights_sum_to_one_however_far_the_best_key_is(backend):
    """All keys at one huge negative logit: each has an equal share, forward and backward."""
    k = v = jnp.ones((1, 4, 1, 8))
    q = jnp.full((1, 1, 1, 8), -1e9)
    d_v = jax.grad(lambda v: attend(q, k, v, mask=Full(), backend=backend)[..., 0].sum())(v)
    np.testing.assert_allclose(d_v[0, :, 0, 0], 0.25, rtol=1e-6)


# Marks ----------------------------------------------------------------------------------------------------------------
PADDED = jnp.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])


@each_backend
@every()
def test_padding_at_minus_one_reaches_no_real_token_forward_or_backward(encoding, backend):
    """The real tokens of a padded row give the output and the gradients that they give alone."""
    trained, arrays, run = setting(encoding, 6)
    if encoding.coordinates > 1 or encoding.moves:
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
    wanted = jax.grad(lambda *x: run(*x)[:, 2:].sum(), (0, 1, 2))(q, k, v)
    got = jax.grad(lambda *x: run(*x)[:, 2:].sum(), (0, 1, 2))(q, k.at[:, :2].set(mark), v.at[:, :2].set(mark))
    assert_close(run(q, k.at[:, :2].set(mark), v.at[:, :2].set(mark)), run(q, k, v))
    assert_close(got, wanted)
    assert np.isnan(attend(q, k, v.at[:, :2].set(mark), backend=backend)[:, 2:]).all()  # Seen, it is told.


# Flax -----------------------------------------------------------------------------------------------------------------
class Layer(nnx.Module):
    """The layer that the README shows."""

    def __init__(self, encoding, rngs):
        self.encoding = encoding
        self.project, self.out = nnx.Linear(96, 3 * 96, rngs=rngs), nnx.Linear(96, 96, rngs=rngs)
        self.positional = EncodingParams(encoding.init(rngs.params(), DIMS))

    def __call__(self, x):
        q, k, v = jnp.split(self.project(x).reshape(*x.shape[:2], 18, -1), 3, axis=2)
        out = attend(q, k, v, encoding=self.encoding, params=self.positional.get_value())
        return self.out(out.reshape(x.shape))


@pytest.fixture
def as_people_promote():
    """optax's Adam raises a float to an integer's power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("as_people_promote")
@every(few=(chain(Rope(), Kerple()), posjax.by_head(T5Bias(), Rope()), Fire(hidden=3)), all_of=OF_ANY_SIZE)
def test_a_layer_trains_with_flax_and_comes_back_from_plain_dicts(encoding):
    layer, x = Layer(encoding, nnx.Rngs(0)), jax.random.normal(jax.random.key(1), (1, 5, 96))
    optimizer = nnx.Optimizer(layer, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def step(layer, optimizer):
        loss, gradients = nnx.value_and_grad(lambda layer: jnp.mean(jnp.square(layer(x) - 1.0)))(layer)
        optimizer.update(layer, gradients)
        return loss

    losses = [float(step(layer, optimizer)) for _ in range(3)]
    assert losses[2] < losses[0]
    other = Layer(encoding, nnx.Rngs(7))
    state = nnx.state(other)
    nnx.replace_by_pure_dict(state, nnx.to_pure_dict(nnx.state(layer)))
    nnx.update(other, state)
    np.testing.assert_array_equal(other(x), layer(x))
    np.testing.assert_array_equal(nnx.remat(lambda layer, x: layer(x))(layer, x), layer(x))
    assert "positional" in nnx.tabulate(layer, x) or not jax.tree.leaves(layer.positional.get_value())


@pytest.mark.parametrize("encoding", [chain(Rope(), Kerple()), T5Bias()], ids=short)
def test_layers_in_a_scan_and_a_vmap(encoding):
    layers = nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: Layer(encoding, rngs)))(nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (1, 5, 96))
    scanned = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, layers)
    graph, state = nnx.split(layers)
    for i in range(2):
        x = nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state))(x)
    assert_close(scanned, x)


@pytest.mark.usefixtures("as_people_promote")
@pytest.mark.parametrize("encoding", [chain(Rope(), Kerple()), posjax.by_layer(Rope(), T5Bias())], ids=short)
def test_a_decoder_trains_with_flax(encoding):
    model = posjax.models.Decoder(encoding=encoding, layers=2, model_size=16, heads=2).build(11, seed=0)
    optimizer, tokens = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param), jnp.arange(6)[None]
    for _ in range(3):
        gradients = nnx.grad(lambda model: posjax.models.cross_entropy(model(tokens), tokens).mean())(model)
        optimizer.update(model, gradients)
    assert np.isfinite(model(tokens)).all()


# Errors ---------------------------------------------------------------------------------------------------------------
X = jnp.ones((2, 5, 2, 8))


@pytest.mark.parametrize(("arguments", "said"), [
    ({"q_positions": jnp.arange(4)}, r"q_positions have shape \(4,\) for 2 rows of 5 tokens"),
    ({"k_positions": jnp.arange(1)}, r"k_positions have shape \(1,\)"),
    ({"q_positions": jnp.zeros((3, 5), jnp.int32)}, r"\[5\] or \[2, 5\]"),
    ({"q_positions": np.full(5, 2**31)}, "positions of int32"),
    ({"mask": None}, "mask is None"),
    ({"mask": jnp.ones((5, 5))}, "mask is float32"),
    ({"mask": jnp.ones((4, 5), bool)}, r"\[5, 5\] or \[2, 5, 5\]"),
    ({"mask": Causal() & Segments(jnp.ones((2, 3), jnp.int32))}, r"Segments got ids of shape \(2, 3\)"),
    ({"mask": Causal() & Segments(jnp.ones((2, 5)))}, "type float32"),
    ({"mask": Causal() & Segments(jnp.ones((3, 5), jnp.int32))}, "B of 2 or 1"),
    ({"encoding": Rope}, r"a value, such as Rope\(\)"),
    ({"encoding": None}, "encoding is None"),
])
def test_small_arrays_are_held_to_the_tokens(arguments, said):
    with pytest.raises(posjax.InputError, match=said):
        attend(X, X, X, **{"encoding": Rope(), **arguments})


def test_whole_numbers_and_queries_without_a_place_are_refused():
    with pytest.raises(posjax.InputError, match="q is int32"):
        attend(X.astype(int), X, X)
    with pytest.raises(posjax.InputError, match="q_positions and k_positions"):
        attend(X, X[:, :3], X[:, :3], encoding=Rope(), mask=Full())
    with pytest.raises(posjax.InputError, match="Window got size=0"):
        Window(np.int32(0))


class Unregistered(posjax.Mask):
    """A mask of one's own that JAX does not know."""


def test_a_mask_that_is_no_pytree_says_so():
    with pytest.raises(posjax.InputError, match="register_dataclass"):
        attend(X, X, X, mask=Unregistered())


@each_backend
@pytest.mark.parametrize("length", [5, 256, 257])
def test_boolean_arrays_are_masks_and_ids_may_be_boolean(backend, length):
    x = jax.random.normal(jax.random.key(0), (2, length, 2, 8))
    below = jnp.tril(jnp.ones((length, length), bool))
    if backend not in INTERPRETED:
        assert_close(attend(x, x, x, mask=below, backend=backend), attend(x, x, x))
    real = np.arange(length)[None] >= np.array([[0], [3]])
    for ids in (real, jnp.asarray(real), real.astype(np.int64)):
        assert_close(attend(x, x, x, mask=Causal() & Segments(ids), backend=backend),
                     attend(x, x, x, mask=Causal() & (real[:, None] & real[:, :, None]), backend="reference"))


@each_backend
def test_queries_and_keys_of_other_sequences_have_ids_of_their_own(backend):
    q, k = jax.random.normal(jax.random.key(0), (1, 6, 2, 8)), jax.random.normal(jax.random.key(1), (1, 9, 2, 8))
    for first, second in ((q, k), (k, q)):
        T, S = first.shape[1], second.shape[1]
        q_ids, k_ids = jnp.arange(T)[None] // 3 + 1, jnp.arange(S)[None] // 3 + 1
        got = attend(first, second, second, mask=Segments(q_ids, k_ids), backend=backend)
        dense = q_ids[:, :, None] == k_ids[:, None, :]
        assert_close(got, attend(first, second, second, mask=dense, backend="reference"))


# Positions, not lengths -----------------------------------------------------------------------------------------------
LONG = Rope(base=100.0, schedule=posjax.LongRope(8.0, 16, (1.0,) * 8, tuple(float(n + 1) for n in range(8))))


@pytest.mark.parametrize("encoding", [LONG, Rope(schedule=posjax.DynamicNTK(4.0, 16))], ids=["LongRope", "DynamicNTK"])
def test_a_context_is_as_long_as_its_largest_position(encoding):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 32, 2, 16))
    ids = jnp.repeat(jnp.arange(1, 5), 8)[None]
    at = posjax.positions.packed(ids)
    packed = attend(q, k, v, encoding=encoding, q_positions=at, k_positions=at, mask=Causal() & Segments(ids))
    alone = attend(q[:, :8], k[:, :8], v[:, :8], encoding=encoding)
    assert_close(packed[:, :8], alone)
    # One query at place 7 of a roomy cache.
    roomy = attend(q[:, 7:8], k, v, encoding=encoding, q_positions=jnp.array([7]), k_positions=jnp.arange(32),
                   mask=(jnp.arange(32) <= 7)[None], length=8)
    assert_close(roomy, alone[:, 7:])
    with pytest.raises(posjax.InputError, match="pass length="):
        jax.jit(lambda at: attend(q, k, v, encoding=encoding, q_positions=at, k_positions=at))(at)


def test_blocks_are_as_long_as_the_lengths_above():
    assert chunked.BLOCK == 256  # Lengths of 5 and 257 lie on both sides of the first border.
