"""What a call of attention needs of its encoding, parameters, positions and mask: gathered once, by one function.

`attend`, the layers of a model, the probes of an evaluation and `explain` all begin here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import core, lax

from posjax import positions
from posjax.arguments import whole
from posjax.attention.biases import Bias
from posjax.attention.description import describe
from posjax.attention.masks import Mask, MaskLike, as_mask, goes_backward
from posjax.encodings.base import Dims, Encoding, NoPE, Params, Role, turned
from posjax.encodings.parameters import given_params, has_constants
from posjax.encodings.traits import coordinates_of_length
from posjax.errors import InputError
from posjax.positions import Index


@dataclass(frozen=True)
class Tokens:
    """Where the tokens of a call stand: `queries` of them look at `keys`, the first from index `q_offset`.

    `q_positions [T]` or `[b, T]`, and `k_positions` of the S keys. `contiguous`: both are 0, 1, 2, … by index, so that
    a relative bias is a function of distance alone.
    """

    queries: int
    keys: int
    q_offset: Index
    q_positions: jax.Array
    k_positions: jax.Array
    contiguous: bool = True

    @classmethod
    def at(
        cls,
        queries: int,
        keys: int,
        q_offset: Index,
        q_positions: jax.Array | None = None,
        k_positions: jax.Array | None = None,
    ) -> Tokens:
        """Tokens at the positions given, and where none are, at their indices."""
        contiguous = q_positions is None and k_positions is None
        if q_positions is None:
            q_positions = positions.contiguous(queries, q_offset)
        if k_positions is None:
            k_positions = positions.contiguous(keys)
        return cls(queries, keys, q_offset, q_positions, k_positions, contiguous)

    def last(self, count: int) -> Tokens:
        """The same for the last `count` queries alone."""
        skipped = self.queries - count
        # Positions with coordinates have a further axis, so the tokens are not always on the last one.
        axis = min(self.q_positions.ndim - 1, 1)
        q_positions = lax.slice_in_dim(self.q_positions, skipped, self.queries, axis=axis)
        return replace(self, queries=count, q_offset=self.q_offset + skipped, q_positions=q_positions)


@dataclass(frozen=True)
class Prepared:
    """One call of attention, or the layers of one pass that share an encoding.

    `raw` are the joined parameters, from which keys of any position can be rotated; `params` the same, prepared for the
    positions of the queries where that was worth it. `void [b, T]` marks tokens of a model that have no position:
    nothing is to look at them, and they look at nothing.
    """

    encoding: Encoding
    dims: Dims
    tokens: Tokens
    mask: Mask
    bias: Bias
    raw: Params
    params: Params
    void: jax.Array | None = None

    @property
    def q_offset(self) -> Any:
        """The index of the first query among the keys."""
        return self.tokens.q_offset

    @property
    def may_end(self) -> bool:
        """Whether a query may stand past what the encoding holds, and comes out as NaN."""
        most, tokens = self.encoding.max_length, self.tokens
        if most is None:
            return False
        if not tokens.contiguous or not isinstance(tokens.q_offset, int):
            return True  # Where they stand is known at run time only.
        return tokens.q_offset + tokens.queries > most

    def rotate(self, x: jax.Array, role: Role) -> jax.Array:
        """Queries or keys `[B, T, N, H]`, turned at the positions of the call."""
        positions = self.tokens.q_positions
        if role == "key":
            positions = self.tokens.k_positions
        return turned(self.encoding, self.raw, x, positions, role)

    def last(self, count: int) -> Prepared:
        """The call of the last `count` queries alone, for a probe that looks at no others."""
        tokens = self.tokens.last(count)
        return replace(self, tokens=tokens, bias=_bias(self.encoding, self.raw, self.dims, tokens))


jax.tree_util.register_dataclass(
    Tokens, data_fields=["q_offset", "q_positions", "k_positions"], meta_fields=["queries", "keys", "contiguous"]
)
jax.tree_util.register_dataclass(
    Prepared, data_fields=["tokens", "mask", "bias", "raw", "params", "void"], meta_fields=["encoding", "dims"]
)


def prepare(
    encoding: Encoding,
    params: Params,
    sizes: dict[str, int],
    *,
    mask: MaskLike,
    q_positions: jax.Array | None = None,
    k_positions: jax.Array | None = None,
    length: int | None = None,
) -> Prepared:
    """A call as its user makes it, checked; `sizes` are those of q and k by their letters.

    Errors: `InputError`, those of `attend`.
    """
    mask = as_mask(mask)
    fit(encoding, mask, sizes)
    B, N = sizes["B"], sizes["N"]
    T, S = sizes["T"], sizes["S"]
    if q_positions is not None:
        q_positions = positions.check(q_positions, "q_positions", encoding.coordinates, (B, T))
    if k_positions is not None:
        k_positions = positions.check(k_positions, "k_positions", encoding.coordinates, (B, S))
    if T > S and not goes_backward(mask) and q_positions is None and not isinstance(encoding, NoPE):
        raise InputError(
            f"{T} queries look at {S} keys under {mask!r}: they are another sequence, "
            "so say where its tokens are, with q_positions and k_positions"
        )
    q_offset = first_index(T, S, mask)
    # Keys too, whatever the mask: positions may begin anew, and earlier tokens then stand farther than later ones.
    ends: list[int | jax.Array] = [q_offset + T, S]
    for n, given in enumerate((q_positions, k_positions)):
        if given is not None:
            ends[n] = given
    resolved = encoding.at_length(context_length(encoding, length, *ends))
    dims = Dims(heads=N, head_size=sizes["H"])
    tokens = Tokens.at(T, S, q_offset, q_positions, k_positions)
    given = given_params(resolved, params, dims)
    # One of its own may not keep what it was told; told the same again, it is what it was.
    if resolved != encoding and has_constants(resolved, given, dims):
        raise InputError(
            f"{encoding!r} depends on the length of the context, and params hold constants, which are those of one "
            "length: pass params without them, or encoding.at_length(n) and the constants that it makes"
        )
    return gather(resolved, given, dims, tokens, mask)


def first_index(queries: int, keys: int, mask: Mask) -> int:
    """The index of the first query among the keys, of which queries are the last."""
    if queries > keys and not goes_backward(mask):
        return 0  # Queries of another sequence, more than there are keys, have no place among them.
    return keys - queries


def gather(encoding: Encoding, raw: Params, dims: Dims, tokens: Tokens, mask: Mask) -> Prepared:
    """The same from parts that are checked already: the encoding at its length, with joined parameters."""
    return Prepared(encoding, dims, tokens, mask, _bias(encoding, raw, dims, tokens), raw, raw)


def _bias(encoding: Encoding, raw: Params, dims: Dims, tokens: Tokens) -> Bias:
    q_positions, k_positions = tokens.q_positions, tokens.k_positions
    if tokens.contiguous:
        q_positions = k_positions = None
    sizes = (tokens.queries, tokens.keys)
    return describe(encoding, raw, dims.heads, q_positions, k_positions, sizes, tokens.q_offset)


def context_length(encoding: Encoding, given: int | None, *ends: int | jax.Array) -> int:
    """The length of the context for an encoding that depends on it: as given, or by the largest of `ends`.

    Each end is a length, or positions, which reach one more than their largest.

    Errors: `InputError` where positions are traced and no length is given.
    """
    if not encoding.length_dependent and (given is None or isinstance(given, core.Tracer)):
        return 1  # Nobody asks for it, and to look at positions would wait for them.
    if given is not None:
        return whole(given, "length", least=1)
    longest = 1
    for end in ends:
        if not isinstance(end, int) and jnp.ndim(end) == 3 and coordinates_of_length(encoding) == 1:
            end = end[..., 0]  # It reads no other, which may reach further.
        reached = end if isinstance(end, int) else positions.reach(end)
        if reached is None:
            raise InputError(
                f"{encoding!r} depends on the length of the context, and the positions are known at run time "
                "only: pass length=, one more than the largest position"
            )
        longest = max(longest, reached)
    return longest


def fit(encoding: Encoding, mask: Mask, sizes: dict[str, int]) -> None:
    """Errors: `InputError` where an encoding, a mask and the sizes of queries and keys do not go together."""
    if not isinstance(encoding, Encoding):
        name = "NoPE"
        if isinstance(encoding, type):
            name = encoding.__name__
        raise InputError(f"encoding is {encoding!r}: needed is a value, such as {name}()")
    check_heads(sizes)
    check_causal(encoding, mask)


def check_heads(sizes: dict[str, int]) -> None:
    """Errors: `InputError` for query heads that are no multiple of the key-value heads, and heads without channels."""
    for letter, names in (("H", "q and k have"), ("U", "v has")):
        if sizes.get(letter) == 0:
            raise InputError(f"{names} no channels, a last axis of 0: needed is a head size of 1 or more")
    if not sizes["K"] or sizes["N"] % sizes["K"]:
        raise InputError(
            f"q has {sizes['N']} heads and k has {sizes['K']}: needed is a number of query heads that the key-value "
            "heads divide"
        )


def check_causal(encoding: Encoding, mask: Mask) -> None:
    """Errors: `InputError` for a causal encoding under a mask that lets a query see later keys."""
    if encoding.causal and not mask.causal:
        raise InputError(
            f"{encoding!r} is defined for keys at or before the query, and the mask {mask!r} lets later "
            "ones through: intersect it with Causal(), or take the encoding's form for both directions"
        )
