"""Costs beside those of no positions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posjax.encodings import Learned, NoPE
from posjax.errors import InputError
from posjax.evaluation.cost import Cost, of_median
from posjax.results import Measurements
from tests.evaluation.test_decay import untrained


@pytest.mark.exhaustive
def test_a_table_costs_what_it_is_compared_with_and_ends():
    found = Measurements.of(Cost(lengths=(4, 8, 16), repeats=6).run(untrained(Learned(length=8)), None, 0))
    assert found.distinct("length") == (4, 8)
    assert found.distinct("pass") == ("forward", "training")
    for metric in ("seconds", "cpu_seconds", "temporary_bytes"):
        assert len(found.select(metric)) == 8
        assert found.select(metric).distinct("variant") == ("raw", "nope")
    for row in found:
        assert row.value > 0
        if row.metric in ("seconds", "seconds_ratio"):
            assert row.low <= row.value <= row.high and row.count == 6
    one = {"pass": "training", "length": 8}
    raw = found.one("temporary_bytes", **one, variant="raw").value
    nope = found.one("temporary_bytes", **one, variant="nope").value
    assert found.one("temporary_ratio", **one).value == raw / nope
    # A backward pass holds what the forward pass made.
    assert raw > found.one("temporary_bytes", **one | {"pass": "forward"}, variant="raw").value


def test_nope_is_compared_with_itself():
    found = Measurements.of(Cost(lengths=(8,), repeats=6).run(untrained(NoPE()), None, 0))
    assert [row.value for row in found.select("temporary_ratio")] == [1.0, 1.0]


@pytest.mark.parametrize("count", [6, 7, 9, 20, 25])
def test_the_interval_holds_the_median_nineteen_times_of_twenty(count):
    measured = of_median("seconds", np.arange(count, dtype=float), {})
    outside = round(measured.low)
    assert measured.high == count - 1 - outside and measured.value == (count - 1) / 2

    def missed(outside: int) -> float:
        return 2 * sum(math.comb(count, k) for k in range(outside + 1)) / 2**count

    assert missed(outside) <= 0.05 < missed(outside + 1)


def test_what_cannot_be_measured_is_refused():
    for wrong in ({"lengths": ()}, {"lengths": (8, 4)}, {"lengths": (0,)}, {"repeats": 5}, {"batch": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Cost(**wrong)
    assert Cost(lengths=(4, 32)).longest(8) == 32
