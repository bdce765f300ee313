"""Files that are either whole or not there, also when the process is killed while it writes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from posjax.errors import InputError


def write_whole(path: Path, content: bytes) -> Path:
    """Writes `content` to a temporary file beside `path` and moves it there; raises InputError where it may not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes a file for its owner alone; a report is to be shared as the folder around it is.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refused(path, error) from error
        raise
    return path


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path} ({error.strerror or error}): make its folder writable, or copy the work "
                      "folder to where you may write, and report there")
