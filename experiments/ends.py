"""How a command ends: one line and an exit code, whatever it met, and whoever reads what it says."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, Self, TextIO

import jax
from jax.dtypes import TypePromotionError

from experiments import compiling
from posjax.errors import InputError, Stopped, StorageError
from posjax.files import reason

AGAIN = 1.0
"""After how many seconds a command that goes on all the same is asked again to end."""


def silence(stream: TextIO) -> None:
    """Takes a stream's place by one that keeps nothing, so that what waits in it cannot fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def program(command: Callable[[Sequence[str]], None]) -> NoReturn:
    """As `main`, for a process of its own, which ends at once where it does not end well.

    Writes that orbax has begun may outlive the interpreter's own end, and would print what no hook takes any more; and
    a second signal would meet an interpreter that has stopped listening, and end it with a code of its own.
    """
    code: Any = 0
    try:
        main(command)
    except SystemExit as stop:
        code = stop.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # A full disk behind it.
            silence(stream)
    if code in (0, None):
        raise SystemExit(0)
    if not isinstance(code, int):
        code = 1
    os._exit(code)


def main(command: Callable[[Sequence[str]], None]) -> NoReturn:
    """Runs a command; whatever ends it is one line and an exit code for a scheduler, never a traceback.

    2: what was given cannot work. 3: training diverged, and would again. 74: the disk refused. 75: interrupted, or the
    folder is in use: the same command goes on from there.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A letter that a terminal lacks is no reason to end.
            stream.reconfigure(errors="replace")
    compiling.keep()
    listening = Listening()
    try:
        with listening:
            command(sys.argv[1:])
            # What has raised may have been lost, and the command have gone on to its end.
            listening.require_unasked()
    except (InputError, Stopped) as error:
        say(str(error), error.code)
    except KeyboardInterrupt:
        say(STOPPED, Stopped.code)
    except OSError as error:
        # Ctrl-C ends the reader of a pipe too, and it was not the reader who had enough.
        if isinstance(error, BrokenPipeError) and listening.asked:
            say(STOPPED, Stopped.code)
        # A reader such as head has enough; what other pipes break at is an error.
        if isinstance(error, BrokenPipeError) and _has_no_reader(sys.stdout):
            silence(sys.stdout)
            raise SystemExit(0) from error
        say(
            f"{error.filename or 'the system'}: {reason(error)}; free the resource and give the same command again",
            StorageError.code,
        )
    except MemoryError:
        say(f"there is not memory enough: {MEMORY}{_limited()}", 2)
    except (RuntimeError, ArithmeticError, TypePromotionError) as error:
        # Libraries make errors of their own of what a signal has raised in them.
        if listening.asked:
            say(STOPPED, Stopped.code)
        _say_of_jax(error)
    raise SystemExit(0)


STOPPED = "stopped; what is on disk is whole, and the same command goes on from there"
MEMORY = "lower the batch, the length or the windows of the evaluation"

STRICT = {
    "jax_debug_nans": FloatingPointError,
    "jax_debug_infs": FloatingPointError,
    "jax_transfer_guard": jax.errors.JaxRuntimeError,
    "jax_numpy_dtype_promotion": TypePromotionError,
}
"""Settings by which jax refuses what training does on purpose, such as to hide by -inf, with what each raises."""


def _limited() -> str:
    """Which limit of the process, beside the machine's, may be the one that was met."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed == resource.RLIM_INFINITY:
        return ""
    return f", or raise ulimit -v, which allows {allowed // 1024:,} KiB"


def _say_of_jax(error: Exception) -> NoReturn:
    """What jax says of the machine, in one line; anything else of it is a fault of ours, and a traceback."""
    first = str(error).partition("\n")[0]
    for name, kind in STRICT.items():
        told = getattr(jax.config, name)
        # By what it says too: with transfers guarded, a device may fail for reasons of its own.
        guarded = name != "jax_transfer_guard" or "Disallowed" in first
        if told not in (None, False, "allow", "standard") and isinstance(error, kind) and guarded:
            say(f"{name.upper()}={told} ends this ({first[:200]}): set that variable otherwise, or not at all", 2)
    if "nable to initialize backend" in first:
        say(f"{first}: set JAX_PLATFORMS to a platform that this machine has, such as cpu", 2)
    if "RESOURCE_EXHAUSTED" in first:
        say(f"the device has not memory enough ({first[:200]}): {MEMORY}{_limited()}", 2)
    raise error


class Listening:
    """Ctrl-C, SIGTERM and SIGHUP end a command between its steps, also as the first process of a container.

    They raise `KeyboardInterrupt` in whatever runs. That may be a callback of a library, from which nothing can be
    raised: then Python drops it, and the command would go on to its end. So it is raised again until it is heard.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # No other thread may say what becomes of a signal.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup leaves the last one.
                    self._before[number] = signal.signal(number, self._end)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._end_again)
        return self

    def __exit__(self, *_: object) -> None:
        if self.asked:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def require_unasked(self) -> None:
        """Errors: `KeyboardInterrupt` where somebody has asked for the end."""
        if self.asked:
            raise KeyboardInterrupt

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            sys.unraisablehook = _but_signals(sys.unraisablehook)
            signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise KeyboardInterrupt

    def _end_again(self, number: int, frame: FrameType | None) -> None:
        # Heard already: what it unwinds, such as a checkpoint that is waited for, is left to end.
        if self.asked and not _is_unwinding():
            raise KeyboardInterrupt


def _is_unwinding() -> bool:
    """Whether a `KeyboardInterrupt` is being handled, in a finally or in the end of a context."""
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _but_signals(hook: Callable[[Any], object]) -> Callable[[Any], None]:
    """A hook for what Python could not raise that is silent about signals, which are raised again."""

    def tell(told: Any) -> None:
        if not isinstance(told.exc_value, KeyboardInterrupt):
            hook(told)

    return tell


def _has_no_reader(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False


def say(message: str, code: int) -> NoReturn:
    """Ends a command with one line and its code, which stays the same where nobody reads the line."""
    # One line, whatever was told in several: a scheduler's log shows the last one.
    try:
        print(f"posjax: {' '.join(message.split())}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)
    raise SystemExit(code)
