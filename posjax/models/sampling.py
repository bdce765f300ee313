"""How the next token is drawn from its logits."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.arguments import one_key
from posjax.errors import InputError
from posjax.fields import check_fields

COLDEST = 1e-30
"""Below it a temperature is no number of float32 any more, or soon none; 0 says what is meant."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: greedily at temperature 0, else from the softmax of logits / temperature.

    `top_k` keeps the k most likely tokens, `top_p` the fewest whose probabilities reach p; with both, `top_k` is first.

    Errors: `InputError` for a negative temperature, `top_k` below 1, or `top_p` outside (0, 1].
    Source of top-p: Holtzman et al. 2019, arXiv:1904.09751.

    >>> Sampling(temperature=0.0).draw(jnp.array([[0.1, 2.0]]), jax.random.key(0)).tolist()
    [1]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.temperature < 0 or 0 < self.temperature < COLDEST:
            raise InputError(
                f"Sampling got temperature={self.temperature}: needed is 0 (greedy) or more, from {COLDEST} on"
            )
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"Sampling got top_k={self.top_k}: needed is 1 or more, or None for all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"Sampling got top_p={self.top_p}: needed is a probability in (0, 1], or None")

    def draw(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """One token for each row: `logits [B, V]` -> int32 `[B]`, -1 for a row of which any logit is no number.

        Errors: `InputError` for logits that are no floats of two axes, and for what is no key.
        """
        is_floats = hasattr(logits, "shape") and jnp.issubdtype(logits.dtype, jnp.floating)
        if not is_floats or logits.ndim != 2:
            raise InputError(f"draw got logits {logits!r:.80}: needed are floats [B, V]")
        key = one_key(key, "draw got key")
        void = jnp.any(jnp.isnan(logits), -1)
        drawn = self._drawn(logits, key)
        return jnp.where(void, NOTHING, drawn)

    def _drawn(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        if self.temperature == 0:
            likeliest = jnp.argmax(logits, -1)
            return likeliest.astype(jnp.int32)
        # From the largest on, so that a low temperature takes nothing past what a float holds.
        largest = jnp.max(logits, -1, keepdims=True)
        logits = (logits - largest) / self.temperature
        vocabulary = logits.shape[-1]
        if self.top_k is not None and self.top_k < vocabulary:
            most_likely, _ = jax.lax.top_k(logits, self.top_k)
            least = most_likely[:, -1:]
            logits = _at_least(logits, least)
        if self.top_p is not None:
            rising = jnp.sort(logits, -1)
            falling = rising[:, ::-1]
            probabilities = jax.nn.softmax(falling, -1)
            # What stands before a token, without it: so the one that reaches top_p is kept, and always the first.
            up_to = jnp.cumsum(probabilities, -1)
            before = up_to - probabilities
            is_kept = before < self.top_p
            kept = jnp.where(is_kept, falling, jnp.inf)
            least = jnp.min(kept, -1, keepdims=True)
            logits = _at_least(logits, least)
        drawn = jax.random.categorical(key, logits)
        return drawn.astype(jnp.int32)


def _at_least(logits: jax.Array, least: jax.Array) -> jax.Array:
    """The logits of at least that size: all others are never drawn."""
    # By size and not by place: tokens as likely as the last that is kept are kept with it.
    too_small = logits < least
    return jnp.where(too_small, -jnp.inf, logits)


GREEDY = Sampling(temperature=0.0)
NOTHING = -1
"""The token of a row whose logits are no numbers: none of the vocabulary."""
