"""Which stored numbers make a parameter of ours: one description, read in both directions.

A rule names a tensor of theirs and says by letters how its axes become ours. Axes that theirs, or ours, joins to one
stand in brackets, the outer one first; a size that our array does not tell is written behind its letter:

    Weight("q_proj.weight", "(N H) D -> D N H")                  torch's Linear keeps [out, in]
    Weight("c_proj.weight", "(N H) D -> N H D")                  and Conv1D [in, out]
    Weight("q_proj.weight", "(N H two=2) D -> D N (two H)")      pairs of neighbours become pairs of halves

A tensor that holds several of our parameters names the axis along which they lie one after another `part`, and each of
them says where it begins there, how long it is, and how long theirs is:

    Weight("qkv.weight", "(part H) D -> D part H", Part(0, N, N + 2 * K))            [queries; keys; values]
    Weight("qkv.weight", "(K part H) D -> D (K part) H", Part(0, G, G + 2))          K times G queries, a key, a value
    Weight("gate_up.weight", "part D -> D part", Part(F, F, 2 * F))                  the second half
    Weight("positions.weight", "part D -> part D", Part(2, length, length + 2))      all but two rows
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
import numpy as np

from posjax.errors import InputError
from posjax.interop.letters import SIZED, Axes, Spans, around, axes_of, joined, order_of, place_of
from posjax.interop.sources import Index, Source, spans

PART = "part"
"""Along which axis of theirs several of our parameters lie one after another."""


@dataclass(frozen=True)
class Part:
    """Which stretch of a tensor's `part` axis is meant: `size` entries from `start` on, of `whole`."""

    start: int
    size: int
    whole: int


WHOLE = Part(0, 1, 1)
"""What a rule without a part fills of its tensor: one of one."""


@dataclass(frozen=True)
class Weight:
    """A parameter of ours in a tensor of theirs, or in a part of one: see the module.

    `layout`: the axes of theirs and, after an arrow, those of ours.

    >>> rule = Weight("wq", "(N H) D -> D N H")
    >>> rule.stored_shape((64, 8, 16))
    (128, 64)
    """

    key: str
    layout: str
    part: Part | None = None

    def __post_init__(self) -> None:
        theirs = {letter for axis in self.theirs for letter in axis}
        ours = {letter for axis in self.ours for letter in axis}
        if theirs != ours or (PART in theirs) != (self.part is not None):
            raise InputError(
                f"the layout {self.layout!r} of {self.key!r} is no exchange of axes: both sides need the same "
                "letters, `part` among them where a part is given"
            )

    @property
    def theirs(self) -> Axes:
        """The letters of their axes."""
        return axes_of(self.layout.partition("->")[0])

    @property
    def ours(self) -> Axes:
        """The letters of our axes."""
        return axes_of(self.layout.partition("->")[2])

    @property
    def slowest(self) -> int:
        """The axis of ours along which neighbours lie farthest apart in theirs: a stretch is one piece of it."""
        outermost = self.theirs[0][0]
        return next(axis for axis, letters in enumerate(self.ours) if outermost in letters)

    def sizes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """The size of each letter, from the shape of ours. Errors: `InputError` where it does not fit the layout."""
        known = {letter: int(size) for letter, size in SIZED.findall(self.layout)}
        if self.part is not None:
            known[PART] = self.part.size
        misfit = InputError(f"{self.key!r} makes an array of axes {self.layout!r}: the shape {list(shape)} is no such")
        if len(shape) != len(self.ours):
            raise misfit
        for axis, size in zip(self.ours, shape, strict=True):
            given = math.prod(known.get(letter, 1) for letter in axis)
            unknown = [letter for letter in axis if letter not in known]
            if size % given or len(unknown) > 1 or (not unknown and size != given):
                raise misfit
            # Of the letters of one axis all but one are told: what is left is the size of that one.
            known |= {letter: size // given for letter in unknown}
        return known

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of theirs, from that of ours."""
        sizes = self._stored(self.sizes(shape))
        return tuple(joined(axis, sizes) for axis in self.theirs)

    def check(self, tensors: Mapping[str, jax.ShapeDtypeStruct], shape: tuple[int, ...]) -> None:
        """Errors: `InputError` where theirs is missing, or cannot make an array of this shape."""
        if self.key not in tensors:
            raise InputError(f"there is no tensor {self.key!r}: the folder lacks a part of the model, fetch it again")
        stored = tensors[self.key]
        needed = self.stored_shape(shape)
        if stored.shape != needed:
            raise InputError(
                f"the tensor {self.key!r} has shape {list(stored.shape)} and needed is {list(needed)}: weights and "
                "config.json are of two models"
            )
        if not jnp.issubdtype(stored.dtype, jnp.floating):
            raise InputError(
                f"the tensor {self.key!r} holds {stored.dtype}: quantised weights are not read, take a folder "
                "with float32, float16 or bfloat16"
            )

    def read(self, source: Source, shape: tuple[int, ...], index: Index) -> np.ndarray:
        """A part of ours, an array of this shape in all, from the part of theirs that holds it."""
        sizes = self.sizes(shape)
        wanted = spans(shape, index)
        along: Spans = {}
        sides = []
        cut = []
        for axis, (start, stop) in zip(self.ours, wanted, strict=True):
            box = around(axis, sizes, start, stop)
            along |= box
            # The letters of an axis hold somewhat more than the stretch of it that was asked for.
            first = place_of(axis, sizes, box)
            cut.append(slice(start - first, stop - first))
            sides.append(math.prod(high - low for low, high in box.values()))
        letters = self._by_letter(source, sizes, along)
        order = order_of(self.theirs, self.ours)
        return letters.transpose(order).reshape(sides)[tuple(cut)]

    def _by_letter(self, source: Source, sizes: Mapping[str, int], along: Spans) -> np.ndarray:
        """The stretch along each letter, of theirs, with an axis for each letter."""
        stored = self._stored(sizes)
        if self.part is not None:
            start, stop = along[PART]
            along = along | {PART: (start + self.part.start, stop + self.part.start)}
        box: list[slice] = []
        shape: list[int] = []
        cut: list[slice] = []
        for axis in self.theirs:
            # Of the axis in blocks of all letters still to come, and these are finer with each letter.
            start, stop = 0, 1
            for letter in axis:
                low, high = along[letter]
                size = stored[letter]
                if stop - start == 1:
                    # Inside a single stretch of the letters before, what is wanted is one stretch again.
                    start, stop = start * size + low, start * size + high
                    shape.append(high - low)
                    cut.append(slice(None))
                else:
                    # Inside several it is many: they are read whole, and cut.
                    start, stop = start * size, stop * size
                    shape.append(size)
                    cut.append(slice(low, high))
            box.append(slice(start, stop))
        return source.part(self.key, tuple(box)).reshape(shape)[tuple(cut)]

    def _stored(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The size of each letter in theirs."""
        if self.part is None:
            return dict(sizes)
        return {**sizes, PART: self.part.whole}


def compose(pieces: Sequence[tuple[Weight, np.ndarray]]) -> np.ndarray:
    """A tensor of theirs from all the parameters of ours that lie in it, each with its rule.

    Errors: `InputError` where they leave a gap or overlap.
    """
    require_tiled([rule for rule, _ in pieces])
    ordered = sorted(pieces, key=lambda piece: (piece[0].part or WHOLE).start)
    first, array = ordered[0]
    blocks = [_split(rule, array) for rule, array in ordered]
    whole = blocks[0]
    # Along the part's own axis, which lies anywhere among theirs: only then are letters joined to axes again.
    if first.part is not None:
        flat = [letter for axis in first.theirs for letter in axis]
        whole = np.concatenate(blocks, flat.index(PART))
    return whole.reshape(first.stored_shape(array.shape))


def require_covered(tensors: Iterable[str], rules: Sequence[Weight], ignored: Sequence[str] = ()) -> None:
    """Holds that every tensor of theirs is read, and all of it; `ignored` are patterns of those that hold no weights.

    Errors: `InputError` names the tensors that no rule reads, or one of which a stretch is left over.
    """
    by_key: dict[str, list[Weight]] = defaultdict(list)
    for rule in rules:
        by_key[rule.key].append(rule)
    unread = [name for name in tensors if name not in by_key]
    left = [name for name in unread if not any(fnmatchcase(name, pattern) for pattern in ignored)]
    if left:
        raise InputError(
            f"{len(left)} tensors are no part of the model that config.json describes, {', '.join(left)[:200]}: "
            "weights and config.json are of two models, or of a form that is not read"
        )
    for sharing in by_key.values():
        # A tied tensor is read more than once, each time whole.
        if sharing[0].part is not None:
            require_tiled(sharing)


def _split(rule: Weight, array: np.ndarray) -> np.ndarray:
    """Ours in the order of theirs, with an axis for each letter."""
    sizes = rule.sizes(array.shape)
    letters = [sizes[letter] for axis in rule.ours for letter in axis]
    return array.reshape(letters).transpose(order_of(rule.ours, rule.theirs))


def require_tiled(rules: Sequence[Weight]) -> None:
    """Errors: `InputError` where the rules of one tensor leave a gap or overlap."""
    extents = sorted((rule.part or WHOLE for rule in rules), key=lambda extent: extent.start)
    starts = [extent.start for extent in extents]
    ends = [extent.start + extent.size for extent in extents]
    whole = extents[0].whole
    # Each begins where the one before ended, and the last ends with the tensor.
    if [*starts, whole] != [0, *ends]:
        stretches = ", ".join(f"{start} to {end}" for start, end in zip(starts, ends, strict=True))
        raise InputError(
            f"the tensor {rules[0].key!r} of {whole} would be made of {stretches}: its rules leave a gap or overlap"
        )
