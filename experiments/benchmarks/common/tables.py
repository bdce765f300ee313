"""Tables for a page and for a terminal, and how the benchmarks write times, numbers and lengths in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PASSES = {False: "forward", True: "forward + backward"}
"""What is said of a pass, by whether it has gradients."""


@dataclass(frozen=True)
class TextTable:
    """The head of a table and its rows, each as long as the head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """For a page: the cells of the first column are left-aligned, numbers right."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        return "\n".join(_markdown_line(cells) for cells in (self.head, rule, *self.rows))

    def columns(self, width: int = 80) -> str:
        """For a terminal: all columns but the first right-aligned, the first cut to fit in `width`."""
        lines = [self.head, *self.rows]
        sizes = [max(map(len, column)) for column in zip(*lines, strict=True)]
        # Only names are cut. A number without its last digits would be another number.
        others = sum(size + 1 for size in sizes[1:])
        sizes[0] = min(sizes[0], width - others)
        return "\n".join(_terminal_line(cells, sizes) for cells in lines)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _terminal_line(cells: Sequence[str], sizes: Sequence[int]) -> str:
    # The first cell says what a line is about; all others are numbers, or words as short.
    name, *numbers = cells
    if len(name) > sizes[0]:
        name = name[: sizes[0] - 1] + "…"
    aligned = [name.ljust(sizes[0])]
    for number, size in zip(numbers, sizes[1:], strict=True):
        aligned.append(number.rjust(size))
    return " ".join(aligned)


def seconds(value: float | None) -> str:
    """A time with its unit, three digits.

    >>> seconds(0.01234), seconds(1.5), seconds(123.4), seconds(None)
    ('12.3 ms', '1.50 s', '123 s', '-')
    """
    if value is None:
        return "-"
    if value < 1:
        return f"{digits(value * 1e3)} ms"
    return f"{digits(value)} s"


def digits(value: float | None) -> str:
    """Three significant digits of a number that is not tiny; "-" for none.

    >>> digits(0.4567), digits(12.34), digits(1234.5)
    ('0.46', '12.3', '1234')
    """
    if value is None:
        return "-"
    # Borders lie where rounding would give the number one digit more: 9.996 is "10.0", not "10.00".
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}"


def length(n: int) -> str:
    """A length as people say it.

    >>> length(512), length(65536), length(1000)
    ('512', '64k', '1000')
    """
    # 3000 tokens are no 3k: only whole multiples of 1024 are shortened.
    if n >= 1024 and n % 1024 == 0:
        return f"{n // 1024}k"
    return str(n)
