"""Do the encodings that predict best far past their length find what stands there?

Question   Forget gates, ReRoPE and Self-Extend lose least on text past the trained length (suites `extrapolation` and
           `extension`). Do they also find a needle there, and the second half of a pair that was seen once?
Papers     Olsson et al. 2022, arXiv:2209.11895 (induction); Lin et al. 2025, arXiv:2503.02130 (forget gates); Su 2023
           (ReRoPE); Jin et al. 2024, arXiv:2401.01325 (Self-Extend); Peng et al. 2023, arXiv:2309.00071 (YaRN).
Command    python -m experiments.run configs/recall.py [--only needles-rope-s0 ...]
Costs      An hour on two CPU cores that did much other work beside it; no download, the tasks are drawn.
Expect     Within 32 tokens all is right. At 256 RoPE says what followed in 0.1 of cases, YaRN in 0.7, ReRoPE in 0.99.
           YaRN, ReRoPE and Self-Extend find more than 0.9 of the needles there, NoPE too, forget gates 0.6.
"""

from dataclasses import replace

from posjax import Alibi, Encoding, Forgetting, NoPE, Rope
from posjax.data import InductionAtDistance, Needles, Task
from posjax.evaluation import Accuracy
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 32
SEEDS = (0, 1, 2)

# As long as it takes to learn the tasks within the trained length.
TRAIN = Train(steps=700, length=LENGTH, batch=64, optimizer=AdamW(learning_rate=3e-3, weight_decay=0.01))
EVALUATION = Accuracy(multiples=(1, 2, 4, 8), sequences=96, extensions=("yarn", "rerope", "self-extend"), control=True)

TASKS: dict[str, tuple[Task, Train]] = {
    # One needle is joined to one token, so it is learned sooner than a pair.
    "needles": (Needles(), replace(TRAIN, steps=300)),
    "induction": (InductionAtDistance(symbols=16, bigrams=6), TRAIN),
}

ENCODINGS: dict[str, tuple[str, Encoding]] = {
    "rope": ("RoPE", Rope()),
    "alibi": ("ALiBi", Alibi()),
    "nope": ("NoPE", NoPE()),
    "forgetting": ("FoX", Forgetting()),
}


def runs_of(task: str, name: str) -> tuple[Run, ...]:
    """A run for each seed."""
    label, encoding = ENCODINGS[name]
    data, train = TASKS[task]
    # Only rotations have extensions.
    evaluation = EVALUATION
    if name != "rope":
        evaluation = replace(EVALUATION, extensions=())
    model = decoder(encoding, layers=2, width=64, heads=4)
    runs = []
    for seed in SEEDS:
        runs.append(Run(f"{task}-{name}-s{seed}", label, model, data, train, evaluation, seed))
    return tuple(runs)


def experiment() -> Experiment:
    return Experiment(
        title="What is remembered of the far",
        question="Do the encodings that predict best far past their length find what stands there?",
        paper="Olsson et al. 2022, arXiv:2209.11895; Lin et al. 2025, arXiv:2503.02130; Su 2023; Jin et al. 2024, "
        "arXiv:2401.01325; Peng et al. 2023, arXiv:2309.00071",
        runs=tuple(run for task in TASKS for name in ENCODINGS for run in runs_of(task, name)),
    )
