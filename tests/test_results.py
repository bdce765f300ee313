"""The long table: rows are found, averaged, written and read again."""

from __future__ import annotations

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from posjax.errors import InputError
from posjax.results import Measurement, Measurements

pytestmark = pytest.mark.versionless

LOSSES = Measurements.of(
    Measurement("loss", float(length + seed), count=8, coordinates={"method": method, "length": length, "seed": seed})
    for method in ("RoPE", "100%_x")
    for length in (64, 128)
    for seed in range(3)
)


def test_rows_are_selected_by_metric_and_coordinates():
    assert len(LOSSES.select("loss", length=64)) == 6
    assert len(LOSSES.select(seed=(0, 2))) == 8
    assert LOSSES.select("ratio").rows == ()
    assert LOSSES.one("loss", method="RoPE", length=128, seed=2).value == 130


def test_one_row_is_asked_for_in_words():
    with pytest.raises(InputError, match="no measurement of ratio at length=64: measured are loss"):
        LOSSES.one("ratio", length=64)
    with pytest.raises(InputError, match="6 measurements of loss at length=64: name more of method, seed"):
        LOSSES.one("loss", length=64)


def test_a_mean_over_seeds_has_the_interval_of_student():
    mean = LOSSES.averaged("seed").one("loss", method="RoPE", length=64)
    half = 4.302652729911275 * 1.0 / math.sqrt(3)  # The 97.5 % quantile for two degrees of freedom, from tables.
    assert (mean.value, mean.count) == (65.0, 3)
    assert math.isclose(mean.low, 65 - half) and math.isclose(mean.high, 65 + half)


def test_a_mean_of_one_keeps_its_interval():
    alone = Measurements((Measurement("loss", 1.0, 0.5, 1.5, 8, {"seed": 0}),))
    assert alone.averaged("seed").rows == (Measurement("loss", 1.0, 0.5, 1.5, 8),)


def test_json_and_csv_give_the_table_back():
    table = LOSSES + Measurements((Measurement("ratio", math.inf, 0.5, 2.0, 3, {"variant": "raw", "depth": 0.45}),))
    assert Measurements.from_tree(json.loads(json.dumps(table.tree()))) == table
    assert Measurements.from_csv(table.csv()).csv() == table.csv()
    again = Measurements.from_csv(table.csv())
    assert again.one("ratio").at("depth") == 0.45 and again.one("ratio").value == math.inf
    assert again.select("loss", length=64) == LOSSES.select(length=64) or np.isnan(again.rows[0].low)


def test_what_was_counted_is_told_whole():
    table = Measurements.of(Measurement("tokens", number) for number in (1_234_567_890.0, 64.0, 0.1234567, 1e300))
    assert [line.split(",")[1] for line in table.csv().splitlines()[1:]] == ["1234567890", "64", "0.123457", "1e+300"]


def test_numbers_of_arrays_become_plain_ones():
    given = {"length": np.int64(64), "share": jnp.float32(0.5), "name": "x"}
    row = Measurement("loss", jnp.float32(1.5), np.float32(1.0), 2.0, np.int32(3), given)
    assert json.loads(json.dumps(row.tree())) == {
        "metric": "loss",
        **{"length": 64, "share": 0.5, "name": "x"},
        **{"value": 1.5, "low": 1.0, "high": 2.0, "count": 3},
    }
    # What is a whole number stays one.
    assert json.dumps(Measurement("tokens", 3).tree()["value"]) == "3"
    for wrong in (jnp.zeros(2), None, [1.0]):
        with pytest.raises(InputError, match="a measurement of loss has value="):
            Measurement("loss", wrong)


def test_another_file_is_no_table():
    with pytest.raises(InputError, match="a table of measurements begins with metric"):
        Measurements.from_csv("a,b\n1,2\n")
    with pytest.raises(InputError, match="has 2 cells under 6 names"):
        Measurements.from_csv("metric,length,value,low,high,count\nloss,64\n")


def test_latex_shows_a_table_and_escapes_names():
    text = LOSSES.select(seed=0).latex("method", "length")
    assert "method & 64 & 128" in text and r"100\%\_x & 64 & 128" in text
    with pytest.raises(InputError, match="3 measurements stand at method RoPE, length 64: select or average"):
        LOSSES.latex("method", "length")


def test_a_coordinate_is_no_column_of_numbers():
    with pytest.raises(InputError, match="has a coordinate called 'value'"):
        Measurement("loss", 1.0, coordinates={"value": 3})
