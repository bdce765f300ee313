"""The verdict in words. Every sentence is built from the numbers of this folder; other numbers give other words."""

from __future__ import annotations

import json
import math

from posjax.report.cells import is_broken
from posjax.report.extension_words import extension_conclusions
from posjax.report.marks import name, number
from posjax.report.memory_words import memory_conclusions
from posjax.report.method_words import method_conclusions
from posjax.report.seed_words import differing, seeds_told
from posjax.report.values import Report
from posjax.report.verdicts import Conclusion, listed, span


def conclusions(report: Report) -> tuple[Conclusion, ...]:
    """What this folder shows, most important first: methods, extensions, memory."""
    found = method_conclusions(report)
    found += differing(report)
    for run in report.language:
        found += extension_conclusions(run)
    # Memory after loss: what it says of a flat loss is of interest once the reader knows whose loss is flat.
    return (*found, *memory_conclusions(report), *_broken(report))


def caveats(report: Report) -> tuple[str, ...]:
    """What a reader must know before comparing these numbers with others."""
    sentences = []
    if report.language:
        sentences.append(_per_byte(report))
    published = [run for run in report.runs if run.published]
    untrained = [run for run in report.runs if not run.published and run.tokens == 0]
    trained = [run for run in report.runs if not run.published and run.tokens]
    if untrained:
        names = listed([run.label for run in untrained])
        sentences.append(f"Of initial weights, which nothing has trained: {names}.")
    if published:
        sentences.append(
            f"{listed([run.label for run in published])} came trained "
            f"({span(run.parameters for run in published)} parameters): on which text, and whether this one was in it, "
            "its publisher knows."
        )
    # Of published models nothing says on how many tokens they were trained.
    if trained:
        tokens = span(run.tokens for run in trained)
        parameters = span(run.parameters for run in trained)
        sentences.append(
            f"Each model saw {tokens} tokens of training "
            f"({parameters} parameters). How a method behaves past "
            "its trained length changes with that budget."
        )
    sentences += _edited_texts(report)
    sentences.append(seeds_told(report))
    return tuple(sentences)


def copy_told(folder: str, name: str) -> str:
    """What is told of a folder that is a copy."""
    return f"Left out: {folder}, which is a copy of the run {name} by its own files; a run's folder has its name."


def _edited_texts(report: Report) -> list[str]:
    """A sentence for each text of a config that was edited between two of its runs, which a table puts side by side."""
    fingerprints: dict[str, dict[str, str]] = {}
    for run in report.each:
        config, corpus = run.manifest.get("config_tree"), run.manifest.get("corpus")
        if corpus and isinstance(config, dict):
            text = json.dumps(config.get("data"))
            fingerprints.setdefault(text, {})[run.name] = str(corpus)
    sentences = []
    for by_run in fingerprints.values():
        if len(set(by_run.values())) > 1:
            said = ", ".join(f"{name} of {fingerprint}" for name, fingerprint in by_run.items())
            sentences.append(f"The text was edited between these runs, whose losses do not compare: {said}.")
    return sentences


def _per_byte(report: Report) -> str:
    compare = "Compare the order of methods with other work, not the values."
    sizes = [run.bytes_per_token for run in report.language if run.tokenised]
    if not sizes:
        return (
            "Ratios are per byte, not per token: a token of code is some 3 to 4 bytes, so a ratio of 1.5 "
            f"here is about 4 per token. {compare}"
        )
    # Measured here, where the sentence for bytes has to go by what tokens of code usually are.
    largest = max(sizes)
    return (
        f"Ratios and losses are per byte, so that vocabularies compare: a token here is up to {number(largest)} bytes, "
        f"so a ratio of 1.5 is about {number(1.5**largest)} per token. {compare}"
    )


def _broken(report: Report) -> list[Conclusion]:
    variants = []
    for run in report.language:
        for variant in run.variants:
            points = [(length, variant.at(length)) for length in run.lengths]
            lengths = [f"{length}x" for length, point in points if point and is_broken(run, point.loss)]
            if lengths:
                variants.append(f"{name(run, variant)} at {listed(lengths)}")
    if not variants:
        return []
    # The runs of a folder share their text, but for one text that several tokenizers read.
    found = {number(run.yardsticks.get("unigram", math.nan)): None for run in report.language}
    units = {run.unit: None for run in report.language}
    text = (
        f"{'; '.join(variants)}: worse than the unigram yardstick of {' or '.join(found)} nats per byte, "
        f"which knows only how often each {' or '.join(units)} occurs. The exact values of these cells are noise."
    )
    return [Conclusion("Broken", text)]
