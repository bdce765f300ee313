"""Print the verdict on every claim, from the results of record alone.

python -m experiments.claims
python -m experiments.claims --only alibi-is-flat rope-decays-monotonically
python -m experiments.claims --markdown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from experiments import cli, records
from experiments.claims import CLAIMS, THEMES
from experiments.claims.base import Claim, Verdict
from experiments.pages.claims_page import page, summary, verdicts
from posjax.errors import InputError

COLOURS = {"holds": "green", "does not hold": "red", "partly": "yellow", "needs scale": "cyan", "not run": "dim"}


@dataclass(frozen=True)
class ClaimsOptions:
    """Print the verdict on every claim, from the results of record."""

    only: tuple[str, ...] = ()
    """Names of claims: only these."""
    markdown: bool = False
    """Whether to print the page docs/claims.md."""
    results: Path = records.RESULTS
    """The folder of the records."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(ClaimsOptions, "experiments.claims", arguments, "name claims with --only")
    themes = chosen(options.only)
    # From files alone, and anew each time: no verdict is kept anywhere but in the pages.
    found = verdicts((claim for claims in themes.values() for claim in claims), options.results)
    if options.markdown:
        print(page(themes, found), end="")
        return
    show(themes, found, cli.console(cli.Product))


def chosen(only: Sequence[str]) -> dict[str, tuple[Claim, ...]]:
    """The claims by theme, all or those that are named.

    Errors: `InputError` for a name that is none, with the nearest.
    """
    # A slip would otherwise print nothing and look as if all were well.
    known = [claim.name for claim in CLAIMS]
    for name in only:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InputError(f"there is no claim {name!r}: the nearest is {near!r}")
    themes = {}
    for theme, claims in THEMES.items():
        kept = tuple(claim for claim in claims if not only or claim.name in only)
        # A theme of which nothing was asked has no heading.
        if kept:
            themes[theme] = kept
    return themes


def show(themes: Mapping[str, Sequence[Claim]], found: Mapping[str, Verdict], console: Console) -> None:
    """Prints each claim with its verdict under it, by theme, and how many there are of each kind."""
    # The verdict before the sentence: most of these sentences are false, and a skimmer should not learn them.
    for theme, claims in themes.items():
        console.print()
        console.rule(theme, align="left", characters="─")
        for claim in claims:
            verdict = found[claim.name]
            heading = Text.assemble((verdict.kind, f"bold {COLOURS[verdict.kind]}"), ": ", (claim.words, "bold"))
            console.print(heading)
            console.print(Padding(Text(verdict.words), (0, 0, 0, 2)))
            said = f"{claim.source}."
            if claim.published:
                said = f"{claim.source}: {claim.published}"
            console.print(Padding(Text(f"{said} ({claim.name})", style="dim"), (0, 0, 0, 2)))
    console.print()
    console.print(summary(found.values()), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    cli.program(command)
