"""Prompts of rows of different lengths, brought into one form: each row's tokens last, padding before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from posjax.arguments import as_array
from posjax.attention import Full, Mask, Segments
from posjax.errors import InputError


@dataclass(frozen=True)
class Prompt:
    """Tokens `[B, T]`, and which are no padding, `[B, T]`, or `None` where all are. `longest`: of the rows."""

    tokens: jax.Array
    real: jax.Array | None
    longest: int
    whole: jax.Array | None = None
    """Which rows have no padding between tokens, where that is known at run time only: `[B]`."""

    @property
    def positions(self) -> jax.Array | None:
        """Where each token stands in its own row."""
        if self.real is None:
            return None
        counted = jnp.cumsum(self.real.astype(jnp.int32), axis=1)
        # Padding stands where it has an ordinary position, since the mask hides it.
        return jnp.maximum(counted - 1, 0)

    def mask(self, new: int) -> Mask:
        """What of the prompt and the `new` tokens after it may be seen, but for the last, which is never read."""
        if self.real is None:
            return Full()
        rows = self.real.shape[0]
        # Segment 0 is padding; whatever comes after the prompt is real.
        before = self.real.astype(jnp.int32)
        after = jnp.ones((rows, new - 1), jnp.int32)
        return Segments(jnp.concatenate([before, after], axis=1))


jax.tree_util.register_dataclass(Prompt, data_fields=["tokens", "real", "whole"], meta_fields=["longest"])


def prompt_of(tokens: jax.Array, real: Any) -> Prompt:
    """A prompt with its padding moved to the left. Errors: `InputError` for a `real` that does not fit."""
    count = tokens.shape[1]
    if real is None:
        return Prompt(tokens, None, count)
    real = _checked(real, tokens.shape)
    longest = count
    whole = None
    if isinstance(real, core.Tracer):
        whole = whole_rows(real)
    else:
        lengths = np.asarray(real).sum(1)
        longest = int(lengths.max(initial=1))
    # By as many places as there is padding after a row's last token.
    behind = jnp.argmax(real[:, ::-1], axis=1)
    index = jnp.arange(count)[None] - behind[:, None]
    source = jnp.mod(index, count)
    tokens = jnp.take_along_axis(tokens, source, axis=1)
    real = jnp.take_along_axis(real, source, axis=1)
    return Prompt(tokens, real, longest, whole)


def whole_rows(real: jax.Array) -> jax.Array:
    """Which rows step from padding to tokens and back once: bool `[B]`; others have padding between, or no token."""
    edges = jnp.pad(real.astype(jnp.int32), ((0, 0), (1, 1)))
    begins = jnp.diff(edges, axis=1) > 0
    return jnp.sum(begins, axis=1) == 1


def _checked(real: Any, shape: tuple[int, ...]) -> jax.Array:
    real = as_array(real)
    if real.shape != shape or not (real.dtype == bool or jnp.issubdtype(real.dtype, jnp.integer)):
        raise InputError(
            f"generate got real of shape {real.shape} and type {real.dtype}: needed is bool {shape}, true "
            "where the prompt has a token"
        )
    real = jnp.asarray(real.astype(bool))
    if isinstance(real, core.Tracer):
        return real
    wrong = np.flatnonzero(~np.asarray(whole_rows(real)))
    if wrong.size:
        raise InputError(
            f"generate got row {wrong[0]} of real with padding between tokens, or no token: padding stands on one side "
            "of a row's tokens, left or right"
        )
    return real
