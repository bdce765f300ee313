"""The numerics contract: what `docs/numerics.md` promises holds, at each position of its table and at many offsets."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from experiments.benchmarks.numerics import rows as numerics
from posjax import Dims
from posjax.invariants import scores

PAGE = Path(__file__).resolve().parents[3] / "docs/numerics.md"


@pytest.fixture(scope="module")
def rows():
    return list(numerics.measure())


@pytest.mark.exhaustive
def test_every_promise_holds(rows):
    for row in rows:
        assert row.promised is None or max(row.worst) <= row.promised, row


@pytest.mark.exhaustive
def test_the_measure_can_see_what_is_wrong(rows):
    """The usual angles are noise at 2^24, and the same measure says so."""
    usual = next(row for row in rows if row.promised is None)
    assert usual.worst[0] < 1e-4 and usual.worst[-2] > 0.1 and usual.worst[-1] > 1.9


@pytest.mark.exhaustive
def test_the_page_has_every_row_with_its_promise(rows):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    told = {(cells[0], cells[1]): cells[2:] for cells in lines if len(cells) == 3 + len(numerics.POSITIONS)}
    for row in rows:
        promised, *worst = told[row.quantity, row.dtype]
        if row.promised is not None:
            limit = 0.0 if promised == "exact" else float(promised)
            assert limit == row.promised and all(float(w) <= limit for w in worst)


@pytest.mark.parametrize(
    "encoding",
    [
        posjax.Rope(),
        posjax.Rope(5e5, posjax.Yarn(4.0, 512)),
        posjax.T5Bias(),
        posjax.Kerple(),
        posjax.chain(posjax.Rope(), posjax.Alibi()),
    ],
    ids=repr,
)
def test_the_relative_invariant_at_a_thousand_offsets(encoding):
    S, dims = 32, Dims(heads=3, head_size=32)
    last = 2**31 - 1 - S
    offsets = {0, 1, last, *(2**n + e for n in range(1, 31) for e in (-1, 0, 1))}
    rng = np.random.default_rng(0)
    offsets |= {int(n) for n in rng.integers(0, last, 500)} | {int(2**x) for x in rng.uniform(0, 30.9, 500)}
    params = encoding.join(encoding.init(jax.random.key(1), dims), encoding.constants(dims))
    q, k = jax.random.normal(jax.random.key(0), (2, 1, S, 3, 32))

    def moved(offset):
        at = jnp.arange(S) + offset
        return scores(encoding, params, q, k, at, at)

    here = jax.jit(moved)(jnp.int32(0))
    there = jax.jit(lambda all: jax.lax.map(moved, all))(jnp.array(sorted(offsets), jnp.int32))
    worst = jnp.max(jnp.abs(there - here[None]), axis=(1, 2, 3, 4)) / jnp.max(jnp.abs(here))
    assert float(worst.max()) < 1e-5, sorted(offsets)[int(jnp.argmax(worst))]


@pytest.mark.exhaustive
def test_the_command_writes_the_page(tmp_path, shell, monkeypatch, rows):
    monkeypatch.setattr(numerics, "measure", lambda: iter(rows))
    answer = shell("benchmarks.numerics.program", "--out", tmp_path / "page.md")
    assert answer.code == 0 and "2^31 - 1" in answer.out
    written, committed = (tmp_path / "page.md").read_text(), PAGE.read_text()
    assert written.split("| worst error")[0] == committed.split("| worst error")[0], "write docs/numerics.md anew"


def test_another_option_is_refused(shell):
    assert "--out" in shell("benchmarks.numerics.program", "--fast").line
