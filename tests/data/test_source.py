import numpy as np

from posjax.data.source import ENDLESS, endless


def test_any_index_of_an_endless_dataset_is_its_function():
    rows = endless(lambda index: {"inputs": np.array([index])})
    assert len(rows) == ENDLESS
    for index in (7, 0, ENDLESS - 1, 7):
        assert rows[index]["inputs"].tolist() == [index]
