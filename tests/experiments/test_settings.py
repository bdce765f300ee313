"""Settings of the machine, of jax and of the process that a command cannot work under: one line that names each."""

from __future__ import annotations

import subprocess

import jax
import pytest

from experiments import train as train_command
from tests.cases import first_of
from tests.experiments.test_ends import command


def test_guarded_transfers_are_one_line(shell, home):
    with jax.transfer_guard("disallow"):
        line = shell("train", "tiny.py", "--only", "rope").line
    assert line.startswith("JAX_TRANSFER_GUARD=disallow ends this") and "set that variable otherwise" in line


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("jax_debug_nans", True, FloatingPointError("invalid value (nan) encountered in mul")),
        ("jax_debug_infs", True, FloatingPointError("invalid value (inf) encountered in mul")),
        ("jax_numpy_dtype_promotion", "strict", jax.dtypes.TypePromotionError("no path")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_ends_training_is_named(shell, home, monkeypatch, name, value, error):
    def fail(arguments):
        raise error

    monkeypatch.setattr(train_command, "command", fail)
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        line = shell("train", "tiny.py").line
    finally:
        jax.config.update(name, before)
    assert line.startswith(f"{name.upper()}={value} ends this ({error})")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "parts"),
    [
        ("export XLA_FLAGS=--bogus=1", ("XLA_FLAGS='--bogus=1'", "otherwise")),
        pytest.param("export XLA_FLAGS=bogus", ("XLA_FLAGS='bogus'", "otherwise"), marks=pytest.mark.exhaustive),
        ("ulimit -v 1000000", ("ulimit -v allows 1,000,000 KiB", "raise it")),
    ],
)
def test_what_ends_jax_itself_is_one_line(home, before, parts):
    given, more = command("run", "tiny.py", "--list", cwd=home, text=True, capture_output=True)
    done = subprocess.run(["sh", "-c", f'{before}; exec "$@"', "sh", *given], check=False, timeout=100, **more)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.mark.slow
@first_of("limit", ["-f 8", "-n 12"], keep=1)
def test_a_limit_of_the_process_is_named(home, limit):
    given, more = command("train", "tiny.py", "--only", "rope", cwd=home, text=True, capture_output=True)
    done = subprocess.run(["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *given], check=False, timeout=100, **more)
    assert done.returncode == 74 and done.stderr.count("\n") == 1, done.stderr
    assert f"raise ulimit {limit[:2]}" in done.stderr and len(done.stderr) < 400
