"""How variants are called in tables and figures."""

from __future__ import annotations

TITLES = {
    "linear": "linear",
    "ntk": "NTK",
    "ntk-doubled": "NTK doubled",
    "yarn": "YaRN",
    "parts": "NTK by parts",
    "llama3": "Llama 3",
    "self-extend": "Self-Extend",
    "rerope": "ReRoPE",
    "windowed": "window",
    "clamp": "clamp",
    "wrap": "wrap",
    "interpolate": "interpolate",
}


def title(variant: str) -> str:
    """A variant as people read it; its own name where it has no other.

    >>> title("yarn"), title("raw")
    ('YaRN', 'raw')
    """
    return TITLES.get(variant, variant)
