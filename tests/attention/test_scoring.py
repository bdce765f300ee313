"""Scale, soft cap, sinks, and values of their own size: what they mean, by every backend, and who refuses them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import posjax
from posjax import Alibi, Causal, Dims, Rope, Segments, Shaw, T5Bias, Window, attend
from posjax.attention import BACKENDS, attention, blocks, cudnn, describe, explain, splash
from posjax.attention.fused.derivative import planned
from posjax.attention.fused.plan import KernelPlan
from posjax.attention.jobs import Job
from tests import oracles
from tests.attention.ring_program import mesh_of
from tests.cases import BACKEND_NAMES, INTERPRETED, first_of, wide
from tests.ways import assert_close

B, T, N, K, H = 2, 16, 4, 2, 8
KEYS = jax.random.split(jax.random.key(0), 5)
Q, KEY, V, NARROW = (
    jax.random.normal(key, (B, T, heads, size))
    for key, heads, size in zip(KEYS, (N, K, K, K), (H, H, 12, 5), strict=False)
)
SINKS = jnp.array([0.5, -1.0, 3.0, 0.0])
PACKED = Causal() & Segments(jnp.array([[1] * 5 + [2] * 8 + [0] * 3, [3] * 16]))
MORE = {
    "scale": {"scale": 0.9},
    "softcap": {"softcap": 0.7},
    "sinks": {"sinks": SINKS},
    "all": {"scale": 1.3, "softcap": 1.5, "sinks": SINKS},
}
each = pytest.mark.parametrize("more", MORE.values(), ids=MORE)
T5 = T5Bias(8, 20)
BY_DISTANCE = T5.init(jax.random.key(3), Dims(N, H))
"""A table whose gradient shows where the bias is added: outside the cap."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)


def pulled(backend, *arrays, mask=Causal(), params=BY_DISTANCE, encoding=T5, **more):
    """Output, log-sum-exp, and the gradients of a function of both for all that is learned."""
    sinks = more.pop("sinks", None)

    def run(q, k, v, params, sinks):
        joined = encoding.join(params, encoding.constants(Dims(N, H)))
        queries, keys = q.shape[1], k.shape[1]
        bias = describe(encoding, joined, N, None, None, (queries, keys), keys - queries)
        out, lse = attention(
            q, k, v, bias=bias, mask=mask, q_offset=keys - queries, backend=backend, sinks=sinks, **more
        )
        real = jnp.where(lse > -1e29, lse, 0.0)  # Of a row that sees nothing only the sign is defined.
        return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(real)), (out, lse)

    both = jax.jit(jax.value_and_grad(run, (0, 1, 2, 3, 4), has_aux=True))
    (_, aux), gradients = both(*arrays, params, sinks)
    return aux, gradients


@each
@first_of("v", [V, NARROW], ids=["wider", "narrower"], keep=1)
def test_the_reference_is_the_definition(v, more):
    allowed = np.asarray(PACKED.allowed(jnp.arange(T), jnp.arange(T)))
    out, lse = attention(Q, KEY, v, mask=PACKED, backend="reference", **more)
    assert out.shape == (B, T, N, v.shape[-1]) and lse.shape == (B, N, T)
    np.testing.assert_allclose(out, oracles.attention(Q, KEY, v, None, allowed, **more), atol=2e-6)
    with_bias = T5.join(BY_DISTANCE, T5.constants(Dims(N, H)))
    out = attend(Q, KEY, v, encoding=T5, params=BY_DISTANCE, mask=PACKED, backend="reference", **more)
    bias = describe(T5, with_bias, N, None, None, (T, T), 0).tile(0, 0, T, T)
    np.testing.assert_allclose(out, oracles.attention(Q, KEY, v, bias, allowed, **more), atol=3e-6)


MASKS = {"packed": PACKED, "window": Causal() & Window(5)}
CASES = [(name, kind) for name in MORE for kind in MASKS]
FEW = [(name, kind) for name, kind in CASES if kind == "packed" or name == "all"]


@first_of("backend", [*(name for name in BACKEND_NAMES if name != "reference"), "ring"], keep=1)
@pytest.mark.parametrize("case", wide(CASES, FEW), ids=", ".join)
def test_a_backend_equals_the_reference(case, backend):
    name, kind = case
    more, mask = MORE[name], MASKS[kind]
    wanted = pulled("reference", Q, KEY, V, mask=mask, **more)
    if backend == "ring":
        with jax.set_mesh(mesh_of(context=2)):
            got = pulled(backend, Q, KEY, V, mask=mask, **more)
    else:
        got = pulled(backend, Q, KEY, V, mask=mask, **more)
    assert_close(got, wanted)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_step_of_decoding_is_the_end_of_the_full_pass(backend):
    more = {"encoding": posjax.chain(Rope(), Alibi()), "backend": backend, **MORE["all"]}
    run = jax.jit(partial(attend, **more))
    assert_close(run(Q[:, -1:], KEY, V), run(Q, KEY, V)[:, -1:])


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_row_that_sees_nothing_is_0_and_one_without_a_meaning_harms_no_other(backend):
    (out, lse), gradients = pulled(backend, Q, KEY, V, mask=PACKED, **MORE["all"])
    assert not out[0, 13:].any()
    np.testing.assert_allclose(lse[0, :, 13:], jnp.broadcast_to(SINKS[:, None], (N, 3)), rtol=1e-6)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(gradients))

    @jax.jit
    def marked(sinks):
        q = Q.at[0, 1].set(jnp.nan)
        out, pull = jax.vjp(lambda sinks: attention(q, KEY, V, sinks=sinks, backend=backend), sinks)
        return out, pull(jax.tree.map(jnp.ones_like, out))[0]

    out, gradient = marked(SINKS)
    assert jnp.isnan(out[0][0, 1]).all() and jnp.isnan(out[1][0, :, 1]).all() and jnp.isfinite(out[0][1]).all()
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_scale_in_bfloat16_is_as_exact_as_the_root(backend):
    narrow = [x.astype(jnp.bfloat16) for x in (Q, KEY, V)]
    wanted = attend(*(x.astype(jnp.float32) for x in narrow), backend="reference")
    scaled = attend(*narrow, scale=H**-0.5, backend=backend).astype(jnp.float32)
    plain = attend(*narrow, backend=backend).astype(jnp.float32)
    assert jnp.abs(scaled - wanted).max() <= 1.01 * jnp.abs(plain - wanted).max()


@pytest.mark.exhaustive
@first_of("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "shard_map"], keep=1)
def test_a_mesh_that_splits_rows_and_heads_changes_nothing(kind):
    mesh = jax.make_mesh((2, 1), ("data", "tensor"), (kind, kind))
    rows = PartitionSpec("data")

    def loss(q, k, v, sinks):
        return jnp.sum(jnp.sin(attend(q, k, v, encoding=Rope(), softcap=1.5, sinks=sinks)))

    wanted = jax.grad(loss, (0, 3))(Q, KEY, V, SINKS)
    with jax.set_mesh(mesh):
        if kind == AxisType.Explicit:
            q, k, v = (jax.device_put(x, NamedSharding(mesh, rows)) for x in (Q, KEY, V))
            got = jax.jit(jax.grad(loss, (0, 3)))(q, k, v, SINKS)
        else:
            whole = PartitionSpec()
            run = jax.shard_map(
                jax.grad(loss, (0, 3)), in_specs=(rows, rows, rows, whole), out_specs=(rows, whole), axis_names={"data"}
            )
            got = jax.jit(run)(Q, KEY, V, SINKS)
    assert_close(got, wanted)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scale": float("nan")}, "scale is nan: needed is a finite number"),
        ({"scale": True}, "scale is True"),
        ({"scale": "0.5"}, "scale is '0.5'"),
        ({"scale": jnp.ones(2)}, "scale is"),
        ({"softcap": 0.0}, "softcap is 0.0: needed is a positive number"),
        ({"softcap": float("inf")}, "softcap is inf"),
        ({"sinks": SINKS[:3]}, r"sinks are float32 of shape \(3,\): needed are floats \[4\]"),
        ({"sinks": SINKS.astype(int)}, "sinks are int32"),
        ({"sinks": [0.0] * 4}, "sinks are list"),
        (
            {"encoding": Shaw(clip=5), "params": Shaw(clip=5).init(KEYS[0], Dims(N, H)), "scale": 1.0},
            "score of its own",
        ),
    ],
)
def test_what_is_no_such_number_is_refused(given, said):
    with pytest.raises(posjax.InputError, match=said):
        attend(Q, KEY, V, **given)
    with pytest.raises(posjax.InputError, match=said):
        explain(Q, KEY, V, **{name: value for name, value in given.items() if name != "params"})


@pytest.mark.exhaustive
def test_a_traced_scale_is_refused_by_name():
    with pytest.raises(posjax.InputError, match=r"scale is traced.*multiply the queries by it"):
        jax.jit(lambda scale: attend(Q, KEY, V, scale=scale))(0.5)
    assert_close(attend(Q, KEY, V, scale=np.float32(0.5)), attend(Q, KEY, V, scale=jnp.float32(0.5)))


@pytest.mark.parametrize(
    ("change", "able"),
    [
        ({"softcap": 2.0}, set()),
        ({"scale": 0.5}, {"cudnn", "splash", "fused"}),
        ({"value_size": 32}, set()),
        ({"with_lse": True}, {"fused"}),
    ],
)
def test_kernels_refuse_what_they_cannot_do(change, able):
    asked = Job("cpu", "bfloat16", 128, 128, 4, 2, 64, device="H100", **change)
    for name in ("cudnn", "splash", "fused"):
        platform = {"splash": "tpu"}.get(name, "gpu")
        why = BACKENDS[name].refuse(replace(asked, platform=platform))
        assert (why is None) == (name in able), (name, why)
    for name in ("reference", "chunked"):
        assert BACKENDS[name].refuse(asked) is None
    if "fused" not in able:
        with pytest.raises(NotImplementedError, match="backend='chunked' can"):
            posjax.attention.choose(asked, "fused")


@pytest.mark.parametrize("backend", wide(INTERPRETED, []))
def test_kernels_take_a_scale_and_sinks_by_their_log_sum_exp(backend):
    more = {"scale": 0.9, "sinks": SINKS, "mask": PACKED}
    assert_close(pulled(backend, Q, KEY, V[..., :H], **more), pulled("reference", Q, KEY, V[..., :H], **more))


@pytest.mark.exhaustive
@pytest.mark.parametrize("driver", ["triton", "mosaic"])
def test_both_kinds_of_kernels_scale_there_and_back(driver):
    def loss(q, k, v, attention):
        out, _ = attention(q, k, v, None, Causal(), 0, posjax.attention.Scoring(scale=0.9))
        return jnp.sum(jnp.sin(out))

    def kernels(*call):
        return planned(KernelPlan(driver, True, 16), *call)

    arrays = (Q, KEY, V[..., :H])
    got = jax.grad(loss, (0, 1, 2))(*arrays, kernels)
    assert_close(got, jax.grad(loss, (0, 1, 2))(*arrays, posjax.attention.reference.attention))


def test_what_explain_says_is_what_attend_takes():
    choice = explain(Q, KEY, V, scale=0.5, softcap=2.0, sinks=SINKS)
    assert choice.job.with_lse and "scale: 0.5, softcap: 2.0" in str(choice) and "values of 12" in str(choice)


@pytest.mark.exhaustive
def test_kernels_that_take_a_scale_use_it():
    wide = [jax.random.normal(key, (1, 128, 2, 32)) for key in KEYS[:3]]
    scoring = posjax.attention.Scoring(scale=0.4)
    wanted = attend(*wide, scale=0.4, backend="reference")
    by_cudnn = cudnn.call(*wide, None, Causal(), "xla", scoring)
    by_splash = splash.call(*wide, None, Causal(), 0, scoring, interpret=True)
    assert_close(by_cudnn, wanted)
    assert_close(by_splash, wanted)
