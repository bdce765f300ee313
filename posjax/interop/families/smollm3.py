"""SmolLM 3: Llama's layers, of which every fourth knows no positions."""

from __future__ import annotations

from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import llama, qwen, values
from posjax.interop.family import ModelFamily
from posjax.models.architecture import Architecture
from posjax.models.parts import NO_POSITIONS


def rotated(config: Config, step: int) -> list[bool]:
    """Which layers turn: as listed, a 1 for each that does, or all but every `step`th."""
    count = values.layer_count(config)
    given = config.get("no_rope_layers")
    config.ignore("no_rope_layer_interval")
    # A 1 says that a layer turns, though the key is named after those that do not.
    if not given:
        step = config.whole("no_rope_layer_interval", default=step)
        return [(i + 1) % step != 0 for i in range(count)]
    if not isinstance(given, list) or len(given) != count or not all(turns in (0, 1) for turns in given):
        raise config.refusal(["no_rope_layers"], f"{count} numbers, 1 for a layer that turns and 0 for another")
    return [bool(turns) for turns in given]


def _architecture(config: Config) -> Architecture:
    rotary = values.rotary(config)
    masks = qwen.masks(config)
    count = values.layer_count(config)
    turns = rotated(config, 4)
    # Its class gives the window to the layers without positions.
    kinds = [values.FULL] * count
    if values.SLIDING in masks:
        kinds = [_kind(turning) for turning in turns]
    layers = []
    config.ignore("max_window_layers", "layer_rope_types")
    for turning, kind in zip(turns, values.layer_types(config, kinds, *masks), strict=True):
        encoding: Encoding = NO_POSITIONS
        if turning:
            encoding = rotary
        layers.append(llama.layer(config, encoding, masks[kind]))
    return values.decoder(config, layers, values.rms(config), values.tied(config, True))


def _kind(turning: bool) -> str:
    """Which type a layer is of where the configuration lists none."""
    if turning:
        return values.FULL
    return values.SLIDING


FAMILY = ModelFamily(("smollm3",), _architecture, llama.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
