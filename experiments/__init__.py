"""The commands over posjax: run, train, evaluate, generate, report, record, claims, check, docs."""

import contextlib
import os
import resource
import signal
import sys
from types import FrameType
from typing import NoReturn


def _stop(number: int, frame: FrameType | None) -> None:
    # Before a command and after it: an exception would be a traceback through whatever is imported or taken down.
    with contextlib.suppress(OSError):  # Nobody may be there to read it.
        os.write(2, b"posjax: stopped; what is on disk is whole, and the same command goes on from there\n")
    os._exit(75)


def _open_streams() -> None:
    """Opens what the caller closed of the standard streams: else a run's files would take their numbers and text."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            # For git and others that a command starts.
            os.set_inheritable(number, True)
    # Python has none where it found the number closed.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


ADDRESSES = 2_500_000
"""KiB of addresses that jax and LLVM take before anything of ours is there; with fewer they end the process."""


def _refuse(why: str) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"posjax: {' '.join(why.split())}", file=sys.stderr, flush=True)
    os._exit(2)


def _refuse_limit() -> None:
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY and allowed < ADDRESSES * 1024:
        _refuse(f"ulimit -v allows {allowed // 1024:,} KiB of addresses and jax alone takes {ADDRESSES:,}: raise it")


def _refuse_flags() -> None:
    """XLA ends the process where it meets a flag that it does not know: a child of ours finds that out."""
    flags = os.environ.get("XLA_FLAGS")
    if not flags:
        return
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 2)
        try:
            # All platforms read the same flags, and this one holds no device's memory.
            jax.config.update("jax_platforms", "cpu")
            jax.devices()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace").strip()
    _, status = os.waitpid(child, 0)
    if status:
        # Behind the time and the place in XLA's own source.
        why = said[-300:].splitlines()[-1:] or ["it ended the process"]
        reason = why[0].rpartition("] ")[2]
        _refuse(f"XLA_FLAGS={flags!r} is not taken ({reason}): set that variable otherwise, or not at all")


if sys.argv[:1] == ["-m"]:  # A command, whose imports take a second: `cli.main` listens from then on.
    # Before anything else is opened, as imports do.
    _open_streams()
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _stop)
    _refuse_limit()
    try:
        import jax
    except ValueError as error:  # Settings such as JAX_ENABLE_X64=abc, which it reads as it is imported.
        _refuse(f"{error}: set that variable otherwise, or not at all")
    _refuse_flags()
