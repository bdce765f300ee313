"""The page as a browser shows it: every chart is drawn, nothing is complained of, and a phone need not scroll."""

from __future__ import annotations

import pytest

from posjax.report import page
from posjax.report.load import load
from tests.report import browser, synthetic

CHROMIUM = browser.found()
LAPTOP, PHONE = 1280, 390
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, of which none is on the path"),
]


@pytest.mark.parametrize(
    ("make", "dark"), [(synthetic.make, False), (synthetic.swept, True), (synthetic.measured, True)]
)
def test_a_browser_draws_the_whole_page(tmp_path, make, dark):
    written = page.write(load(make(tmp_path / "work")), tmp_path / "report.html")
    seen = browser.seen(str(CHROMIUM), written, tmp_path, (LAPTOP, PHONE), dark)
    assert set(seen) == {LAPTOP, PHONE}
    for width, told in seen.items():
        assert told["complaints"] == []
        assert told["drawn"] == told["charts"] > 5
        assert told["dark"] == dark
        assert told["needed"] <= width
