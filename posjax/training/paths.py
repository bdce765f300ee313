"""Where checkpoints can lie: orbax joins the parts of a step by a pattern, in which the whole path stands as it is."""

from __future__ import annotations

from pathlib import Path

from posjax.errors import InputError, StorageError

SIGNS = "[*?\\"
"""What a pattern does not take for itself: the parts would not be found, or those of another folder be."""


def expect_plain(folder: Path) -> None:
    """Errors: `InputError` for a folder under whose name, or that of one above it, orbax would lose checkpoints."""
    whole = str(folder.absolute())
    for sign in SIGNS:
        if sign in whole:
            raise InputError(
                f"{whole} has {sign!r} in its name, by which checkpoints would be lost: choose a folder without "
                f"{', '.join(SIGNS)}, with --work, or call the one above it otherwise"
            )


def expect_joined(step: Path) -> None:
    """Errors: `StorageError` for a step whose parts were not joined, which nothing can read."""
    if not (step / "state" / "manifest.ocdbt").is_file():
        raise StorageError(
            f"the checkpoint {step} was written and not joined: those before it are kept; choose another folder with "
            "--work"
        )
