"""Bad weather for every test: strict dtypes and ranks, two host devices, warnings as errors."""

import gc
import importlib.metadata
import os
import zlib
from pathlib import Path

from experiments.compiling import machine

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small functions run once: compiling them fast matters, running them fast does not.
_FLAGS = [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=2",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # Later ones have no other way to emit loops.
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join(_FLAGS)


# Most of the suite's time is compiling the same small functions: the workers share what one of them has compiled.
_folder = Path(__file__).resolve().parents[1] / ".cache" / machine()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_folder))
# Commands that tests start read the folder too, while another process may be writing there: setup.cfg says why.
os.environ.setdefault(
    "PYTHONWARNINGS",
    ",".join(f"ignore:Error {verb} persistent compilation cache entry:UserWarning" for verb in ("reading", "writing")),
)
# Nobody reads the locations in what is lowered, and collecting what tracing leaves took a tenth of the time.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
gc.set_threshold(200_000, 20, 50)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402  (after what it reads)
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", metavar="N/M", help="the N-th of M shares of the tests, such as 0/3")
    parser.addoption("--first", action="store_true", help="the first case of each test alone")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what --share and --first do not ask for, of what the marks have left."""
    kept = list(items)
    if config.option.first:
        kept = list({_of_its_kind(item): item for item in reversed(kept)}.values())[::-1]
    if config.option.share:
        wanted, shares = _parsed(config.option.share)
        # By name, so that a test stays in its share when others come and go.
        kept = [item for item in kept if zlib.crc32(item.nodeid.encode()) % shares == wanted]
    left_out = set(items).difference(kept)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = kept


def _parsed(share: str) -> tuple[int, int]:
    number, _, of = share.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise pytest.UsageError(f"--share {share}: needed is N/M, the shares counted from 0, such as 0/4")
    return int(number), int(of)


def _of_its_kind(item: pytest.Item) -> tuple:
    """What a case stands for under --first: its test, and of an encoding what it does to tokens, scores and queries."""
    from posjax.encodings import Encoding, traits  # Only now: JAX has read its flags.

    test = item.nodeid.partition("[")[0]
    encoding = item.callspec.params.get("encoding") if hasattr(item, "callspec") else None
    if not isinstance(encoding, Encoding):
        return (test,)
    hooks = [traits.defines(encoding, hook) for hook in ("embed", "rotate", "score")]
    return test, encoding.bias_kind, *hooks


_finished = [0]


@pytest.fixture(autouse=True)
def _compiled_functions_are_dropped_now_and_then():
    """What thousands of tests compile would fill the memory of a small machine; the folder above keeps it on disk."""
    yield
    _finished[0] += 1
    if _finished[0] % 1000 == 0:
        jax.clear_caches()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
