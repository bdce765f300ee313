"""Look through a published model's positions, from its configuration alone: no weights are needed.

python -m experiments.audit models/llama/config.json
python -m experiments.audit hf:EleutherAI/pythia-160m --trained 2048
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
import tyro

from experiments import cli
from posjax.attention import Mask
from posjax.encodings import (
    NTK,
    Alibi,
    Chain,
    Encoding,
    Interpolation,
    Learned,
    Regrouped,
    Rope,
    T5Bias,
    Yarn,
    chain,
    near_far,
    phases,
)
from posjax.errors import InputError
from posjax.interop import Description, configuration, describe, swapped
from posjax.models import Architecture, Attention
from posjax.models.architecture import StackName

WIDTH = 80
LENGTHS = ("original_max_position_embeddings", "max_position_embeddings", "n_positions", "seq_length", "max_seq_len")
"""Where configurations say how long the texts were; the first is that before an extension."""
POSITIONS = (2**10, 2**13, 2**17, 2**20)
"""At which errors are shown, beside the trained length."""
FACTOR = 4.0
"""Of the extensions that are tried."""
UNSAID = 2048
"""The trained length that they are spelled with where none is known."""


@dataclass(frozen=True)
class AuditOptions:
    """Say where a model's tokens are: encodings, masks, what was trained of them, and how exactly they are computed."""

    source: Annotated[str, tyro.conf.Positional]
    """A config.json, its folder, or hf:OWNER/NAME."""
    trained: int | None = None
    """The length of the texts that it was trained on; what the configuration says unless given."""


def command(arguments: Sequence[str]) -> None:
    options = cli.options(AuditOptions, "experiments.audit", arguments)
    found = describe(options.source)
    length = options.trained
    if length is None:
        length = _trained(configuration(options.source))
    for line in audit(found, length):
        print(line)


def audit(found: Description, trained: int | None) -> Iterator[str]:
    """What is told of a model, line by line. Errors: `InputError` for a trained length below 1."""
    if trained is not None and trained < 1:
        raise InputError(f"--trained is {trained}: needed is a length in tokens, 1 or more")
    architecture = found.required()
    told = "its trained length is not said: give --trained"
    if trained is not None:
        told = f"trained at {trained:,} tokens"
    yield f"{found.family}, {found.parameters:,} parameters, {told}"
    for name, stack in architecture.stacks.items():
        yield ""
        yield f"{name}: {stack.layers} layers"
        for (encoding, mask), layers in _kinds(architecture, name).items():
            yield from _wrapped(f"layers {_ranges(layers)}: ", f"{encoding!r} under {mask!r}")
    for rotation in _rotations(architecture):
        yield ""
        yield from _rotation(rotation, trained)
    yield ""
    yield from _extensions(architecture, trained)


def _trained(values: dict[str, Any]) -> int | None:
    """The length that a configuration says, in any of its sections."""
    sections = list(_sections(values))
    for key in LENGTHS:
        for section in sections:
            if isinstance(section.get(key), int):
                return section[key]
    return None


def _sections(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A configuration and all that is inside it, however deep: rope parameters may be nested by layer type."""
    yield values
    for value in values.values():
        if isinstance(value, dict):
            yield from _sections(value)


def _kinds(architecture: Architecture, name: StackName) -> dict[tuple[Encoding, Mask], list[int]]:
    """The layers of each pair of encoding and mask."""
    stack = architecture.stacks[name]
    found: dict[tuple[Encoding, Mask], list[int]] = defaultdict(list)
    for i in range(stack.layers):
        for sublayer in stack.layer(i).sublayers:
            if isinstance(sublayer, Attention):
                found[sublayer.encoding, sublayer.mask].append(i)
    return found


def _ranges(layers: list[int]) -> str:
    """Numbers with those that follow one another as one range: "0-4, 6"."""
    starts = [i for i in layers if i - 1 not in layers]
    ends = [i for i in layers if i + 1 not in layers]
    told = []
    for start, end in zip(starts, ends, strict=True):
        if start == end:
            told.append(f"{start}")
        else:
            told.append(f"{start}-{end}")
    return ", ".join(told)


def _wrapped(head: str, text: str) -> list[str]:
    # An empty text is no line.
    return textwrap.wrap(head + text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _rotations(architecture: Architecture) -> list[tuple[Rope, int]]:
    """Each rotation with the size of its heads."""
    found: dict[tuple[Rope, int], None] = {}
    for stack in architecture.stacks.values():
        for encoding, sizes in stack.encodings(architecture.width):
            for part in _parts(encoding):
                if isinstance(part, Rope):
                    found[part, sizes.head_size] = None
    return list(found)


def _parts(encoding: Encoding) -> tuple[Encoding, ...]:
    if isinstance(encoding, Chain):
        return encoding.parts
    return (encoding,)


def _rotation(rotation: tuple[Rope, int], trained: int | None) -> Iterator[str]:
    """How far its pairs turn in training, and how exactly angles are usually computed."""
    rope, head_size = rotation
    size = rope.rotary_size(head_size)
    frequencies, factor = rope.schedule.frequencies(size, rope.base)
    frequencies = np.asarray(frequencies, np.float64)
    yield from _wrapped("", f"{rope!r}")
    yield f"  {size // 2} pairs, {size} of {head_size} channels turn; queries and keys times {factor:.6g}"
    if trained is not None:
        yield from _turns(frequencies, trained)
    yield "  worst error of an angle in radians, as it is usually computed and here"
    yield f"    {'position':>10}{'float32':>12}{'bfloat16':>12}{'here':>12}"
    for position in sorted({*POSITIONS, trained or POSITIONS[0]}):
        single = _error(frequencies, position, np.dtype(np.float32))
        half = _error(frequencies, position, np.dtype(jnp.bfloat16))
        yield f"    {position:>10,}{single:>12.1e}{half:>12.1e}{_here(frequencies, position):>12.1e}"


def _turns(frequencies: np.ndarray, trained: int) -> Iterator[str]:
    """How often pairs turn within the trained length, and from which on they never did so once."""
    still = int(np.sum(frequencies == 0))
    if still:
        # Of a proportional schedule: they are the last.
        yield f"  pairs {_ranges(list(range(len(frequencies) - still, len(frequencies))))} never turn"
        frequencies = frequencies[: len(frequencies) - still]
    waves = 2 * np.pi / frequencies
    whole = int(np.sum(waves <= trained))
    yield f"  {whole} of {len(waves)} pairs turn whole within {trained:,} tokens"
    if whole < len(waves):
        part = 100 * trained / waves[whole:]
        never = _ranges(list(range(whole, len(waves))))
        yield f"  pairs {never} were trained on no more than {part.min():.2g} to {part.max():.2g} % of a turn"
    yield f"    {'pair':>6}{'wavelength':>14}{'turns':>12}"
    for pair in sorted({0, len(waves) // 4, len(waves) // 2, 3 * len(waves) // 4, whole - 1, whole, len(waves) - 1}):
        if 0 <= pair < len(waves):
            yield f"    {pair:>6}{waves[pair]:>14,.1f}{trained / waves[pair]:>12.3g}"


def _here(frequencies: np.ndarray, position: int) -> float:
    """The same of posjax: the larger of what its cosines and sines are off."""
    cosine, sine = phases.cos_sin(jnp.array([position]), jnp.asarray(phases.fixed_point_turns(frequencies)))
    angles = position * frequencies
    off = np.stack([cosine[0] - np.cos(angles), sine[0] - np.sin(angles)])
    return float(np.abs(off).max())


def _error(frequencies: np.ndarray, position: int, dtype: np.dtype) -> float:
    """Of position times frequency, both of them and their product rounded to a type."""
    product = np.asarray(position).astype(dtype) * frequencies.astype(dtype)
    return float(np.abs(product.astype(np.float64) - position * frequencies).max())


def _extensions(architecture: Architecture, trained: int | None) -> Iterator[str]:
    """The values that can take the place of the encoding without training."""
    yield f"without training, {FACTOR:g} times as far"
    if _rotations(architecture):
        for change in _ways(trained or UNSAID):
            # Tried, and not only told: what does not fit is refused by what a reader would meet.
            try:
                changed = swapped(architecture, partial(_everywhere, change))
            except InputError as error:
                yield from _wrapped("not ", str(error))
                continue
            yield from _wrapped("", f"{changed.encoding!r}")
    for encoding, _ in architecture.main_stack.encodings(architecture.width):
        for part in _parts(encoding):
            yield from _wrapped("", _unrotated(part))


def _ways(trained: int) -> list[Callable[[Rope], Encoding]]:
    """What a rotation may become: other frequencies, or Self-Extend's coarser positions for what is far."""
    near = max(trained // 2, 1)
    group = 2 * int(FACTOR)
    return [
        lambda rope: replace(rope, schedule=Interpolation(FACTOR)),
        lambda rope: replace(rope, schedule=NTK(FACTOR)),
        lambda rope: replace(rope, schedule=Yarn(FACTOR, trained)),
        lambda rope: near_far(near, rope, Regrouped(rope, group, near - near // group)),
    ]


def _everywhere(change: Callable[[Rope], Encoding], encoding: Encoding) -> Encoding:
    """An encoding with each of its rotations changed."""
    parts = []
    for part in _parts(encoding):
        if isinstance(part, Rope):
            part = change(part)
        parts.append(part)
    return chain(*parts)


def _unrotated(part: Encoding) -> str:
    """What is to be said of a part that does not turn."""
    if isinstance(part, Alibi):
        return f"{part!r} as it is, or Alibi(factor={FACTOR * part.factor:g})"
    if isinstance(part, T5Bias):
        return f"{part!r} as it is: all from {part.max_distance} tokens on is one distance"
    if isinstance(part, Learned):
        return f"nothing for {part!r}: its last row is that of position {part.length - 1}"
    return ""


if __name__ == "__main__":
    cli.program(command)
