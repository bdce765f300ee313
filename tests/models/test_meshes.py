"""A model on meshes whose sharding is part of an array's type, and linear attention there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posjax import Alibi, Rope, Segments, T5Bias, chain
from posjax.attention import Causal, linear_attend
from posjax.models import build, cross_entropy, encoder_decoder
from tests.cases import first_of, short
from tests.small import small
from tests.ways import assert_close

TOKENS = np.arange(20).reshape(2, 10) % 7


MESH = jax.make_mesh((2,), ("data",), (AxisType.Explicit,))


def spread(x):
    return jax.device_put(x, NamedSharding(MESH, PartitionSpec("data")))


@pytest.mark.exhaustive
@pytest.mark.parametrize("encoding", [chain(Rope(), T5Bias()), Alibi()], ids=short)
def test_logits_and_gradients_are_those_of_one_device(encoding):
    def loss(model, tokens, ids):
        return cross_entropy(model(tokens, mask=Causal() & Segments(ids)), tokens).mean()

    config = small(encoding, layers=2)
    tokens, ids = jnp.asarray(TOKENS, jnp.int32), jnp.asarray([[1] * 6 + [2] * 4] * 2)
    run = nnx.jit(lambda model, tokens, ids: (model(tokens), nnx.grad(loss)(model, tokens, ids)))
    wanted = run(build(config, 7, 0), tokens, ids)
    with jax.set_mesh(MESH):
        got = run(build(config, 7, 0), spread(tokens), spread(ids))
        eager = build(config, 7, 0)(spread(tokens))
    assert_close(got, wanted)
    assert jax.typeof(eager).sharding.spec[0] == "data"


@pytest.mark.exhaustive
@first_of("at", [None, jnp.arange(4), jnp.array([[0, 1, 2, -1], [0, 1, -1, -1]])], ids=["none", "T", "BT"], keep=1)
def test_an_encoder_and_what_reads_it(at):
    model = build(encoder_decoder(layers=1, width=8, heads=2), 7, 0)
    source = jnp.asarray(TOKENS[:, :4], jnp.int32)

    def run(source):
        real = None
        if at is not None:
            real = jnp.broadcast_to(at >= 0, source.shape)
        memory = model.encode(source, at, real=real)
        return model(source, memory=memory)

    wanted = run(source)
    with jax.set_mesh(MESH):
        got = jax.jit(run)(spread(source))
    assert_close(got, wanted)


def test_linear_attention_and_its_state():
    x = jax.random.normal(jax.random.key(0), (2, 300, 2, 8))

    @jax.jit
    def run(x):
        first, state = linear_attend(*(x[:, :170],) * 3, encoding=Rope())
        rest, state = linear_attend(*(x[:, 170:],) * 3, encoding=Rope(), state=state)
        return jnp.concatenate([first, rest], 1), state

    wanted = run(x)
    with jax.set_mesh(MESH):
        got = run(spread(x))
    assert_close(got, wanted)
