"""`python -m experiments.benchmarks.gpu`, for which gpu.sh sets the environment.

It reads its command line with argparse and tells mistakes itself: `experiments.cli` needs libraries that may be absent.
"""

from __future__ import annotations

import sys

from experiments.benchmarks.gpu.program import command
from posjax.errors import InputError

if __name__ == "__main__":
    try:
        command(sys.argv[1:])
    except InputError as error:
        # One line, as of every command: a traceback says nothing of what to do.
        print(f"posjax: {error}", file=sys.stderr)
        sys.exit(error.code)
