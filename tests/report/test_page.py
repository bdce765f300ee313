"""The page holds all it needs, asks for nothing, and trusts no text."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import stat
from pathlib import Path

import pytest
from rich.console import Console

from posjax import report
from posjax.errors import InputError
from posjax.report import charts, marks, page
from posjax.report.load import load
from tests.cases import first_of
from tests.report import synthetic

pytestmark = pytest.mark.versionless

EVIL = "<script>alert('x')</script> & $\\x$ \"more\" </script><!-- <img src=http://evil.example/x>"


class Elements(html.parser.HTMLParser):
    """Collects the elements of a page with their attributes, and the text of each script and of the body."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> str:
    return page.rendered(load(synthetic.make(tmp_path_factory.mktemp("work") / "quickstart")))


@pytest.mark.exhaustive
def test_no_element_loads_anything_from_elsewhere(rendered):
    elements = Elements(rendered).elements
    assert {tag for tag, _ in elements}.isdisjoint({"link", "iframe", "object", "embed", "base", "form", "video"})
    for tag, attributes in elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    style = rendered[rendered.index("<style>") : rendered.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_the_content_policy_forbids_every_request(rendered):
    policy = next(
        attributes["content"] or ""
        for tag, attributes in Elements(rendered).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy and "http" not in policy and "connect-src" not in policy


def test_scripts_are_the_specifications_the_bundle_once_and_ours(rendered):
    scripts = Elements(rendered).scripts
    assert len(scripts) == 3
    assert len(json.loads(scripts[0])) == 11
    assert len(scripts[1]) > 500_000 and "vegaEmbed" in scripts[1]
    assert rendered.count(scripts[1][:2000]) == 1
    assert len(rendered.encode()) < 1_500_000


def test_every_specification_has_a_place(rendered):
    parsed = Elements(rendered)
    places = [attributes["id"] for tag, attributes in parsed.elements if (attributes.get("id") or "")[:6] == "chart-"]
    assert places == [f"chart-{index}" for index in range(len(json.loads(parsed.scripts[0])))]


def test_texts_from_the_folder_are_escaped_everywhere(folder):
    synthetic.edit(
        folder / "experiment.json",
        title=EVIL,
        question=EVIL,
        paper=EVIL,
        commands={"rope": EVIL},
        config=EVIL,
        name=EVIL,
    )
    for run in ("rope", "alibi-needles"):
        synthetic.edit(folder / run / "results.json", label=EVIL, name=EVIL)
        synthetic.edit(
            folder / run / "run.json",
            config=EVIL,
            versions={EVIL: EVIL},
            devices=[EVIL],
            mesh={EVIL: 1},
            backend=EVIL,
            commit=EVIL,
        )
    synthetic.edit(folder / "t5" / "results.json", corpus={"name": EVIL, "fingerprint": EVIL})
    parsed = Elements(page.rendered(load(folder)))
    assert len(parsed.scripts) == 3
    assert {tag for tag, _ in parsed.elements}.isdisjoint({"b"})
    images = [attributes for tag, attributes in parsed.elements if tag == "img"]
    assert all((attributes["src"] or "").startswith("data:") for attributes in images)
    assert EVIL in parsed.text
    assert all(EVIL in domain for domain in _domains(json.loads(parsed.scripts[0])))


def test_question_answer_table_and_how_to_reproduce_are_there_without_scripts(rendered):
    text = Elements(rendered).text
    for expected in (
        "A model trained at 64 bytes",
        "Yarn rescues RoPE",
        "2.83–3.16",
        "unigram 3.31",
        "python -m experiments.run configs/quickstart.py",
        "0f1e2d3c4b5a6978",
        "0.10.2",
        "Unfinished, so not in this report: kerple",
        'a <b>bold</b> & "quoted" claim',
        "Run(name='rope')",
    ):
        assert expected in text


@pytest.mark.exhaustive
def test_commands_are_told_once_each(folder):
    commands = {"rope": "first", "t5": "first", "alibi": "last"}
    synthetic.edit(folder / "experiment.json", command="last", commands=commands)
    assert load(folder).experiment.commands == ("first", "last")
    assert "<pre>first\nlast</pre>" in page.rendered(load(folder))


@pytest.mark.exhaustive
def test_a_run_that_does_not_tell_its_versions_has_a_page(folder):
    for run in ("learned", "sinusoidal", "t5", "rope", "alibi", "alibi-needles", "rope-needles"):
        synthetic.edit(folder / run / "run.json", versions=None)
    assert "Written by posjax from the files in this folder" in page.rendered(load(folder))


def test_light_and_dark_name_the_same_colours(rendered):
    assert len(marks.LIGHT) == len(marks.DARK)
    style = rendered[rendered.index("<style>") : rendered.index("</style>")]
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for index in range(len(marks.LIGHT)):
        assert f"--method-{index}: {marks.LIGHT[index]};" in light
        assert f"--method-{index}: {marks.DARK[index]};" in dark
    used = set(re.findall(r'colour\("(--[a-z]+)"\)', rendered))
    assert used and all(f"{name}:" in light for name in used)


def test_a_method_has_one_colour_in_every_chart(folder):
    loaded = load(folder)
    domains = {
        json.dumps(domain)
        for section in charts.sections(loaded)
        for chart in section.charts
        for domain in _domains(chart.spec)
    }
    assert domains == {json.dumps(list(marks.colours(loaded)))}


def _domains(tree):
    if isinstance(tree, dict):
        if tree.get("field") == "method" and "domain" in (tree.get("scale") or {}):
            yield tree["scale"]["domain"]
        for branch in tree.values():
            yield from _domains(branch)
    elif isinstance(tree, list):
        for branch in tree:
            yield from _domains(branch)


@pytest.mark.exhaustive
def test_numbers_that_are_none_do_not_break_the_specifications(tmp_path):
    nan = float("nan")
    folder = synthetic.make(tmp_path / "w", {"rope": {"raw": (1.0, 1.2, nan, float("inf"), 1e300)}})
    path = folder / "rope" / "results.json"
    tree = json.loads(path.read_text())
    # A single window has a loss but no interval.
    tree["variants"][0]["lengths"]["2"] |= {"low": nan, "high": None, "beyond": nan}
    synthetic.write(path, tree)
    parsed = Elements(page.rendered(load(folder)))
    assert "NaN" not in parsed.scripts[0] and "Infinity" not in parsed.scripts[0]


@pytest.mark.exhaustive
@first_of("lengths", [(1,), (1, 2)], keep=1)
def test_a_short_trial_run_has_a_report(tmp_path, lengths):
    folder = synthetic.make(tmp_path / "w")
    for path in folder.glob("*/results.json"):
        tree = json.loads(path.read_text())
        for variant in tree["variants"]:
            variant["lengths"] = {k: point for k, point in variant["lengths"].items() if int(k) in lengths}
        synthetic.edit(path, lengths=list(lengths), variants=tree["variants"])
    assert len(report.write(folder)) == 6
    report.show(folder, Console(file=io.StringIO(), width=80))


@pytest.mark.exhaustive
def test_a_model_that_is_nothing_but_nan_has_a_report(tmp_path):
    folder = synthetic.make(tmp_path / "w")
    for path in folder.glob("*/results.json"):
        tree = json.loads(path.read_text())
        for variant in tree["variants"]:
            for point in variant["lengths"].values():
                for entry, value in point.items():
                    point[entry] = [None] * len(value) if isinstance(value, list) else None
        synthetic.edit(path, variants=tree["variants"])
    assert [path.name for path in report.write(folder)] == ["report.html", "scores.png"]
    report.show(folder, Console(file=io.StringIO(), width=80))


@pytest.mark.exhaustive
def test_the_page_is_written_whole_or_not_at_all(folder, monkeypatch):
    loaded, path = load(folder), folder / "report.html"
    path.write_text("the old page")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"cannot write .*report\.html \(No space left"):
        page.write(loaded, path)
    assert path.read_text() == "the old page"
    assert not list(folder.glob(".report*"))


@pytest.mark.exhaustive
def test_writing_again_gives_the_same_page_and_one_that_others_can_read(folder):
    path = page.write(load(folder), folder / "report.html")
    first = path.read_bytes()
    assert page.write(load(folder), path).read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.exhaustive
def test_a_folder_without_needles_or_scores_or_metrics_has_a_page(folder):
    for run in ("alibi-needles", "rope-needles"):
        (folder / run / "results.json").unlink()
    for path in folder.glob("*/results.json"):
        synthetic.edit(path, scores=None)
        (path.parent / "metrics.jsonl").unlink()
    titles = [section.title for section in charts.sections(load(folder))]
    assert titles == ["Loss by length and by position", "Where attention goes"]
    assert "Needles" not in Elements(page.rendered(load(folder))).text


@pytest.mark.exhaustive
def test_write_returns_the_page_and_the_figures(folder):
    paths = report.write(folder)
    assert [path.relative_to(folder) for path in paths] == [Path("report.html")] + [
        Path("figures") / f"{name}.png"
        for name in ("loss_by_length", "loss_by_position", "mass_beyond", "scores", "retrieval")
    ]
