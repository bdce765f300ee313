"""What a user's mistake raises, so that a command line can answer it with one line."""

from __future__ import annotations


class InputError(ValueError):
    """A value that cannot work: the message says what was given, what is needed, and what to do."""


class Stopped(RuntimeError):
    """A run that ended before its last step: the message says where, what is kept, and how to go on."""
