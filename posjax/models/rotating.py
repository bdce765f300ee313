"""What of an encoding acts within linear attention: what it embeds is in the stream before the first layer."""

from __future__ import annotations

from posjax.encodings.base import Encoding, NoPE, Params
from posjax.encodings.chain import Chain, chain
from posjax.encodings.traits import defines, embeds

_NONE = NoPE()


def rotating(encoding: Encoding, params: Params = None) -> tuple[Encoding, Params]:
    """The encoding without its parts that embed, with the parameters of the others.

    >>> from posjax import Rope, Sinusoidal
    >>> rotating(chain(Sinusoidal(), Rope()), {"0": {}, "1": {"a": 1}})
    (Rope(base=10000.0, schedule=Plain(), layout='split', fraction=1.0), {'a': 1})
    """
    if not embeds(encoding):
        return encoding, params
    if not isinstance(encoding, Chain):
        # One that does both is left whole: whoever asks then refuses it.
        if defines(encoding, "rotate"):
            return encoding, params
        return _NONE, {}
    params = params or {}
    kept = [(part, params.get(str(i))) for i, part in enumerate(encoding.parts) if not embeds(part)]
    joined = chain(*(part for part, _ in kept))
    if len(kept) == 1:
        return joined, kept[0][1]
    return joined, {str(i): own for i, (_, own) in enumerate(kept)}
