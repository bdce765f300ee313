"""Numbers of an evaluation that nobody knows have tables, charts and exports."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from posjax import report
from posjax.errors import InputError
from posjax.report import measured_charts, measured_tables, sheets
from posjax.report.load import load
from posjax.results import Measurement, Measurements
from tests.report import synthetic


@pytest.fixture
def folder(tmp_path):
    return synthetic.measured(tmp_path / "lab")


def test_columns_are_the_coordinate_that_varies_and_what_follows_from_it_is_left_out(folder):
    exact, entropy, reach = sheets.sheets(load(folder))
    # A length is the trained length times its multiple; the task is one.
    assert (exact.axes, exact.fixed) == (("multiple", "depth"), (("task", "copy"),))
    assert (entropy.axes, reach.axes) == (("layer", "head"), ())


def test_rows_are_methods_with_their_variants_beneath_by_facet(folder):
    found = load(folder)
    exact, _, reach = measured_tables.tables(found, columns=4)
    assert exact.columns == ("method", "1x", "2x", "8x", "16x")
    assert [(row.name, row.kind) for row in exact.rows[:5]] == [
        ("depth 0.0", "facet"),
        ("ALiBi", "raw"),
        ("windowed", "windowed"),
        ("RoPE", "raw"),
        ("windowed", "windowed"),
    ]
    # 90, 92 and 94 by seed: Student's interval of their mean is 92 ± 4.97.
    assert [(row.cells[0].text, row.cells[0].detail) for row in reach.rows][2] == ("92", "87–97")
    assert "5 of" not in exact.notes[0] and "4 of 5 values of multiple" in exact.notes[0]


def test_the_terminal_shows_a_few_lines_in_80_columns(folder):
    text = io.StringIO()
    report.show(folder, Console(file=text, width=80))
    said = text.getvalue()
    assert max(map(len, said.splitlines())) <= 80 and "…" not in said
    assert "Recall by place: exact (task copy)" in said and "more rows: see the page" in said


def test_curves_heat_maps_and_dots_follow_from_the_coordinates(folder):
    found = {section.title: section.charts for section in measured_charts.sections(load(folder))}
    lead = "Recall by place: "
    assert [chart.title for chart in found[f"{lead}exact (task copy)"]] == ["Depth 0.0", "Depth 0.5", "Depth 1.0"]
    maps = found[f"{lead}exact (task copy), as maps"]
    assert [chart.title for chart in maps] == ["ALiBi", "ALiBi, windowed", "RoPE", "RoPE, windowed"]
    assert len(found[f"{lead}mean entropy (task copy), as maps"]) == 4
    (dots,) = found[f"{lead}reach (task copy)"]
    assert "a dot for each seed" in dots.caption


def test_the_table_that_is_exported_is_read_back_and_averages_to_the_page(folder, tmp_path):
    report.export(folder, tmp_path / "table.csv", tmp_path / "tables.tex")
    table = Measurements.from_csv((tmp_path / "table.csv").read_text())
    assert table.names[:3] == ("run", "label", "seed") and len(table) == 6 * 2 * (15 + 16 + 1)
    mean = table.select("reach", label="RoPE", variant="raw").rows
    assert sum(row.value for row in mean) / 3 == pytest.approx(92)
    latex = (tmp_path / "tables.tex").read_text()
    assert latex.count("\\begin{tabular}") == 3 + 4 + 1
    assert (
        "RoPE & 92 {\\scriptsize [87, 97]} \\\\" in latex
        and "% recall_by_place: exact (task copy) (depth 0.5)" in latex
    )


def test_results_without_a_table_are_not_exported(tmp_path):
    with pytest.raises(InputError, match="holds no table to export"):
        report.export(synthetic.swept(tmp_path / "old"), csv=tmp_path / "table.csv")


def test_one_file_does_not_take_two_exports(folder, tmp_path):
    with pytest.raises(InputError, match="name two files"):
        report.export(folder, tmp_path / "table", tmp_path / "x/../table")
    assert not (tmp_path / "table").exists()


def test_folders_are_compared_under_labels_that_say_which(folder, tmp_path):
    other = synthetic.measured(tmp_path / "more", seeds=(0,))
    for path in other.glob("alibi*/results.json"):
        synthetic.edit(path, label="T5")
    found = report.compared([folder, other])
    assert [run.label for run in found.other] == ["ALiBi", "RoPE (lab)", "T5", "RoPE (more)"]
    assert found.experiment.title == "lab and more, compared"
    assert len({run.name for run in found.each}) == 8
    names = [row.name for row in measured_tables.tables(found, 4)[2].rows]
    assert names == ["ALiBi", "windowed", "RoPE (lab)", "windowed", "T5", "windowed", "RoPE (more)", "windowed"]
    with pytest.raises(InputError, match="with --to"):
        report.write([folder, other])
    with pytest.raises(InputError, match="named twice"):
        report.compared([folder, folder])


def test_a_long_axis_is_thinned_and_a_long_table_is_cut(folder):
    rows = [
        Measurement("loss", 1.0, coordinates={"label": "RoPE", "position": place, "layer": layer})
        for place in range(100)
        for layer in range(50)
    ]
    (sheet,) = sheets.of_table(Measurements(tuple(rows)))
    table = measured_tables.table(load(folder), sheet, columns=10, most_rows=20)
    assert len(table.columns) == 11 and table.columns[-1] == "99" and len(table.rows) == 20
    assert "40 more rows are left out" in table.notes[0]


def test_rows_without_variants_or_coordinates_have_a_place(folder):
    (sheet,) = sheets.of_table(Measurements((Measurement("n", 2.0, coordinates={"label": "X"}),)))
    table = measured_tables.table(load(folder), sheet, columns=10)
    assert (table.columns, table.rows[0].cells[0].text) == (("method", "value"), "2")
