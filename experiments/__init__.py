"""The commands: run, train, evaluate, generate, report, check."""

import os
import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:
    # Nothing has begun: an exception here would be a traceback through whatever is being imported.
    os.write(2, b"posjax: stopped before anything was begun; give the same command again\n")
    os._exit(75)


if sys.argv[:1] == ["-m"]:  # A command, whose imports take a second: `cli.main` listens from then on.
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _stop)
