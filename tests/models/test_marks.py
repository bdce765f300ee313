"""What has no meaning says so in a model too, and reaches no gradient of what has one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import InputError, Learned, Rope, Toeplitz, XPos, chain
from posjax.models import GREEDY, Decoder, Sampling, build, generate

TOKENS = jnp.arange(2 * 12).reshape(2, 12) % 11
ENDS = [Learned(8), chain(Learned(8), Rope()), Toeplitz(8), XPos(unit=1)]


def model_of(encoding, **more):
    return build(Decoder(**{"encoding": encoding, "layers": 2, "model_size": 16, "heads": 2} | more), 11, seed=0)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("encoding", ENDS, ids=repr)
def test_rows_past_what_an_encoding_holds_are_nan_and_reach_no_gradient(encoding, remat):
    most = encoding.max_length
    tokens = jnp.tile(TOKENS, 6)[:, : most + 4]
    model = model_of(encoding, remat=remat)

    def loss(model, tokens):
        return jnp.sum(jnp.sin(model(tokens)[:, :most]))

    logits = np.asarray(model(tokens))
    assert np.isfinite(logits[:, :most]).all() and np.isnan(logits[:, most:]).all()
    got, want = (jax.tree.leaves(nnx.grad(loss)(model, some)) for some in (tokens, tokens[:, :most]))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * float(jnp.max(jnp.abs(other))) + 1e-30)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.7), Sampling(0.7, top_k=2, top_p=0.9)])
def test_a_row_of_nan_draws_no_token(sampling):
    logits = jnp.array([[0.0, 9.0, 0.0], [0.0, jnp.nan, 0.0]])
    drawn = sampling.draw(logits, jax.random.key(0)).tolist()
    assert drawn[0] in (0, 1, 2) and drawn[1] == -1


def test_a_model_that_diverged_generates_nothing():
    model = model_of(Rope())
    model.norm.scale.set_value(model.norm.scale.get_value().at[3].set(jnp.nan))
    with pytest.raises(InputError, match="no numbers at token 0 after the prompt of row 0"):
        generate(model, TOKENS, 3)


@pytest.mark.parametrize("token", [-1, 11])
def test_a_traced_token_outside_the_vocabulary_is_seen(token):
    model = model_of(Rope())
    logits = nnx.jit(lambda model, tokens: model(tokens))(model, TOKENS.at[1, 5].set(token))
    # Whoever looks at it is NaN, and nobody else.
    assert np.isnan(logits[1, 5:]).all() and np.isfinite(logits[0]).all() and np.isfinite(logits[1, :5]).all()
