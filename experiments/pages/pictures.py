"""A picture of each encoding, drawn from the encoding itself: what it does against distance, position or frequency."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import posjax
from experiments.pages import drawings

COLOURS = 192
"""Of a picture's palette: it takes a third of the bytes, and the eye sees no difference."""


def pictured(name: str, value: Any) -> Any:
    """The value that is drawn: the given one, but where a larger one shows more."""
    rope = posjax.Rope()
    # LongRoPE publishes measured divisors, a list for each model; these rise evenly, so that a reader sees the rule.
    divisors = np.geomspace(1, 8, 64).round(2)
    larger = {
        "AxialRope": posjax.AxialRope(sections=(16, 16)),
        "CoPE": posjax.CoPE(),
        "LongRope": posjax.LongRope(8.0, 4096, (1.0,) * 64, tuple(divisors.tolist())),
        "LogN": posjax.LogN(),
        "StepTemperature": posjax.StepTemperature(window=1024),
        "DynamicNTK": posjax.DynamicNTK(factor=1.0, original_length=4096),
        "Yarn": posjax.Yarn(factor=4.0, original_length=4096),
        "NTKByParts": posjax.NTKByParts(factor=4.0, original_length=4096),
        "near_far": posjax.near_far(64, rope, posjax.Regrouped(rope, group=8, shift=56)),
        "chain": posjax.chain(rope, posjax.Alibi()),
        # Tables begin near zero; one that is spread as wide as trained ones has a shape to see.
        "Shaw": posjax.Shaw(deviation=1.0),
        "Fire": posjax.Fire(),
        "Wrapped": posjax.Wrapped(rope, size=16, shift=16, most=24),
    }
    return larger.get(name, value)


def caption(name: str, value: Any) -> tuple[str, str]:
    """What the picture shows, and of which value, written without the fields that are as by default."""
    shown = pictured(name, value)
    return drawings.chosen(shown).words, short_call(shown, name)


def draw(name: str, value: Any, dpi: int = 140) -> bytes:
    """The picture as a PNG, on white so that it reads on a dark page too."""
    shown = pictured(name, value)
    figure = Figure(figsize=(7.0, 3.1), layout="constrained")
    drawings.chosen(shown).draw(figure, shown)
    return png(figure, dpi)


def png(figure: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a small PNG."""
    # Without pyplot, whose figures stay open until they are closed and whose backend is the user's.
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()
    pixels_rgba = np.asarray(canvas.buffer_rgba())
    opaque = Image.fromarray(pixels_rgba[..., :3])
    # Dithering would speckle flat grounds, and what is speckled compresses badly.
    palette = opaque.quantize(COLOURS, dither=Image.Dither.NONE)
    drawn = io.BytesIO()
    palette.save(drawn, format="png", optimize=True)
    return drawn.getvalue()


def short_call(value: Any, name: str = "") -> str:
    """A value as code, as short as it can be: defaults left out, long tuples by their ends."""
    if isinstance(value, tuple) and len(value) > 4:
        return f"({value[0]}, ..., {value[-1]})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    return f"{name or type(value).__name__}({', '.join(_arguments(value))})"


def _arguments(value: Any) -> list[str]:
    # A composition is made by a function that takes its parts in order; anything else by its fields.
    parts = getattr(value, "parts", None)
    if parts is not None:
        return [short_call(part) for part in parts]
    given = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if held != field.default:
            given.append(f"{field.name}={short_call(held)}")
    return given
