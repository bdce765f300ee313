"""One step of training, forward, backward and AdamW, of the same decoder in posjax and in transformers on torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.common.timing import Stopwatch, Timed
from posjax import Alibi, Fire, Kerple, NoPE, Rope, T5Bias
from posjax.encodings import Encoding
from posjax.models import decoder
from posjax.training import AdamW, Checkpoints, Devices, Train, Trainer
from posjax.training.mesh import place
from posjax.training.speed import operations

VOCABULARY = 512
LAYERS = 6
WIDTH, HEADS = 256, 8
FEED_FORWARD = 688
TOKENS = 4096
"""In a batch, whatever the length of its rows."""
ENCODINGS: dict[str, Encoding] = {
    "rope": Rope(),
    "alibi": Alibi(),
    "t5": T5Bias(),
    "kerple": Kerple(),
    "fire": Fire(),
    "none": NoPE(),
}


@dataclass(frozen=True)
class StepCase:
    """Rows of a length, as many as make a batch of `TOKENS`."""

    length: int

    @property
    def rows(self) -> int:
        return max(1, TOKENS // self.length)

    def batch(self) -> dict[str, np.ndarray]:
        """Random tokens, the same for everyone."""
        random = np.random.default_rng(0)
        tokens = random.integers(0, VOCABULARY, (self.rows, self.length + 1)).astype(np.int32)
        return {
            "inputs": tokens[:, :-1],
            "targets": tokens[:, 1:],
            "weights": np.ones((self.rows, self.length), np.float32),
        }

    @property
    def operations(self) -> float:
        """Those of one step, by the formula of `posjax.training.speed`."""
        model = decoder(Rope(), LAYERS, WIDTH, HEADS, feed_forward=FEED_FORWARD)
        return self.rows * self.length * operations(model, VOCABULARY, self.length)


def ours(case: StepCase, name: str) -> Timed:
    """A step of `posjax.training.Trainer`, as a run takes it."""
    model = decoder(ENCODINGS[name], LAYERS, WIDTH, HEADS, feed_forward=FEED_FORWARD)
    plan = Train(steps=1000, length=case.length, batch=case.rows, optimizer=AdamW(), devices=Devices(data=1))
    trainer: Trainer = plan.trainer(model, VOCABULARY)
    batch = place(case.batch(), trainer.mesh)
    advance = trainer.compiled(0)
    # A step consumes the state that it is given.
    held = [trainer.start(0)]

    def run() -> Any:
        state, metrics = advance(held.pop(), batch)
        held.append(state)
        return metrics

    return Timed(run, jax.block_until_ready)


def theirs(case: StepCase, attention: str) -> Timed:
    """A step of transformers' Llama with torch's AdamW; `attention`: "eager" or "sdpa"."""
    # Here, since whoever measures nothing else of this file has neither.
    import torch  # type: ignore[import-not-found]
    import transformers  # type: ignore[import-not-found]

    torch.manual_seed(0)
    config: Any = transformers.LlamaConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        vocab_size=VOCABULARY,
        max_position_embeddings=case.length,
        tie_word_embeddings=False,
        attn_implementation=attention,
    )
    model: Any = transformers.LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    batch = case.batch()
    inputs = torch.asarray(batch["inputs"]).long()
    targets = torch.asarray(batch["targets"]).long()

    def run() -> Any:
        optimizer.zero_grad()
        logits = model(inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), targets.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return Timed(run, lambda loss: loss.item())


def product(size: int = 1024) -> tuple[Timed, float]:
    """A product of matrices, whose rate is what the machine can do, and its operations."""
    matrix = jax.numpy.ones((size, size), jax.numpy.float32)
    multiply: Callable[..., Any] = jax.jit(jax.numpy.matmul)
    return Timed(lambda: multiply(matrix, matrix), jax.block_until_ready), 2.0 * size**3


def saving(case: StepCase, folder: Path) -> list[float]:
    """For how many seconds a checkpoint holds up the step that it falls on, a few times."""
    plan = Train(steps=1000, length=case.length, batch=case.rows, devices=Devices(data=1))
    model = decoder(ENCODINGS["rope"], LAYERS, WIDTH, HEADS, feed_forward=FEED_FORWARD)
    state = plan.trainer(model, VOCABULARY).start(0)
    taken = []
    with Checkpoints(folder) as checkpoints:
        for step in range(1, 6):
            jax.block_until_ready(state)
            watch = Stopwatch()
            checkpoints.save(step, state)
            taken.append(watch.taken()[1])
            # What is written in the background is no part of it, but for the cores that it takes.
            checkpoints.wait()
    return taken
