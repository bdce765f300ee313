"""Where a published model lies: a folder, or a name on the Hugging Face Hub, from where it is fetched."""

from __future__ import annotations

import re
from pathlib import Path

from posjax.errors import InputError
from posjax.interop.extras import package

PREFIX = "hf:"
NAMED = re.compile(r"(?P<model>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def locate(source: str | Path) -> Path:
    """The folder of a source. `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION` is fetched, all else is a path.

    Fetched are the JSON and safetensors files at the top of the repository, through `huggingface_hub` and into its
    cache: no code, and no pickle. Errors: `InputError`.

    >>> locate("models/pythia").as_posix()
    'models/pythia'
    """
    if isinstance(source, Path) or not source.startswith(PREFIX):
        return Path(source)
    named = NAMED.fullmatch(source.removeprefix(PREFIX))
    if named is None:
        raise InputError(f"{source!r} is no model on the Hub: give hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    hub = package("huggingface_hub", f"fetching {source}")
    try:
        folder = hub.snapshot_download(
            named["model"],
            revision=named["revision"],
            allow_patterns=["*.json", "*.safetensors"],
            # Folders inside hold other forms of the same weights, and consolidated files the same ones once more.
            ignore_patterns=["*/*", "consolidated*"],
        )
    # What the Hub refuses, and a network that is not there, are all one of the two.
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"{source} cannot be fetched ({reason}): check its name and the network, or give the path of a folder"
        ) from error
    return Path(folder)
