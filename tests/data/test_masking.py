import grain
import numpy as np
import pytest

from posjax.data import Batches, Documents, masked, packed_rows, training_windows
from posjax.errors import InputError

pytestmark = pytest.mark.versionless

MASK, VOCABULARY = 300, 257
GENERATOR = np.random.default_rng(0)
FILES = tuple(GENERATOR.integers(0, 256, size, np.uint8).tobytes() for size in (400, 30, 14, 13, 29))
CORPUS = Documents("toy", FILES, (b"f",), "0")


def test_what_is_chosen_is_read_as_a_mask_another_or_itself():
    plain = training_windows(CORPUS, 100, 0)
    rows = masked(plain, 0.15, MASK, VOCABULARY, 0)
    kept, masks, others = 0, 0, 0
    for index in range(200):
        row, before = rows[index], plain[index]
        chosen = row["weights"] == 1
        assert chosen.sum() == 15 and not row["weights"][~chosen].any()
        np.testing.assert_array_equal(row["targets"], before["inputs"])
        np.testing.assert_array_equal(row["inputs"][~chosen], before["inputs"][~chosen])
        masks += (row["inputs"][chosen] == MASK).sum()
        kept += (row["inputs"][chosen] == before["inputs"][chosen]).sum()
        others += ((row["inputs"] != MASK) & (row["inputs"] != before["inputs"])).sum()
        assert row["inputs"].dtype == row["targets"].dtype == np.int32 and row["weights"].dtype == np.float32
    # Of 3,000 drawn, three standard deviations.
    assert abs(masks / 3000 - 0.8) < 0.022 and abs(kept / 3000 - 0.1) < 0.017 and abs(others / 3000 - 0.1) < 0.017
    assert masks + kept + others == 3000


def test_padding_is_never_chosen_and_goes_along():
    plain = packed_rows(CORPUS, 64, 0)
    rows = masked(plain, 0.9, MASK, VOCABULARY, 0)
    for index in range(20):
        row, before = rows[index], plain[index]
        assert not row["weights"][before["segments"] == 0].any()
        for name in ("segments", "positions"):
            np.testing.assert_array_equal(row[name], before[name])


def test_a_row_is_a_function_of_seed_and_index():
    one, again, other = (masked(training_windows(CORPUS, 50, 0), 0.15, MASK, VOCABULARY, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[2**33]["inputs"], again[2**33]["inputs"])
    assert (one[2**33]["weights"] != other[2**33]["weights"]).any()
    assert (one[0]["weights"] != one[1]["weights"]).any()
    whole = Batches(one, 4).batch(3)
    halves = [Batches(again, 4).rows(3, start, start + 2) for start in (2, 0)]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([halves[1][name], halves[0][name]]), array)


def test_few_tokens_have_one_chosen_and_none_are_refused():
    rows = grain.MapDataset.range(3).map(lambda index: {"inputs": np.zeros(3, np.int32)})
    assert masked(rows, 1e-3, MASK, VOCABULARY, 0)[1]["weights"].sum() == 1
    padding = rows.map(lambda row: row | {"positions": np.full(3, -1, np.int32)})
    with pytest.raises(InputError, match="row 2 is all padding"):
        _ = masked(padding, 0.15, MASK, VOCABULARY, 0)[2]
    for share, token, size, told in (
        (0.0, 1, 1, "share"),
        (1.5, 1, 1, "share"),
        (0.1, -1, 1, "mask"),
        (0.1, 1, 0, "voc"),
    ):
        with pytest.raises(InputError, match=told):
            masked(rows, share, token, size, 0)
