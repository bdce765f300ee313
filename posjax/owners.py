"""Who owns a folder, as its lock says: read by others, who leave the lock itself alone."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

LOCK = "owner.lock"
"""The file in a folder that says who writes there, and stays, empty, when nobody does."""


@dataclass(frozen=True)
class Owner:
    """Who signed a folder's lock: a process, its machine, and whether it lives; `None` where that cannot be seen."""

    process: int
    machine: str
    is_alive: bool | None


def owner(folder: Path) -> Owner | None:
    """Who owns a folder, or was killed as its owner; `None` where nobody does. The lock itself is left alone."""
    try:
        told = (folder / LOCK).read_bytes()[:500].decode(errors="replace")
    except OSError:
        return None
    signed = SIGNATURE.match(told)
    if signed is None:
        return None
    process = int(signed["process"])
    is_alive = None
    # A number counts on one machine, and in one container of it.
    if signed["machine"] == socket.gethostname() and signed["place"] == place():
        is_alive = _lives(process) and not _is_free(folder / LOCK)
    return Owner(process, signed["machine"], is_alive)


SIGNATURE = re.compile(r"process (?P<process>\d+) on (?P<machine>\S+) (?P<place>(?:\([0-9a-f]{8}\) )?)since ")


def _lives(process: int) -> bool:
    try:
        # Sends nothing.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # Of another user.
        return True
    return True


def _is_free(path: Path) -> bool:
    """Whether nobody has a lock: a process that has ended and is still listed has none, nor has one of a copy."""
    try:
        with path.open("rb") as file:
            # Shared and given back at once; where it is held, as nearly always, nothing happens at all.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # Held; or there are no locks here, and the process is all there is to ask.
        return False
    return True


def place() -> str:
    """What tells machines and containers of one name apart, each of which counts its processes from 1."""
    told = ""
    with contextlib.suppress(OSError):
        told = os.readlink("/proc/self/ns/pid") + Path("/proc/sys/kernel/random/boot_id").read_text()
    if not told:
        return ""
    return f"({hashlib.sha256(told.encode()).hexdigest()[:8]}) "
