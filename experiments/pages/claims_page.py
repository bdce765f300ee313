"""The page of the claims, and the short table of the README, from verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments import records
from experiments.claims import CLAIMS, HEADLINES, THEMES
from experiments.claims.base import DECIDED, KINDS, Claim, Verdict, decide
from posjax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/claims.md"
README = "README.md"
SHOWN = 6
"""How many claims the README shows."""
MARKS = ("<!-- claims: written by experiments.docs -->\n", "<!-- end of claims -->\n")
"""Between which lines of the README its table stands."""

HEAD = """# Claims, and what became of them

Sentences about positional encodings that circulate, true and false, each with a test that decides it.
This page is written by `python -m experiments.docs`; no number of it is typed.
`python -m experiments.claims` prints the same verdicts in a terminal.

- **Holds, does not hold**: the 95 % interval over seeds lies on one side; an ordering takes three seeds.
- **Partly**: some of the lengths, methods or texts say yes, and others no.
- **Needs scale**: what was seen decides nothing.
- **Not run**: there are no results yet, and the command is told that makes them.

"""


def verdicts(claims: Iterable[Claim], folder: Path = records.RESULTS) -> dict[str, Verdict]:
    """The verdict on each claim by its name, from the records of a folder."""
    tables = records.tables(folder)
    return {claim.name: decide(claim, tables) for claim in claims}


def summary(found: Iterable[Verdict]) -> str:
    """How many claims were decided, and how.

    >>> summary([Verdict("holds", ""), Verdict("not run", "")])
    '2 claims, 1 decided: 1 holds, 1 not run.'
    """
    # In the order of the kinds, so that two summaries compare.
    counts = Counter(verdict.kind for verdict in found)
    parts = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]]
    decided = sum(counts[kind] for kind in DECIDED)
    return f"{counts.total()} claims, {decided} decided: {', '.join(parts)}."


def documents() -> dict[Path, str]:
    """The text of each file that the claims write, by its path. Errors: `InputError` for a README without its marks."""
    found = verdicts(CLAIMS)
    readme = ROOT / README
    return {ROOT / PAGE: page(THEMES, found), readme: marked(readme.read_text(), short_table(found))}


def page(themes: Mapping[str, Sequence[Claim]], found: Mapping[str, Verdict]) -> str:
    """The page as Markdown: a table for each theme."""
    parts = [HEAD, f"{summary(found.values())}\n"]
    for theme, claims in themes.items():
        parts.append(f"\n## {theme}\n\n| claim | verdict | what was seen |\n| --- | --- | --- |\n")
        parts += [_row(claim, found[claim.name]) for claim in claims]
    return "".join(parts)


def _row(claim: Claim, verdict: Verdict) -> str:
    # Their number beside their name, ours in a cell of its own: they were measured at other scales.
    source = claim.source
    if claim.published:
        source += f": {claim.published}"
    said = " ".join([verdict.words, *_links(claim)])
    # Its name as an anchor, so that a sentence elsewhere leads to this row and not to its table.
    return _line(f'<a id="{claim.name}"></a>**{claim.words}** ({source})', verdict.kind, said)


def _links(claim: Claim) -> list[str]:
    """The config of each suite and its record, where they are: elsewhere a link would lead nowhere."""
    links = []
    for suite in (*claim.suites, *claim.also):
        if (ROOT / "configs" / f"{suite}.py").is_file():
            links.append(f"[{suite}](../configs/{suite}.py)")
        if suite in records.names():
            links.append(f"[results](../experiments/results/{suite}/{records.TABLE})")
    return links


def short_table(found: Mapping[str, Verdict]) -> str:
    """The first of the headline claims that are decided, as a table of two columns."""
    by_name = {claim.name: claim for claim in CLAIMS}
    # What nobody has run yet is no headline.
    decided = [name for name in HEADLINES if found[name].kind in DECIDED]
    rows = [_line(by_name[name].words, found[name].kind) for name in decided[:SHOWN]]
    return f"| claim | verdict |\n| --- | --- |\n{''.join(rows)}"


def marked(text: str, table: str) -> str:
    """A text with a table between its marks, in place of what stood there.

    Errors: `InputError` where a mark is missing.
    """
    # Everything else is written by people, and stays theirs.
    before, first, rest = text.partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    if not first or not last:
        marks = " and ".join(mark.strip() for mark in MARKS)
        raise InputError(f"{README} lacks one of the lines {marks}: put them where the claims belong")
    return f"{before}{first}{table}{last}{after}"


def _line(*cells: str) -> str:
    # A bar or the end of a line would end the cell.
    clean = [text.replace("|", "\\|").replace("\n", " ") for text in cells]
    return f"| {' | '.join(clean)} |\n"
