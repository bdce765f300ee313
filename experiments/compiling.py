"""Where commands keep what they have compiled, so that the same one starts faster the next time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import warnings
from pathlib import Path

LEAST_SECONDS = 0.2
"""What took less to compile is compiled again: to read it would take as long."""


def machine() -> str:
    """What compiled code depends on: the compiler's version and the processor's own flags."""
    path = Path("/proc/cpuinfo")
    told = path.read_text() if path.exists() else platform.processor()
    flags = sorted({line for line in told.splitlines() if line.startswith(("flags", "model name", "Features"))})
    kind = hashlib.sha256("".join(flags or [told]).encode()).hexdigest()[:12]
    return f"{importlib.metadata.version('jaxlib')}-{kind}"


def keep() -> None:
    """Has jax keep what it compiles under the user's cache folder, unless jax's own variables say otherwise."""
    # Here, since tests ask for the machine before they say how jax is to be imported.
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Whoever has no home, as some containers' users, has no such folder.
    if home.startswith("~"):
        return
    jax.config.update("jax_compilation_cache_dir", str(Path(home, "posjax", machine())))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    # A cache that cannot be read or written is no reason to speak: the code is compiled as without one.
    for verb in ("reading", "writing"):
        warnings.filterwarnings("ignore", f"Error {verb} persistent compilation cache entry", UserWarning)
