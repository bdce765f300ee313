"""Drawings of where tokens stand, of what is added to them, and of frequencies: what no curve by distance shows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import posjax
from experiments.pages import picture_axes as axes
from experiments.pages.logits import DRAWS, HEAD_SIZE, MODEL_SIZE, at_each, params_of, vectors
from posjax.encodings import Encoding, Schedule
from posjax.report.marks import LIGHT

ROTARY_SIZE, BASE = 128, 10_000.0


def moved(figure: Figure, value: Any) -> None:
    """Where queries and keys are said to stand, against where they are."""
    axis, at = figure.subplots(), np.arange(64)
    for colour, role, label in ((LIGHT[0], "query", "queries"), (LIGHT[1], "key", "keys")):
        stands_at = value.moved(jnp.asarray(at), role)
        # Positions are whole: a slanted line between two of them would show places where no token is.
        axis.plot(at, stands_at, color=colour, lw=1.6, drawstyle="steps-mid", label=label)
    axes.legend_outside(axis)
    axes.style(axis, "position", "stands at")


def placed(figure: Figure, value: Encoding) -> None:
    """Eight draws of where the tokens of a row are said to be."""
    axis, at = figure.subplots(), jnp.arange(64)
    for seed in range(8):
        # Each draw has a key of its own, as each step of training has.
        positions = value.move({}, at, jax.random.key(seed))
        axis.plot(at, positions, color=axes.ramp(seed, 8), lw=1.4)
    axes.style(axis, "token", "position")


def embedded(figure: Figure, value: Encoding) -> None:
    """What is added to the tokens at each position, and how alike two positions are."""
    left, right = figure.subplots(1, 2)
    # Added to zeros, so that nothing else is seen.
    nothing = jnp.zeros((1, 128, MODEL_SIZE))
    rows = np.asarray(value.embed(params_of(value, 1), nothing, jnp.arange(128)))[0]
    # Of length one, so that their products are cosines.
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    axes.image(figure, left, rows, np.abs(rows).max(), ("channel", "position"))
    axes.image(figure, right, unit @ unit.T, 1.0, ("position", "position"))


def grid(figure: Figure, value: Encoding) -> None:
    """The mean score of a vector with itself, by the offset along two coordinates."""
    figure.set_size_inches(4.2, 3.4)
    axis, reach = figure.subplots(), 32
    along = np.arange(2 * reach + 1)
    keys_at = np.stack(np.meshgrid(along, along, indexing="ij"), -1)
    k_at = jnp.asarray(keys_at.reshape(1, -1, 2), jnp.int32)
    # The query stands in the middle, so that offsets go both ways.
    q_at = jnp.full((1, 1, 2), reach, jnp.int32)
    q, params = vectors(DRAWS, 1, 1), params_of(value, 1)
    turned = value.rotate(params, q, q_at, "query")[:, 0, 0]
    keys = value.rotate(params, at_each(q, k_at.shape[1]), k_at, "key")[:, :, 0]
    score = jnp.einsum("rh,rsh->s", turned, keys) / DRAWS / np.sqrt(HEAD_SIZE)
    score = np.asarray(score).reshape(keys_at.shape[:2])
    axes.image(figure, axis, score, score.max(), ("offset along the second", "offset along the first"), reach)


def frequencies(figure: Figure, value: Schedule) -> None:
    """Left, the frequency of each pair of channels; right, the same divided by the plain one."""
    left, right = figure.subplots(1, 2)
    plain, _ = posjax.Plain().frequencies(ROTARY_SIZE, BASE)
    pairs = np.arange(len(plain))
    if not isinstance(value, posjax.Plain):
        # In grey, the last of the colours: what the others are compared with.
        axes.line(left, pairs, plain, "Plain", 7)
    drawn: list[bytes] = []
    for index, length in enumerate(_lengths(value)):
        found, factor = value.frequencies(ROTARY_SIZE, BASE, length)
        # Some change at one length alone; a second line over the first would hide its colour.
        if found.tobytes() in drawn:
            continue
        drawn.append(found.tobytes())
        label = _label(value, length, factor)
        # A pair that does not turn has no place on a logarithmic axis.
        axes.line(left, pairs, np.where(found > 0, found, np.nan), label, index)
        axes.line(right, pairs, found / plain, label, index)
    left.set_yscale("log")
    right.set_ylim(-0.05, 1.1)
    left.legend(**axes.LEGEND, loc="lower left")
    axes.style(left, "pair", "radians per position")
    axes.style(right, "pair", "frequency / plain")


def _lengths(value: Schedule) -> list[int | None]:
    """The trained length and multiples of it where the schedule changes with the length, else none in particular."""
    if type(value).at_length is Schedule.at_length:
        return [None]
    trained = getattr(value, "original_length", 0)
    return [trained, 2 * trained, 4 * trained, 8 * trained]


def _label(value: Schedule, length: int | None, factor: float) -> str:
    name = type(value).__name__
    if length:
        name = f"context {length:,}"
    # Attention is multiplied too; most schedules leave it as it is.
    if factor != 1:
        name += f", times {factor:.3f}"
    return name
