import itertools

import numpy as np
import pytest

from posjax.data import SEPARATOR, Documents, Mixture, Needles, Packed, StandardLibrary, StoredText, Text, prepare
from posjax.data.packing import packed_rows
from posjax.errors import InputError
from tests.data.test_corpus import fill
from tests.data.tokenizers_of_tests import by_bytes

pytestmark = pytest.mark.versionless

GENERATOR = np.random.default_rng(0)
FILES = tuple(GENERATOR.integers(0, 256, size, np.uint8).tobytes() for size in (5, 1, 0, 30, 14, 13, 29))
CORPUS = Documents("toy", FILES, (b"f",), "0")


def segments(row):
    """The tokens, targets and positions of each piece of a row."""
    for number in range(1, row["segments"].max() + 1):
        chosen = row["segments"] == number
        yield tuple(row[name][chosen] for name in ("inputs", "targets", "weights", "positions"))


def rows_of_an_epoch(corpus, length, seed=0):
    rows = packed_rows(corpus, length, seed)
    seen, found = set(), []
    for index in range(10_000):
        key = rows[index]["inputs"].tobytes()
        if key in seen:
            return found
        seen.add(key)
        found.append(rows[index])
    raise AssertionError("an epoch ends")


@pytest.mark.parametrize("length", [2, 7, 15, 31, 100])
def test_each_epoch_has_every_token_of_every_file_once(length):
    """All pairs of a token and the next one within a file, its separator behind it, and no other pair."""
    expected = []
    for file in FILES:
        tokens = [*file, SEPARATOR]
        expected += itertools.pairwise(tokens)
    found = []
    for row in rows_of_an_epoch(CORPUS, length):
        weighted = row["weights"] > 0
        found += zip(row["inputs"][weighted].tolist(), row["targets"][weighted].tolist(), strict=True)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("length", [7, 31, 100])
def test_pieces_are_whole_files_that_nothing_crosses(length):
    streams = [bytes(file) for file in FILES]
    for row in rows_of_an_epoch(CORPUS, length):
        for inputs, targets, weights, positions in segments(row):
            np.testing.assert_array_equal(positions, np.arange(len(inputs)))
            # Within a piece each target is the next input, and the last one's is a target only where the file goes on.
            np.testing.assert_array_equal(inputs[1:], targets[:-1])
            np.testing.assert_array_equal(weights[:-1], 1)
            text = bytes(inputs[inputs != SEPARATOR].tolist())
            whole = len(inputs) < length
            assert any(file.endswith(text) if whole else text in file for file in streams)
            assert weights[-1] == 0 or len(inputs) == length
        padding = row["segments"] == 0
        assert (row["positions"][padding] == -1).all() and not row["weights"][padding].any()
        assert not row["inputs"][padding].any()
        # Numbered from 1 without a gap, and padding at the end alone.
        assert sorted(set(row["segments"][~padding])) == list(range(1, row["segments"].max() + 1))
        assert not padding[: (~padding).sum()].any()
        types = {name: str(array.dtype) for name, array in row.items()}
        assert types == {
            **dict.fromkeys(("inputs", "targets", "segments", "positions"), "int32"),
            "weights": "float32",
        }


def test_rows_are_well_filled():
    sizes = np.random.default_rng(0).integers(2, 200, 3000)
    corpus = Documents("many", tuple(bytes(size) for size in sizes), (b"f",), "0")
    rows = packed_rows(corpus, 256, 0)
    filled = np.mean([(rows[index]["segments"] > 0).mean() for index in range(300)])
    assert filled > 0.97


def test_a_row_is_a_function_of_seed_and_index():
    one, again = packed_rows(CORPUS, 20, 3), packed_rows(CORPUS, 20, 3)
    for index in (5, 0, 12, 2**35, 5):
        for name, array in one[index].items():
            np.testing.assert_array_equal(array, again[index][name])
    other = packed_rows(CORPUS, 20, 4)
    assert any((one[index]["inputs"] != other[index]["inputs"]).any() for index in range(9))


def test_epochs_differ_in_their_order():
    corpus = Documents("many", tuple(bytes([n] * 9) for n in range(1, 40)), (b"f",), "0")
    rows = packed_rows(corpus, 10, 0)
    first, second = ([int(rows[place]["inputs"][0]) for place in range(start, start + 39)] for start in (0, 39))
    assert sorted(first) == sorted(second) == list(range(1, 40)) and first != second


@pytest.mark.parametrize("begin", [None, "<s>"])
def test_a_prepared_text_packs_as_the_text_itself(tmp_path, begin):
    source = fill(tmp_path / "story", {f"{n}.txt": b"It was old, and it stood. " * n for n in range(1, 9)})
    text = Text((str(source),), 0.3, str(by_bytes(tmp_path)), begin)
    prepare(text, tmp_path / "made")
    ours, theirs = Packed(text).load(), Packed(StoredText(str(tmp_path / "made"))).load()
    assert ours.describe() == theirs.describe() and ours.fingerprint.startswith("packed+")
    one, other = packed_rows(ours, 16, 0), packed_rows(theirs, 16, 0)
    number = ours.tokens.begin
    for index in range(40):
        for name, array in one[index].items():
            np.testing.assert_array_equal(array, other[index][name])
        if number is not None:
            assert all(inputs[0] == number for inputs, *_ in segments(one[index]))


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(InputError, match="length is 1: needed is a whole number, 2 or more"):
        packed_rows(CORPUS, 1, 0)
    with pytest.raises(InputError, match="has two tokens"):
        packed_rows(Documents("none", (b"", b""), (b"f",), "0"), 8, 0)
    for wrong in (Needles(), Packed(StandardLibrary()), Mixture(((StandardLibrary(), 1.0), (StandardLibrary(), 1.0)))):
        with pytest.raises(InputError, match="Packed got data"):
            Packed(wrong)  # pyright: ignore[reportArgumentType]
