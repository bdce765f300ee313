"""Let a trained run of a config continue a text, or a published model.

python -m experiments.generate configs/quickstart.py --only rope --prompt "def " --tokens 200 --temperature 0.8
python -m experiments.generate models/stories260K --prompt "Once upon a time" --begin "<s>" --temperature 0
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments import cli
from posjax import runs
from posjax.data import SEPARATOR, Needles, Text, Tokenizer
from posjax.data.tokenizer import read_tokenizer
from posjax.errors import InputError
from posjax.interop import configuration, read
from posjax.interop.files import CONFIG
from posjax.interop.hub import PREFIX, locate
from posjax.models import Sampling, generate


@dataclass(frozen=True)
class GenerateOptions(cli.Common):
    """Continue a text with trained runs, one after the other; or with a published model, by its folder."""

    prompt: str = "def "
    """The text to continue."""
    tokens: int = 200
    """How many tokens to generate: bytes, unless the run has a tokenizer."""
    temperature: float = 0.8
    """0 is greedy."""
    top_k: int | None = None
    """Keep the k likeliest."""
    top_p: float | None = None
    """Keep the fewest that reach this probability."""
    draw: int = 0
    """The seed of the draw."""
    begin: str | None = None
    """The token that a text begins with, such as <s>: of a published model whose tokenizer adds none itself."""


def command(arguments: Sequence[str]) -> None:
    source = _published(arguments)
    if source is not None:
        _continue_published(cli.options(GenerateOptions, "experiments.generate", arguments), source)
        return
    options, request = cli.read(GenerateOptions, "experiments.generate", arguments)
    console = cli.console(cli.Product)
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    # The tokens of a task are no text, and nobody could read them.
    text = [run for run in request.experiment.runs if not isinstance(run.data, Needles)]
    if not text:
        raise InputError("none of the chosen runs is trained on text: choose others with --only")
    for run in text:
        trained_model = runs.restore(run, request.folder(options, run), cli.teller(console))
        reader = _reader(run)
        given = _encoded(options.prompt, reader)
        prompt = jnp.asarray(given)[None]
        rows = generate(trained_model.model, prompt, options.tokens, sampling=sampling, seed=options.draw)
        new = _up_to_the_end(np.asarray(rows[0]), reader)
        console.rule(run.name)
        continued = _decoded(np.concatenate([given, new]), reader)
        console.print(continued, markup=False, highlight=False)


def _published(arguments: Sequence[str]) -> str | None:
    """The published model that a command line names in the place of a config; `None` for a config."""
    first = next(iter(arguments), "")
    if first.startswith(PREFIX) or (Path(first) / CONFIG).is_file():
        return first
    return None


def _continue_published(options: GenerateOptions, source: str) -> None:
    folder = locate(source)
    reader = read_tokenizer(folder / "tokenizer.json", options.begin)
    # With what the publisher's tokenizer puts around a text.
    given = np.array(reader.rules.encode(options.prompt).ids, np.int32)
    if reader.begin is not None:
        given = np.append(np.int32(reader.begin), given)
    model = read(folder)
    if model.architecture.encoder is not None:
        raise InputError(f"{source} has an encoder: needed is a model that continues what it reads, a decoder alone")
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    stop = configuration(folder).get("eos_token_id")
    # Some have several, and which of them a model without instructions ends with nobody says.
    if not isinstance(stop, int):
        stop = None
    prompt = jnp.asarray(given)[None]
    rows = generate(model, prompt, options.tokens, sampling=sampling, seed=options.draw, stop=stop)
    new = np.asarray(rows[0])
    ended = np.flatnonzero(new == stop)
    if len(ended):
        new = new[: ended[0]]
    continued = reader.decode(np.concatenate([given, new]))
    cli.console(cli.Product).print(continued, markup=False, highlight=False)


def _reader(run: runs.Run) -> Tokenizer | None:
    """The tokenizer of a run's text; `None` where it reads bytes."""
    if isinstance(run.data, Text):
        return run.data.reader()
    return None


def _encoded(prompt: str, reader: Tokenizer | None) -> np.ndarray:
    # The bytes that were typed, whether they are text or not.
    typed = os.fsencode(prompt)
    if reader is None:
        return np.frombuffer(typed, np.uint8).astype(np.int32)
    try:
        tokens, _ = reader.encode(typed.decode())
    except UnicodeDecodeError as error:
        raise InputError("--prompt is not UTF-8, and the run's tokenizer reads characters: give text") from error
    return tokens


def _up_to_the_end(tokens: np.ndarray, reader: Tokenizer | None) -> np.ndarray:
    """The tokens before the one that ends a file, behind which the model goes on with another."""
    end = SEPARATOR
    if reader is not None:
        end = reader.between
    ended = np.flatnonzero(tokens == end)
    if len(ended):
        return tokens[: ended[0]]
    return tokens


def _decoded(tokens: np.ndarray, reader: Tokenizer | None) -> str:
    if reader is None:
        return tokens.astype(np.uint8).tobytes().decode(errors="replace")
    return reader.decode(tokens)


if __name__ == "__main__":
    cli.program(command)
