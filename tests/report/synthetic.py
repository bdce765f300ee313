"""A small work folder with the shape of a real one, whose numbers a test may choose."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

LENGTHS = (1, 2, 4, 8, 16)
TRAINED = 64
RATIOS = {
    "learned": {"raw": (1.0, 5.6, 5.5, 6.9, 7.3)},
    "sinusoidal": {"raw": (1.0, 2.39, 2.65, 2.72, 2.32), "windowed": (1.0, 2.4, 2.6, 2.5, 2.3)},
    "t5": {"raw": (1.0, 1.12, 1.33, 1.54, 1.82), "windowed": (1.0, 1.04, 1.04, 1.04, 1.04)},
    "rope": {
        "raw": (1.0, 1.28, 2.98, 4.34, 8.68),
        "windowed": (1.0, 1.01, 1.01, 1.01, 1.01),
        "linear": (1.0, 1.5, 2.37, 3.02, 3.6),
        "ntk": (1.0, 1.08, 1.55, 3.63, 3.81),
        "yarn": (1.0, 1.13, 1.36, 1.8, 2.57),
    },
    "alibi": {"raw": (1.0, 1.0, 1.0, 1.0, 1.01), "windowed": (1.0, 1.0, 1.0, 1.0, 1.0)},
}
LABELS = {
    "learned": "Learned",
    "sinusoidal": "Sinusoidal",
    "t5": "T5",
    "rope": "RoPE",
    "alibi": "ALiBi",
    "raw": "raw",
    "windowed": "windowed",
    "linear": "Linear",
    "ntk": "NTK",
    "yarn": "Yarn",
}
BASE = {"learned": 1.777, "sinusoidal": 1.916, "t5": 1.876, "rope": 1.637, "alibi": 1.750}
RECALL = {
    "alibi": {
        "raw": ((1, 1, 1), (0.82, 1, 1), (0.53, 0.78, 1), (0.12, 0.23, 0.96)),
        "windowed": ((1, 1, 1), (0.06, 0.19, 1), (0.06, 0.06, 1), (0.08, 0.08, 0.61)),
    },
    "rope": {
        "raw": ((1, 1, 1), (0.69, 0.99, 1), (0.54, 0.56, 0.99), (0.07, 0.09, 0.68)),
        "windowed": ((1, 1, 1), (0.06, 0.18, 1), (0.05, 0.05, 1), (0.07, 0.07, 0.61)),
        "yarn": ((1, 1, 1), (1, 1, 1), (1, 1, 1), (0.99, 1, 0.99)),
    },
}


def make(folder: Path, ratios: dict | None = None, recall: dict | None = None, **experiment: Any) -> Path:
    """Writes a work folder: five language runs, two retrieval runs, and one run that is not finished."""
    ratios, recall = ratios or RATIOS, recall or RECALL
    write(
        folder / "experiment.json",
        {
            "name": "quickstart",
            "title": "How far does each encoding reach?",
            "question": "A model trained at 64 bytes reads 1,024: which encodings survive, and what is lost?",
            "paper": "Press et al. 2022, Train short, test long, arXiv:2108.12409",
            "command": "python -m experiments.run configs/quickstart.py",
            "created": "2026-11-21T20:00:00+00:00",
            "config": 'def config():\n    return Experiment(steps=400)  # a <b>bold</b> & "quoted" claim\n',
            "runs": [*ratios, *(f"{name}-needles" for name in recall)],
        }
        | experiment,
    )
    for name in ratios:
        run(folder / name, name, language(name, ratios[name]))
    for name in recall:
        run(folder / f"{name}-needles", name, retrieval(name, recall[name]))
    write(folder / "kerple" / "run.json", {"name": "kerple", "label": "KERPLE"})
    return folder


def run(folder: Path, name: str, results: dict) -> None:
    write(
        folder / "run.json",
        {
            "name": folder.name,
            "label": LABELS[name],
            "config": f"Run(name={name!r})",
            "config_tree": {"name": name},
            "versions": {"python": "3.11.7", "jax": "0.10.2", "flax": "0.12.8"},
            "devices": ["cpu:0"],
            "mesh": {"data": 1},
            "backend": "chunked",
            "commit": "0123abc",
        },
    )
    steps = range(0, 400, 2)
    lines = [
        json.dumps(
            {
                "step": step,
                "loss": 1.6 + 4 * math.exp(-step / 60) + 0.05 * math.sin(step),
                "learning_rate": 4e-3,
                "tokens_per_second": 70_000.0,
            }
        )
        for step in steps
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    write(folder / "results.json", results)


def language(name: str, ratios: dict) -> dict:
    ended_at = 1 if name == "learned" else None
    variants = [
        {
            "name": variant,
            "label": LABELS[name] if variant == "raw" else LABELS[variant],
            "kind": {"raw": "raw", "windowed": "windowed"}.get(variant, "extension"),
            "ended_at": ended_at if variant == "raw" else None,
            "lengths": {
                str(length): point(name, variant, length, ratio)
                for length, ratio in zip(LENGTHS, values, strict=True)
                if not (ended_at and variant == "raw" and length > ended_at)
            },
        }
        for variant, values in ratios.items()
    ]
    distances = [0, *sorted({round(2 ** (k / 4)) for k in range(41)} - {1024}), 1023]
    return {
        "kind": "language",
        "name": name,
        "label": LABELS[name],
        "trained_length": TRAINED,
        "parameters": 131072,
        "tokens": 819200,
        "lengths": list(LENGTHS),
        "windows": 64,
        "yardsticks": {"unigram": 3.31, "bigram": 2.38},
        "corpus": {
            "name": "standard library of Python 3.11.7",
            "fingerprint": "0f1e2d3c4b5a6978",
            "train_bytes": 9370000,
            "validation_bytes": 930000,
            "train_files": 540,
            "validation_files": 59,
        },
        "variants": variants,
        "seconds": {"train": 20.1, "evaluate": 9.2},
        "scores": {
            "distances": distances,
            "random": [score(name, d, 1.0) for d in distances],
            "trained": [score(name, d, 2.0) for d in distances],
        },
    }


def point(name: str, variant: str, length: int, ratio: float) -> dict:
    loss = BASE[name] + math.log(ratio)
    positions = sorted({round(2 ** (k / 3)) for k in range(3 * int(math.log2(TRAINED * length)) + 1)})
    past = [max(0.0, math.log2(p / TRAINED)) / max(1.0, math.log2(max(length, 2))) for p in positions]
    return {
        "loss": loss,
        "mean": loss + 0.1,
        "ratio": ratio,
        "low": ratio * 0.95,
        "high": ratio * 1.06,
        "beyond": 0.0 if variant == "windowed" or length == 1 else min(0.95, 0.1 * ratio * math.log2(length)),
        "positions": positions,
        "by_position": [
            BASE[name] + 1.6 / (1 + p / 4) + math.log(ratio) * x for p, x in zip(positions, past, strict=True)
        ],
    }


def score(name: str, distance: int, scale: float) -> float:
    if name == "alibi":
        return -scale * 0.08 * distance
    if name == "t5":
        return -scale * 0.4 * math.log1p(min(distance, 32))
    return scale * (math.cos(distance / 3) * math.exp(-distance / 100) - 1)


def retrieval(name: str, recall: dict) -> dict:
    variants = [
        {
            "name": variant,
            "label": LABELS[name] if variant == "raw" else LABELS[variant],
            "kind": {"raw": "raw", "windowed": "windowed"}.get(variant, "extension"),
            "lengths": {
                str(length): {"accuracy": list(values), "error": [0.02] * 3}
                for length, values in zip((1, 2, 4, 16), table, strict=True)
            },
        }
        for variant, table in recall.items()
    ]
    return {
        "kind": "retrieval",
        "name": f"{name}-needles",
        "label": LABELS[name],
        "trained_length": TRAINED,
        "chance": 0.0625,
        "depths": [0.0, 0.45, 0.9],
        "queries": 512,
        "parameters": 131072,
        "tokens": 1024000,
        "lengths": [1, 2, 4, 16],
        "variants": variants,
        "seconds": {"train": 38.0, "evaluate": 4.0},
    }


def swept(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Writes a work folder of two methods, each of several seeds, which read text and look for needles."""
    experiment(folder, "Three seeds of two methods")
    for name in ("rope", "alibi"):
        for seed in seeds:
            factor = (1.0, 1.2, 0.9)[seed % 3]
            ratios = {
                variant: (1.0, *(factor * value for value in values[1:])) for variant, values in RATIOS[name].items()
            }
            found = language(name, ratios) | {"seed": seed}
            run(folder / f"{name}-s{seed}", name, found | {"name": f"{name}-s{seed}"})
            found = retrieval(name, RECALL[name]) | {"seed": seed}
            run(folder / f"{name}-needles-s{seed}", name, found | {"name": f"{name}-needles-s{seed}"})
    return folder


def measured(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Writes a work folder of an evaluation that nobody knows, of two methods and several seeds."""
    experiment(folder, "What nobody has measured before")
    for name in ("rope", "alibi"):
        for seed in seeds:
            rows = [row for variant in ("raw", "windowed") for row in unknown(name, variant, seed)]
            results = {
                "name": f"{name}-s{seed}",
                "label": LABELS[name],
                "seed": seed,
                "trained_length": TRAINED,
                "parameters": 131072,
                "tokens": 819200,
                "seconds": {"train": 20.0, "evaluate": 3.0},
                "evaluations": {"recall_by_place": {"is": "RecallByPlace"}},
                "labels": {"raw": LABELS[name], "windowed": f"{LABELS[name]} + windowed"},
                "measurements": [{"evaluation": "recall_by_place", **row} for row in rows],
            }
            run(folder / f"{name}-s{seed}", name, results)
    return folder


def unknown(name: str, variant: str, seed: int) -> list[dict]:
    """Rows of every shape: by length and depth, by layer and head, one number alone."""
    at = {"variant": variant, "kind": variant, "task": "copy"}
    good = 0.9 - 0.2 * (name == "alibi") - 0.1 * (variant == "windowed") + 0.02 * seed
    rows = []
    for multiple in (1, 2, 4, 8, 16):
        for depth in (0.0, 0.5, 1.0):
            value = good / (1 + 0.05 * multiple * (1 - depth))
            where = {"multiple": multiple, "length": TRAINED * multiple, "depth": depth}
            row = {"metric": "exact", **at, **where, "value": value}
            rows.append(row | {"low": value - 0.03, "high": value + 0.03, "count": 64})
    for layer in range(4):
        for head in range(4):
            rows.append({"metric": "mean_entropy", **at, "layer": layer, "head": head, "value": good * layer - head})
    return [*rows, {"metric": "reach", **at, "value": 100 * good, "low": 90 * good, "high": 110 * good}]


def experiment(folder: Path, title: str) -> None:
    tree = {"name": folder.name, "title": title, "question": f"{title}: what is to be seen?"}
    write(folder / "experiment.json", tree | {"commands": {"rope-s0": "python -m experiments.run configs/x.py"}})


def write(path: Path, tree: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))


def edit(path: Path, **entries: Any) -> None:
    write(path, json.loads(path.read_text()) | entries)
