"""Flax's own ways, as laws: for every encoding, in a user's layer and in the model of this library."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import posjax
from posjax import Fire, Forgetting, Kerple, NoPE, Rope, T5Bias, attend, chain
from posjax.models import EncodingParams, build
from tests.cases import DIMS, OF_ANY_SIZE, first_of, short
from tests.small import small
from tests.ways import assert_close, every


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
    run, again = nnx.jit(lambda layer, x: layer(x)), nnx.jit(nnx.remat(lambda layer, x: layer(x)))
    np.testing.assert_array_equal(run(other, x), run(layer, x))
    np.testing.assert_array_equal(again(layer, x), run(layer, x))
    assert "positional" in nnx.tabulate(layer, x) or not jax.tree.leaves(layer.positional.get_value())


@pytest.mark.parametrize("encoding", [chain(Rope(), Kerple()), T5Bias()], ids=short)
def test_layers_in_a_scan_and_a_vmap(encoding):
    layers = nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: Layer(encoding, rngs)))(nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (1, 5, 96))
    scan = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    scanned = nnx.jit(scan)(x, layers)
    graph, state = nnx.split(layers)
    run = nnx.jit(lambda layer, x: layer(x))
    for i in range(2):
        x = run(nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state)), x)
    assert_close(scanned, x)


@pytest.mark.usefixtures("as_people_promote")
@first_of("encodings", [(chain(Rope(), Kerple()),), (Rope(), T5Bias())], ids=str, keep=1)
def test_a_decoder_trains_with_flax(encodings):
    model = build(small(*encodings, layers=2), 11, seed=0)
    optimizer, tokens = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param), jnp.arange(6)[None]

    @nnx.jit
    def step(model, optimizer):
        gradients = nnx.grad(lambda model: posjax.models.cross_entropy(model(tokens), tokens).mean())(model)
        optimizer.update(model, gradients)

    for _ in range(3):
        step(model, optimizer)
    assert np.isfinite(nnx.jit(lambda model: model(tokens))(model)).all()


class LinenLayer(linen.Module):
    """The same layer in Linen: what an encoding learns is one parameter, a dict of arrays."""

    encoding: posjax.Encoding

    @linen.compact
    def __call__(self, x):
        q, k, v = jnp.split(linen.Dense(3 * 96)(x).reshape(*x.shape[:2], 18, -1), 3, axis=2)
        learned = self.param("positional", self.encoding.init, DIMS)
        return linen.Dense(96)(attend(q, k, v, encoding=self.encoding, params=learned).reshape(x.shape))


@pytest.mark.usefixtures("as_people_promote")
@every(few=(chain(Rope(), Kerple()), T5Bias(buckets=8, max_distance=20)), all_of=OF_ANY_SIZE)
def test_a_linen_layer_trains(encoding):
    layer, x = LinenLayer(encoding), jax.random.normal(jax.random.key(1), (1, 5, 96))
    params = layer.init(jax.random.key(0), x)
    adam = optax.adam(0.01)

    @jax.jit
    def step(params, moments):
        loss, gradients = jax.value_and_grad(lambda params: jnp.mean(jnp.square(layer.apply(params, x) - 1.0)))(params)
        updates, moments = adam.update(gradients, moments)
        return optax.apply_updates(params, updates), moments, loss

    moments, losses = adam.init(params), []
    for _ in range(3):
        params, moments, loss = step(params, moments)
        losses.append(float(loss))
    assert losses[2] < losses[0]


@pytest.mark.parametrize("encodings", [(chain(Rope(), T5Bias()),), (Rope(), NoPE()), (Forgetting(),)], ids=str)
def test_a_model_can_be_tabulated(encodings):
    model = build(small(*encodings, layers=2), 11, 0)
    shown = nnx.tabulate(model, jnp.ones((1, 4), jnp.int32))
    assert "Transformer" in shown and "FeedForw" in shown
