"""What every benchmark writes: JSON with the machine and the date, Markdown tables, and lines of 80 columns."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "numpy", "torch", "x-transformers", "transformers", "triton")


def machine() -> dict[str, Any]:
    """The processor, the devices, and the versions of all that takes part."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    devices = jax.devices()
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": cores(),
        "devices": [f"{len(devices)} x {devices[0].device_kind}", devices[0].platform],
        "python": platform.python_version(),
        "versions": versions,
    }


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def told(machine: Mapping[str, Any]) -> str:
    """The machine in one sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    device = "" if machine["devices"][1] == "cpu" else f", {machine['devices'][0]}"
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores{device}, Python {machine['python']}, "
        f"{versions}"
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells of the first column are left-aligned, numbers right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    return "\n".join([line(head), line(["---", *["---:"] * (len(head) - 1)]), *map(line, rows)])


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int = 80) -> str:
    """The same for a terminal: all columns but the first right-aligned, the first cut to fit in `width`."""
    table = [list(head), *map(list, rows)]
    sizes = [max(len(row[i]) for row in table) for i in range(len(head))]
    sizes[0] = min(sizes[0], width - sum(size + 1 for size in sizes[1:]))
    lines = []
    for row in table:
        first = row[0] if len(row[0]) <= sizes[0] else row[0][: sizes[0] - 1] + "…"
        lines.append(" ".join([first.ljust(sizes[0]), *(c.rjust(n) for c, n in zip(row[1:], sizes[1:], strict=True))]))
    return "\n".join(lines)


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
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def length(n: int) -> str:
    """A length as people say it.

    >>> length(512), length(65536), length(1000)
    ('512', '64k', '1000')
    """
    return f"{n // 1024}k" if n >= 1024 and n % 1024 == 0 else str(n)


def write(folder: Path, name: str, content: Mapping[str, Any], page: str) -> None:
    """`NAME.json` and `NAME.md`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, text in (("json", json.dumps(content, indent=1) + "\n"), ("md", page)):
        part = folder / f".{name}.{kind}.part"
        part.write_text(text)
        part.replace(folder / f"{name}.{kind}")
