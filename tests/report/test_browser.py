"""The page as a browser shows it: every chart is drawn, nothing is complained of, and a phone need not scroll."""

from __future__ import annotations

import pytest

from posjax.report import page
from posjax.report.load import load
from tests.report import browser, synthetic

CHROMIUM = browser.found()
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, of which none is on the path"),
]


@pytest.mark.parametrize("make", [synthetic.make, synthetic.swept, synthetic.measured])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_draws_the_whole_page(tmp_path, make, width, dark):
    written = page.write(load(make(tmp_path / "work")), tmp_path / "report.html")
    seen = browser.seen(str(CHROMIUM), written, tmp_path, width, dark)
    assert seen["complaints"] == []
    assert seen["drawn"] == seen["charts"] > 5
    assert (seen["width"], seen["dark"]) == (width, dark)
    assert seen["needed"] <= width
