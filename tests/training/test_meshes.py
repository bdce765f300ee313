"""Law 13: on any product of `data, fsdp, tensor, context`, a training is that of one device."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny import with_devices

PROGRAM = Path(__file__).with_name("mesh_program.py")
ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = [
    shape for shape in itertools.product((1, 2, 4, 8), repeat=4) if shape[0] * shape[1] * shape[2] * shape[3] == 8
]
NARROW = [(1, 8, 1, 1), (1, 2, 2, 2), (2, 1, 1, 4)]
"""One axis alone, and all of them in two products; `data` alone is in test_step."""
OF_PARAMETERS = [(8, 1, 1, 1), (1, 8, 1, 1), (1, 1, 8, 1), (1, 1, 1, 8), (2, 2, 2, 1), (2, 1, 2, 2), (1, 2, 1, 4)]
"""Each axis alone, and each two of them in a product: an encoding's parameters are split by heads, its positions by
context, and what else a product divides is the model's, of which `rope+t5` and `seq` go through every product."""


def run(encodings: list[str], shapes: list[tuple[int, ...]]) -> None:
    flags = {"XLA_FLAGS": with_devices(8), "JAX_PLATFORMS": "cpu"}
    told = [",".join(encodings), ";".join(",".join(map(str, shape)) for shape in shapes)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *told],
        env={**os.environ, **flags, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.exhaustive
def test_a_decoder_and_an_encoder_decoder_train_as_on_one_device():
    run(["rope+t5", "seq"], NARROW)


@pytest.mark.exhaustive
@pytest.mark.parametrize("encoding", ["rope+t5", "seq"])
def test_every_product_of_the_axes(encoding):
    run([encoding], PRODUCTS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("encoding", ["rope", "alibi", "t5", "kerple", "fire"])
def test_every_two_axes_with_an_encoding_of_each_sort(encoding):
    run([encoding], OF_PARAMETERS)
