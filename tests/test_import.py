"""What `import posjax` brings along: JAX, and nothing that a model of one's own has no use for."""

import subprocess
import sys

import pytest

import posjax

HEAVY = ("flax", "chex", "optax", "orbax", "matplotlib", "jax.experimental.pallas")


def fresh(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_library_leaves_the_heavy_ones_out():
    assert fresh(f"import sys, posjax; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_what_waits_is_there_when_it_is_asked_for():
    code = "import posjax; print(posjax.models.Architecture.__name__, posjax.invariants.check.__name__)"
    assert fresh(code) == "Architecture check"
    assert fresh("from posjax import models, invariants; print(models.__name__)") == "posjax.models"


@pytest.mark.exhaustive
def test_kernels_that_wait_are_imported_inside_a_trace():
    code = (
        "import jax, jax.numpy as jnp, posjax\n"
        "f = jax.jit(lambda x: posjax.attend(x, x, x, encoding=posjax.Alibi(), backend='fused'))\n"
        "x = jnp.ones((1, 16, 2, 16))\n"
        "print(f(x).shape, f(x + 1).shape)"
    )
    assert fresh(code) == "(1, 16, 2, 16) (1, 16, 2, 16)"


def test_the_public_names_are_listed_once():
    assert {"models", "invariants", "encodings", "positions", "Rope", "attend", "__version__"} <= set(dir(posjax))
    assert not {"attention", "types", "typing", "axes"} & set(dir(posjax))
    with pytest.raises(AttributeError, match="module 'posjax' has no attribute 'Ropes'"):
        _ = posjax.Ropes
