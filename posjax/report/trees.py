"""The JSON of a work folder, as the frozen values of a report; what is missing or wrong in it is the file's damage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from posjax.report.values import (
    LanguageRun,
    MeasuredRun,
    Point,
    Recall,
    ReportedExperiment,
    ReportedVariant,
    RetrievalRun,
    ScoresByDistance,
    Value,
)

SPELLED = {"linear": "Linear", "ntk": "NTK", "yarn": "Yarn"}
"""How extensions are written where a folder has no labels for them."""
ORDER = {"raw": 0, "windowed": 1, "extension": 2, "fill": 3}
"""Variants in the order of a table: as trained, its control, then what was tried on it."""


def experiment(tree: dict[str, Any]) -> ReportedExperiment:
    """What was asked and how, from experiment.json."""
    texts = {field: str(tree.get(field) or "") for field in ("title", "question", "paper", "config", "created")}
    return ReportedExperiment(name=str(tree["name"]), commands=_commands(tree), **texts)


def _commands(tree: dict[str, Any]) -> tuple[str, ...]:
    """Each command that filled the folder, once. Folders of posjax 0.1.0 know the last one alone."""
    told = [str(command) for command in tree.get("commands", {}).values()]
    if not told:
        told = [str(tree.get("command") or "")]
    return tuple(command for command in dict.fromkeys(told) if command)


def order_of_runs(tree: dict[str, Any]) -> dict[str, int]:
    """The place of each run in the experiment."""
    # The list is optional: without it runs come by name.
    return {str(name): index for index, name in enumerate(tree.get("runs", ()))}


def seed(results: Mapping[str, Any], manifest: Mapping[str, Any]) -> int | None:
    """The seed of a run: of results, or where posjax 0.1.0 wrote them, of the config."""
    given = results.get("seed")
    config = manifest.get("config_tree")
    if given is None and isinstance(config, dict):
        given = config.get("seed")
    if given is None:
        return None
    return int(given)


def language(tree: dict[str, Any], shared: dict[str, Any]) -> LanguageRun:
    """A language model's results, beside what was read from its other files."""
    return LanguageRun(
        **_of_any_run(tree, _point),
        **shared,
        windows=int(tree["windows"]),
        yardsticks={name: _number(loss) for name, loss in tree["yardsticks"].items()},
        corpus=dict(tree["corpus"]),
        scores=_scores(tree.get("scores")),
        bytes_per_token=_number(tree.get("bytes_per_token")),
    )


def retrieval(tree: dict[str, Any], shared: dict[str, Any]) -> RetrievalRun:
    """A needle task's results, beside what was read from its other files."""
    return RetrievalRun(
        **_of_any_run(tree, _recall),
        **shared,
        chance=_number(tree["chance"]),
        depths=_numbers(tree["depths"]),
        queries=int(tree["queries"]),
    )


def other(tree: dict[str, Any], shared: dict[str, Any]) -> MeasuredRun:
    """What another evaluation measured, beside what was read from the run's other files."""
    numbers = {name: int(tree[name]) for name in ("trained_length", "parameters", "tokens")}
    return MeasuredRun(
        **numbers,
        **shared,
        name=str(tree["name"]),
        label=str(tree["label"]),
        lengths=(),
        variants=_sorted(_variant(variant, lambda _: None) for variant in tree["variants"]),
        seconds={name: _number(seconds) for name, seconds in tree["seconds"].items()},
        evaluation=str(tree["evaluation"]),
        measurements=tree["measured"],
    )


def _of_any_run(tree: dict[str, Any], value: Callable[[dict[str, Any]], Value]) -> dict[str, Any]:
    return {
        "name": str(tree["name"]),
        "label": str(tree["label"]),
        "trained_length": int(tree["trained_length"]),
        "parameters": int(tree["parameters"]),
        "tokens": int(tree["tokens"]),
        "lengths": tuple(int(length) for length in tree["lengths"]),
        "variants": _variants(tree, value),
        "seconds": {name: _number(seconds) for name, seconds in tree.get("seconds", {}).items()},
    }


def _variants(tree: dict[str, Any], value: Callable[[dict[str, Any]], Value]) -> tuple[ReportedVariant[Value], ...]:
    ordered = _sorted(_variant(variant, value) for variant in tree["variants"])
    # Every table and sentence compares with the model as trained.
    if not ordered or ordered[0].kind != "raw":
        raise ValueError("no variant of kind 'raw'")
    return ordered


def _sorted(variants: Iterable[ReportedVariant[Value]]) -> tuple[ReportedVariant[Value], ...]:
    # The sort is stable: within a kind they stay as they were evaluated. A kind of a later posjax goes last.
    return tuple(sorted(variants, key=lambda variant: ORDER.get(variant.kind, 9)))


def _variant(tree: dict[str, Any], value: Callable[[dict[str, Any]], Value]) -> ReportedVariant[Value]:
    name = str(tree["name"])
    label = str(tree.get("label") or SPELLED.get(name, name))
    # None is an answer here, that of a variant which goes on, so it does not become a missing number.
    ended_at = tree.get("ended_at")
    if ended_at is not None:
        ended_at = float(ended_at)
    lengths = {int(length): value(point) for length, point in tree["lengths"].items()}
    return ReportedVariant(name, label, str(tree["kind"]), ended_at, lengths)


def _point(tree: dict[str, Any]) -> Point:
    return Point(
        loss=_number(tree["loss"]),
        mean=_number(tree["mean"]),
        ratio=_number(tree["ratio"]),
        low=_number(tree["low"]),
        high=_number(tree["high"]),
        beyond=_number(tree.get("beyond")),
        positions=_numbers(tree.get("positions", ())),
        by_position=_numbers(tree.get("by_position", ())),
        loss_per_token=_number(tree.get("loss_per_token")),
        mean_per_token=_number(tree.get("mean_per_token")),
    )


def _recall(tree: dict[str, Any]) -> Recall:
    accuracy = _numbers(tree["accuracy"])
    unknown = (None,) * len(accuracy)
    return Recall(accuracy, _numbers(tree.get("error", unknown)))


def _scores(tree: dict[str, Any] | None) -> ScoresByDistance | None:
    """None where the results have no scores: the page then leaves their heat maps out."""
    if not tree:
        return None
    return ScoresByDistance(_numbers(tree["distances"]), _numbers(tree["random"]), _numbers(tree["trained"]))


def _number(value: Any) -> float:
    # JSON has no NaN, so a number that is not finite was written as null.
    if value is None:
        return math.nan
    return float(value)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(_number(value) for value in values)


def hold_manifest(manifest: Mapping[str, Any]) -> None:
    """Holds what is shown of a manifest to its shape: a table of versions, a list of devices, a mesh of numbers."""
    # Each of these raises what `built` turns into the file's damage, before a page is half made.
    dict(manifest.get("versions") or {}).items()
    list(manifest.get("devices") or ())
    for size in dict(manifest.get("mesh") or {}).values():
        int(size)
    for stage in manifest.get("stages") or ():
        str(stage["folder"] + stage["training"])
