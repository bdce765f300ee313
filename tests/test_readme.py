"""The documents' examples run, their links lead somewhere, and their sentences are short."""

import re
from pathlib import Path

import pytest

from tests.cases import first_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md") if path.stem != "numerics")
"""The pages that people write: that of the numerics is written by its measurement."""
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES]
WITH_CODE = [name for name in ("README.md", *PAGES) if "```python" in (ROOT / name).read_text()]
COMMANDS = """
    python -m pip install -e . && python -m experiments.run configs/quickstart.py
    python -m pip install -e '.[test]' && python -m pytest
"""
FIRST = [
    f"posjax/{name}.py" for name in ("encodings/base", "encodings/rope", "attention/attend", "attention/reference")
]
MOST_WORDS = 20


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


@first_of("name", WITH_CODE, keep=1)
def test_the_examples_of_a_page_run_one_after_the_other(name):
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text_of(name), re.S):
        exec(compile(block, name, "exec"), namespace)


def test_every_page_that_teaches_a_call_has_examples():
    taught = {"README.md", *(f"docs/{name}.md" for name in ("attention", "composing", "models", "runs"))}
    assert taught <= set(WITH_CODE)


def test_the_config_of_the_page_about_runs_is_an_experiment():
    namespace: dict = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", text_of("docs/runs.md"), re.S)), namespace)
    assert [run.name for run in namespace["experiment"]().runs] == ["rope", "alibi"]


def test_the_readme_is_a_first_screen():
    text = text_of("README.md")
    assert len(text.splitlines()) <= 100
    # Word for word: they are what a clone is promised to do.
    assert COMMANDS in text
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    # A call, and a published model whose encoding is swapped.
    assert [len(list(filter(None, block.splitlines()))) for block in code] == [4, 6]


def test_the_readme_names_the_four_files_to_read_first_in_order():
    assert re.findall(r"^\d\. \[`(.+?)`\]", text_of("README.md"), re.M) == FIRST
    assert "(docs/read-the-code.md)" in text_of("README.md")


def headings(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings, and those that stand in it."""
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    named = set(re.findall(r'<a id="([^"]+)">', text))
    return named | {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    folder = (ROOT / name).parent
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", text_of(name)):
        path, _, anchor = link.partition("#")
        target = folder / path if path else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in headings(target.read_text()), link


def test_the_index_names_every_page():
    index = text_of("docs/README.md")
    for name in PAGES:
        assert name == "docs/README.md" or f"({Path(name).name})" in index, name


def sentences(text: str) -> list[str]:
    """What a document says in sentences: no code, no table, no heading, no link's address."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(#|\||    ).*$", "", text, flags=re.M)
    text = re.sub(r"!?\[((?:[^\]`]|`[^`]*`)*)\]\([^)]*\)", r"\1", text)
    # Code within a line is one word, whatever stands in it.
    text = re.sub(r"`[^`]*`", "code", text)
    # A paragraph, or an item of a list, ends a sentence too.
    blocks = re.split(r"\n\s*\n|^\s*(?:-|\d+\.) ", text, flags=re.M)
    found = [sentence for block in blocks for sentence in re.split(r"(?<=[.?!])\**\s+", block.strip())]
    return [" ".join(sentence.split()) for sentence in found if sentence]


def words(sentence: str) -> int:
    return len(re.findall(r"[\w'’/^()-]*\w[\w'’/^()-]*", sentence))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_sentences_are_short(name):
    text = text_of(name)
    if name == "CHANGELOG.md":
        # A release is history, and is not written anew.
        text = text[: text.index("## 0.1.0")]
    long = [sentence for sentence in sentences(text) if words(sentence) > MOST_WORDS]
    assert long == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One two. Three?\n\n- Four\n- Five six\n", ["One two.", "Three?", "Four", "Five six"]),
        (
            "# No\n\n| no | table |\n\n    no code\n\nA [link of `x y`](address.md), `a b c`.\n",
            ["A link of code, code."],
        ),
        ("```python\nno = 1. \n```\nYes\nand yes.\n", ["Yes and yes."]),
        ("**Bold.** Next.", ["**Bold.", "Next."]),
    ],
)
def test_sentences_are_told_from_the_rest(text, found):
    assert sentences(text) == found
