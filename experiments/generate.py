"""Let a trained run of a config continue a text, or a published model.

python -m experiments.generate configs/quickstart.py --only rope --prompt "def " --tokens 200 --temperature 0.8
python -m experiments.generate models/stories260K --prompt "Once upon a time" --begin "<s>" --temperature 0
python -m experiments.generate models/t5-small --source "translate English to German: The house is wonderful."
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import cli
from posjax import runs
from posjax.data import SEPARATOR, Task, Tokenizer
from posjax.data.tokenizer import read_tokenizer
from posjax.errors import InputError
from posjax.interop import configuration, read
from posjax.interop.files import CONFIG
from posjax.interop.hub import PREFIX, locate
from posjax.models import Sampling, Transformer, generate
from posjax.training import CausalLM

PROMPT = "def "


@dataclass(frozen=True)
class GenerateOptions(cli.Common):
    """Continue a text with trained runs, one after the other; or with a published model, by its folder."""

    prompt: str | None = None
    """The text to continue: "def " by default; behind a source, with which an answer begins, nothing."""
    source: str | None = None
    """The text that a published model's encoder reads."""
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
    if options.source is not None:
        raise InputError("--source is for a published model with an encoder, and runs have none: give --prompt")
    text = [run for run in request.experiment.runs if _continues_text(run)]
    if not text:
        raise InputError("none of the chosen runs is trained on the next token of a text: choose others with --only")
    for run in text:
        trained_model = runs.restore(run, request.folder(options, run), cli.teller(console))
        reader = _reader(run)
        given = _encoded(_prompt(options), reader)
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
    model = read(folder)
    _expect_source(model, options, source)
    config = configuration(folder)
    memory = None
    if options.source is None:
        given = _with_publishers_tokens(_prompt(options), reader)
    else:
        # First, since it may be refused, and an encoder takes its time.
        given = _answer(options.prompt or "", reader, config)
        memory = model.encode(jnp.asarray(_with_publishers_tokens(options.source, reader))[None])
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    stop = config.get("eos_token_id")
    # Some have several, and which of them a model without instructions ends with nobody says.
    if not isinstance(stop, int):
        stop = None
    prompt = jnp.asarray(given)[None]
    rows = generate(model, prompt, options.tokens, sampling=sampling, seed=options.draw, stop=stop, memory=memory)
    new = np.asarray(rows[0])
    ended = np.flatnonzero(new == stop)
    if len(ended):
        new = new[: ended[0]]
    continued = reader.decode(np.concatenate([given, new]))
    cli.console(cli.Product).print(continued, markup=False, highlight=False)


def _prompt(options: GenerateOptions) -> str:
    if options.prompt is None:
        return PROMPT
    return options.prompt


def _expect_source(model: Transformer, options: GenerateOptions, name: str) -> None:
    """Errors: `InputError` for a model that does not write, and a source that goes with another one."""
    if model.architecture.decoder is None:
        raise InputError(f"{name} is an encoder alone: needed is a model that continues what it reads, with a decoder")
    # Either would be left out in silence.
    has_encoder = model.architecture.encoder is not None
    if has_encoder and options.source is None:
        raise InputError(f"{name} has an encoder, and nothing for it to read: give --source TEXT")
    if not has_encoder and options.source is not None:
        raise InputError(f"--source was given, and {name} has no encoder to read it: give --prompt TEXT")


def _with_publishers_tokens(text: str, reader: Tokenizer) -> np.ndarray:
    """The tokens of a text, with what the publisher's tokenizer puts around it."""
    tokens = np.array(reader.rules.encode(text).ids, np.int32)
    if reader.begin is None:
        return tokens
    return np.append(np.int32(reader.begin), tokens)


def _answer(begun: str, reader: Tokenizer, config: Mapping[str, Any]) -> np.ndarray:
    """The token that a decoder begins an answer with, and the answer as far as it is given."""
    start = config.get("decoder_start_token_id")
    if not isinstance(start, int):
        raise InputError(
            f"config.json has decoder_start_token_id={start!r}: needed is the token that an answer begins with"
        )
    # Without what is put around a text, whose end would end the answer.
    tokens = reader.rules.encode(begun, add_special_tokens=False).ids
    return np.array([start, *tokens], np.int32)


def _continues_text(run: runs.Run) -> bool:
    return isinstance(run.objective, CausalLM) and not isinstance(run.data, Task)


def _reader(run: runs.Run) -> Tokenizer | None:
    """The tokenizer of a run's text; `None` where it reads bytes."""
    if isinstance(run.data, Task):
        return None
    return run.data.reader()


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
