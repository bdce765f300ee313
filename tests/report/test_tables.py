"""The terminal's tables fit 80 columns and mark what is noise."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from posjax import report
from posjax.report import rows
from posjax.report.load import load
from tests.report import synthetic

pytestmark = pytest.mark.versionless


@pytest.fixture
def printed(folder):
    def show(width: int) -> str:
        text = io.StringIO()
        report.show(folder, Console(file=text, width=width))
        return text.getvalue()

    return show


def test_nothing_is_wider_than_80_columns_nor_cut(printed):
    text = printed(80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for name in (*synthetic.LABELS.values(),):
        assert name == "raw" or name in text


def test_without_a_terminal_there_are_no_colour_codes(printed):
    assert "\x1b" not in printed(80)


def test_the_headline_shows_ratios_with_intervals_and_the_loss_at_1x(printed):
    lines = printed(80).splitlines()
    start = next(index for index, line in enumerate(lines) if line.split()[:1] == ["RoPE"])
    assert lines[start].split() == ["RoPE", "1.64", "1.28", "2.98", "4.34", "8.68†"]
    assert lines[start + 1].split() == ["1.22–1.36", "2.83–3.16", "4.12–4.60", "8.25–9.20"]
    assert lines[start + 2].split() == ["windowed", "1.64", "1.01", "1.01", "1.01", "1.01"]


def test_ended_yardsticks_unfinished_and_chance_are_said(printed):
    text = printed(80)
    assert re.search(r"Learned +1\.78( +ended){4}", text)
    assert "unigram 3.31, bigram 2.38" in text and "Chance is 6.25 %" in text
    assert "Unfinished, not in this report: kerple" in text


def test_only_cells_past_the_unigram_yardstick_are_broken(folder):
    broken = [
        (row.label, row.name, index)
        for row in rows.headline(load(folder)).rows
        for index, cell in enumerate(row.cells)
        if cell.broken
    ]
    assert broken == [("RoPE", "RoPE", 4)]


def test_needles_are_percentages_from_far_to_near(folder):
    table = rows.recall(load(folder))
    yarn = next(row for row in table.rows if row.name == "Yarn")
    assert yarn.cells[-1].text.split() == ["99", "100", "99"]
    assert table.beneath == "far mid near" and table.columns == ("method", "1x", "2x", "4x", "16x")


def test_windowed_controls_have_no_row_in_the_mass_beyond(folder):
    assert {row.kind for row in rows.beyond(load(folder)).rows} == {"raw", "extension"}


def test_text_in_brackets_is_not_markup(folder):
    synthetic.edit(folder / "experiment.json", title="[bold]not[/bold] [x]markup")
    text = io.StringIO()
    report.show(folder, Console(file=text, width=80))
    assert text.getvalue().startswith("[bold]not[/bold] [x]markup")


def test_runs_of_a_tokenizer_show_their_losses_in_both_units(folder, printed):
    assert "nats per token" not in printed(80)
    path = folder / "rope" / "results.json"
    variants = json.loads(path.read_text())["variants"]
    for variant in variants:
        for point in variant["lengths"].values():
            point |= {"loss_per_token": 2.5 * point["loss"], "mean_per_token": 3.25}
    synthetic.edit(path, variants=variants, bytes_per_token=2.5)
    found = load(folder)
    (run,) = (run for run in found.language if run.tokenised)
    table = rows.per_token(found)
    assert {row.label for row in table.rows} == {run.label} and len(table.rows) == len(run.variants)
    first = table.rows[0].cells[0]
    assert (float(first.text), first.detail) == (pytest.approx(2.5 * run.raw.lengths[1].loss, abs=0.005), "3.25")
    text = " ".join(printed(80).split())
    assert "Loss in nats per token" in text and f"{run.label} 2.50" in text
    # A ratio of 1.5 per byte, 2.5 bytes a token.
    assert "a token here is up to 2.50 bytes, so a ratio of 1.5 is about 2.76 per token" in text
