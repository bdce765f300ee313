"""The mesh: its four axes, and one table that says by an array's letters how it is split over them.

    data      rows of a batch; every device has all parameters
    fsdp      rows of a batch, and the parameters too: a layer's are gathered where it is computed
    tensor    heads, feed-forward channels and the vocabulary
    context   the tokens of a row, which ring attention passes around

A parameter keeps its letters (`posjax.axes`), as the metadata `letters` of its `nnx.Param`; its gradient and what an
optimiser holds of it have the same. So no list of names says where arrays lie, and a new module has a place at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
from jax import core
from jax.sharding import AxisType, PartitionSpec

from posjax.fields import check_fields

Axis = Literal["data", "fsdp", "tensor", "context"]

AXES = ("data", "fsdp", "tensor", "context")
"""The axes of a mesh, in the order of its devices: those of the last one are the nearest neighbours."""
BATCH = ("data", "fsdp")
"""The mesh axes that split the batch."""
HEADS = "tensor"
"""The mesh axis that splits the heads."""
CONTEXT = "context"
"""The mesh axis that splits the sequence."""

Split = Mapping[str, tuple[str, ...]]
"""The mesh axes that split each letter; one that is not named stays whole."""

ACTIVATIONS: Split = {
    "B": BATCH,
    "T": (CONTEXT,),
    "S": (CONTEXT,),
    "N": (HEADS,),
    "K": (HEADS,),
    "F": (HEADS,),
    "V": (HEADS,),
}
"""How what is computed between parameters is split."""


@dataclass(frozen=True)
class Table:
    """How parameters are split: for each letter a mesh axis, or `None` to keep it whole on every device.

    Letters are those of the alphabet, and `L` the layers that a loop has stacked. Where an axis does not divide a
    size, or has split an earlier letter of the array, the letter stays whole.

    Errors: `InputError` for an axis that is none.

    >>> tuple(Table().spec("DNH", (64, 4, 16), {"fsdp": 8, "tensor": 4}))
    ('fsdp', 'tensor', None)
    """

    N: Axis | None = "tensor"
    K: Axis | None = "tensor"
    F: Axis | None = "tensor"
    V: Axis | None = "tensor"
    D: Axis | None = "fsdp"
    H: Axis | None = None
    L: Axis | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def spec(self, letters: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> PartitionSpec:
        """Where a parameter of these letters and this shape lies on a mesh of those sizes."""
        rows = {letter: (axis,) for letter, axis in asdict(self).items() if axis is not None}
        return spec(letters, shape, rows, sizes)


def spec(letters: str, shape: tuple[int, ...], split: Split, sizes: Mapping[str, int]) -> PartitionSpec:
    """The axes of an array, each over what splits its letter on a mesh of those sizes, where it divides."""
    entries: list[Any] = []
    taken: set[str] = set()
    for letter, size in zip(letters, shape, strict=True):
        names: list[str] = []
        left = size
        for name in split.get(letter, ()):
            # The part that an earlier axis has left must divide again.
            if name in sizes and name not in taken and left % sizes[name] == 0:
                names.append(name)
                left //= sizes[name]
        taken.update(names)
        entries.append(_entry(names))
    return PartitionSpec(*entries)


def _entry(names: list[str]) -> Any:
    """One entry of a spec, which has a name alone where it is the only one."""
    if len(names) > 1:
        return tuple(names)
    return next(iter(names), None)


def split_here(x: jax.Array, letters: str) -> jax.Array:
    """What was computed, on the current mesh split by its letters; as it is where there is no mesh to split over.

    Compilers choose a place for what lies between parameters by what is near it, and may gather a whole sequence.
    """
    # Outside a jitted function nothing is planned, and arrays stay where they are.
    if not isinstance(x, core.Tracer):
        return x
    sizes = _automatic()
    if all(size == 1 for size in sizes.values()):
        return x
    return jax.lax.with_sharding_constraint(x, spec(letters, x.shape, ACTIVATIONS, sizes))


def _automatic() -> dict[str, int]:
    """The sizes of the current mesh's axes that the compiler places arrays on."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {name: mesh.shape[name] for name, kind in kinds if kind == AxisType.Auto}


def kinds_of_axes() -> dict[str, AxisType]:
    """The axes of the current mesh, none where there is no mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return dict(zip(mesh.axis_names, mesh.axis_types, strict=True))


def explicit_axes() -> set[str]:
    """The axes of the current mesh whose sharding is part of an array's type."""
    return {name for name, kind in kinds_of_axes().items() if kind == AxisType.Explicit}


def by_compiler(function: Callable[..., Any], out_specs: Any, *arguments: Any) -> Any:
    """The function's results, Explicit axes left to the compiler inside and named again by `out_specs` outside."""
    leaves, structure = jax.tree.flatten(arguments)
    arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}

    def inside(arrays: dict[int, jax.Array]) -> Any:
        # Numbers known before run time stay known: an argument would be traced.
        given = structure.unflatten([arrays.get(i, leaf) for i, leaf in enumerate(leaves)])
        return function(*given)

    return jax.sharding.auto_axes(inside, axes=tuple(sorted(explicit_axes())), out_sharding=out_specs)(arrays)


def spec_of(array: jax.Array) -> PartitionSpec:
    """Where an array lies on a mesh of Explicit axes."""
    return jax.typeof(array).sharding.spec


def placed(function: Callable[..., jax.Array], like: jax.Array, *arguments: Any) -> jax.Array:
    """The function's array of all arguments, which lies as `like` does; on Explicit axes the compiler says how.

    An operation there must know how its result lies, and few could tell what it is to be.
    """
    if not explicit_axes():
        return function(*arguments)
    return by_compiler(function, spec_of(like), *arguments)
