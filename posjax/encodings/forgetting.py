"""A bias that fades by content."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.arrays import products
from posjax.encodings.base import Dims, Encoding, Pairs, Params
from posjax.errors import InputError


@dataclass(frozen=True)
class Forgetting(Encoding):
    """A forgetting bias, ALiBi whose slope depends on the data: each token lets some of what came before it fade.

        score = q k / sqrt(H) + sum over tokens l after the key up to the query of ln f_l,   f_l = sigmoid(w k_l + b)

    with w `[N, H]` and b `[N]` trained. `keep` is the initial f.

    Convention: the gate reads the token's key, not the layer's input as in the paper, so that it needs nothing beside
    queries and keys. Tokens that the mask hides fade nothing. Defined by token order, so it is for causal attention.

    Good at: language modelling without any other encoding, and lengths past the trained one: what content makes
    stale fades (Lin et al.).
    Bad at: attention without a causal mask, and what has once faded: a later token cannot bring it back within the
    head.

    Errors: `InputError` for a keep outside (0, 1).
    Source: Lin et al. 2025, arXiv:2503.02130, equations 5 to 7.

    >>> import jax
    >>> Forgetting().init(jax.random.key(0), Dims(heads=2, head_size=4))["b"].shape
    (2,)
    """

    keep: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep < 1:
            raise InputError(f"Forgetting got keep={self.keep}: needed is a share in (0, 1), near 1")

    @property
    def causal(self) -> bool:
        return True

    @property
    def relative(self) -> bool:
        return True

    def init(self, key: jax.Array, dims: Dims) -> Params:
        shape = (dims.heads, dims.head_size)
        w = 0.02 * jax.random.normal(key, shape, jnp.float32)
        # The gate's own inverse: where the key says nothing yet, each token keeps that share.
        logit = math.log(self.keep / (1 - self.keep))
        b = jnp.full((dims.heads,), logit, jnp.float32)
        return {"w": w, "b": b}

    def fading(self, params: Params, k: jax.Array) -> jax.Array:
        k_SNH = k.astype(jnp.float32)
        w_NH = params["w"].astype(jnp.float32)
        met_NS = jnp.einsum("SNH,NH->NS", k_SNH, w_NH)
        gate_NS = met_NS + params["b"].astype(jnp.float32)[:, None]
        # The logarithm at once: of a share near 0 it stays finite.
        return jax.nn.log_sigmoid(gate_NS)

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        of_keys = self.fading(params, k)[:, None, :]
        fading = jnp.where(pairs.before[None], of_keys, 0.0)
        # From the key's successor up to the query, over the tokens that the query may see.
        from_the_end = jnp.cumsum(fading[..., ::-1], axis=-1)
        faded = from_the_end[..., ::-1] - fading
        head_size = q.shape[-1]
        content = products(q, k) / math.sqrt(head_size)
        return content + faded
