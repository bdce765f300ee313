"""A published model as the beginning of a run that trains nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.interop.describing import Description, configuration, describe
from posjax.interop.files import CONFIG, INDEX, Folder
from posjax.interop.hub import locate
from posjax.interop.reading import Placement, opened, read
from posjax.models.architecture import Architecture
from posjax.models.compute import COMPUTE, Compute
from posjax.models.transformer import Transformer


@dataclass(frozen=True)
class Pretrained:
    """Weights that a publisher trained, in the place of a training: `read` takes them as float32.

    `folder` is what `posjax.interop.read` takes, and `length` the context that the model was trained at. `content`
    tells the files from others: make the value with `pretrained(folder)`, which looks.

    Errors: `InputError` for a length below 1, or a field of another type.
    """

    folder: str
    length: int
    content: str
    compute: Compute = COMPUTE
    """In which dtype and with which attention backend it is computed."""

    def __post_init__(self) -> None:
        check_fields(self, positive=("length",))

    @property
    def steps(self) -> int:
        """Nothing is trained here."""
        return 0

    @property
    def batch(self) -> int:
        """Rows of a batch, as for a training: one, since none is read."""
        return 1

    @property
    def tokens(self) -> int:
        """As many."""
        return 0

    @property
    def architecture(self) -> Architecture:
        """What the folder's configuration describes. Errors: `InputError`, those of `describe`."""
        return describe(self.folder).required()

    def describe(self) -> Description:
        """As `posjax.interop.describe`."""
        return describe(self.folder)

    def read(self, sharding: Placement | None = None) -> Transformer:
        """The model, on devices as `posjax.interop.read` has it.

        Errors: `InputError` where the files are not those of `content`, and those of `read`.
        """
        # Again: between the config and this, somebody may have fetched another revision.
        found = content(self.folder)
        if found != self.content:
            raise InputError(
                f"{self.folder} holds other files than when it was named ({found}, and {self.content} then): bring "
                "those back, or evaluate the new ones in another folder with --work"
            )
        # Published in half precision or not: what is compared are methods, not roundings.
        return read(self.folder, dtype="float32", sharding=sharding, compute=self.compute)


def pretrained(folder: str | Path, length: int | None = None, compute: Compute = COMPUTE) -> Pretrained:
    """The model of a folder as it is now; `length` is its `max_position_embeddings` unless given.

    Errors: `InputError` for what is no published model, or one whose configuration tells no length.

    >>> pretrained("models/stories260K").length  # doctest: +SKIP
    512
    """
    found = content(folder)
    # Not of the file by a default: a length that nobody told would make every ratio mean something else.
    if length is None:
        length = configuration(folder).get("max_position_embeddings")
    if length is None:
        raise InputError(f"{folder} does not tell how long its contexts were in training: give length=, such as 2048")
    return Pretrained(str(folder), length, found, compute)


def content(source: str | Path) -> str:
    """16 hex digits of SHA-256 over the configuration and the weights of a published model."""
    path = locate(source)
    held = opened(path)
    files = [path]
    # A file of llama2.c's is everything; a folder may hold a README, whose changes change no model.
    if isinstance(held, Folder):
        names = [CONFIG, *sorted(set(held.homes.values()))]
        if (path / INDEX).is_file():
            names.append(INDEX)
        files = [path / name for name in names]
    digest = hashlib.sha256()
    # One after another, each in pieces: shards are larger than what a machine would hold.
    for file in files:
        with file.open("rb") as stream:
            one = hashlib.file_digest(stream, "sha256")
        digest.update(one.digest())
    return digest.hexdigest()[:16]
