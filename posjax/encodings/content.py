"""Encodings that read the content: the score of a pair depends on its query or key as well as its distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from posjax.axes import lead
from posjax.encodings import phases
from posjax.encodings.base import Dims, Encoding, Pairs, Params, held
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError


def _products(q: jax.Array, k: jax.Array) -> jax.Array:
    """`q k` in float32: `[T, N, H]` and `[S, N, H]` -> `[N, T, S]`."""
    return jnp.einsum("TNH,SNH->NTS", q.astype(jnp.float32), k.astype(jnp.float32))


@dataclass(frozen=True)
class Shaw(Encoding):
    """Relative vectors on the key side: each clipped distance has a trained vector that the query meets.

        score = q (k + a_c) / sqrt(H),   c = clip(d, -clip, clip),   d = q_position - k_position

    `clip`: the largest distance that is told apart. `deviation`: that of the initial vectors `[1, 2 clip + 1, H]`,
    shared by the heads as in the paper.

    Convention: the vector joins the key after its projection. The paper's second set of vectors, on the values, is
    left out; its ablation finds no difference.

    Good at: positions that matter by content: the same distance may attract one query and repel another, and left
    differs from right.
    Bad at: distances past the clip, which all look alike; and speed, since scores by content need the reference or
    chunked backend.

    Errors: `InputError` for a clip below 1 or a negative deviation.
    Source: Shaw et al. 2018, arXiv:1803.02155, equations 2 and 4.

    >>> import jax
    >>> Shaw(clip=4).init(jax.random.key(0), Dims(heads=2, head_size=8))["keys"].shape
    (1, 9, 8)
    """

    clip: int = 16
    deviation: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip < 1 or self.deviation < 0:
            raise InputError(
                f"Shaw got clip={self.clip} and deviation={self.deviation}: needed are a distance of 1 or "
                "more and a standard deviation of 0 or more"
            )

    @property
    def relative(self) -> bool:
        return True

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return (cls(clip=5, deviation=1.0),)

    def init(self, key: jax.Array, dims: Dims) -> Params:
        shape = (1, 2 * self.clip + 1, dims.head_size)
        return {"keys": self.deviation * jax.random.normal(key, shape, jnp.float32)}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        # The query meets every vector once, and pairs pick from the answers: no [T, S, H] array.
        keys = held(self, "keys", params["keys"], 1, 2 * self.clip + 1, q.shape[-1])
        met = jnp.einsum("TNH,CH->NTC", q.astype(jnp.float32), keys[0].astype(jnp.float32))
        index = jnp.clip(pairs.distance, -self.clip, self.clip) + self.clip
        chosen = jnp.take_along_axis(met, jnp.broadcast_to(index[None], (met.shape[0], *index.shape)), axis=-1)
        return (_products(q, k) + chosen) / math.sqrt(q.shape[-1])


@dataclass(frozen=True)
class TransformerXL(Encoding):
    """The decomposition of Transformer-XL: content and position each meet the key's content and its distance.

        score = ((q + u) k + (q + v) W R_d) / sqrt(H),   R_d = (sin d theta_i, cos d theta_i)

    at distance d = q_position - k_position, with u, v `[N, H]` and W `[N, H, D]` trained, `theta_i = base^(-2i/D)`, D
    the model size.

    Convention: sines of distances are taken apart into those of positions, which are exact, so that no vector is
    needed for each pair; all sines come first, then all cosines, as in the released code.

    Good at: states cached from earlier segments, for which it was made: content and distance have terms of their
    own, and any distance has a vector.
    Bad at: speed and size: a second product for each pair, a projection for each layer, and the reference or
    chunked backend.

    Errors: `InputError` for a base not above 1 or an odd model size.
    Source: Dai et al. 2019, arXiv:1901.02860, section 3.3.

    >>> import jax
    >>> sorted(TransformerXL().init(jax.random.key(0), Dims(heads=2, head_size=4, model_size=8)))
    ['u', 'v', 'w']
    """

    base: float = 10_000.0

    swept: ClassVar[tuple[str, ...]] = ("base",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.base > 1:
            raise InputError(f"TransformerXL got base={self.base}: needed is a number above 1, usually 10,000")

    @property
    def relative(self) -> bool:
        return True

    def init(self, key: jax.Array, dims: Dims) -> Params:
        if dims.model_size < 2 or dims.model_size % 2:
            raise InputError(
                f"TransformerXL got a model size of {dims.model_size}: needed is an even one, in Dims(model_size=...)"
            )
        first, second, third = jax.random.split(key, 3)
        shape = (dims.heads, dims.head_size)
        return {
            "u": 0.02 * jax.random.normal(first, shape, jnp.float32),
            "v": 0.02 * jax.random.normal(second, shape, jnp.float32),
            "w": jax.random.normal(third, (*shape, dims.model_size), jnp.float32) / math.sqrt(dims.model_size),
        }

    def constants(self, dims: Dims) -> Params:
        return {"turns": phases.fixed_point_turns(inverse_frequencies(dims.model_size, self.base))}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        u, v, w = (params[name].astype(jnp.float32) for name in ("u", "v", "w"))
        turns = self.complete(params, Dims(model_size=w.shape[-1]))["turns"]
        wide = q.astype(jnp.float32)
        met = jnp.einsum("TNH,NHD->NTD", wide + lead(v, 3), w)
        on_sin, on_cos = jnp.split(met, 2, axis=-1)
        (q_cos, q_sin), (k_cos, k_sin) = (phases.cos_sin(p, turns) for p in (pairs.q_positions, pairs.k_positions))
        q_cos, q_sin = lead(q_cos, 3), lead(q_sin, 3)
        # sin(m - n) and cos(m - n) by the addition theorems, the parts of m on the query's side.
        beside_cos, beside_sin = on_sin * q_sin + on_cos * q_cos, on_cos * q_sin - on_sin * q_cos
        placed = jnp.einsum("NTP,SP->NTS", beside_cos, k_cos) + jnp.einsum("NTP,SP->NTS", beside_sin, k_sin)
        return (_products(wide + lead(u, 3), k) + placed) / math.sqrt(q.shape[-1])


@dataclass(frozen=True)
class CoPE(Encoding):
    """Contextual positions: a key's place is counted in the tokens between it and the query that the query cares for.

        gate = sigmoid(q k / sqrt(H)),   p = sum of the gates from the key up to the query, at most length - 1
        score = q k / sqrt(H) + q e[p],   e interpolated between its trained rows

    `length`: the rows of e, `[1, length, H]`, shared by the heads.

    Convention: gates see the scaled product; the embedded place meets the query unscaled, as in the released code.
    Keys after the query, and those that the mask hides, have no gate. Defined by token order, so it is for causal
    attention.

    Good at: counting what content marks: words, sentences, items; the paper's counting, selective copying and
    flip-flop tasks.
    Bad at: attention without a causal mask, places past its last row, which are all alike, and speed: positions are
    known only after all scores.

    Errors: `InputError` for a length below 2.
    Source: Golovneva et al. 2024, arXiv:2405.18719, equations 3 to 6.

    >>> import jax
    >>> CoPE(length=8).init(jax.random.key(0), Dims(heads=2, head_size=4))["rows"].shape
    (1, 8, 4)
    """

    length: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 2:
            raise InputError(f"CoPE got length={self.length}: needed is the number of rows, 2 or more")

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return True

    @property
    def relative(self) -> bool:
        return True

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return (cls(length=6),)

    def init(self, key: jax.Array, dims: Dims) -> Params:
        # Zero rows, as published, would leave the gates without a gradient in the first step.
        return {"rows": 0.02 * jax.random.normal(key, (1, self.length, dims.head_size), jnp.float32)}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        content = _products(q, k) / math.sqrt(q.shape[-1])
        gates = jnp.where(pairs.before[None], jax.nn.sigmoid(content), 0.0)
        place = jnp.minimum(jnp.cumsum(gates[..., ::-1], axis=-1)[..., ::-1], self.length - 1.0)
        rows = held(self, "rows", params["rows"], 1, self.length, q.shape[-1])
        met = jnp.einsum("TNH,PH->NTP", q.astype(jnp.float32), rows[0].astype(jnp.float32))
        below = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, self.length - 2)
        part = place - below.astype(jnp.float32)
        low, high = (jnp.take_along_axis(met, index, axis=-1) for index in (below, below + 1))
        return content + low * (1 - part) + high * part


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
    def causal(self) -> bool:  # type: ignore[override]
        return True

    @property
    def relative(self) -> bool:
        return True

    def init(self, key: jax.Array, dims: Dims) -> Params:
        w = 0.02 * jax.random.normal(key, (dims.heads, dims.head_size), jnp.float32)
        return {"w": w, "b": jnp.full((dims.heads,), math.log(self.keep / (1 - self.keep)), jnp.float32)}

    def fading(self, params: Params, k: jax.Array) -> jax.Array:
        gate = jnp.einsum("SNH,NH->NS", k.astype(jnp.float32), params["w"]) + params["b"][:, None]
        return jax.nn.log_sigmoid(gate)

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        fading = jnp.where(pairs.before[None], self.fading(params, k)[:, None, :], 0.0)
        # From the key's successor up to the query, over the tokens that the query may see.
        faded = jnp.cumsum(fading[..., ::-1], axis=-1)[..., ::-1] - fading
        return _products(q, k) / math.sqrt(q.shape[-1]) + faded
