from itertools import pairwise

import grain
import numpy as np
import pytest

from posjax.data import Batches
from posjax.errors import InputError

pytestmark = pytest.mark.versionless


def numbered():
    return grain.MapDataset.range(100).map(lambda i: {"inputs": np.array([i, -i]), "weights": np.float32(i)})


def test_row_r_of_a_batch_is_item_step_times_size_plus_r():
    batch = Batches(numbered(), size=5).batch(3)
    assert batch["inputs"].tolist() == [[i, -i] for i in range(15, 20)]
    assert batch["weights"].tolist() == [15, 16, 17, 18, 19]
    assert batch["weights"].dtype == np.float32


def test_processes_that_read_their_rows_read_the_batch_together():
    batches = Batches(rows=numbered(), size=8)
    for cuts in ((0, 8), (0, 4, 8), (0, 1, 3, 8)):
        parts = [batches.rows(2, start, stop) for start, stop in pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate([part["inputs"] for part in parts]), batches.batch(2)["inputs"])


def test_a_process_reads_only_its_own_rows():
    read = []

    def note(i):
        read.append(int(i))
        return {"inputs": np.array([i])}

    Batches(grain.MapDataset.range(100).map(note), size=8).rows(1, 2, 4)
    assert read == [10, 11]


def test_what_lies_outside_is_refused():
    with pytest.raises(InputError, match="size is 0"):
        Batches(numbered(), size=0)
    batches = Batches(numbered(), size=4)
    with pytest.raises(InputError, match="step is -1"):
        batches.batch(-1)
    with pytest.raises(InputError, match="start is -1"):
        batches.rows(0, -1, 2)
    for start, stop in ((2, 2), (3, 2), (0, 5)):
        with pytest.raises(InputError, match=f"rows {start} to {stop}"):
            batches.rows(0, start, stop)


def test_a_dataset_with_gaps_is_refused():
    with pytest.raises(InputError, match="row 1 is missing"):
        Batches(numbered().filter(lambda item: item["weights"] != 1), size=2).batch(0)
