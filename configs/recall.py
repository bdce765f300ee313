"""What the encodings that predict best far past their length remember of it: needles, pairs, bigrams, letters.

Question   Forget gates, ReRoPE and Self-Extend lose least on text far past the trained length (suites `extrapolation`
           and `extension`). Do they also find what stands there, and who joins two tokens, or counts from one?
Papers     Arora et al. 2023, arXiv:2312.04927 (multi-query associative recall); Olsson et al. 2022, arXiv:2209.11895
           (induction); Gopalakrishnan et al. 2025, arXiv:2509.10534 (indirect indexing); Lin et al. 2025,
           arXiv:2503.02130 (forget gates); Su 2023 (ReRoPE); Jin et al. 2024, arXiv:2401.01325 (Self-Extend).
Command    python -m experiments.run configs/recall.py [--only needles-rope-s0 ...]
"""

from posjax import Alibi, Encoding, Forgetting, NoPE, Rope
from posjax.data import AssociativeRecall, InductionAtDistance, Needles, Task
from posjax.evaluation import Accuracy
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 32
SEEDS = (0, 1, 2)

TRAIN = Train(steps=1500, length=LENGTH, batch=64, optimizer=AdamW(learning_rate=3e-3, weight_decay=0.01))
EVALUATION = Accuracy(multiples=(1, 2, 4, 8), sequences=128, extensions=("yarn", "rerope", "self-extend"), control=True)

TASKS: dict[str, Task] = {
    "needles": Needles(),
    "recall": AssociativeRecall(pairs=6),
    "induction": InductionAtDistance(symbols=16, bigrams=6),
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
    model = decoder(encoding, layers=2, width=64, heads=4)
    return tuple(Run(f"{task}-{name}-s{seed}", label, model, TASKS[task], TRAIN, EVALUATION, seed) for seed in SEEDS)


def experiment() -> Experiment:
    return Experiment(
        title="What is remembered of the far",
        question="Do the encodings that lose least far past their length find what stands there?",
        paper="Arora et al. 2023, arXiv:2312.04927; Olsson et al. 2022, arXiv:2209.11895; Gopalakrishnan et al. 2025, "
        "arXiv:2509.10534",
        runs=tuple(run for task in TASKS for name in ENCODINGS for run in runs_of(task, name)),
    )
