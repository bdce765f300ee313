"""EXAONE 4: norms after sublayers, of queries and keys; windows that turn between full layers that do not."""

from __future__ import annotations

from posjax.attention import Mask
from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import llama, olmo, values
from posjax.interop.family import ModelFamily
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, NO_POSITIONS


def _architecture(config: Config) -> Architecture:
    rotary = values.rotary(config)
    count = values.layer_count(config)
    parts: dict[str, tuple[Encoding, Mask]] = {values.FULL: (rotary, CAUSAL)}
    kinds = [values.FULL] * count
    # Without a window all layers see everything, and all of them turn.
    if values.nulled(config, "sliding_window"):
        config.ignore("sliding_window", "sliding_window_pattern")
    else:
        parts = {values.FULL: (NO_POSITIONS, CAUSAL), values.SLIDING: (rotary, values.sliding(config))}
        kinds = _kinds(config, count)
    norm = values.rms(config, default=1e-5)
    layers = []
    for kind in values.layer_types(config, kinds, *parts):
        encoding, mask = parts[kind]
        # Norms come after sublayers, and those of queries and keys before the rotation.
        attention = values.attention(config, encoding, mask, scores=values.head_norm(norm))
        layers.append(Layer((attention, values.gated(config)), norm, "after"))
    return values.decoder(config, layers, norm, values.tied(config, False))


def _kinds(config: Config, count: int) -> list[str]:
    """The types of layers by a number or by a word, "LLLG"."""
    if values.nulled(config, "sliding_window_pattern") and config.get("layer_types") is None:
        raise config.refusal(["sliding_window_pattern"], "a number or a word beside a window, or layer_types")
    pattern = config.get("sliding_window_pattern", default=4)
    if isinstance(pattern, str):
        named = {"L": values.SLIDING, "G": values.FULL}
        if not pattern or set(pattern) - set(named):
            raise config.refusal(["sliding_window_pattern"], "a number, or a word of L and G")
        return [named[pattern[i % len(pattern)]] for i in range(count)]
    return values.every(count, config.whole("sliding_window_pattern", default=4), values.FULL, values.SLIDING)


FAMILY = ModelFamily(("exaone4",), _architecture, olmo.weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
