"""The page of the claims, and the short table of the README, from verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments import records
from experiments.claims.base import Claim, Verdict

HEAD = """# Claims, and what became of them

Sentences about positional encodings that circulate, true and false, each with the test that decides it. This page is
written by `python -m experiments.docs` from the [results of record](../experiments/results): no number of it is typed.
`python -m experiments.claims` prints the same. Numbers stand with their 95 % interval over seeds.

"""


def page(themes: Mapping[str, Sequence[Claim]], verdicts: Mapping[str, Verdict]) -> str:
    """The page as Markdown: a table for each theme."""
    lines = [HEAD]
    for theme, claims in themes.items():
        lines.append(f"## {theme}\n\n| claim | verdict | what was seen |\n| --- | --- | --- |\n")
        for claim in claims:
            lines.append(_row(claim, verdicts[claim.name]))
        lines.append("\n")
    return "".join(lines).rstrip() + "\n"


def _row(claim: Claim, verdict: Verdict) -> str:
    source = claim.source
    if claim.published:
        source += f": {claim.published}"
    # Where there is no record yet a link would lead nowhere.
    links = [f"[{suite}](../configs/{suite}.py)" for suite in (*claim.suites, *claim.also)]
    kept = [suite for suite in (*claim.suites, *claim.also) if suite in records.names()]
    links += [f"[results](../experiments/results/{suite}/table.csv)" for suite in kept]
    said = " ".join([verdict.words, *links])
    cells = (f"**{claim.words}** {source}", verdict.kind, said)
    return "| " + " | ".join(_cell(text) for text in cells) + " |\n"


def _cell(text: str) -> str:
    # A bar or the end of a line would end the cell.
    return text.replace("|", "\\|").replace("\n", " ")
