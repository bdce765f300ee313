"""The fused backend: both drivers' kernels, interpreted, equal the definition; and they lower for chips not at hand."""

import inspect
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

import posjax
from posjax import Alibi, Causal, Dims, Fire, Full, Kerple, Segments, T5Bias, Toeplitz, Window, chain
from posjax.attention import describe, fused, reference
from posjax.attention.fused import rules
from posjax.attention.fused.derivative import planned
from posjax.attention.fused.plan import KernelPlan
from posjax.encodings import Encoding
from posjax.encodings.base import RelativeBias
from tests.attention.test_memory import shapes
from tests.cases import first_of, wide

DRIVERS = ("triton", "mosaic")
each_driver = pytest.mark.parametrize("driver", DRIVERS)
one_driver = first_of("driver", DRIVERS, keep=1)

SEGMENTS = jnp.array([[1] * 10 + [2] * 20 + [0] * 7, [0] * 2 + [5] * 35])
AT = tuple(jnp.stack([3 * jnp.arange(37), 90 - 2 * jnp.arange(37)]) for _ in range(2))


def qkv(T: int, S: int, N: int = 4, K: int = 2, H: int = 8, dtype: str = "float32") -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(T * S), 3)
    return [
        jax.random.normal(key, (2, *shape, H), dtype) for key, shape in zip(keys, ((T, N), (S, K), (S, K)), strict=True)
    ]


def learned(encoding: Encoding, dims: Dims) -> tuple[list[jax.Array], object]:
    """What is differentiated in an encoding's parameters, and the function that puts it back."""
    params = encoding.join(encoding.init(jax.random.key(3), dims), encoding.constants(dims))
    leaves, structure = jax.tree.flatten(params)
    floats = [n for n, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]

    def restore(some):
        own = dict(zip(floats, some, strict=True))
        return structure.unflatten([own.get(n, leaf) for n, leaf in enumerate(leaves)])

    return [jnp.asarray(leaves[n]) for n in floats], restore


def value_and_gradients(way, encoding, mask, arrays, q_offset=None, at=(None, None)):
    """Output, log-sum-exp, and the gradients of a random sum of both for q, k, v and all that the bias learns."""
    T, N, S = *arrays[0].shape[1:3], arrays[1].shape[1]
    q_offset = S - T if q_offset is None else q_offset
    floats, restore = learned(encoding, Dims(heads=N)) if encoding else ([], None)
    weights = (jax.random.normal(jax.random.key(4), arrays[0].shape), jax.random.normal(jax.random.key(5), (2, N, T)))

    # An array as a q_offset is traced, and with it the numbers of the mask.
    @jax.jit if not isinstance(q_offset, int) else partial(jax.jit, static_argnums=0)
    def run(q_offset, *arguments):
        def loss(q, k, v, *some):
            bias = describe(encoding, restore(some), N, *at, (T, S), q_offset) if encoding else None
            out, lse = way(q, k, v, bias, mask, q_offset)
            seen = jnp.where(lse > -1e29, lse, 0.0)  # Of a row that sees nothing only the sign is defined.
            return jnp.vdot(out.astype(jnp.float32), weights[0]) + jnp.vdot(seen, weights[1]), (out, lse)

        return jax.value_and_grad(loss, tuple(range(len(arguments))), has_aux=True)(*arguments)

    (_, aux), gradients = run(q_offset, *arrays, *floats)
    return *aux, *gradients


def check(driver, encoding, mask, arrays, block=16, tolerance=1e-5, **rest):
    plan = KernelPlan(driver, interpret=True, block=block)
    got = value_and_gradients(partial(planned, plan), encoding, mask, arrays, **rest)
    wanted = value_and_gradients(reference.attention, encoding, mask, arrays, **rest)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(b).max(initial=0.0)), rtol=0)
    return got


class Buckets(RelativeBias):
    """A table looked up by how many edges a distance is past: a loop over integers, then an index for each pair."""

    def init(self, key, dims):
        return {"table": jax.random.normal(key, (dims.heads, 5))}

    def constants(self, dims):
        return {"edges": np.array([1, 4, 9, 40], np.int32)}

    def by_distance(self, params, distance, head):
        def past(count, edge):
            return count + (distance >= edge).astype(jnp.int32), None

        return head.of(params["table"])[jax.lax.scan(past, jnp.zeros_like(distance), params["edges"])[0]]


CASES = {
    "no bias": (None, Causal(), (37, 37), {}),
    "everything seen": (Kerple("power"), Full(), (20, 37), {}),
    "causal": (Kerple(), Causal(), (37, 37), {}),
    "segments": (T5Bias(8, 20), Causal() & Segments(SEGMENTS), (37, 37), {}),
    "a slope, window": (Alibi(learned=True), Causal() & Window(9), (37, 37), {}),
    "window to both sides": (Alibi("symmetric"), Window(5), (37, 37), {}),
    "a table": (Toeplitz(64), Causal(), (21, 50), {}),
    "a step": (Kerple(), Causal(), (1, 40), {}),
    "before every key": (T5Bias(8, 20), Causal(), (50, 20), {}),
    "a network": (Fire(hidden=3), Causal(), (37, 37), {}),
    "positions": (chain(Kerple(), Fire(hidden=2), Alibi()), Causal() & Segments(SEGMENTS), (37, 37), {"at": AT}),
    "a table by position": (chain(Toeplitz(120), Buckets()), Causal(), (37, 37), {"at": AT}),
    "traced q_offset": (T5Bias(8, 20), Causal() & Window(20), (18, 50), {"q_offset": jnp.int32(17)}),
}


@each_driver
@pytest.mark.parametrize("name", wide(CASES, ("segments", "a slope, window")))
def test_it_equals_the_definition(driver, name):
    encoding, mask, (T, S), rest = CASES[name]
    check(driver, encoding, mask, qkv(T, S), **rest)


@pytest.mark.exhaustive
@each_driver
def test_heads_of_their_own_and_blocks_larger_than_the_lengths(driver):
    check(driver, Kerple(), Causal(), qkv(11, 11, N=2, K=2), block=64)
    check(driver, Kerple(), Causal(), qkv(11, 11, N=3, K=1), block=64)


@pytest.mark.exhaustive
def test_a_block_of_the_tpu_that_is_no_power_of_two():
    arrays, encoding = qkv(300, 520, N=1, K=1), Kerple()  # Blocks of 384 queries, 3 times 128.
    got = value_and_gradients(partial(planned, KernelPlan("mosaic", interpret=True)), encoding, Causal(), arrays)
    for a, b in zip(got, value_and_gradients(reference.attention, encoding, Causal(), arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@one_driver
def test_bfloat16(driver):
    check(driver, T5Bias(8, 20), Causal(), qkv(37, 37, dtype="bfloat16"), tolerance=0.02)


@one_driver
def test_rows_that_see_nothing_are_zero_and_pass_no_gradient(driver):
    out, lse, dq, *rest = check(driver, Kerple(), Segments(SEGMENTS), qkv(37, 37))
    blind = np.asarray(SEGMENTS == 0)
    assert (np.asarray(out)[blind] == 0).all() and (np.asarray(dq)[blind] == 0).all()
    assert np.isfinite(lse).all() and (np.asarray(lse).transpose(0, 2, 1)[blind] < -1e29).all()
    assert all(np.isfinite(x).all() for x in rest)


@one_driver
def test_results_repeat_to_the_bit(driver):
    run = partial(value_and_gradients, partial(planned, KernelPlan(driver, True, 16)), Kerple(), Causal(), qkv(37, 37))
    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.exhaustive
def test_a_traced_window_does_not_trace_again():
    arrays, traces = qkv(19, 19), []

    @jax.jit
    def run(mask, *arrays):
        traces.append(mask)
        return planned(KernelPlan("triton", True, 16), *arrays, None, mask)[0]

    for size in (1, 4, 19):
        wanted = reference.attention(*arrays, None, Causal() & Window(size))[0]
        np.testing.assert_allclose(run(Causal() & Window(size), *arrays), wanted, atol=2e-6)
    assert len(traces) == 1


def test_the_platform_chooses_the_driver_and_on_a_cpu_it_is_interpreted():
    arrays = qkv(9, 9)
    for run in (fused.attention, jax.jit(fused.attention, static_argnums=(4, 5))):
        out, lse = run(*arrays, None, Causal(), 0)
        wanted = reference.attention(*arrays, None, Causal(), 0)
        np.testing.assert_allclose(out, wanted[0], atol=2e-6)
        np.testing.assert_allclose(lse, wanted[1], atol=2e-6)


# What is visited ----------------------------------------------------------------------------------------------------
def visited(mask, lengths, q_offset=0, rows=4, columns=4):
    bounds, most, _ = rules.table(rules.take_apart(mask, q_offset, lengths), rows, columns).by_query
    assert most >= (bounds[..., 3] - bounds[..., 0]).max()
    return int((bounds[..., 3] - bounds[..., 0]).sum()), int((bounds[..., 2] - bounds[..., 1]).sum())


@first_of("n", [1, 2, 7], keep=1)
def test_blocks_that_may_not_be_seen_are_not_visited_and_whole_ones_need_no_mask(n):
    assert visited(Full(), (4 * n, 4 * n)) == (n * n, n * n)
    assert visited(Causal(), (4 * n, 4 * n)) == (n * (n + 1) // 2, n * (n - 1) // 2)
    assert visited(Causal(), (4, 8 * n), q_offset=4 * n) == (n + 1, n)
    assert visited(Causal() & Window(4), (4 * n, 4 * n))[0] == 2 * n - 1
    one_each = jnp.repeat(jnp.arange(1, n + 1), 4)[None]
    assert visited(Segments(one_each), (4 * n, 4 * n)) == (n, n)


@pytest.mark.parametrize("mask", [Full(), Causal(), Causal() & Window(5), Window(3), Causal() & Segments(SEGMENTS)])
@first_of(("T", "S", "q_offset"), [(37, 37, 0), (10, 37, 27), (10, 37, 5)], keep=5)
def test_visits_cover_all_that_is_allowed_and_what_is_not_masked_is_allowed(mask, T, S, q_offset):
    rule = rules.take_apart(mask, q_offset, (T, S))
    dense = mask.allowed(q_offset + jnp.arange(T), jnp.arange(S))
    dense = np.ones((1, T, S), bool) if dense is None else np.asarray(dense)
    by_query, by_key, diagonals = rules.table(rule, 8, 4)
    for visits, allowed, (own, other) in ((by_query, dense, (8, 4)), (by_key, dense.swapaxes(1, 2), (4, 8))):
        bounds = np.broadcast_to(visits.bounds, (allowed.shape[0], *visits.bounds.shape[1:]))
        for b in range(allowed.shape[0]):
            for i, (first, begin, end, last) in enumerate(bounds[b]):
                stretch = allowed[b, own * i : own * (i + 1)]
                assert not stretch[:, : first * other].any() and not stretch[:, last * other :].any()
                assert stretch[:, begin * other : end * other].all()
                assert first <= begin <= end <= last
    on = {(i, i - offset) for offset, low, high in np.asarray(diagonals) for i in range(low, high)}
    for i, j in np.argwhere(np.add.reduceat(np.add.reduceat(dense.any(0), range(0, T, 8), 0), range(0, S, 4), 1)):
        assert (i, j) in on


# What a fixed bias costs --------------------------------------------------------------------------------------------
def kernels(function, *arguments) -> int:
    return str(jax.make_jaxpr(function)(*arguments)).count("name=posjax_fused")


def test_only_a_bias_that_learns_has_a_kernel_for_its_gradient():
    arrays, vector = qkv(37, 37), jnp.ones((4, 73))

    def loss(q, vector):
        bias = posjax.attention.ByDistance(vector, 37)
        return planned(KernelPlan("triton", True, 16), q, *arrays[1:], bias, Causal())[0].sum()

    assert kernels(jax.grad(loss), arrays[0], vector) == 3
    assert kernels(jax.grad(loss, 1), arrays[0], vector) == 4


# Refusals -----------------------------------------------------------------------------------------------------------
class EverySecond(posjax.Mask):
    """A mask of one's own."""


class Product(RelativeBias):
    """A bias whose network multiplies what it carries, so that its gradient needs every round's value."""

    def by_distance(self, params, distance, head):
        near = 1 / (1.0 + jnp.abs(distance).astype(jnp.float32))
        return jax.lax.scan(lambda total, x: (total * (1 + x * near), None), near, params["table"][0])[0]


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [(Toeplitz(512), "table of 1023"), (Product(), "more than add"), (posjax.Sandwich(), "larger than the tile")],
    ids=repr,
)
def test_a_bias_that_kernels_cannot_evaluate_is_refused_with_the_way_out(encoding, reason):
    params = learned(encoding, Dims(heads=4))[1](learned(encoding, Dims(heads=4))[0])
    params = params or {"table": jnp.ones((1, 4))}
    bias = describe(encoding, params, 4, *(a[:, :9] for a in AT), (9, 9), 0)
    with pytest.raises(NotImplementedError, match=reason) as raised:
        fused.attention(*qkv(9, 9), bias, Causal())
    assert "chunked" in str(raised.value)


@pytest.mark.exhaustive
def test_a_scan_over_what_is_no_parameter_is_refused_with_the_way_out():
    encoding, arrays, at = T5Bias(8, 20), qkv(9, 9), AT[0][:, :9]
    params = encoding.init(jax.random.key(0), Dims(heads=4))
    run = partial(posjax.attend, *arrays, encoding=encoding, q_positions=at, k_positions=at, backend="fused")
    with pytest.raises(NotImplementedError, match=r"encoding\.join\(params, encoding\.constants\(dims\)\)"):
        run(params=params)
    joined = encoding.join(params, encoding.constants(Dims(heads=4)))
    wanted = posjax.attend(*arrays, encoding=encoding, params=params, q_positions=at, k_positions=at)
    np.testing.assert_allclose(run(params=joined), wanted, atol=1e-5)


def test_other_masks_and_contents_are_refused():
    with pytest.raises(NotImplementedError, match=r"mask.*chunked"):
        fused.attention(*qkv(9, 9), None, Causal() & EverySecond())
    shaw = posjax.Shaw(clip=3)
    params = shaw.init(jax.random.key(0), Dims(heads=4, head_size=8))
    with pytest.raises(NotImplementedError, match=r"content.*chunked"):
        fused.attention(*qkv(9, 9), describe(shaw, params, 4, None, None, (9, 9), 0), Causal())


def test_a_head_too_large_for_the_gpu_is_refused():
    with pytest.raises(NotImplementedError, match=r"heads of 512.*chunked"):
        planned(KernelPlan("triton", True), *qkv(9, 9, H=512), None, Causal())


# Lowering -----------------------------------------------------------------------------------------------------------
def trained(plan, encoding, length=2048, H=64, mask=Causal(), at=None, dtype="bfloat16"):
    """A pass forward and backward, and the shapes it takes."""
    floats, restore = learned(encoding, Dims(heads=4))

    def loss(q, k, v, *some):
        bias = describe(encoding, restore(some), 4, at, at, (length, length), 0)
        return planned(plan, q, k, v, bias, mask)[0].astype(jnp.float32).sum()

    like = [jax.ShapeDtypeStruct((2, length, heads, H), dtype) for heads in (4, 2, 2)]
    return (
        jax.grad(loss, tuple(range(3 + len(floats)))),
        [*like, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in floats)],
    )


LOWERED = {
    "by distance": (T5Bias(), 64, {}),
    "wide heads, segments": (Kerple(), 128, {"mask": Causal() & Segments(jnp.ones((2, 2048), jnp.int32))}),
    "a block of three": (Kerple(), 64, {"length": 1100}),
    "by position": (chain(Alibi(), Fire()), 64, {"at": jnp.zeros((2, 2048), jnp.int32)}),
    "float32, window": (Alibi(learned=True), 64, {"dtype": "float32", "mask": Causal() & Window(300)}),
}
LOWERINGS = [(name, how) for name in LOWERED for how in ("named", "by platform")]
FEW = [*LOWERINGS[:2], ("by position", "named")]
each_lowering = pytest.mark.parametrize("case", wide(LOWERINGS, FEW), ids=", ".join)


@each_lowering
def test_it_lowers_for_a_tpu_without_one(case):
    name, how = case
    encoding, H, rest = LOWERED[name]
    plan = {"named": KernelPlan("mosaic"), "by platform": None}[how]
    function, arguments = trained(plan, encoding, H=H, **rest)
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == 3  # Forward, dq with the numbers of the bias, dk and dv.


@each_lowering
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
def test_it_lowers_for_a_gpu_without_one(case):
    name, how = case
    encoding, H, rest = LOWERED[name]
    plan = {"named": KernelPlan("triton"), "by platform": None}[how]
    function, arguments = trained(plan, encoding, H=H, **rest)
    known = inspect.signature(AbstractDevice).parameters
    device = AbstractDevice(
        device_kind="NVIDIA H200", num_cores=None, **{"platform": "gpu"} if "platform" in known else {}
    )
    mesh = AbstractMesh((1,), ("x",), (AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    # The gradient of a vector has a kernel of its own.
    assert text.count("xla.gpu.triton") == (4 if encoding in (T5Bias(), Kerple()) else 3)


@each_driver
def test_no_array_has_two_axes_of_the_sequence(driver):
    S = 2048
    for encoding, rest in ((T5Bias(), {}), (Kerple(), {"at": jnp.zeros((2, S), jnp.int32)})):
        function, arguments = trained(KernelPlan(driver), encoding, S, **rest)
        jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
        found = list(shapes(jaxpr))
        assert len(found) > 100
        assert [shape for shape in found if sum(size >= S for size in shape) >= 2] == []


@each_driver
def test_memory_grows_with_the_length_alone(driver):
    def most(S):
        function, arguments = trained(KernelPlan(driver), T5Bias(), S)
        return max(math.prod(shape) for shape in shapes(jax.make_jaxpr(function)(*arguments).jaxpr))

    assert math.log(most(65536) / most(16384)) / math.log(4) < 1.05


@each_driver
@first_of("traced", [False, True], keep=1)
def test_a_window_may_be_as_wide_as_it_likes(driver, traced):
    size = jnp.int32(2**31 - 1) if traced else 2**31 - 1
    check(driver, None, Causal() & Window(size), qkv(37, 37), q_offset=jnp.int32(0) if traced else None)


class Far(RelativeBias):
    """Every key as far below any other score as the next: what is left of the scores is rounded away."""

    def init(self, key, dims):
        return {"depth": jnp.full((1,), 1e9)}

    def by_distance(self, params, distance, head):
        return jnp.broadcast_to(-head.of(params["depth"]), distance.shape)


@pytest.mark.exhaustive
@one_driver
@pytest.mark.parametrize("at", [None, AT], ids=["by distance", "by position"])
@first_of("depth", [10.0, 1e9, 1e20], keep=1)
def test_weights_sum_to_one_in_the_backward_pass_whatever_the_bias(driver, at, depth):
    q, k, v = qkv(37, 37)
    bias = describe(Far(), {"depth": jnp.full((1,), depth)}, 4, *(at or (None, None)), (37, 37), 0)
    dv = jax.grad(lambda v: planned(KernelPlan(driver, True, 16), q, k, v, bias, Causal())[0].sum())(v)
    np.testing.assert_allclose(dv.sum(1), 37.0 * 2, rtol=1e-5)  # Two query heads to each.
