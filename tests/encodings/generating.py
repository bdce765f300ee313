"""Small models, and what their greedy generation is held to: what combinators of encodings share."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.models import Compute, build, generate
from tests.small import small

VOCABULARY = 13


def model_of(*encodings, layers: int = 4):
    architecture = small(*encodings, layers=layers, width=24, heads=6, key_value_heads=3, deviation=1.0)
    return build(architecture, VOCABULARY, 0, Compute(backend="reference"))


def tokens_of(B: int, T: int) -> jax.Array:
    return jax.random.randint(jax.random.key(B * T), (B, T), 0, VOCABULARY)


def expect_greedy_to_follow_the_full_pass(*encodings):
    model, prompt = model_of(*encodings), tokens_of(2, 4)
    out = generate(model, prompt, 5)
    whole = nnx.jit(lambda model, tokens: model(tokens))
    logits = whole(model, jnp.concatenate([prompt, out], 1))[:, 3:-1]
    chosen = jnp.take_along_axis(logits, out[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, logits.max(-1), atol=2e-5)
