"""The results of record for people: a page and figures that say what the kept tables say."""

import io
from pathlib import Path

import pytest
from PIL import Image

from experiments import records
from experiments.pages import results_page
from experiments.pages.record_figures import chart_of, draw
from posjax.results import Measurement, Measurements

pytestmark = pytest.mark.versionless

ROOT = Path(__file__).resolve().parents[2]


def table(metric="accuracy", **more) -> Measurements:
    """Two methods at three lengths, for two seeds; what is near is easier than what is far."""
    rows = []
    for label in ("RoPE", "ALiBi"):
        for seed in (0, 1):
            for multiple in (1, 2, 4):
                for depth in (0.0, 0.9):
                    at = {"label": label, "seed": seed, "multiple": multiple, "depth": depth, **more}
                    rows.append(Measurement(metric, 1 / multiple + depth / 10, coordinates=at))
    return Measurements(tuple(rows))


def test_the_committed_page_is_what_the_records_say():
    assert (ROOT / "docs/results.md").read_text() == results_page.page(), "write it anew: python -m experiments.docs"


def test_every_record_that_can_be_drawn_has_its_figure_and_section():
    text = results_page.page()
    for name, kept in records.tables().items():
        figure = records.RESULTS / name / results_page.FIGURE
        assert figure.is_file() == (chart_of(kept) is not None), name
        assert (f"experiments/results/{name}/{results_page.FIGURE}" in text) == figure.is_file()
        assert records.read(name).about["title"] in text


def test_a_chart_is_of_the_first_metric_along_an_axis_and_of_what_is_far():
    chart = chart_of(table() + table("loss"))
    assert chart is not None and (chart.metric, chart.axis, chart.apart) == ("accuracy", "multiple", None)
    assert chart.rows.distinct("depth") == (0.0,)
    both = chart_of(table(kind="raw", variant="raw") + table(kind="windowed", variant="windowed"))
    assert both is not None and both.panels == ("raw", "windowed") and len(both.of("raw")) == 12
    # One place on every axis is no line.
    assert chart_of(Measurements(tuple(row for row in table() if row.at("multiple") == 1))) is None


def test_a_figure_is_a_picture_of_its_panels():
    chart = chart_of(table(kind="raw", variant="raw"))
    both = chart_of(table(kind="raw", variant="raw") + table(kind="windowed", variant="windowed"))
    assert chart is not None and both is not None
    one, two = (Image.open(io.BytesIO(draw(each))) for each in (chart, both))
    assert one.format == "PNG" and two.size[0] == one.size[0] and two.size[1] > one.size[1]
    # Two colours of lines at the least, on white.
    assert len(one.convert("RGB").getcolors(2**16)) > 3
