"""Rows of measurements as trees by variant and length, which is how tables and figures of one run read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from posjax.results import Measurement, Measurements

Tree = dict[str, Any]
LOSSES = {
    "loss": "loss",
    "mean_loss": "mean",
    "mass_beyond": "beyond",
    "loss_per_token": "loss_per_token",
    "mean_loss_per_token": "mean_per_token",
}
"""Metrics of a language model at one length, and what each is called there."""


SHARED = ("name", "label", "trained_length", "parameters", "tokens", "seconds")
"""What results say of a run, whatever was measured."""


def trees(results: Mapping[str, Any]) -> list[Tree]:
    """A run's results as trees, one for each of its evaluations. Errors: `KeyError` and others for what is none."""
    measured = Measurements.from_tree(results["measurements"])
    shared = {name: results[name] for name in SHARED}
    found = []
    for name, settings in results["evaluations"].items():
        own = measured.select(evaluation=name)
        tree: Tree = {"kind": "other", "evaluation": name, "measured": own, "variants": _variants(own)}
        if settings["is"] == "Extrapolation":
            tree = language(own, settings) | {"corpus": results["corpus"]}
        elif settings["is"] == "Retrieval":
            tree = retrieval(own, settings)
        # Labels were written when the run was: a later posjax may call an extension something else.
        for variant in tree.get("variants", ()):
            variant["label"] = results["labels"].get(variant["name"])
        found.append(shared | tree)
    return found


def _variants(measured: Measurements) -> list[Tree]:
    """The variants of an evaluation whose numbers stay in their rows."""
    kinds = {row.at("variant"): row.at("kind") for row in measured if row.at("variant") is not None}
    # A kind may not have been told; then the name says which is the model as trained.
    fixed = {"raw": "raw", "windowed": "windowed"}
    return [
        {"name": name, "kind": kind or fixed.get(str(name), "extension"), "lengths": {}} for name, kind in kinds.items()
    ]


def language(measured: Measurements, settings: Mapping[str, Any]) -> Tree:
    """What `Extrapolation` measured of a language model. `settings` are its fields."""
    counted = {str(row.at("counted")): row.value for row in measured.select("yardstick_loss")}
    tree = _of_any(measured, settings, _losses)
    tree |= {"kind": "language", "windows": settings["windows"], "yardsticks": counted, "scores": _scores(measured)}
    for row in measured.select("bytes_per_token"):
        tree["bytes_per_token"] = row.value
    return tree


def retrieval(measured: Measurements, settings: Mapping[str, Any]) -> Tree:
    """What `Retrieval` measured on a task. `settings` are its fields."""
    asked = [row.count for row in measured.select("accuracy")]
    return _of_any(measured, settings, _recall) | {
        "kind": "retrieval",
        "chance": measured.one("chance").value,
        "depths": list(settings["depths"]),
        "queries": max(asked, default=0),
    }


def _of_any(
    measured: Measurements, settings: Mapping[str, Any], at_length: Callable[[list[Measurement]], Tree]
) -> Tree:
    multiples = list(settings["multiples"])
    # Gathered in one pass: to select each cell would read the whole table for every one of them.
    by_variant: dict[str, dict[str, list[Measurement]]] = {}
    variants: dict[str, Tree] = {}
    for row in measured:
        name = row.at("variant")
        if name is None:
            continue
        if row.metric == "last_multiple":
            ended_at = None
            if row.value < max(multiples):
                ended_at = row.value
            variants[str(name)] = {"name": name, "kind": row.at("kind"), "ended_at": ended_at}
            continue
        lengths = by_variant.setdefault(str(name), {})
        lengths.setdefault(str(row.at("multiple")), []).append(row)
    for name, variant in variants.items():
        of_variant = by_variant.get(name, {})
        variant["lengths"] = {multiple: at_length(rows) for multiple, rows in of_variant.items()}
    return {"lengths": multiples, "variants": list(variants.values())}


def _losses(rows: list[Measurement]) -> Tree:
    tree: Tree = {"positions": [], "by_position": []}
    for row in rows:
        if row.metric == "loss_ratio":
            tree |= {"ratio": row.value, "low": row.low, "high": row.high}
        elif row.metric == "loss_at_position":
            tree["positions"].append(row.at("position"))
            tree["by_position"].append(row.value)
        elif row.metric in LOSSES:
            tree[LOSSES[row.metric]] = row.value
    return tree


def _recall(rows: list[Measurement]) -> Tree:
    found = [row for row in rows if row.metric == "accuracy"]
    # An interval is 1.96 standard errors on either side.
    errors = [(row.high - row.low) / (2 * 1.96) for row in found]
    return {"accuracy": [row.value for row in found], "error": errors}


def _scores(measured: Measurements) -> Tree | None:
    scores = measured.select("score")
    # Results of a model that was only read may have none.
    if not scores:
        return None
    tree: Tree = {"distances": list(scores.distinct("distance"))}
    for of in ("random", "trained"):
        tree[of] = [row.value for row in scores.select(of=of)]
    return tree
