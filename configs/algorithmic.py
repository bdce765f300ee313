"""Does a rule that was learned on short sequences go on to longer ones, and do randomised positions help?

Question   Trained on sequences of up to 24 tokens, which encodings are still right at 48 and at 96? Does it help to
           train at positions drawn at random from a longer range?
Papers     Kazemnejad et al. 2023, arXiv:2305.19466 (decoders without positions generalise best); Ruoss et al. 2023,
           arXiv:2305.16843 (randomised positions: 12 points more over 15 tasks, encoders, much longer training);
           Liu et al. 2023, arXiv:2306.00637 (flip-flop).
Command    python -m experiments.run configs/algorithmic.py [--only sort-rope-s0 ...]
Costs      28 minutes on two CPU cores that did other work beside it; no download, the tasks are drawn.
Expect     Within 24 tokens nearly all is right, but for NoPE on flip-flops (0.91) and RoPE at randomised positions
           (0.81 to 1.0). At 96 RoPE sorts 0.42 right, NoPE 0.90 and randomised RoPE 0.85. ALiBi keeps its flip-flops:
           0.95 of them wholly right, RoPE 0.04 to 0.39. Majority stays above 0.9.
"""

from posjax import Alibi, Encoding, NoPE, Randomized, Rope, chain
from posjax.data import FlipFlop, Majority, Sort, Task
from posjax.evaluation import Accuracy
from posjax.models import Architecture, decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 24
SEEDS = (0, 1, 2)

# As long as it takes to learn the tasks within the trained length.
TRAIN = Train(steps=500, length=LENGTH, batch=48, optimizer=AdamW(learning_rate=4e-3, weight_decay=0.01))
EVALUATION = Accuracy(multiples=(1, 2, 4), sequences=128)

TASKS: dict[str, Task] = {"sort": Sort(symbols=8), "majority": Majority(), "flip-flop": FlipFlop(ignore=0.5)}
# Order does not matter to it: two encodings show that, and more would show it again.
FEWER = {"majority": ("rope", "nope")}

# Twice as far as it is measured, so that the longest distances are not the rarest.
RANDOMIZED = Randomized(length=8 * LENGTH)

ENCODINGS: dict[str, tuple[str, Encoding]] = {
    "rope": ("RoPE", Rope()),
    "rope-randomised": ("RoPE, randomised", chain(RANDOMIZED, Rope())),
    "alibi": ("ALiBi", Alibi()),
    "nope": ("NoPE", NoPE()),
}


def model(encoding: Encoding) -> Architecture:
    return decoder(encoding, layers=2, width=64, heads=4)


def runs_of(task: str) -> tuple[Run, ...]:
    """A run for each encoding and seed."""
    return tuple(
        Run(
            f"{task}-{name}-s{seed}",
            ENCODINGS[name][0],
            model(ENCODINGS[name][1]),
            TASKS[task],
            TRAIN,
            EVALUATION,
            seed,
        )
        for name in FEWER.get(task, tuple(ENCODINGS))
        for seed in SEEDS
    )


def experiment() -> Experiment:
    return Experiment(
        title="Past the lengths of the task",
        question="Does a rule learned on short sequences go on to longer ones, and do randomised positions help?",
        paper="Kazemnejad et al. 2023, arXiv:2305.19466; Ruoss et al. 2023, arXiv:2305.16843",
        runs=tuple(run for task in TASKS for run in runs_of(task)),
    )
