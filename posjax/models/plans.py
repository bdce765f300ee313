"""Which sublayers of a stack share what is prepared and what is learned: found from values, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from posjax.attention import Mask
from posjax.encodings.base import Dims, Encoding
from posjax.models.architecture import Layer, Stack
from posjax.models.parts import Attention, LinearAttention, Source, dims


@dataclass(frozen=True)
class Kind:
    """What attention sublayers have in common that share one preparation: all but their weights.

    `owner`: the name under which the stack keeps what the encoding learns. `linear`: whether its cache is a state.
    """

    owner: str
    encoding: Encoding
    dims: Dims
    mask: Mask
    keys_from: Source
    linear: bool


@dataclass(frozen=True)
class StackPlan:
    """The kinds of a stack by name, and which one each sublayer of each layer is of: `None` for those without tokens.

    Names are texts, since containers of Flax hold dicts alike in a model, an optimiser's state and a file.
    """

    kinds: tuple[tuple[str, Kind], ...]
    layers: tuple[tuple[str | None, ...], ...]

    @property
    def owners(self) -> dict[str, tuple[Encoding, Dims]]:
        """Each encoding that learns for itself, with its sizes, by its name."""
        return {kind.owner: (kind.encoding, kind.dims) for _, kind in self.kinds}

    @property
    def crossing(self) -> frozenset[str]:
        """The names of those that see an encoder's tokens too."""
        return frozenset(kind.owner for _, kind in self.kinds if kind.keys_from == "memory")


def plan(stack: Stack, width: int) -> StackPlan:
    """What a stack's sublayers share.

    >>> from posjax.models.presets import decoder
    >>> made = plan(decoder(layers=3).decoder, 64)
    >>> made.layers
    (('0', None), ('0', None), ('0', None))
    """
    # Equal values find each other by their hash; the first one's number is the name of all.
    owners: dict[tuple[Encoding, Dims, int], str] = {}
    kinds: dict[Kind, str] = {}
    layers = []
    for index in range(stack.layers):
        names = _names(stack.layer(index), width, _learns_in(stack, index), owners, kinds)
        layers.append(names)
    by_name = tuple((name, kind) for kind, name in kinds.items())
    return StackPlan(by_name, tuple(layers))


def _learns_in(stack: Stack, index: int) -> int:
    """The layer whose own encodings serve this one: all share those of the first, or each has its own."""
    if stack.share_encodings:
        return 0
    return index


def _names(
    layer: Layer, width: int, learns_in: int, owners: dict[tuple[Encoding, Dims, int], str], kinds: dict[Kind, str]
) -> tuple[str | None, ...]:
    names: list[str | None] = []
    for sublayer in layer.sublayers:
        # A feed-forward sees one token alone.
        if not isinstance(sublayer, Attention | LinearAttention):
            names.append(None)
            continue
        sizes = dims(sublayer, width)
        owner = owners.setdefault((sublayer.encoding, sizes, learns_in), str(len(owners)))
        linear = isinstance(sublayer, LinearAttention)
        keys_from: Source = "stream"
        if isinstance(sublayer, Attention):
            keys_from = sublayer.keys_from
        kind = Kind(owner, sublayer.encoding, sizes, sublayer.mask, keys_from, linear)
        names.append(kinds.setdefault(kind, str(len(kinds))))
    return tuple(names)
