"""Tokens a second of greedy generation, beside transformers' own with the same weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.common import tables
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.common.timing import Timed, ratio, sample
from posjax import interop
from posjax.errors import InputError
from posjax.models import Transformer, generate

REACH = 4.0
"""How many times as many tokens a second as transformers, for one row."""
VOCABULARY = 512
PROMPT = 16
SIZES = {
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 688,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
"""A Llama of 5 million parameters."""


@dataclass(frozen=True)
class DecodingCase:
    """One generation: how many rows, how many tokens more, and the window that every layer sees, if it sees one."""

    rows: int
    new: int
    window: int | None = None

    @property
    def name(self) -> str:
        seen = ""
        if self.window is not None:
            seen = f", windows of {self.window}"
        return f"{self.rows} x {self.new} tokens{seen}"


@dataclass(frozen=True)
class DecodingRow:
    """Tokens a second of each, and the median over the rounds of how many times faster ours was."""

    name: str
    ours: float
    theirs: float
    times: float


def measure(case: DecodingCase, rounds: int) -> DecodingRow:
    """Both in turns, with the same weights and so the same tokens. Errors: `InputError` where these differ."""
    theirs = _theirs(case)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = interop.read(Path(folder))
    prompt = np.random.default_rng(0).integers(0, VOCABULARY, (case.rows, PROMPT))
    mine = _ours_timed(ours, prompt, case.new)
    other = _theirs_timed(theirs, prompt, case.new)
    # Once untimed: the compiler's time is another benchmark's.
    expected = np.asarray(other.finished())[:, PROMPT:]
    if not np.array_equal(np.asarray(mine.finished()), expected):
        raise InputError(f"{case.name}: the tokens of the two differ, so their times do not compare")
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for seconds, timed in zip(taken, (mine, other), strict=True):
            _, wall = sample(timed, 1)
            seconds.append(wall)
    tokens = case.rows * case.new
    ours_taken, theirs_taken = taken
    # Theirs over ours: how many times as fast, and not how much of the time.
    times = ratio(theirs_taken, ours_taken)
    return DecodingRow(case.name, tokens / median(ours_taken), tokens / median(theirs_taken), times)


def _theirs(case: DecodingCase) -> Any:
    """A model of transformers with random weights."""
    # Here, since whoever measures nothing else of this file has neither.
    import torch  # type: ignore[import-not-found]
    import transformers  # type: ignore[import-not-found]

    torch.manual_seed(0)
    if case.window is None:
        config: Any = transformers.LlamaConfig(**SIZES)
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.MistralConfig(**SIZES, sliding_window=case.window)
        model = transformers.MistralForCausalLM(config)
    # An end of the text that no row meets, since both are to make all tokens.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval()


def _ours_timed(model: Transformer, prompt: np.ndarray, new: int) -> Timed:
    tokens = jnp.asarray(prompt, jnp.int32)
    return Timed(lambda: generate(model, tokens, new), jax.block_until_ready)


def _theirs_timed(model: Any, prompt: np.ndarray, new: int) -> Timed:
    import torch  # type: ignore[import-not-found]

    tokens = torch.asarray(prompt)

    def run() -> Any:
        with torch.no_grad():
            return model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                use_cache=True,
            )

    return Timed(run, lambda made: None)


def table(rows: Sequence[DecodingRow]) -> TextTable:
    """The rates, a row each."""
    body = []
    for row in rows:
        rates = tables.digits(row.ours), tables.digits(row.theirs)
        body.append([row.name, *rates, f"{row.times:.2f}"])
    return TextTable(["generation", "tokens/s", "transformers", "times as fast"], body)


def goal(rows: Sequence[DecodingRow]) -> Goal:
    """For one row without windows."""
    single = [(row.times, row.name) for row in rows if row.name.startswith("1 x") and "windows" not in row.name]
    return Goal("decoding, times as fast as transformers", REACH, at_most=False).judged(single)
