"""Write a page for each encoding and schedule, who uses what, the claims, and the results of record.

python -m experiments.docs
python -m experiments.docs --out docs/encodings --no-pictures --no-claims
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import cli, records
from experiments.pages import decay_map, pictures, results_page
from experiments.pages.claims_page import documents
from experiments.pages.encoding_pages import pages, picture_of
from experiments.pages.subjects import subjects
from experiments.pages.who_uses_what import page as who_uses_what
from posjax.errors import InputError
from posjax.files import write_whole


@dataclass(frozen=True)
class DocsOptions:
    """Write a page with a picture for each encoding and schedule, an index, and the verdicts on the claims."""

    out: Path = Path("docs/encodings")
    """The folder of the pages."""
    pictures: bool = True
    """Whether the pictures are drawn too; a page links to its picture either way."""
    claims: bool = True
    """Whether docs/claims.md, the README's table of claims, and docs/results.md with its figures are written too."""


def command(arguments: Sequence[str]) -> None:
    """Writes the pages, the verdicts and the pictures, and prints the path of each."""
    # The shared parser knows no --help: other commands build theirs from a config that must be loaded first.
    if {"-h", "--help"} & set(arguments):
        tyro.cli(DocsOptions, prog="python -m experiments.docs", args=["--help"])
    options, unknown = cli.parse(DocsOptions, "experiments.docs", arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}: there are --out, --no-pictures and --no-claims")
    # All pages are made before any is written, so that a docstring at fault leaves the folder as it was.
    written = {name: text.encode() for name, text in pages(options.out).items()}
    # Beside the folder of the encodings, whose pages it links to.
    written["../who-uses-what.md"] = who_uses_what().encode()
    for name, text in written.items():
        print(write_whole((options.out / name).resolve(), text))
    if options.claims:
        for path, text in documents().items():
            print(write_whole(path, text.encode()))
        print(write_whole((options.out / "../results.md").resolve(), results_page.page().encode()))
    if not options.pictures:
        return
    if options.claims:
        for name, drawn in results_page.figures().items():
            print(write_whole(records.RESULTS / name / results_page.FIGURE, drawn))
    print(write_whole((options.out / "../decay.png").resolve(), decay_map.draw()))
    for subject in subjects():
        drawn = pictures.draw(subject.name, subject.values[0])
        print(write_whole(options.out / picture_of(subject), drawn))


if __name__ == "__main__":
    sys.exit(cli.main(command))
