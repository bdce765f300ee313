from collections import Counter

import numpy as np
import pytest

from posjax.data import SEPARATOR, Batches, Documents, training_windows, validation_windows
from posjax.errors import InputError

pytestmark = pytest.mark.versionless

# Every byte is its own, so that a window tells where it came from.
FILES = (bytes(range(0, 40)), bytes(range(40, 43)), bytes(range(43, 120)))
JOINED = [*range(0, 40), SEPARATOR, *range(40, 43), SEPARATOR, *range(43, 120)]


def documents(train=FILES, validation=FILES):
    return Documents("toy", tuple(train), tuple(validation), "0")


def windows_of(dataset, count):
    items = [dataset[index] for index in range(count)]
    return [[*item["inputs"].tolist(), item["targets"][-1]] for item in items]


def test_training_windows_are_runs_of_the_joined_files():
    length = 6
    runs = {tuple(JOINED[start : start + length + 1]) for start in range(len(JOINED) - length)}
    seen = {tuple(window) for window in windows_of(training_windows(documents(), length, seed=0), 2000)}
    # Equality: nothing crosses a file without its separator, and the first and the last start are reached too.
    assert seen == runs


def test_training_starts_are_uniform():
    length = 6
    firsts = Counter(window[0] for window in windows_of(training_windows(documents(), length, seed=1), 11_500))
    assert max(firsts.values()) < 2 * 11_500 / (len(JOINED) - length) * 1.5


def test_targets_are_the_next_inputs_and_all_count():
    item = training_windows(documents(), 6, seed=0)[3]
    assert item["inputs"][1:].tolist() == item["targets"][:-1].tolist()
    assert item["weights"].tolist() == [1.0] * 6
    assert [item[name].dtype for name in ("inputs", "targets", "weights")] == [np.int32, np.int32, np.float32]


def test_training_windows_are_a_function_of_seed_and_index():
    one, again, other = (windows_of(training_windows(documents(), 6, seed), 50) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    out_of_order = training_windows(documents(), 6, seed=0)
    assert [*out_of_order[49]["inputs"].tolist(), out_of_order[49]["targets"][-1]] == one[49]


def test_a_batch_of_windows_has_its_shape():
    batch = Batches(training_windows(documents(), 6, seed=0), size=4).batch(9)
    assert {name: array.shape for name, array in batch.items()} == dict.fromkeys(
        ("inputs", "targets", "weights"), (4, 6)
    )


def test_a_corpus_of_exactly_one_window_serves():
    assert windows_of(training_windows(documents([b"abcd"]), 3, seed=0), 3) == [list(b"abcd")] * 3


def test_a_corpus_shorter_than_a_window_is_refused():
    with pytest.raises(InputError, match=r"has 4 bytes.*length 4 needs 5: shorten"):
        training_windows(documents([b"ab", b"c"]), 4, seed=0)
    with pytest.raises(InputError, match="length is 0"):
        training_windows(documents(), 0, seed=0)


def test_validation_windows_lie_inside_one_file_each():
    length = 6
    inside = {tuple(file[start : start + length + 1]) for file in FILES for start in range(len(file) - length)}
    windows = validation_windows(documents(), length, count=len(inside), seed=0)
    assert windows.shape == (len(inside), length + 1)
    assert windows.dtype == np.int32
    # Asked for as many as there are: all come, so none came twice.
    assert {tuple(window) for window in windows.tolist()} == inside


def test_validation_windows_repeat_only_when_none_are_left():
    twice = Counter(map(tuple, validation_windows(documents(validation=[b"abcdef"]), 3, count=6, seed=0).tolist()))
    assert sorted(twice.values()) == [2, 2, 2]


def test_a_validation_file_counts_by_its_usable_starts():
    short, long = bytes(10), bytes([1]) * 310
    windows = validation_windows(documents(validation=[short, long]), 9, count=100, seed=0)
    assert 90 <= (windows[:, 0] == 1).sum() <= 100
    assert ((windows[:, :1] == windows).all(axis=1)).all()


def test_validation_windows_are_a_function_of_seed_and_index():
    one, again, other = (validation_windows(documents(), 6, 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_array_equal(validation_windows(documents(), 6, 5, seed=0), one[:5])


def test_validation_without_a_long_enough_file_is_refused():
    with pytest.raises(InputError, match=r"longest validation file of toy has 77 bytes.*length 77 needs 78"):
        validation_windows(documents(), 77, count=1, seed=0)
    assert validation_windows(documents(), 76, count=1, seed=0).tolist() == [list(FILES[2])]
    with pytest.raises(InputError, match="count is 0"):
        validation_windows(documents(), 6, count=0, seed=0)
