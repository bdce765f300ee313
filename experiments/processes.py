"""The options by which a command becomes one of many processes.

... --distributed                                            where a cluster says which process this is
... --coordinator HOST:PORT --processes N --process I        where none does
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import NoReturn

from posjax.errors import InputError, Stopped
from posjax.training import launch


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}: give --coordinator host:port --processes N --process I, or --distributed")


def _parser() -> _Parser:
    # The other options are the command's own: none of them may be taken for the beginning of one of these.
    parser = _Parser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    group = parser.add_argument_group("one of many processes")
    group.add_argument("--distributed", action="store_true", help="the cluster says which process this is")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is reached, with the next two")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")
    group.add_argument(
        "--heartbeat",
        type=int,
        metavar="SECONDS",
        default=launch.HEARTBEAT,
        help="how long one may be silent before the others end, %(default)s unless given",
    )
    return parser


@contextlib.contextmanager
def together(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The other arguments of a command, once this is one of the processes that the arguments speak of, if they do.

    At its end it leaves the others, unless it broke alone: then they must learn that it is gone.
    """
    parser = _parser()
    given, rest = parser.parse_known_args(list(arguments))
    if {"-h", "--help"} & set(rest):
        # Whoever asks for help starts nothing; the command's own help ends it.
        try:
            yield rest
        finally:
            print(parser.format_help())
        return
    named = launch.Processes(given.coordinator, given.processes, given.process, given.heartbeat)
    if not given.distributed and named.coordinator is None:
        yield rest
        return
    launch.start(named)
    try:
        yield rest
    except InputError:
        launch.part()
        raise
    except Stopped:
        launch.stop()
        raise
    launch.stop()
