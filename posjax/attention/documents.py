"""The documents of a packed row, as linear attention tells them apart: one after the other, each a run of tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention.given_masks import ids_of
from posjax.attention.masks import Causal, Mask, indices_to, rules
from posjax.attention.token_masks import Segments
from posjax.errors import InputError


def documents(mask: Mask, sizes: dict[str, int], last: jax.Array | None) -> jax.Array:
    """The document of each token, int32 `[B, T]`: 1 everywhere, or `last [B]`, where the mask names none.

    Errors: `NotImplementedError` for a mask that no running sum can follow; `InputError` for documents or a state in
    both directions, and for ids of other tokens.
    """
    every = rules(mask)
    named = [rule for rule in every if isinstance(rule, Segments)]
    if any(type(rule) not in (Causal, Segments) for rule in every) or len(named) > 1:
        raise NotImplementedError(
            f"linear attention cannot follow {mask!r}: it knows Causal(), Full() and Causal() & "
            "Segments(ids); posjax.attend follows any mask"
        )
    if not mask.causal and (named or last is not None):
        raise InputError(
            "linear attention in both directions sees one document as a whole: it takes neither Segments "
            "nor a state; intersect the mask with Causal()"
        )
    B = sizes["B"]
    T = sizes["T"]
    if not named:
        # Without ids the tokens go on with the state's own document.
        document = jnp.ones((B,), jnp.int32)
        if last is not None:
            # A state of zeros is one of no token, and not of padding, whose number 0 is.
            document = jnp.where(last == 0, 1, last)
        return jnp.broadcast_to(document[:, None], (B, T))
    packed = named[0]
    ids = ids_of(packed.queries, "queries", B)
    if packed.keys is not None or ids.shape != (B, T):
        raise InputError(
            f"linear attention got Segments of shape {ids.shape}: needed is one id for each token, "
            f"({B}, {T}), the same for queries and keys"
        )
    return ids


def numbered(ids: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The documents `[B, T]` by their number in the row, 0 for padding, and the id of the last one `[B]`.

    Number 1 goes on with the document `before [B]`. An id that comes back is another document, as it is in steps, which
    know nothing of those before the last.
    """
    index = indices_to(ids.shape[1])[None]
    real = ids != 0
    # The last token up to each one that is no padding; -1 where there is none.
    nearest = lax.cummax(jnp.where(real, index, -1), axis=1)
    there = jnp.maximum(nearest, 0)
    held = jnp.take_along_axis(ids, there, axis=1)
    document = jnp.where(nearest < 0, before[:, None], held)
    earlier = jnp.concatenate([before[:, None], document[:, :-1]], axis=1)
    changes = (document != earlier).astype(jnp.int32)
    numbers = jnp.where(real, 1 + jnp.cumsum(changes, axis=1, dtype=jnp.int32), 0)
    return numbers, document[:, -1]
