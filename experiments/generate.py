"""Let a trained run of a config continue a text.

python -m experiments.generate configs/quickstart.py --only rope --prompt "def " --tokens 200 --temperature 0.8
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from experiments import cli
from posjax import runs
from posjax.data import SEPARATOR, Needles
from posjax.errors import InputError
from posjax.models import Sampling, generate


@dataclass(frozen=True)
class GenerateOptions(cli.Common):
    """Continue a text with trained runs, one after the other."""

    prompt: str = "def "
    """The text to continue."""
    tokens: int = 200
    """How many bytes to generate."""
    temperature: float = 0.8
    """0 is greedy."""
    top_k: int | None = None
    """Keep the k likeliest."""
    top_p: float | None = None
    """Keep the fewest that reach this probability."""
    draw: int = 0
    """The seed of the draw."""


def command(arguments: Sequence[str]) -> None:
    options, request = cli.read(GenerateOptions, "experiments.generate", arguments)
    console = cli.console(cli.Product)
    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    # The tokens of a task are no bytes, and nobody could read them.
    text = [run for run in request.experiment.runs if not isinstance(run.data, Needles)]
    if not text:
        raise InputError("none of the chosen runs is trained on text: choose others with --only")
    # The bytes that were typed, whether they are text or not: models of text read bytes.
    given = os.fsencode(options.prompt)
    prompt = jnp.asarray(np.frombuffer(given, np.uint8), jnp.int32)[None]
    for run in text:
        trained_model = runs.restore(run, request.folder(options, run), cli.teller(console))
        rows = generate(trained_model.model, prompt, options.tokens, sampling=sampling, seed=options.draw)
        new = np.asarray(rows[0])
        # The end of a file, behind which the model goes on with another.
        ended = np.flatnonzero(new == SEPARATOR)
        if len(ended):
            new = new[: ended[0]]
        console.rule(run.name)
        continued = given + new.astype(np.uint8).tobytes()
        console.print(continued.decode(errors="replace"), markup=False, highlight=False)


if __name__ == "__main__":
    cli.program(command)
