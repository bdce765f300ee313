"""The pages of the encodings: as committed, complete, with links that lead somewhere, and mistakes that are named."""

import contextlib
import doctest
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

import posjax
from experiments import docs, pictures, references
from posjax import InputError
from posjax.encodings import REGISTRY, Schedule, schedules

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
    return docs.pages(FOLDER)


def test_the_committed_pages_are_what_the_docstrings_say(written):
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in written.keys() | committed.keys() if written.get(name) != committed.get(name))
    assert stale == [], "write them anew: python -m experiments.docs"


def test_everything_has_a_page_with_all_sections(written):
    kinds = [kind for kind in vars(schedules).values() if isinstance(kind, type) and issubclass(kind, Schedule)]
    wanted = {docs.MADE_BY.get(kind.__name__, kind.__name__) for kind in [*REGISTRY, *kinds]} - {"Schedule"}
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
        in ("chain", "near_far", "by_layer", "NoPE", "Rope", "Regrouped", "Linear", "Yarn", "LongRope", "T5Bias")
    ]
    assert len(cheap) == 10
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


@pytest.mark.parametrize(
    ("name", "kind", "oracle"),
    [
        ("Rope", posjax.Rope, "oracles.rope"),
        ("Shaw", posjax.Shaw, "content_oracles.shaw"),
        ("Yarn", posjax.Yarn, "oracles.yarn"),
        ("Regrouped", posjax.Regrouped, "content_oracles.self_extend"),
        ("T5Bias", posjax.T5Bias, "t5_buckets.json"),
        ("LongRope", posjax.LongRope, "rope_frequencies.json"),
    ],
)
def test_reference_tests_are_found_with_their_oracles(name, kind, oracle):
    found = references.of(name, kind, ROOT / "tests")
    assert any(oracle in oracles for _, oracles in found.tests), found
    assert all(f"def {test}(" in found.file.read_text() for test, _ in found.tests)


def test_a_test_of_errors_is_no_reference(tmp_path):
    file = tmp_path / "encodings" / "test_rope.py"
    file.parent.mkdir()
    file.write_text(
        "import pytest\ndef test_errors():\n    with pytest.raises(ValueError):\n        Rope()\n"
        "def test_another():\n    assert Alibi()\n"
    )
    with pytest.raises(InputError, match=r"no reference test of Rope in .*test_rope.py: write one"):
        references.of("Rope", posjax.Rope, tmp_path)
    file.write_text(file.read_text() + "def test_it():\n    assert posjax.Rope().relative\n")
    assert references.of("Rope", posjax.Rope, tmp_path) == references.References(file, (("test_it", ()),))
    with pytest.raises(InputError, match=r"Alibi of posjax.encodings.alibi has no test file"):
        references.of("Alibi", posjax.Alibi, tmp_path)


GIVEN = (
    "Summary.\n\n    a = b\n\nMore.\n\nConvention: c.\n\nGood at: d,\ne.\nBad at: f.\n\nErrors: none.\n"
    "Source: arXiv:1234.56789.\n\n>>> Toy(1)\nToy(1)"
)


def told(text: str) -> object:
    def toy() -> None: ...

    toy.__doc__ = text
    return toy


def test_a_docstring_is_taken_apart():
    text = docs.read(told(GIVEN), "Toy")
    assert text == docs.Text(
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
        docs.read(told(GIVEN.replace(old, new)), "Toy")


def test_numbers_of_papers_and_addresses_become_links():
    assert docs.linked("Su, arXiv:2104.09864, and https://kexue.fm/archives/9706.") == (
        "Su, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864), and <https://kexue.fm/archives/9706>."
    )


def test_what_an_encoding_declares():
    about = {subject.name: subject for subject in docs.subjects()}
    assert docs.facts(about["Alibi"]) == {
        "acts on": "bias",
        "relative": "yes",
        "learned": "some",
        "causal": "some",
        "by length": "",
    }
    assert docs.facts(about["Learned"])["relative"] == "" and docs.facts(about["Learned"])["learned"] == "yes"
    assert docs.facts(about["Rope"])["by length"] == "some" and docs.facts(about["PoSE"])["acts on"] == "positions"
    flat = replace(about["Alibi"], values=(posjax.Alibi("symmetric"),))
    assert docs.facts(flat)["causal"] == "" and docs.facts(flat)["learned"] == ""


@pytest.mark.parametrize("name", ["Alibi", "Linear", "Learned"])
def test_a_picture_is_a_png_and_the_same_again(name):
    value = {"Alibi": posjax.Alibi(), "Linear": posjax.Linear(2.0), "Learned": posjax.Learned()}[name]
    drawn = pictures.draw(name, value, dpi=40)
    assert drawn.startswith(b"\x89PNG") and drawn == pictures.draw(name, value, dpi=40)


def test_pictures_show_the_encoding_itself():
    """RoPE's mean score of q = k falls and bounces; ALiBi's logits fall by the slope."""
    distances = pictures._distances(1024)
    mean = pictures._aligned(posjax.Rope(), 1, distances)[0]
    assert mean[0] > 7 > mean[40] > mean[-1] and (mean[1:] > mean[:-1]).any()
    fallen = pictures._aligned(posjax.Alibi(), 8, distances)
    assert abs((fallen[0, 0] - fallen[0, 8]) - 4.0) < 1e-3


def test_the_command_writes_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(docs, "pages", lambda folder: {"A.md": "a", "README.md": "b"})
    docs.command(["--out", str(tmp_path / "new"), "--no-pictures"])
    assert capsys.readouterr().out.split() == [str(tmp_path / "new/A.md"), str(tmp_path / "new/README.md")]
    assert (tmp_path / "new/A.md").read_text() == "a" and not (tmp_path / "new/pictures").exists()


def test_mistakes_and_help(capsys):
    with pytest.raises(InputError, match="unknown option --in"):
        docs.command(["--in", "somewhere"])
    with pytest.raises(SystemExit):
        docs.command(["--help"])
    assert "--out" in capsys.readouterr().out
