"""What ends the reading of a checkpoint and is no damage to it: a signal, or a system that refuses for now."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from posjax.errors import StorageError
from posjax.files import reason

FULL = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of a process or a machine that has no room for another file."""
PASSING = (*FULL, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT)
"""Errors of the system that say nothing of a file's content."""
GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""Errors of the system that do: what was saved is not there."""
QUOTED = re.compile(r'"([^"]+)": ')
"""How tensorstore names the file that it could not open."""


def raise_passing(path: Path, error: BaseException) -> None:
    """Raises what ended the reading of `path` where that is no damage, and returns where it may be.

    Errors: the signal's own, or `MemoryError`; `StorageError` with the file that could not be read.
    """
    every = list(_chain(error))
    # First the signals: one of them may have come while another error was told.
    for each in every:
        # Whoever asked for an end is not asked to ask again: orbax wraps even this.
        if isinstance(each, KeyboardInterrupt | SystemExit | MemoryError):
            raise each
    for each in every:
        if _is_passing(each):
            raise StorageError(
                f"{_file(path, each)} cannot be read now ({_reason(each)}): it may be sound, and nothing was taken "
                "away; mend that and give the same command again"
            ) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with all that it came of, each once."""
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        each = waiting.pop(0)
        # By itself, as errors have no useful equality.
        if each is None or any(each is other for other in seen):
            continue
        seen.append(each)
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno is not None and not isinstance(error, GONE)
    # tensorstore has no errors of its own for this, and quotes the system.
    return any(os.strerror(number) in str(error) for number in PASSING)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return reason(error)
    told = [os.strerror(number) for number in PASSING if os.strerror(number) in str(error)]
    # In the words of `reason`, which knows which limit was met.
    return reason(OSError(*told[:1]))


def _file(path: Path, error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return str(error.filename)
    named = QUOTED.findall(str(error))
    if named:
        return named[-1]
    return str(path)
