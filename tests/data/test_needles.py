import numpy as np
import pytest

from posjax.data import Batches, Needles
from posjax.errors import InputError

pytestmark = pytest.mark.versionless

TASK = Needles()
FIRST_NEEDLE = TASK.marker + 1


def answers(task, row):
    """What a reader who looks every queried key up among the needles before it would say, and what is asked."""
    asked = np.flatnonzero(row["weights"])
    found = []
    for position in asked:
        key, seen = row["inputs"][position], row["inputs"][:position]
        pairs = [divmod(token - task.marker - 1, task.values) for token in seen if token > task.marker]
        found += [task.keys + value for needle_key, value in pairs if needle_key == key]
    return found, row["targets"][asked].tolist()


def true_length(row):
    return int(np.flatnonzero(row["weights"])[-1]) + 1


@pytest.mark.parametrize("task", [TASK, Needles(keys=3, values=5, fillers=2, needles=3)])
def test_every_answer_stands_in_the_body_beside_its_key(task):
    rows = task.rows(length=40, seed=0)
    for index in range(100):
        found, asked = answers(task, rows[index])
        # One pair for each key: equal lists of n also say that keys are distinct.
        assert found == asked
        assert len(asked) == task.needles


def test_values_and_the_order_of_questions_are_free():
    rows = [TASK.rows(length=64, seed=0)[index] for index in range(300)]
    asked = np.array([answers(TASK, row)[1] for row in rows])
    assert set(asked.ravel().tolist()) == set(range(16, 32))
    in_order = 0
    for row in rows:
        needles = row["inputs"][row["inputs"] >= FIRST_NEEDLE]
        keys = row["inputs"][np.flatnonzero(row["weights"])]
        in_order += ((needles - FIRST_NEEDLE) // TASK.values).tolist() == keys.tolist()
    assert in_order < 40, "4 needles come in the order of their questions once in 24 times"


def test_inputs_and_targets_are_one_sequence_and_fit_the_vocabulary():
    rows = TASK.rows(length=64, seed=0)
    for row in (rows[index] for index in range(50)):
        assert row["inputs"].shape == row["targets"].shape == row["weights"].shape == (64,)
        assert row["inputs"][1:].tolist() == row["targets"][:-1].tolist()
        assert row["inputs"].min() >= 0 and row["inputs"].max() < TASK.vocabulary
        assert [row[name].dtype for name in ("inputs", "targets", "weights")] == [np.int32, np.int32, np.float32]
        assert (row["inputs"] == TASK.marker).sum() == 1


def test_the_largest_needle_is_the_last_of_the_vocabulary():
    task = Needles(keys=2, values=2, fillers=1, needles=2)
    assert max(task.rows(length=12, seed=0)[index]["inputs"].max() for index in range(50)) == task.vocabulary - 1
    assert task.chance == 0.5
    assert (TASK.vocabulary, TASK.chance) == (16 * 3 + 1 + 256, 1 / 16)


def test_rows_have_three_true_lengths_and_weightless_filler_after_them():
    rows = [TASK.rows(length=64, seed=0)[index] for index in range(300)]
    lengths = [true_length(row) for row in rows]
    assert all(70 <= lengths.count(length) <= 130 for length in (32, 48, 64))
    assert set(lengths) == {32, 48, 64}
    for row, length in zip(rows, lengths, strict=True):
        padding = row["inputs"][length + 1 :]
        assert ((padding >= TASK.keys + TASK.values) & (padding < TASK.marker)).all()
        assert row["weights"].sum() == TASK.needles
        assert row["inputs"][length - 2 * TASK.needles] == TASK.marker


def test_needles_reach_both_ends_of_the_body():
    places = set()
    for index in range(600):
        row = TASK.rows(length=64, seed=0)[index]
        if true_length(row) == 64:
            places |= set(np.flatnonzero(row["inputs"] >= FIRST_NEEDLE).tolist())
    assert places == set(range(64 - 2 * TASK.needles))


@pytest.mark.parametrize("length", [64, 128, 1024])
@pytest.mark.parametrize("depth", [0.0, 0.45, 0.9, 0.99])
def test_queries_place_all_needles_in_their_band(length, depth):
    body = length - 2 * TASK.needles
    width = max(TASK.needles, body // 10)
    start = min(int(depth * body), body - width)
    queries = TASK.queries(length, depth, count=200, seed=0)
    places = np.argwhere(queries["inputs"] >= FIRST_NEEDLE)[:, 1]
    assert len(places) == 200 * TASK.needles
    assert (places.min(), places.max()) == (start, start + width - 1)


def test_queries_are_answerable_full_length_rows():
    queries = TASK.queries(length=128, depth=0.45, count=20, seed=0)
    for index in range(20):
        row = {name: array[index] for name, array in queries.items()}
        found, asked = answers(TASK, row)
        assert found == asked
        assert true_length(row) == 128
    assert {name: (array.shape, array.dtype) for name, array in queries.items()} == {
        "inputs": ((20, 128), np.int32),
        "targets": ((20, 128), np.int32),
        "weights": ((20, 128), np.float32),
    }


def test_depths_ask_the_same_questions():
    far, near = (TASK.queries(128, depth, count=20, seed=0) for depth in (0.0, 0.9))
    np.testing.assert_array_equal(far["inputs"][:, -8:], near["inputs"][:, -8:])
    np.testing.assert_array_equal(far["targets"][:, -1], near["targets"][:, -1])
    assert (far["inputs"] != near["inputs"]).any()


def test_rows_and_queries_are_a_function_of_seed_and_index():
    one, again, other = (Batches(TASK.rows(32, seed), size=20).batch(0) for seed in (0, 0, 1))
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert (one["inputs"] != other["inputs"]).any()
    asked, fewer, others = (TASK.queries(32, 0.0, count, seed) for count, seed in ((9, 0), (4, 0), (9, 1)))
    np.testing.assert_array_equal(asked["inputs"][:4], fewer["inputs"])
    assert (asked["inputs"] != others["inputs"]).any()
    assert (asked["inputs"] != Batches(TASK.rows(32, 0), size=9).batch(0)["inputs"]).any()


@pytest.mark.parametrize(
    "wrong", [{"keys": 3}, {"keys": 0, "needles": 0}, {"values": 1}, {"fillers": 0}, {"needles": 0}, {"needles": 17}]
)
def test_a_field_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match=rf"Needles\.\w+ is {next(iter(wrong.values()))}|Needles.keys is 16"):
        Needles(**wrong)


def test_a_length_without_room_is_refused():
    with pytest.raises(InputError, match=r"half of the training length 23 is 11 tokens.*need 12"):
        TASK.rows(length=23, seed=0)
    assert TASK.rows(length=24, seed=0)[0]["inputs"].shape == (24,)
    with pytest.raises(InputError, match="length 11 is 11 tokens"):
        TASK.queries(length=11, depth=0.0, count=1, seed=0)


def test_a_depth_or_count_out_of_range_is_refused():
    for depth in (-0.1, 1.0):
        with pytest.raises(InputError, match=f"depth is {depth}"):
            TASK.queries(64, depth, count=1, seed=0)
    with pytest.raises(InputError, match="count is 0"):
        TASK.queries(64, 0.0, count=0, seed=0)
