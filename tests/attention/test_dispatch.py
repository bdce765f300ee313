"""Which backend is taken, on machines that are not at hand too, and what is said of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import posjax
from posjax import Alibi, Causal, Full, InputError, Rope, Segments, Shaw, T5Bias, Window, attend, chain
from posjax.attention import BACKENDS, PREFERENCES, Job, choose, explain, job
from posjax.models import build
from tests.small import small

GPU = Job("gpu", "bfloat16", 4096, 4096, 12, 4, 64, device="NVIDIA H200")
TPU = replace(GPU, platform="tpu", device="TPU v5e")
CPU = replace(GPU, platform="cpu", device="cpu")


def test_the_table_ends_with_a_backend_that_does_every_job():
    for names in PREFERENCES.values():
        last = BACKENDS[names[-1]]
        for bias in ("none", "slope", "distance", "position", "content"):
            odd = replace(CPU, bias=bias, dtype="float16", queries=7, mask=("Mine",), q_offset=None, with_lse=True)
            assert last.refuse(odd) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (CPU, "chunked"),
        (GPU, "cudnn"),
        (replace(GPU, bias="slope"), "cudnn"),
        (replace(GPU, bias="slope", head_size=128), "cudnn"),
        (replace(GPU, mask=("Causal", "Window"), window=128), "cudnn"),
        (replace(GPU, mask=(), causal=False), "cudnn"),
        (replace(GPU, mask=(), causal=False, queries=1, q_offset=7), "cudnn"),
        (replace(GPU, bias="distance"), "fused"),
        (replace(GPU, dtype="float32", mask=("Causal", "Segments")), "fused"),
        (replace(GPU, bias="distance", device="NVIDIA A100"), "chunked"),
        (replace(GPU, bias="position"), "chunked"),
        (replace(TPU, dtype="float32"), "splash"),
        (replace(TPU, bias="slope"), "splash"),
        (replace(TPU, mask=("Causal", "Segments")), "splash"),
        (replace(TPU, queries=128, q_offset=3968), "splash"),
    ],
)
def test_the_table_chooses(given, expected):
    assert choose(given).backend == expected


@pytest.mark.parametrize(
    ("given", "refused", "why"),
    [
        (CPU, "cudnn", "this is a cpu"),
        (CPU, "splash", "this is a cpu"),
        (replace(GPU, dtype="float32"), "cudnn", "queries are float32"),
        (replace(GPU, with_lse=True), "cudnn", "no gradient"),
        (replace(GPU, bias="distance"), "cudnn", "as a whole [N, T, S] array"),
        (replace(GPU, bias="position"), "cudnn", "as a whole [N, T, S] array"),
        (replace(GPU, bias="content"), "cudnn", "as a whole [N, T, S] array"),
        (replace(GPU, bias="slope", dtype="float16"), "cudnn", "bfloat16"),
        (replace(GPU, bias="slope", mask=(), causal=False), "cudnn", "under a causal mask only"),
        (replace(GPU, bias="slope", head_size=128, device="NVIDIA A100"), "cudnn", "136 channels are needed"),
        (replace(GPU, head_size=44), "cudnn", "multiples of 8"),
        (replace(GPU, mask=("Causal", "Segments")), "cudnn", "Causal & Segments"),
        (replace(GPU, mask=("Causal", "Window"), window=-1), "cudnn", "known at compile time"),
        (replace(GPU, mask=("Window",), window=128, causal=False), "cudnn", "causal"),
        (replace(GPU, queries=1, q_offset=4095), "cudnn", "the same tokens"),
        (replace(TPU, bias="distance"), "splash", "no slope"),
        (replace(TPU, bias="slope", mask=("Segments",), causal=False), "splash", "causal mask only"),
        (replace(TPU, queries=100), "splash", "multiples of 128"),
        (replace(TPU, mask=("Mine",)), "splash", "the mask is Mine"),
        (replace(TPU, q_offset=None), "splash", "known at compile time"),
        (replace(TPU, dtype="float16"), "splash", "queries are float16"),
        (replace(TPU, with_lse=True), "splash", "no gradient"),
    ],
)
def test_what_a_backend_cannot_do_is_refused_with_the_reason_and_another_name(given, refused, why):
    with pytest.raises(NotImplementedError) as caught:
        choose(given, refused)
    text = str(caught.value)
    assert why in text and f"backend={choose(given).backend!r} can" in text, text
    assert choose(given).backend != refused


def test_a_job_is_read_off_the_arguments():
    q, k = jax.ShapeDtypeStruct((2, 8, 6, 16), jnp.bfloat16), jax.ShapeDtypeStruct((2, 24, 3, 16), jnp.bfloat16)
    found = job(q, k, None, Causal() & (Window(5) & Window(9)) & Full(), 16)
    assert (found.queries, found.keys, found.heads, found.key_heads, found.head_size) == (8, 24, 6, 3, 16)
    assert found.mask == ("Causal", "Window", "Window") and found.window == 5 and found.causal and found.q_offset == 16
    assert found.dtype == "bfloat16" and found.platform == "cpu" and not found.square and found.context == 1
    traced = jax.eval_shape(lambda n: jnp.zeros(job(q, k, None, Window(n), n).window is not None), 3)
    assert traced.shape == (1,)
    assert job(q, k, None, Window(jnp.int32(3)), jnp.int32(2)).window == -1
    assert job(q, k, None, Full(), jnp.int32(2)).q_offset is None


@pytest.mark.parametrize(
    ("encoding", "at", "kind"),
    [
        (Rope(), None, "none"),
        (Alibi(), None, "slope"),
        (chain(Rope(), Alibi()), None, "slope"),
        (Alibi("symmetric"), None, "slope"),
        (Alibi("halves"), None, "distance"),
        (Alibi("asymmetric"), None, "distance"),
        (chain(Alibi(), T5Bias()), None, "distance"),
        (chain(Alibi(), Alibi(learned=True)), None, "slope"),
        (Alibi(), jnp.arange(8), "position"),
        (Shaw(), None, "content"),
    ],
)
def test_explain_names_the_kind_of_bias(encoding, at, kind):
    q = jax.ShapeDtypeStruct((2, 8, 4, 16), jnp.float32)
    mask = Causal()
    choice = explain(q, encoding=encoding, mask=mask, q_positions=at, k_positions=at)
    assert choice.job.bias == kind and choice.backend == "chunked"


def test_a_model_explains_its_first_layer():
    assert posjax.models.explain(small(Alibi(), Rope(), layers=2), 8).job.bias == "slope"


def test_explain_refuses_more_queries_than_keys_of_an_unknown_place():
    q, k = (jax.ShapeDtypeStruct((2, length, 4, 16), jnp.float32) for length in (8, 4))
    with pytest.raises(InputError, match="say where its tokens are"):
        explain(q, k, encoding=Rope(), mask=Full())


def test_explain_prints_within_80_columns(monkeypatch):
    monkeypatch.setattr("posjax.attention.jobs.here", lambda: ("gpu", "NVIDIA H200"))
    q = jax.ShapeDtypeStruct((2, 4096, 32, 128), jnp.bfloat16)
    text = str(explain(q, encoding=T5Bias(), mask=Causal() & Segments(jnp.ones((2, 4096), jnp.int32))))
    assert text.startswith("fused, for bfloat16 on gpu") and "not cudnn: it would need the bias" in text
    assert max(map(len, text.splitlines())) <= 80, text


def test_a_mesh_that_splits_sequences_takes_the_ring():
    q = jax.ShapeDtypeStruct((2, 8, 4, 16), jnp.float32)
    with jax.set_mesh(jax.make_mesh((2,), ("context",), (jax.sharding.AxisType.Auto,))):
        assert explain(q, encoding=T5Bias()).backend == "ring"
        passed_over = explain(q, encoding=Shaw())
        assert passed_over.backend == "chunked" and "scores content" in str(passed_over)
    assert explain(q, encoding=T5Bias()).backend == "chunked"


def test_attend_says_why_and_what_to_take():
    q = jnp.zeros((1, 8, 2, 8))
    with pytest.raises(NotImplementedError, match="it runs on NVIDIA GPUs, and this is a cpu; backend='chunked' can"):
        attend(q, q, q, backend="cudnn")
    with pytest.raises(InputError, match="'auto' or one of reference, chunked, cudnn, splash, fused, ring"):
        attend(q, q, q, backend="flash")


@pytest.mark.exhaustive
def test_a_model_keeps_the_table_for_steps_over_a_cache():
    """Otherwise a model with a backend for training alone could not generate."""
    model = build(small(), 16, 0, posjax.models.Compute(backend="cudnn"))
    prompt = jnp.zeros((1, 3), jnp.int32)
    with pytest.raises(NotImplementedError, match="NVIDIA"):
        model(prompt)
    assert posjax.models.generate(model, prompt, 2).shape == (1, 2)
