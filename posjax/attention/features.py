"""Feature maps of linear attention: what stands in for the exponential of a product."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posjax.arguments import whole


def elu_plus_one(x: jax.Array) -> jax.Array:
    """The feature map `elu(x) + 1`, positive. Source: Katharopoulos et al. 2020, arXiv:2006.16236, equation 7."""
    # Not elu(x) + 1, in which a float32 below -17 is rounded to 0.
    negative = jnp.minimum(x, 0)
    below = jnp.exp(negative)
    return jnp.where(x > 0, x + 1, below)


@dataclass(frozen=True)
class Favor:
    """Positive random features, in which linear attention estimates softmax attention: FAVOR+.

        phi(x) = exp(w_m x - |x|^2 / 2) / sqrt(M),    x = q / H^(1/4) or k / H^(1/4)

    for M = `features` directions w_m, orthogonal in blocks of H, with the lengths of Gaussian vectors. In the mean over
    seeds, `phi(q) phi(k) = exp(q k / sqrt(H))`; the error falls with the root of M.

    Convention: queries and keys are rotated before the map, as softmax attention rotates them, so that the denominator
    is of the same weights, all positive. Of each query the largest exponent is taken off, which cancels. Nothing is
    taken off of keys: a maximum over them would have to be known before the last one is read, and a sequence in steps
    would not equal one call. So float32 has to hold their exponents, which it does not for keys much longer than
    sqrt(H): sums become 0, or gradients not finite. The estimate is too rough long before: its variance grows as
    exp(|x_q + x_k|^2).

    Errors: `InputError` for numbers that are not whole, or no feature at all.
    Source: Choromanski et al. 2021, arXiv:2009.14794, equation 5 and section 2.4.

    >>> import jax, posjax
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 5, 2, 4))
    >>> out, state = posjax.linear_attend(q, k, v, encoding=posjax.Rope(), feature=Favor(1024))
    >>> bool(jnp.abs(out - posjax.attend(q, k, v, encoding=posjax.Rope())).max() < 0.2)
    True
    """

    features: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", whole(self.features, "features", least=1))
        object.__setattr__(self, "seed", whole(self.seed, "seed"))

    def directions(self, head_size: int) -> np.ndarray:
        """`w [M, H]`, float32. Known when a call is traced, and so a constant of what is compiled."""
        draws = np.random.default_rng(self.seed)
        blocks = -(-self.features // head_size)
        gaussian = draws.standard_normal((blocks, head_size, head_size))
        orthogonal, upper = np.linalg.qr(gaussian)
        # With these signs every orthogonal matrix is as likely as any other.
        signs = np.sign(np.diagonal(upper, axis1=1, axis2=2))
        rows = (orthogonal * signs[:, None]).reshape(-1, head_size)[: self.features]
        lengths = np.linalg.norm(draws.standard_normal((self.features, head_size)), axis=1)
        return (rows * lengths[:, None]).astype(np.float32)

    def of_queries(self, q: jax.Array) -> jax.Array:
        """The features of rotated queries `[..., H]`, each up to a factor of its own: float32 `[..., M]`."""
        exponents = self._exponents(q)
        # It cancels in the division, where its gradient would too.
        highest = jax.lax.stop_gradient(exponents.max(-1, keepdims=True))
        return jnp.exp(exponents - highest) / math.sqrt(self.features)

    def of_keys(self, k: jax.Array) -> jax.Array:
        """The features of rotated keys `[..., H]`: float32 `[..., M]`."""
        return jnp.exp(self._exponents(k)) / math.sqrt(self.features)

    def _exponents(self, x: jax.Array) -> jax.Array:
        scaled = x.astype(jnp.float32) * x.shape[-1] ** -0.25
        products = jnp.einsum("...H,MH->...M", scaled, self.directions(x.shape[-1]))
        squares = jnp.square(scaled).sum(-1, keepdims=True)
        return products - squares / 2
