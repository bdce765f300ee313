"""Dropout of attention weights: where a pair is decides whether it is dropped, by whatever way it is computed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import posjax
from posjax import Causal, Dims, Dropout, Forgetting, Segments, Shaw, T5Bias, Window, attend
from posjax.attention import BACKENDS, blocks, explain
from posjax.attention.dropout import Dropping, given_dropout
from posjax.attention.jobs import Job
from tests.attention.ring_program import mesh_of
from tests.cases import first_of
from tests.ways import assert_close

B, T, N, K, H = 2, 24, 4, 2, 8
KEY = jax.random.key(5)
Q, KEYS, V = (
    jax.random.normal(key, (B, T, heads, H))
    for key, heads in zip(jax.random.split(jax.random.key(0), 3), (N, K, K), strict=True)
)
DROPOUT = Dropout(0.3, KEY)
T5 = T5Bias(8, 20)
PACKED = Causal() & Segments(jnp.array([[1] * 5 + [2] * 16 + [0] * 3, [3] * 24]))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)


def pulled(backend, encoding=T5, **more):
    """The output, and the gradients of all that is learned."""
    params = encoding.init(jax.random.key(1), Dims(N, H))
    sinks = jnp.arange(4.0)

    @jax.jit
    def loss(params, q, k, v, sinks, dropout):
        out = attend(q, k, v, encoding=encoding, params=params, sinks=sinks, backend=backend, dropout=dropout, **more)
        return jnp.sum(jnp.sin(out)), out

    return jax.value_and_grad(loss, (0, 1, 2, 3, 4), has_aux=True)(params, Q, KEYS, V, sinks, DROPOUT)


def factors(dropping: Dropping, q: int = T, k: int = T, first: int = 0) -> np.ndarray:
    return np.asarray(dropping.factors(B, N, jnp.arange(first, q), jnp.arange(k)))


@pytest.mark.exhaustive
def test_the_reference_multiplies_the_weights():
    dropping = given_dropout(DROPOUT, Q)
    kept = factors(dropping)
    eye = jnp.broadcast_to(jnp.eye(T)[None, :, None], (B, T, K, T))  # The output is then the row of weights.
    plain = attend(Q, KEYS, eye, mask=PACKED)
    got = attend(Q, KEYS, eye, mask=PACKED, dropout=DROPOUT, backend="reference")
    np.testing.assert_allclose(got, plain * kept.transpose(0, 2, 1, 3), atol=1e-6)


@pytest.mark.parametrize("backend", ["chunked", "ring"])
@first_of("mask", [PACKED, Causal() & Window(5)], ids=["packed", "window"], keep=1)
def test_backends_drop_the_same_pairs(mask, backend):
    wanted = pulled("reference", mask=mask)
    if backend == "ring":
        with jax.set_mesh(mesh_of(context=2)):
            assert_close(pulled(backend, mask=mask), wanted)
    else:
        assert_close(pulled(backend, mask=mask), wanted)


@first_of("encoding", [Shaw(clip=5), Forgetting()], ids=repr, keep=1)
def test_scores_of_content_drop_them_too(encoding):
    assert_close(pulled("chunked", encoding=encoding), pulled("reference", encoding=encoding))


@first_of("block", [5, 24], keep=1)
def test_the_size_of_blocks_changes_nothing(block, monkeypatch):
    wanted = pulled("chunked")
    monkeypatch.setattr(blocks, "BLOCK", block)
    assert_close(pulled("chunked"), wanted)


def test_parts_of_rows_and_heads_change_nothing(monkeypatch):
    wanted = pulled("chunked")
    monkeypatch.setattr(posjax.attention.chunked, "TILE", 1)
    assert_close(pulled("chunked"), wanted)


@pytest.mark.exhaustive
def test_the_last_queries_drop_what_they_drop_in_the_full_pass():
    full = attend(Q, KEYS, V, dropout=DROPOUT)
    for backend in ("reference", "chunked"):
        assert_close(attend(Q[:, 20:], KEYS, V, dropout=DROPOUT, backend=backend), full[:, 20:])


@first_of("axis", ["data", "tensor"], keep=1)
@first_of("way", ["shard_map", "unchecked", "explicit", "auto"], keep=2)
def test_a_mesh_changes_nothing(way, axis):
    kind = {"explicit": AxisType.Explicit}.get(way, AxisType.Auto)
    mesh = jax.make_mesh((2,), (axis,), (kind,))
    spec = {"data": PartitionSpec("data"), "tensor": PartitionSpec(None, None, "tensor")}[axis]

    def run(q, k, v, key):
        return jax.grad(lambda *qkv: jnp.sum(jnp.sin(attend(*qkv, dropout=Dropout(0.3, key)))), (0, 1, 2))(q, k, v)

    wanted = run(Q, KEYS, V, KEY)
    with jax.set_mesh(mesh):
        arrays = [jax.device_put(x, NamedSharding(mesh, spec)) for x in (Q, KEYS, V)]
        if way in ("shard_map", "unchecked"):
            specs = (spec, spec, spec)
            checked = way == "shard_map"
            run = jax.shard_map(run, in_specs=(*specs, PartitionSpec()), out_specs=specs, check_vma=checked)
        assert_close(jax.jit(run)(*arrays, KEY), wanted)


@pytest.mark.exhaustive
def test_a_ring_that_splits_rows_too_changes_nothing():
    wanted = pulled("reference")
    with jax.set_mesh(mesh_of(data=2, context=1)):
        assert_close(pulled("ring"), wanted)


def test_each_row_head_and_key_of_jax_drops_its_own():
    rate, wide = 0.3, 200
    dropping = given_dropout(DROPOUT, jnp.zeros((B, wide, N, H)))
    kept = factors(dropping, wide, wide) > 0
    share = kept.mean()
    assert abs(share - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / kept.size)
    other = factors(given_dropout(Dropout(rate, jax.random.key(6)), jnp.zeros((B, wide, N, H))), wide, wide) > 0
    flat = kept.reshape(B * N, wide, wide)
    lines = [*flat, other[0, 0], flat[0].T, np.roll(flat[0], 1, 0), np.roll(flat[0], 1, 1)]
    # Patterns that have nothing to do with each other agree as chance has it, in lines along both axes too.
    expected = rate**2 + (1 - rate) ** 2
    for i, a in enumerate(lines):
        for b in lines[:i]:
            assert abs((a == b).mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / a.size)
    for axis in (1, 2):
        spread = flat.mean(axis).std() / np.sqrt(rate * (1 - rate) / wide)
        assert 0.9 < spread < 1.1


def test_the_mean_over_keys_is_the_output_without():
    outs = jax.lax.map(lambda key: attend(Q, KEYS, V, dropout=Dropout(0.3, key)), jax.random.split(KEY, 400))
    error = jnp.abs(outs.mean(0) - attend(Q, KEYS, V)) / (outs.std(0) / 20 + 1e-6)
    assert float(jnp.mean(error < 2)) > 0.93 and float(error.max()) < 6


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_a_rate_of_zero_is_the_identity_to_the_bit(backend):
    nothing = attend(Q, KEYS, V, dropout=Dropout(0.0, KEY), backend=backend)
    np.testing.assert_array_equal(nothing, attend(Q, KEYS, V, backend=backend))


@pytest.mark.exhaustive
def test_an_axis_of_no_known_name_takes_a_key_of_its_own():
    mesh = jax.make_mesh((2,), ("dp",), (AxisType.Auto,))
    rows = PartitionSpec("dp")

    def run(q, k, v, own):
        key = jax.random.fold_in(KEY, jax.lax.axis_index("dp")) if own else KEY
        return attend(q, k, v, dropout=Dropout(0.5, key))

    def split(own):
        return jax.shard_map(lambda *x: run(*x, own), mesh=mesh, in_specs=rows, out_specs=rows)(Q, KEYS, V)

    with pytest.raises(posjax.InputError, match=r"differ over 'dp' .* fold jax\.lax\.axis_index\('dp'\)"):
        split(False)
    assert np.isfinite(split(True)).all()


def test_a_rate_next_to_one_drops_nearly_all():
    assert np.isfinite(attend(Q, KEYS, V, dropout=Dropout(1 - 1e-10, KEY))).all()


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_the_older_kind_are_taken(kind):
    with jax.default_prng_impl(kind):
        key = jax.random.key(7)
        # Of an older key the kind is that of the process when it is used.
        old = attend(Q, KEYS, V, dropout=Dropout(0.3, jax.random.PRNGKey(7)))
    np.testing.assert_array_equal(old, attend(Q, KEYS, V, dropout=Dropout(0.3, key)))


@pytest.mark.parametrize(
    ("dropout", "said"),
    [
        (lambda: 0.1, r"dropout is 0.1: needed is Dropout\(rate, key\)"),
        (lambda: Dropout(1.0, KEY), "rate=1.0: needed is a number from 0 to below 1"),
        (lambda: Dropout(float("nan"), KEY), "rate=nan"),
        (lambda: Dropout(True, KEY), "rate=True"),
        (lambda: Dropout(0.1, 3), "Dropout got key=3: needed is one key"),
        (lambda: Dropout(0.1, jax.random.split(KEY)), "needed is one key"),
        (lambda: jax.jit(lambda rate: Dropout(rate, KEY))(0.1), "a traced rate"),
    ],
)
def test_what_is_no_dropout_is_refused(dropout, said):
    with pytest.raises(posjax.InputError, match=said):
        attend(Q, KEYS, V, dropout=dropout())


def test_kernels_refuse_it_and_auto_passes_on():
    asked = Job("cpu", "bfloat16", 128, 128, 4, 2, 64, device="H100", dropout=True)
    for name, platform in (("cudnn", "gpu"), ("splash", "tpu"), ("fused", "gpu")):
        assert BACKENDS[name].refuse(replace(asked, platform=platform)) == "it drops no attention weights"
    assert "dropout" in str(explain(Q, KEYS, V, dropout=DROPOUT))


@pytest.mark.exhaustive
def test_what_is_dropped_alone_may_differ_between_devices():
    x = jax.random.normal(jax.random.key(0), (1, 16, 2, 8))
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))

    def loss(x, key):
        return jnp.sum(attend(x, x, x, dropout=Dropout(0.5, key), backend="chunked") ** 2)

    def each(x):
        key = jax.random.fold_in(jax.random.key(1), jax.lax.axis_index("data"))
        return jax.grad(loss)(x, key)

    whole = PartitionSpec()
    summed = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=whole, out_specs=whole))(x)
    apart = [jax.grad(loss)(x, jax.random.fold_in(jax.random.key(1), n)) for n in range(2)]
    assert_close(summed, apart[0] + apart[1])
