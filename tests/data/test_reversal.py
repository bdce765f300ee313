import numpy as np
import pytest

from posjax.data import Batches, Reversal
from posjax.errors import InputError

pytestmark = pytest.mark.versionless

TASK = Reversal(symbols=5)


@pytest.mark.parametrize("length", [2, 3, 10, 33])
def test_the_target_is_the_source_backwards(length):
    rows = TASK.rows(length, 0)
    counts = set()
    for index in range(60):
        row = rows[index]
        count = int(row["real"].sum())
        counts.add(count)
        source = row["source"][row["real"]]
        assert row["real"][:count].all() and not row["source"][count:].any()
        assert row["inputs"][: count + 1].tolist() == [TASK.begin, *source[::-1]]
        assert row["targets"][: count + 1].tolist() == [*source[::-1], TASK.end]
        np.testing.assert_array_equal(row["weights"], np.arange(length) <= count)
        assert source.max() < 5 and len(row["source"]) == length - 1
    assert counts <= set(range(length // 2, length)) and len(counts) == min(length - length // 2, len(counts))
    types = {name: str(array.dtype) for name, array in rows[0].items()}
    whole = dict.fromkeys(("source", "inputs", "targets"), "int32")
    assert types == {**whole, "real": "bool", "weights": "float32"}


def test_rows_are_a_function_of_seed_and_index():
    one, other = TASK.rows(9, 1), TASK.rows(9, 2)
    assert any((one[index]["source"] != other[index]["source"]).any() for index in range(3))
    whole = Batches(one, 6).batch(2)
    parts = [Batches(TASK.rows(9, 1), 6).rows(2, start, start + 3) for start in (0, 3)]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_queries_are_full_and_a_prefix_of_more():
    few, more = TASK.questions(9, 3, 0), TASK.questions(9, 7, 0)
    assert few["real"].all() and few["weights"].all() and few["source"].shape == (3, 8)
    for name, array in few.items():
        np.testing.assert_array_equal(array, more[name][:3])


def test_mistakes_are_refused():
    with pytest.raises(InputError, match="at least 2 are needed"):
        Reversal(symbols=1)
    with pytest.raises(InputError, match="length is 1: needed is a whole number, 2 or more"):
        TASK.rows(1, 0)
    with pytest.raises(InputError, match="count is 0"):
        TASK.questions(5, 0, 0)
