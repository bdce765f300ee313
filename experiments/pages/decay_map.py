"""The picture of the tutorial: how much a key at each distance keeps of what it has at distance 0, before training."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from experiments.pages import picture_axes as axes
from experiments.pages.pictures import png
from posjax import Alibi, Encoding, Rope, Sinusoidal, T5Bias
from posjax.evaluation import Decay, TrainedModel
from posjax.models import build, decoder
from posjax.results import Measurements

DISTANCES = tuple(range(0, 513, 32))
HEADS = 8
DRAWS = 8
"""Few, since no row is a mean over them: kernels and biases have nothing to draw."""


def rows() -> dict[str, np.ndarray]:
    """What is left at each distance, by the name of its row: 1 is as at distance 0.

    Products of sinusoidal encodings and RoFormer's bound by what they are at 0; of a bias its exponential, which is
    the weight that remains, in the steepest head, the flattest, and on average.
    """
    products = _measured(Sinusoidal()).select("score", of="positions")
    bound = _measured(Rope()).select("bound")
    steep, flat, mean = _weights(Alibi())
    _, _, untrained = _weights(T5Bias())
    return {
        "Sinusoidal, p p'": _over_first([row.value for row in products]),
        "RoPE, bound": np.array([row.value for row in bound]),
        "ALiBi, steepest head": steep,
        "ALiBi, mean of 8 heads": mean,
        "ALiBi, flattest head": flat,
        "T5, untrained": untrained,
    }


def _measured(encoding: Encoding) -> Measurements:
    model = build(decoder(encoding, layers=1, width=512, heads=HEADS), vocabulary=2, seed=0)
    return Measurements.of(Decay(DISTANCES, DRAWS).run(TrainedModel(model, DISTANCES[-1]), None, 0))


def _weights(encoding: Encoding) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights that biases leave: of the first head, of the last, and the mean of all."""
    biases = _measured(encoding).select("bias")
    values = np.array([row.value for row in biases])
    weights = np.exp(values.reshape(HEADS, len(DISTANCES)))
    return weights[0], weights[-1], weights.mean(axis=0)


def _over_first(values: list[float]) -> np.ndarray:
    return np.array(values) / values[0]


def draw(dpi: int = 140) -> bytes:
    """The heat map as a PNG, a number in each cell."""
    named = rows()
    figure = Figure(figsize=(9.0, 2.9), layout="constrained")
    axis = figure.subplots()
    values = np.stack(list(named.values()))
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.style(axis, "distance", "")
    axis.grid(visible=False)
    axis.set_xticks(range(len(DISTANCES)), [str(distance) for distance in DISTANCES])
    axis.set_yticks(range(len(named)), list(named))
    for (row, column), value in np.ndenumerate(values):
        colour = "black"
        # Dark cells carry light numbers.
        if value > 0.55:
            colour = "white"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    return png(figure, dpi)
