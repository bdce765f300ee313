import subprocess
import sys

import pytest

from posjax.data.randomness import rng
from posjax.errors import InputError

pytestmark = pytest.mark.versionless


def draw(*key):
    return rng(*key).integers(2**62, size=4).tolist()


def test_a_stream_depends_on_its_whole_key_and_nothing_else():
    keys = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 0, 1), (0, "a", 2**33)]
    streams = [draw(*key) for key in keys]
    assert streams == [draw(*key) for key in keys]
    assert len({tuple(stream) for stream in streams}) == len(keys)


def test_another_process_draws_the_same():
    program = (
        "from posjax.data.randomness import rng; print(rng(3, 'train-window', 5).integers(2**62, size=4).tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(draw(3, "train-window", 5))


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1"):
        rng(-1, "a")
