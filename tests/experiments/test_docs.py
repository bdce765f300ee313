"""The pages of the encodings: as committed, complete, with links that lead somewhere, and mistakes that are named."""

import contextlib
import doctest
import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import posjax
from experiments import docs
from experiments.pages import (
    decay_map,
    docstrings,
    encoding_pages,
    facts,
    logits,
    markdown,
    pictures,
    references,
    subjects,
    who_uses_what,
)
from posjax import InputError
from posjax.encodings import REGISTRY, Schedule, schedules

pytestmark = pytest.mark.versionless

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/encodings"
SECTIONS = [
    "Formula",
    "Fields",
    "Convention",
    "Good at",
    "Bad at",
    "Picture",
    "Errors",
    "Source",
    "Example",
    "Reference test",
]


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return encoding_pages.pages(FOLDER)


def test_the_committed_pages_are_what_the_docstrings_say(written):
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in written.keys() | committed.keys() if written.get(name) != committed.get(name))
    assert stale == [], "write them anew: python -m experiments.docs"


def test_the_page_of_who_uses_what_is_what_the_configurations_say():
    text = (ROOT / "docs/who-uses-what.md").read_text()
    assert text == who_uses_what.page(), "write it anew: python -m experiments.docs"
    rows = {row[0]: row[1] for row in re.findall(r"^\| (.+?) \| (.+?) \|", text, re.M)}
    assert rows["CodeLlama 7B"] == "`Rope(base=1000000.0)`"
    assert [name for name, encoding in rows.items() if "Alibi" in encoding] == ["BLOOM", "MPT", "Falcon-RW"]
    # What was not seen in a copy of the configuration has no row.
    assert "recalled" not in text and len(rows) > 50


def test_everything_has_a_page_with_all_sections(written):
    kinds = [kind for kind in vars(schedules).values() if isinstance(kind, type) and issubclass(kind, Schedule)]
    wanted = {subjects.MADE_BY.get(kind.__name__, kind.__name__) for kind in [*REGISTRY, *kinds]} - {"Schedule"}
    assert {name.removesuffix(".md") for name in written} - {"README"} == wanted and len(wanted) > 30
    for name in wanted:
        text = written[f"{name}.md"]
        assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS, name
        assert all(block.strip() for block in re.split(r"^## .*$", text, flags=re.M)), name
        assert f"[`{name}`]({name}.md)" in written["README.md"]


def test_links_lead_somewhere(written):
    for name, text in written.items():
        links = re.findall(r"\]\((?!http)([^)]+)\)", text)
        assert links
        for link in links:
            assert (FOLDER / link).is_file(), f"{name}: {link}"


def test_every_paper_is_linked(written):
    for name, text in written.items():
        for number in re.findall(r"arXiv:(\d+\.\d+)", text) if name != "README.md" else ():
            assert f"[arXiv:{number}](https://arxiv.org/abs/{number})" in text, name


def test_pictures_are_small_and_belong_to_a_page(written):
    drawn = list((FOLDER / "pictures").iterdir())
    assert {path.stem for path in drawn} == {name.removesuffix(".md") for name in written} - {"README"}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_500_000


def test_the_examples_run_outside_their_modules(written):
    runner, parser, said = doctest.DocTestRunner(), doctest.DocTestParser(), io.StringIO()
    cheap = [
        name
        for name in written
        if name.removesuffix(".md")
        in ("chain", "near_far", "NoPE", "Rope", "Regrouped", "Interpolation", "Yarn", "LongRope", "T5Bias")
    ]
    assert len(cheap) == 9
    with contextlib.redirect_stdout(said):
        for name in cheap:
            block = re.findall(r"```pycon\n(.*?)```", written[name], re.S)[0]
            runner.run(parser.get_doctest(block, {}, name, name, 0), clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()


def test_every_example_imports_what_it_uses(written):
    for name, text in written.items():
        block = re.findall(r"```pycon\n(.*?)```", text, re.S)
        if block and "jnp." in block[0]:
            assert "import jax.numpy as jnp" in block[0], name


@pytest.fixture(scope="module")
def marked() -> list[references.ReferenceTest]:
    return references.marked()


def test_every_encoding_and_schedule_is_held_by_a_marked_test(marked):
    """The gate: `of` raises for one that no test claims to hold."""
    for subject in subjects.subjects():
        assert references.of(subject.told_by, marked)


def test_what_marks_name_exists(marked):
    public = {subject.told_by for subject in subjects.subjects()}
    for test in marked:
        assert test.encodings and set(test.encodings) <= public, test
        assert f"def {test.name}(" in test.file.read_text(), test
        for oracle in test.oracles:
            assert not oracle.endswith(".json") or (ROOT / "tests/golden" / oracle).is_file(), test


@pytest.mark.parametrize(
    ("subject", "oracle"),
    [
        (posjax.Rope, "oracles.rope"),
        (posjax.Shaw, "content_oracles.shaw"),
        (posjax.Yarn, "schedule_oracles.yarn"),
        (posjax.Regrouped, "content_oracles.self_extend"),
        (posjax.T5Bias, "t5_buckets.json"),
        (posjax.LongRope, "rope_frequencies.json"),
    ],
)
def test_reference_tests_are_found_with_their_oracles(subject, oracle, marked):
    assert any(oracle in test.oracles for test in references.of(subject, marked))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of tests with the given text in one module."""

    def make(text: str) -> str:
        folder = tmp_path / "some_tests"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "test_it.py").write_text(f"import pytest\nimport posjax\n\n{text}")
        monkeypatch.syspath_prepend(tmp_path)
        return folder.name

    yield make
    for name in ("some_tests", "some_tests.test_it"):
        sys.modules.pop(name, None)


def test_marks_are_read_as_they_stand(package, tmp_path):
    name = package(
        "@pytest.mark.slow\n"
        "@pytest.mark.holds(posjax.Rope, posjax.Alibi, to='some.json')\n"
        "@pytest.mark.holds(posjax.Fire, to=(posjax.attend, 'other.json'))\n"
        "@pytest.mark.holds(posjax.NoPE, to=None)\n"
        "def test_one(): ...\n"
        "def test_another(): ...\n"
    )
    file = tmp_path / "some_tests/test_it.py"
    assert references.marked(name) == [
        references.ReferenceTest("test_one", file, (posjax.Rope, posjax.Alibi), ("some.json",)),
        references.ReferenceTest("test_one", file, (posjax.Fire,), ("attend.attend", "other.json")),
        references.ReferenceTest("test_one", file, (posjax.NoPE,), ()),
    ]


def test_a_mark_that_does_not_say_what_it_compares_with_is_refused(package):
    name = package("@pytest.mark.holds(posjax.Rope, posjax.Alibi, oracle=1)\ndef test_one(): ...\n")
    with pytest.raises(InputError, match="holds of test_one does not say what it compares with: add to=oracle"):
        references.marked(name)


def test_an_encoding_that_no_test_holds_is_named(marked):
    others = [test for test in marked if posjax.Rope not in test.encodings]
    with pytest.raises(InputError, match=r"holding posjax.Rope: write @pytest.mark.holds\(posjax.Rope, to=oracle\)"):
        references.of(posjax.Rope, others)


def test_tests_that_are_not_there_are_asked_for():
    with pytest.raises(InputError, match=r"tests in no_such_tests cannot be imported .* in a checkout of posjax"):
        references.marked("no_such_tests")


def test_an_encoding_without_a_public_name_is_told_where_it_belongs(monkeypatch):
    monkeypatch.delattr(posjax, "Fire")
    with pytest.raises(InputError, match=r"Fire of posjax.encodings.\w+ has no public name.* in posjax/__init__.py"):
        subjects.subjects()


GIVEN = (
    "Summary.\n\n    a = b\n\nMore.\n\nConvention: c.\n\nGood at: d,\ne.\nBad at: f.\n\nErrors: none.\n"
    "Source: arXiv:1234.56789.\n\n>>> Toy(1)\nToy(1)"
)


def told(text: str) -> object:
    def toy() -> None: ...

    toy.__doc__ = text
    return toy


def test_a_docstring_is_taken_apart():
    text = docstrings.taken_apart(told(GIVEN), "Toy")
    assert text == docstrings.DocstringParts(
        "Summary.",
        "    a = b\n\nMore.",
        {"Convention": "c.", "Good at": "d, e.", "Bad at": "f.", "Errors": "none.", "Source": "arXiv:1234.56789."},
        ">>> Toy(1)\nToy(1)",
    )


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("Good at: d,\ne.\n", "", "no Good at"),
        ("Source:", "Sources:", "no Source"),
        ("    a = b", "a = b", "no indented"),
        (">>> ", "> ", "no example"),
        ("Convention: c.", "", "no Convention"),
    ],
)
def test_what_a_docstring_lacks_is_named(old, new, missing):
    with pytest.raises(InputError, match=f"the docstring of Toy has .*{missing}"):
        docstrings.taken_apart(told(GIVEN.replace(old, new)), "Toy")


def test_numbers_of_papers_and_addresses_become_links():
    assert markdown.linked("Su, arXiv:2104.09864, and https://kexue.fm/archives/9706.") == (
        "Su, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864), and <https://kexue.fm/archives/9706>."
    )


def test_what_an_encoding_declares():
    about = {subject.name: subject for subject in subjects.subjects()}
    assert facts.facts(about["Alibi"]) == {
        "acts on": "bias",
        "relative": "yes",
        "learned": "some",
        "causal": "some",
        "by length": "",
    }
    assert facts.facts(about["Learned"])["relative"] == "" and facts.facts(about["Learned"])["learned"] == "yes"
    assert facts.facts(about["Rope"])["by length"] == "some" and facts.facts(about["PoSE"])["acts on"] == "positions"
    flat = replace(about["Alibi"], values=(posjax.Alibi("symmetric"),))
    assert facts.facts(flat)["causal"] == "" and facts.facts(flat)["learned"] == ""


@pytest.mark.parametrize("name", ["Alibi", "Interpolation", "Learned"])
def test_a_picture_is_a_png_and_the_same_again(name):
    value = {"Alibi": posjax.Alibi(), "Interpolation": posjax.Interpolation(2.0), "Learned": posjax.Learned()}[name]
    drawn = pictures.draw(name, value, dpi=40)
    assert drawn.startswith(b"\x89PNG") and drawn == pictures.draw(name, value, dpi=40)


def test_pictures_show_the_encoding_itself():
    """RoPE's mean score of q = k falls and bounces; ALiBi's logits fall by the slope."""
    distances = logits.distances(1024)
    mean = logits.aligned(posjax.Rope(), 1, distances)[0]
    assert mean[0] > 7 > mean[40] > mean[-1] and (mean[1:] > mean[:-1]).any()
    fallen = logits.aligned(posjax.Alibi(), 8, distances)
    assert abs((fallen[0, 0] - fallen[0, 8]) - 4.0) < 1e-3


@pytest.mark.exhaustive
def test_the_map_of_decay_is_of_the_encodings_themselves(monkeypatch):
    monkeypatch.setattr(decay_map, "DISTANCES", (0, 64, 512))
    found = {name: [round(float(value), 2) for value in row] for name, row in decay_map.rows().items()}
    assert found["Sinusoidal, p p'"] == [1.0, 0.49, 0.28]
    assert found["RoPE, bound"] == [1.0, 0.35, 0.18]
    assert found["ALiBi, flattest head"] == [1.0, 0.78, 0.14]  # exp(-64 / 256), exp(-2)
    np.testing.assert_allclose(found["T5, untrained"], 1, atol=0.05)
    assert decay_map.draw(dpi=40).startswith(b"\x89PNG")


def test_the_command_writes_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(docs, "pages", lambda folder: {"A.md": "a", "README.md": "b"})
    docs.command(["--out", str(tmp_path / "new"), "--no-pictures", "--no-claims"])
    written = ["new/A.md", "new/README.md", "who-uses-what.md"]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in written]
    assert (tmp_path / "new/A.md").read_text() == "a" and not (tmp_path / "new/pictures").exists()


def test_mistakes_and_help(capsys):
    with pytest.raises(InputError, match="unknown option --in"):
        docs.command(["--in", "somewhere"])
    with pytest.raises(SystemExit):
        docs.command(["--help"])
    assert "--out" in capsys.readouterr().out
