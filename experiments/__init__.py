"""The commands over posjax: run, train, evaluate, generate, report, check, docs. Configs have typed overrides."""

import os
import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    # Before a command and after it: an exception would be a traceback through whatever is imported or taken down.
    os.write(2, b"posjax: stopped; what is on disk is whole, and the same command goes on from there\n")
    os._exit(75)


if sys.argv[:1] == ["-m"]:  # A command, whose imports take a second: `cli.main` listens from then on.
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _stop)
    try:
        import jax  # noqa: F401
    except ValueError as error:  # Settings such as JAX_ENABLE_X64=abc, which it reads as it is imported.
        print(f"posjax: {' '.join(str(error).split())}: set that variable otherwise, or not at all", file=sys.stderr)
        os._exit(2)
