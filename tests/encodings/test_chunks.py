"""A window of whole chunks."""

import pytest

from posjax import Chunks, InputError


def test_chunks_refuse_less_than_one():
    for size, count in ((0, 1), (4, 0)):
        with pytest.raises(InputError, match="needed are 1 or more"):
            Chunks(size, count)
