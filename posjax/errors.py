"""What a user is told in one line, and the exit code that tells a scheduler what to do about it."""

from __future__ import annotations


class InputError(ValueError):
    """A value that cannot work: the message says what was given, what is needed, and what to do."""

    code = 2

    def __init__(self, message: str) -> None:
        # What was given may show itself over several lines, as arrays do.
        lines = [line.strip() for line in message.splitlines()]
        super().__init__(" ".join(lines))


class StorageError(InputError):
    """A disk that is full, gone, or may not be written: with room made, the same command goes on."""

    code = 74


class Stopped(RuntimeError):
    """A run that ended before its last step: the message says where, what is kept, and how to go on."""

    code = 75


class Busy(Stopped):
    """A folder that another process is writing to: the same command works once that one has ended."""


class Diverged(Stopped):
    """Numbers that are not finite: the same command would end the same way."""

    code = 3


class BrokenLaw(Stopped):
    """A model that is not what its configuration says: the same command would end the same way until it is mended."""

    code = 3
