"""What a benchmark wrote, and what is committed of it."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def tables_of(text):
    """The Markdown tables of a page, each as rows of cells; every row of a table has as many cells as its head."""
    found, before = [], False
    for line in text.splitlines():
        now = line.startswith("| ")
        if now:
            if not before:
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = now
    assert all(len({len(row) for row in table}) == 1 for table in found)
    return found


def narrow(text):
    assert max(map(len, text.split("Left out")[0].splitlines())) <= 80, text


def committed(name):
    """The numbers of a benchmark as they are committed, and its page."""
    numbers = json.loads((ROOT / f"experiments/results/benchmarks/{name}.json").read_text())
    return numbers, (ROOT / f"docs/benchmarks/{name}.md").read_text()
