"""Where tokens are said to be while training: what every draw obeys, and a decoder that trains with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import PoSE, Randomized, Rope, chain
from posjax.models import build, cross_entropy
from tests.cases import first_of
from tests.small import small

AT = jnp.arange(12)
ROWS = jnp.broadcast_to(AT, (8, 12))
KEYS = [jax.random.key(seed) for seed in range(20)]


@pytest.mark.holds(Randomized, PoSE, to=None)
@pytest.mark.parametrize("encoding", [Randomized(100), PoSE(100), PoSE(100, chunks=4)], ids=repr)
def test_rows_are_drawn_apart_and_a_key_is_one_draw(encoding):
    placed = np.asarray(encoding.move({}, ROWS, KEYS[0]))
    assert len(np.unique(placed, axis=0)) == len(ROWS)
    np.testing.assert_array_equal(placed, encoding.move({}, ROWS, KEYS[0]))
    np.testing.assert_array_equal(placed, jax.jit(encoding.move)({}, ROWS, KEYS[0]))
    assert (placed != encoding.move({}, ROWS, KEYS[1])).any()
    assert encoding.move({}, AT, KEYS[0]).shape == (12,)


@pytest.mark.holds(Randomized, PoSE, to=None)
def test_tokens_of_one_position_stay_together():
    """A row of packed documents, positions reset: each position goes to one place."""
    packed = jnp.array([[0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]])
    for encoding in (Randomized(100), PoSE(100)):
        placed = np.asarray(encoding.move({}, packed, KEYS[0]))[0]
        assert all(len(set(placed[np.asarray(packed[0]) == p])) == 1 for p in range(5))


def built(encoding):
    config = small(encoding, deviation=1.0)
    return build(config, 11, seed=0)


@pytest.mark.exhaustive
@pytest.mark.holds(Randomized, PoSE, to=None)
@first_of("moving", [Randomized(400), PoSE(400)], ids=repr, keep=1)
def test_a_decoder_places_with_a_key_and_not_without(moving):
    tokens = jax.random.randint(jax.random.key(5), (3, 12), 0, 11)
    plain, model = built(Rope()), built(chain(moving, Rope()))
    nnx.update(model.blocks, nnx.state(plain.blocks))
    nnx.update(model.embedding, nnx.state(plain.embedding))
    nnx.update(model.head, nnx.state(plain.head))
    run = nnx.jit(lambda model, at, key: model(tokens, at, key=key))
    unmoved = run(plain, None, None)
    np.testing.assert_array_equal(run(model, None, None), unmoved)
    at = model.architecture.encoding.move({"0": {}, "1": {}}, ROWS[:3], KEYS[3])
    moved = run(model, None, KEYS[3])
    np.testing.assert_allclose(moved, run(plain, at, None), atol=1e-6)
    assert np.abs(moved - unmoved).max() > 1e-3


@pytest.mark.exhaustive
@pytest.mark.holds(Randomized, to=None)
def test_a_decoder_trains_on_randomised_positions():
    tokens = jnp.broadcast_to(jnp.arange(12) % 11, (4, 12))
    graph, state = nnx.split(built(chain(Randomized(64), Rope())))

    @jax.jit
    def step(state, key):
        def loss(state):
            return cross_entropy(nnx.merge(graph, state, copy=True)(tokens[:, :-1], key=key), tokens[:, 1:])

        value, slope = jax.value_and_grad(lambda s: jnp.mean(loss(s)))(state)
        return value, jax.tree.map(lambda p, g: p - 0.3 * g, state, slope)

    losses = []
    for i in range(20):
        value, state = step(state, jax.random.fold_in(KEYS[0], i))
        losses.append(float(value))
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
