"""The contract of an encoding. Whoever writes one needs to read nothing else.

An encoding is a frozen dataclass whose fields are numbers, strings, tuples or other such values, never arrays: it
hashes, compares and prints by value, so it is its own configuration. What it needs at run time comes in two dicts of
arrays, told apart by who may change them:

    params      from `init(key, dims)`: trained, and nothing else is
    constants   from `constants(dims)`: computed from the fields on the host, exactly, and never trained

A hook's `params` argument is `encoding.join(params, constants)`, both in one dict. A hook reads its numbers from there
and completes what is missing with `complete(self, params, dims)`, so it works with `init`'s dict alone too. The gain is
that a caller may hand other constants to a function already compiled: sweeping a frequency costs no compilation.

The hooks, each the identity unless defined; all are pure and may be jitted, vmapped and differentiated:

    move(params, positions, key)                        other positions: randomised, skipped
    embed(params, x, positions)                         x [B, T, D], token embeddings
    rotate(params, x, positions, role)                  x [B, T, N, H], role "query" or "key"
    bias(params, q_positions, k_positions, head)        [T, S] float32, added to the logits after 1/sqrt(H)
    prepare(params, positions, dims)                    params plus what depends on positions alone (cosines, sines)
    at_length(length)                                   the encoding for a context of that static length
    score(params, q, k, pairs)                          [N, T, S] float32, instead of q k / sqrt(H), content and all
    fading(params, k)                                   [N, S] float32, where such a score is q k / sqrt(H) and a sum
                                                        over the tokens between: each one's share of it

What a hook may never do: look at a length, a batch's maximum, or anything but the positions it is given. A bias of a
slice of positions is the slice of the bias; that is what lets one definition serve tiles, caches and devices.

What else is asked of an encoding follows from the hooks that it defines, and nobody declares it: see `traits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posjax.arguments import whole
from posjax.encodings.arrays import answered, exact, products
from posjax.errors import InputError
from posjax.fields import check_fields

Params = Any
"""A dict of arrays; for a chain, a dict of its parts' dicts under "0", "1", …."""

Role = Literal["query", "key"]


@dataclass(frozen=True)
class Dims:
    """The sizes that parameters and constants take from a model: `heads` N, `head_size` H, `model_size` D."""

    heads: int = 1
    head_size: int = 0
    model_size: int = 0

    def __post_init__(self) -> None:
        for name in ("heads", "head_size", "model_size"):
            # A frozen dataclass has no other way to replace what it was given.
            given = getattr(self, name)
            object.__setattr__(self, name, whole(given, f"Dims.{name}"))


@dataclass(frozen=True)
class Head:
    """One query head: `index` in 0 .. `count` - 1, which may be traced."""

    index: Any
    count: int

    def __post_init__(self) -> None:
        known = isinstance(self.index, int | np.integer)
        # True is a whole number to Python, and a float would index nothing: both are mistakes.
        if isinstance(self.index, float | bool) or (known and not 0 <= self.index < self.count):
            raise InputError(
                f"Head got index={self.index!r} of {self.count}: needed is a whole number from 0 to {self.count - 1}"
            )

    def of(self, parameter: jax.Array) -> jax.Array:
        """This head's part of a parameter whose leading axis is N, or 1 for all heads alike."""
        rows = parameter.shape[0]
        if rows not in (1, self.count):
            raise InputError(
                f"a bias parameter has shape {parameter.shape}: its leading axis must be 1 or the "
                f"number of heads, {self.count}"
            )
        index = 0
        if rows == self.count:
            index = self.index
        # A dynamic index, since the head may be traced: one compilation then serves all heads.
        at = jnp.asarray(index, jnp.int32)
        return jax.lax.dynamic_index_in_dim(parameter, at, keepdims=False)


@dataclass(frozen=True)
class Pairs:
    """Where the queries and keys of one row are: positions `[T]`, `[S]`, and places in token order `[T]`, `[S]`.

    `seen [T, S]`: the pairs that the mask allows, `None` where it allows all.
    """

    q_positions: jax.Array
    k_positions: jax.Array
    q_index: jax.Array
    k_index: jax.Array
    seen: jax.Array | None = None

    @property
    def before(self) -> jax.Array:
        """Whether a key is at or before the query, and one that it may see: bool `[T, S]`."""
        # By token order, not by position: positions may repeat, start anew or be drawn at random.
        key = self.k_index[None, :]
        query = self.q_index[:, None]
        order = key <= query
        if self.seen is None:
            return order
        return order & self.seen

    @property
    def distance(self) -> jax.Array:
        """`q_position - k_position`, int32 `[T, S]`."""
        query = exact(self.q_positions)[:, None]
        key = exact(self.k_positions)[None, :]
        return query - key


@dataclass(frozen=True)
class Encoding:
    """A positional encoding that does nothing: derive from it and define the hooks that yours needs."""

    swept: ClassVar[tuple[str, ...]] = ()
    """Fields that act through `constants` alone: values that differ only in these share a trace."""

    def __post_init__(self) -> None:
        # Whoever defines this again calls it first: then comparisons below it meet numbers.
        check_fields(self)
        for field in fields(self):
            if isinstance(getattr(self, field.name), np.ndarray | jax.Array):
                raise InputError(
                    f"{type(self).__name__} got an array as {field.name}: needed is a value that compares, such as a "
                    "tuple; arrays come from init, if they are trained, or from constants"
                )

    # What it declares, and the laws then hold it to ------------------------------------------------------------------

    @property
    def relative(self) -> bool:
        """Whether scores stay the same when all positions move by one offset. Declared, and then tested."""
        return False

    @property
    def causal(self) -> bool:
        """Whether it is defined only for keys at or before the query."""
        return False

    @property
    def injective(self) -> bool:
        """Whether what it embeds or rotates differs between any two positions; a temperature need not."""
        return True

    @property
    def max_length(self) -> int | None:
        """The number of distinct positions it can tell apart; `None`: every int32 position."""
        return None

    @property
    def coordinates(self) -> int:
        """How many coordinates its positions have: `[B, T, A]` where they are more than one.

        Hooks then get `[T]` and `[B, T]` too, where nobody gave coordinates: those of text, all of them equal.
        """
        return 1

    @property
    def bias_kind(self) -> Literal["none", "relative", "pairwise"]:
        """Whether there is a bias, and whether it is a function of `q_position - k_position` alone."""
        if type(self).bias is Encoding.bias:
            return "none"
        return "pairwise"

    @property
    def length_dependent(self) -> bool:
        """Whether `at_length` changes it. Then caches hold keys before rotation, and rotate them for each length."""
        return type(self).at_length is not Encoding.at_length

    # What it is made of ----------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **more: Any) -> None:
        """Errors: `InputError` for a hook that is defined anew beside an inherited one that is read in its place."""
        super().__init_subclass__(**more)
        own = vars(cls)
        for hook, shorter in (("score", "fading"), ("by_distance", "slopes"), ("bias", "by_distance")):
            if hook not in own or shorter in own:
                continue
            inherited = getattr(cls, shorter, None)
            # What the contract itself defines says that there is none.
            if inherited is not None and inherited.__module__ != __name__:
                raise InputError(
                    f"{cls.__name__} defines {hook} and inherits {shorter}, which is read in its place where it can "
                    f"be: define {shorter} too, or derive from Encoding"
                )

    def init(self, key: jax.Array, dims: Dims) -> Params:
        """The trained parameters, a dict of arrays. A bias parameter's leading axis is N or 1."""
        return {}

    def constants(self, dims: Dims) -> Params:
        """What the fields come to for a model of these sizes: a dict of numpy arrays, computed on the host."""
        return {}

    def join(self, params: Params, constants: Params) -> Params:
        """Parameters and constants in the one dict that hooks read. Either may be `None`."""
        return {**(constants or {}), **(params or {})}

    # What it does ----------------------------------------------------------------------------------------------------

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        """Other positions for the same tokens, drawn with `key`: int32 of the same shape, `[T]` or `[B, T]`.

        A model calls it where it is given a key, as in training; whatever is chained after it reads what it returns.
        """
        return positions

    def embed(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Token embeddings `x [B, T, D]` with their positions in them: the same shape and dtype."""
        return x

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        """Queries or keys `x [B, T, N, H]` by their positions: the same shape and dtype. Values are never rotated."""
        return x

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        """What one head adds to its logits, after 1/sqrt(H): positions `[T]` and `[S]` -> float32 `[T, S]`.

        Pairs that a mask hides are computed too: be finite at any two positions from 0 on, and so the derivatives.
        """
        queries = q_positions.shape[-1]
        keys = k_positions.shape[-1]
        return jnp.zeros((queries, keys), jnp.float32)

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        """The bias as a function of `q_position - k_position`, elementwise, where `bias_kind` is "relative".

        A causal encoding is asked about distances from 0 on: those below stand for 0, and a mask hides them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no bias by distance; derive from RelativeBias")

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        """The scores of one row, in place of `q k / sqrt(H)`: `q [T, N, H]`, `k [S, N, H]` -> float32 `[N, T, S]`.

        Both are rotated already. The mask and the biases of what is chained beside it come after.
        """
        size = jnp.float32(q.shape[-1])
        return products(q, k) / jnp.sqrt(size)

    def fading(self, params: Params, k: jax.Array) -> jax.Array | None:
        """Where `score` is the product plus a sum over the tokens after the key up to the query: what each adds.

        For one row, `k [S, N, H]` -> `[N, S]` float32. Backends then never sum over pairs.
        """
        return None

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        """The parameters, and beside them what hooks need of these positions: models call it once a forward pass.

        A hook that finds nothing prepared computes it itself, and comes to the same bits.
        """
        return params

    def at_length(self, length: int) -> Encoding:
        """The encoding for a context of that static length; itself unless it depends on the length."""
        return self


def asked_distance(encoding: Encoding, distance: jax.Array) -> jax.Array:
    """The distances that an encoding is asked about: 0 for those of later keys, where it is defined for no such key.

    A mask hides them; what a hook makes of them would still reach its parameters, as a product with 0.
    """
    if not encoding.causal:
        return distance
    return jnp.maximum(distance, 0)


def turned(encoding: Encoding, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
    """What `rotate` makes of queries or keys. Errors: `InputError` where it has another shape or type than they."""
    answer = encoding.rotate(params, x, positions, role)
    return answered(encoding, "rotate", answer, x.shape, x)


def complete(encoding: Encoding, params: Params, dims: Dims) -> Mapping[str, Any]:
    """The joined dict, its missing constants computed from the fields."""
    return {**encoding.constants(dims), **params}


@dataclass(frozen=True)
class NoPE(Encoding):
    """No positional encoding: nothing is added, turned or biased. The unit of `chain`.

        score = q k / sqrt(H)

    A causal decoder still has some sense of order, since its mask lets each token see another number of keys; without
    a causal mask attention is blind to order.

    Convention: a chain drops it, and a model with it alone reads order from the causal mask.

    Good at: length generalisation of causal decoders on reasoning and copying tasks, where it did as well as or
    better than explicit encodings (Kazemnejad et al.); nothing in it ends at the trained length.
    Bad at: attention without a causal mask, which is blind to order; language modelling, where small models without
    positions end at a higher loss than with any encoding.

    Errors: none.
    Source: Haviv et al. 2022, arXiv:2203.16634; Kazemnejad et al. 2023, arXiv:2305.19466.

    >>> NoPE().relative, NoPE().bias_kind
    (True, 'none')
    """

    @property
    def relative(self) -> bool:
        return True


@dataclass(frozen=True)
class RelativeBias(Encoding):
    """A bias that is a function of the distance `q_position - k_position` alone.

    Derive from it and define `by_distance(params, distance, head)`, elementwise on int32 distances of any shape,
    float32 out. Backends then evaluate it once per distance rather than once per pair.
    """

    @property
    def relative(self) -> bool:
        return True

    @property
    def bias_kind(self) -> Literal["none", "relative", "pairwise"]:
        return "relative"

    def slopes(self, params: Params, heads: int) -> jax.Array | None:
        """Where the bias of keys at or before the query is `-slope * distance`: the slopes, float32 `[N]`.

        Kernels that take no bias then add it as a few extra channels of queries and keys.
        """
        return None

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        # Subtracted as integers: float32 positions would be wrong past 2^24, their difference never is.
        query = exact(q_positions)[..., :, None]
        key = exact(k_positions)[..., None, :]
        distance = asked_distance(self, query - key)
        return self.by_distance(params, distance, head)
