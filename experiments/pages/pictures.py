"""A picture of each encoding, drawn from the encoding itself: what it does against distance, position or frequency."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import posjax
from posjax.encodings import Dims, Encoding, Head, Pairs, Schedule
from posjax.report.figures import GRID, INK, SOFT
from posjax.report.marks import LIGHT

HEADS, HEAD_SIZE, MODEL_SIZE = 8, 64, 64
FAR, NEAR = 4096, 512
"""The farthest distance, and that of encodings that need every token between."""
DRAWS = 64
FAINTEST = -12.0
"""Logits below leave less than a hundred-thousandth of the weight, and are cut off."""


def pictured(name: str, value: Any) -> Any:
    """The value that is drawn: the given one, but where a larger one shows more."""
    rope = posjax.Rope()
    larger = {
        "AxialRope": posjax.AxialRope(sections=(16, 16)),
        "CoPE": posjax.CoPE(),
        "LongRope": posjax.LongRope(8.0, 4096, (1.0,) * 64, tuple(np.geomspace(1, 8, 64).round(2).tolist())),
        "LogN": posjax.LogN(),
        "DynamicNTK": posjax.DynamicNTK(factor=1.0, original_length=4096),
        "Yarn": posjax.Yarn(factor=4.0, original_length=4096),
        "NTKByParts": posjax.NTKByParts(factor=4.0, original_length=4096),
        "near_far": posjax.near_far(64, rope, posjax.Regrouped(rope, group=8, shift=56)),
        "chain": posjax.chain(rope, posjax.Alibi()),
        "Shaw": posjax.Shaw(deviation=1.0),
        "Fire": posjax.Fire(),
        "Wrapped": posjax.Wrapped(rope, size=16, shift=16, most=24),
    }
    return larger.get(name, value)


def caption(name: str, value: Any) -> tuple[str, str]:
    """What the picture shows, and of which value, written without the fields that are as by default."""
    value = pictured(name, value)
    return _kind(value)[1], _short(value, name)


def _short(value: Any, name: str = "") -> str:
    if isinstance(value, tuple) and len(value) > 4:
        return f"({value[0]}, ..., {value[-1]})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    parts = getattr(value, "parts", None)
    if parts is None:
        given = [f"{field.name}={_short(held)}" for field, held in fields if held != field.default]
    else:
        given = [_short(part) for part in parts]
    return f"{name or type(value).__name__}({', '.join(given)})"


def draw(name: str, value: Any, dpi: int = 140) -> bytes:
    """The picture as a PNG, on white so that it reads on a dark page too."""
    value = pictured(name, value)
    figure = Figure(figsize=(7.0, 3.1), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    _kind(value)[0](figure, value)
    figure.set_dpi(dpi)
    canvas.draw()
    # A palette takes a third of the bytes, and the eye sees no difference.
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(192, dither=Image.Dither.NONE)
    drawn = io.BytesIO()
    pixels.save(drawn, format="png", optimize=True)
    return drawn.getvalue()


def _kind(value: Any) -> tuple[Callable[[Figure, Any], None], str]:
    """How a value is drawn, and the words for it: the first that fits."""
    if isinstance(value, Schedule):
        return _frequencies, (
            "Left, the frequency of each pair of channels; right, the same divided by the plain one: "
            'head size 128, base 10,000. Behind "times" stands the attention factor'
        )
    if value.moves:
        return _placed, "Where the tokens of a row of 64 are said to be, for eight draws"
    if hasattr(value, "moved"):
        return _moved, "Where queries and keys are said to stand"
    if value.embeds:
        return _table, "Left, what is added at each position; right, the cosine between what two positions add"
    if value.coordinates > 1:
        return _grid, "Mean score of q = k by the offset along two coordinates, head size 64"
    if value.layers > 1:
        return _by_layer, "Mean score of q = k against distance, for each layer, head size 64"
    if value.bias_kind == "relative" and not hasattr(value, "parts"):
        return _bias, "Bias against distance, by head" + _untrained(value)
    if value.bias_kind == "pairwise":
        return _bias_by_query, "Bias of one head against distance, for queries at several positions" + _untrained(value)
    if value.scores_content and _learns(value):
        return _one_vector, (
            f"Score against distance in four heads, where every query and key is one random vector{_untrained(value)}"
        )
    if not value.tells_apart:
        return _temperature, "What queries are multiplied by, against their position"
    return _scores, (
        "Mean score against distance, head size 64: of q = k, and the mean size of that of independent random q and k"
    ) if not hasattr(value, "parts") else ("Mean score of q = k, with its bias, against distance, head size 64")


def _learns(value: Encoding) -> bool:
    return bool(jax.tree.leaves(value.init(jax.random.key(0), Dims(HEADS, HEAD_SIZE, MODEL_SIZE))))


def _untrained(value: Encoding) -> str:
    return ", with parameters as they begin" if _learns(value) else ""


def _params(value: Encoding, heads: int) -> Any:
    dims = Dims(heads, HEAD_SIZE, MODEL_SIZE)
    return value.join(value.init(jax.random.key(0), dims), value.constants(dims))


def _distances(far: int = FAR) -> np.ndarray:
    return np.unique(np.concatenate([np.arange(17), np.geomspace(16, far, 240)]).round().astype(np.int32))


def logits(value: Encoding, q: jax.Array, k: jax.Array, distances: np.ndarray, at: int = FAR) -> np.ndarray:
    """Scores and bias of queries `[R, 1, N, H]` at one position and keys `[R, S, N, H]` before it, `[R, N, S]`."""
    heads = q.shape[2]
    params = _params(value, heads)
    q_at, k_at = jnp.array([at], jnp.int32), jnp.asarray(at - distances, jnp.int32)
    q, k = value.rotate(params, q, q_at, "query"), value.rotate(params, k, k_at, "key")
    pairs = Pairs(q_at, k_at, jnp.array([len(distances) - 1]), jnp.arange(len(distances)))
    scores = jax.vmap(lambda q, k: value.score(params, q, k, pairs))(q, k)
    bias = [value.bias(params, q_at, k_at, Head(n, heads)) for n in range(heads)]
    return np.asarray(scores + jnp.stack(bias)[None])[:, :, 0]


def _vectors(rows: int, heads: int, seed: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (rows, 1, heads, HEAD_SIZE))


def _aligned(value: Encoding, heads: int, distances: np.ndarray) -> np.ndarray:
    """Mean logits of q = k by head, `[N, S]`."""
    q = _vectors(DRAWS, heads, 1)
    k = jnp.broadcast_to(q, (DRAWS, len(distances), heads, HEAD_SIZE))
    return logits(value, q, k, distances).mean(0)


def _scores(figure: Figure, value: Encoding) -> None:
    axis, distances = figure.subplots(), _distances()
    parts = getattr(value, "parts", None)
    heads = 2 * len(parts) if parts else 1
    aligned = _aligned(value, heads, distances)
    if parts:
        _by_head(axis, distances, aligned)
    else:
        q, k = _vectors(DRAWS, 8, 2), jnp.broadcast_to(_vectors(DRAWS, 8, 3), (DRAWS, len(distances), 8, HEAD_SIZE))
        _line(axis, distances, aligned[0], "q = k", 0)
        _line(axis, distances, np.abs(logits(value, q, k, distances)).mean((0, 1)), "q, k independent: mean |score|", 1)
        axis.legend(**_LEGEND)
    _by_distance(axis, "q k / sqrt(H)")


def _by_layer(figure: Figure, value: Encoding) -> None:
    axis, distances = figure.subplots(), _distances()
    params = _params(value, 1)
    for layer in range(value.layers):
        part, _ = value.of_layer(layer, params)
        _line(axis, distances, _aligned(part, 1, distances)[0], f"layer {layer}, {type(part).__name__}", layer)
    axis.legend(**_LEGEND)
    _by_distance(axis, "q k / sqrt(H)")


def _bias(figure: Figure, value: Encoding) -> None:
    axis, distances = figure.subplots(), _distances()
    params = _params(value, HEADS)
    lines = np.stack([value.by_distance(params, jnp.asarray(distances), Head(n, HEADS)) for n in range(HEADS)])
    turns = np.sum(np.diff(np.sign(np.diff(lines[0]))) != 0)
    _by_head(axis, distances, lines if turns < 10 else lines[:2])
    _by_distance(axis, "bias")


def _bias_by_query(figure: Figure, value: Encoding) -> None:
    axis, params = figure.subplots(), _params(value, HEADS)
    for index, at in enumerate((512, 1024, 2048, 4096)):
        distances = _distances(at)
        bias = value.bias(params, jnp.array([at]), jnp.asarray(at - distances), Head(0, HEADS))[0]
        _line(axis, distances, bias, f"query at {at:,}", index)
    axis.legend(**_LEGEND)
    _by_distance(axis, "bias")


def _one_vector(figure: Figure, value: Encoding) -> None:
    axis, distances = figure.subplots(), np.arange(NEAR - 1, -1, -1)
    q = _vectors(1, 4, 4)
    k = jnp.broadcast_to(q, (1, NEAR, 4, HEAD_SIZE))
    _by_head(axis, distances, logits(value, q, k, distances, NEAR - 1)[0])
    _by_distance(axis, "score", NEAR)


def _temperature(figure: Figure, value: Encoding) -> None:
    axis, at = figure.subplots(), _distances()
    x = jnp.ones((1, len(at), 1, HEAD_SIZE))
    _line(axis, at, value.rotate(_params(value, 1), x, jnp.asarray(at), "query")[0, :, 0, 0], "", 0)
    _by_distance(axis, "factor of the queries", name="position of the query")


def _moved(figure: Figure, value: Any) -> None:
    axis, at = figure.subplots(), np.arange(64)
    for index, role in enumerate(("query", "key")):
        axis.plot(
            at,
            value.moved(jnp.asarray(at), role),
            color=LIGHT[index],
            lw=1.6,
            drawstyle="steps-mid",
            label="queries" if role == "query" else "keys",
        )
    axis.legend(**_LEGEND, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _style(axis, "position", "stands at")


def _placed(figure: Figure, value: Encoding) -> None:
    axis, at = figure.subplots(), jnp.arange(64)
    for index in range(8):
        axis.plot(at, value.place({}, at, jax.random.key(index)), color=_ramp(index, 8), lw=1.4)
    _style(axis, "token", "position")


def _table(figure: Figure, value: Encoding) -> None:
    left, right = figure.subplots(1, 2)
    params = _params(value, 1)
    rows = np.asarray(value.embed(params, jnp.zeros((1, 128, MODEL_SIZE)), jnp.arange(128)))[0]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _image(figure, left, rows, np.abs(rows).max(), ("channel", "position"))
    _image(figure, right, unit @ unit.T, 1.0, ("position", "position"))


def _grid(figure: Figure, value: Encoding) -> None:
    figure.set_size_inches(4.2, 3.4)
    axis, reach = figure.subplots(), 32
    offsets = np.stack(np.meshgrid(np.arange(2 * reach + 1), np.arange(2 * reach + 1), indexing="ij"), -1)
    at = jnp.asarray(offsets.reshape(1, -1, 2), jnp.int32)
    q, params = _vectors(DRAWS, 1, 1), _params(value, 1)
    turned = value.rotate(params, q, jnp.full((1, 1, 2), reach, jnp.int32), "query")[:, 0, 0]
    keys = value.rotate(params, jnp.broadcast_to(q, (DRAWS, at.shape[1], 1, HEAD_SIZE)), at, "key")[:, :, 0]
    score = jnp.einsum("rh,rsh->s", turned, keys) / DRAWS / np.sqrt(HEAD_SIZE)
    score = np.asarray(score).reshape(offsets.shape[:2])
    _image(figure, axis, score, score.max(), ("offset along the second", "offset along the first"), reach)


def _frequencies(figure: Figure, value: Schedule) -> None:
    left, right = figure.subplots(1, 2)
    plain, _ = posjax.Plain().frequencies(128, 10_000.0)
    pairs = np.arange(len(plain))
    if not isinstance(value, posjax.Plain):
        _line(left, pairs, plain, "Plain", 7)
    trained = getattr(value, "original_length", 0)
    by_length = type(value).at_length is not Schedule.at_length
    lengths = [trained * n for n in (1, 2, 4, 8)] if by_length else [None]
    drawn: list[bytes] = []
    for index, length in enumerate(lengths):
        frequencies, factor = value.frequencies(128, 10_000.0, length)
        if frequencies.tobytes() in drawn:
            continue
        drawn.append(frequencies.tobytes())
        label = f"context {length:,}" if length else type(value).__name__
        label += f", times {factor:.3f}" if factor != 1 else ""
        _line(left, pairs, np.where(frequencies > 0, frequencies, np.nan), label, index)
        _line(right, pairs, frequencies / plain, label, index)
    left.set_yscale("log")
    right.set_ylim(-0.05, 1.1)
    left.legend(**_LEGEND, loc="lower left")
    _style(left, "pair", "radians per position")
    _style(right, "pair", "frequency / plain")


_LEGEND: dict[str, Any] = {"fontsize": 8, "frameon": False, "labelcolor": INK}


def _ramp(index: int, count: int) -> Any:
    """Heads have an order, and so have these colours; the palest is left out for the white ground."""
    return colormaps["viridis"](0.88 * index / max(count - 1, 1))


def _line(axis: Axes, x: Any, y: Any, label: str, colour: int) -> None:
    axis.plot(x, np.asarray(y), color=LIGHT[colour % len(LIGHT)], lw=1.6, label=label)


def _by_head(axis: Axes, x: np.ndarray, lines: np.ndarray) -> None:
    for index, line in enumerate(lines):
        axis.plot(x, line, color=_ramp(index, len(lines)), lw=1.5, label=f"head {index}")
    axis.legend(**_LEGEND, loc="center left", bbox_to_anchor=(1.0, 0.5))
    lowest = np.nanmin(lines)
    if lowest < FAINTEST:
        axis.set_ylim(FAINTEST, max(np.nanmax(lines) + 0.5, 0.5))


def _by_distance(axis: Axes, y: str, far: int = FAR, name: str = "distance") -> None:
    axis.set_xscale("symlog", base=2, linthresh=1, linscale=0.5)
    ticks = [0, *(4**n for n in range(7) if 4**n <= far)]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.set_xlim(0, far)
    _style(axis, name, y)


def _image(figure: Figure, axis: Axes, values: np.ndarray, top: float, names: tuple[str, str], reach: int = 0) -> None:
    extent = (-reach, reach, reach, -reach) if reach else None
    image = axis.imshow(
        values,
        cmap="RdBu_r",
        vmin=-top,
        vmax=top,
        aspect="auto" if not reach else "equal",
        extent=extent,
        interpolation="nearest",
    )
    bar = figure.colorbar(image, ax=axis, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=SOFT, length=0)
    _style(axis, *names)
    axis.grid(visible=False)


def _style(axis: Axes, x: str, y: str) -> None:
    axis.set_xlabel(x, color=SOFT, fontsize=9)
    axis.set_ylabel(y, color=SOFT, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GRID)
    axis.grid(axis="y", color=GRID, lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=SOFT, labelsize=8.5, length=0)
