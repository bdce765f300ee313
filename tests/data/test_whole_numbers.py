"""Whole numbers of the data functions: what is none is one line that names the argument, before any row is read."""

from __future__ import annotations

import grain
import numpy as np
import pytest

from posjax.data.batches import Batches
from posjax.data.documents import Documents
from posjax.data.masking import masked
from posjax.data.needles import Needles
from posjax.data.packing import packed_rows
from posjax.data.randomness import rng
from posjax.data.reversal import Reversal
from posjax.data.tasks.flip_flop import FlipFlop
from posjax.data.windows import target_bytes, training_windows, validation_windows, window_files
from posjax.errors import InputError

pytestmark = pytest.mark.versionless

TEXT = Documents("toy", (b"abcdef", b"ghijkl"), (b"mnopqr", b"stuvwx"), "0")
ROWS = grain.MapDataset.range(100).map(lambda i: {"inputs": np.array([i, i + 1])})
CALLS = {
    training_windows: {"documents": TEXT, "length": 3, "seed": 0},
    validation_windows: {"documents": TEXT, "length": 3, "count": 2, "seed": 0},
    target_bytes: {"documents": TEXT, "length": 3, "count": 2, "seed": 0},
    window_files: {"documents": TEXT, "length": 3, "count": 2, "seed": 0},
    packed_rows: {"documents": TEXT, "length": 3, "seed": 0},
    Batches: {"rows": ROWS, "size": 3},
    Batches(ROWS, 3).batch: {"step": 1},
    Batches(ROWS, 3).rows: {"step": 1, "start": 0, "stop": 2},
    masked: {"rows": ROWS, "share": 0.5, "mask_token": 9, "vocabulary": 9, "seed": 0},
    rng: {"seed": 0, "purpose": "a"},
    Needles().rows: {"length": 32, "seed": 0},
    Needles().questions: {"length": 32, "count": 2, "seed": 0},
    Needles().queries: {"length": 32, "depth": 0.5, "count": 2, "seed": 0},
    FlipFlop().rows: {"length": 32, "seed": 0},
    FlipFlop().questions: {"length": 32, "count": 2, "seed": 0},
    Reversal().rows: {"length": 32, "seed": 0},
    Reversal().questions: {"length": 32, "count": 2, "seed": 0},
}
LEAST = {"length": 1, "count": 1, "size": 1, "vocabulary": 1, "stop": 1}
EACH = [
    pytest.param(call, name, id=f"{call.__name__}-{name}")
    for call, given in CALLS.items()
    for name, value in given.items()
    if isinstance(value, int)
]


def wrong_for(name: str) -> list:
    wrong = [2.5, 2.0, "a", None, True, np.True_, np.float32(1), LEAST.get(name, 0) - 1]
    # Only seeds may be larger.
    return wrong if name == "seed" else [*wrong, 2**31]


@pytest.mark.parametrize(("call", "name"), EACH)
def test_what_is_no_whole_number_is_one_line(call, name):
    given = CALLS[call]
    for wrong in wrong_for(name):
        with pytest.raises(InputError, match=rf"^{name} is .*: needed is a whole number, \d") as found:
            call(**{**given, name: wrong})
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(("call", "name"), EACH)
def test_numbers_of_numpy_are_as_good(call, name):
    given = CALLS[call]
    call(**{**given, name: np.int64(given[name])})


@pytest.mark.parametrize("share", ["a", None, True, float("nan"), 0, 1.5])
def test_a_share_that_is_none_is_one_line(share):
    with pytest.raises(InputError, match="share is"):
        masked(**{**CALLS[masked], "share": share})


@pytest.mark.parametrize("call", [validation_windows, target_bytes, window_files])
def test_a_length_that_no_file_holds_is_one_line_of_each(call):
    with pytest.raises(InputError, match="the longest validation file of toy has 6 bytes"):
        call(TEXT, 6, 1, 0)


def test_a_seed_may_be_as_large_as_one_likes():
    assert rng(2**70, "a").integers(9) == rng(2**70, "a").integers(9)
    training_windows(TEXT, 3, 2**40)[0]
