"""A chart and a section of charts, as the page takes them."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Chart:
    """One chart: its heading, what to see in it, and its specification; `wide` ones take the page's whole width."""

    title: str
    caption: str
    spec: dict[str, Any]
    wide: bool = True


@dataclasses.dataclass(frozen=True)
class Section:
    """Charts that answer one question."""

    title: str
    charts: tuple[Chart, ...]
