"""The commands over posjax: run, train, evaluate, generate, report, check, docs. Configs have typed overrides."""

import os
import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    # Before a command and after it: an exception would be a traceback through whatever is imported or taken down.
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


if sys.argv[:1] == ["-m"]:  # A command, whose imports take a second: `cli.main` listens from then on.
    # Before anything else is opened, as imports do.
    _open_streams()
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _stop)
    try:
        import jax  # noqa: F401
    except ValueError as error:  # Settings such as JAX_ENABLE_X64=abc, which it reads as it is imported.
        print(f"posjax: {' '.join(str(error).split())}: set that variable otherwise, or not at all", file=sys.stderr)
        os._exit(2)
