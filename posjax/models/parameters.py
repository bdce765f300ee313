"""What an encoding learns, held in a Flax module."""

from __future__ import annotations

import jax
from flax import nnx

from posjax.encodings.base import Dims, Params
from posjax.errors import InputError


class EncodingParams(nnx.Module):
    """The learned parameters of an encoding, each array an `nnx.Param` of its own.

    Every tool of Flax then knows them: optimisers, `nnx.to_pure_dict` and back, `nnx.tabulate`. A dict in one
    `nnx.Param` would come back from an optimiser as another container. Names are texts, numbers too: a pure dict goes
    back as it is, without `nnx.restore_int_paths`.

    Errors: `InputError` for two parameters whose keys, joined by "_", are the same.

    >>> import posjax
    >>> encoding, dims = posjax.chain(posjax.Rope(), posjax.T5Bias()), posjax.Dims(heads=2, head_size=4)
    >>> held = EncodingParams(encoding.init(jax.random.key(0), dims))
    >>> held.get_value()["1"]["table"].shape
    (2, 32)
    """

    def __init__(self, params: Params, sizes: Dims | None = None) -> None:
        leaves, self.structure = jax.tree.flatten(params)
        paths = [path for path, _ in jax.tree.leaves_with_path(params)]
        self.names = tuple(jax.tree_util.keystr(path, simple=True, separator="_") for path in paths)
        twice = {name for name in self.names if self.names.count(name) > 1}
        # One of them would stand in the place of the other.
        if twice:
            raise InputError(
                f"an encoding has two parameters that both come to the name {min(twice)!r}, their keys joined by _: "
                "rename one of them"
            )
        arrays = [nnx.Param(leaf, letters=_letters(leaf.shape, sizes)) for leaf in leaves]
        named = zip(self.names, arrays, strict=True)
        self.arrays = nnx.Dict(dict(named))

    def get_value(self) -> Params:
        """The parameters as an encoding's hooks take them."""
        leaves = [self.arrays[name].get_value() for name in self.names]
        return self.structure.unflatten(leaves)

    def set_value(self, params: Params) -> None:
        """Puts other parameters of the same structure in their place."""
        # For its error alone: leaves would else be matched by their number.
        self.structure.flatten_up_to(params)
        for name, array in zip(self.names, jax.tree.leaves(params), strict=True):
            self.arrays[name].set_value(array)


def _letters(shape: tuple[int, ...], sizes: Dims | None) -> str:
    """The letters of an encoding's parameter: heads come first, and tables that are added to the stream end in it."""
    letters = ["_"] * len(shape)
    # By their sizes. A table that has as many rows as there are heads is split with them, and computes the same.
    if sizes is not None and len(shape) > 1 and shape[-1] == sizes.model_size:
        letters[-1] = "D"
    if sizes is not None and shape and shape[0] == sizes.heads:
        letters[0] = "N"
    return "".join(letters)
