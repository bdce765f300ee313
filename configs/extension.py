"""How is one trained RoPE model made to read further: without training, and with a little?

Question   Which schedule, and which near and far form, keeps a trained model's loss at 2 to 16 times its length as it
           is; and what is left of their differences after a short fine-tuning at 4 times the length?
Papers     Chen et al. 2023, arXiv:2306.15595 (linear, PI); Peng et al. 2023, arXiv:2309.00071 (NTK, by parts, YaRN);
           Grattafiori et al. 2024, arXiv:2407.21783 (Llama 3); Jin et al. 2024, arXiv:2401.01325 (Self-Extend);
           Su 2023, https://kexue.fm/archives/9706 (ReRoPE).
Command    python -m experiments.run configs/extension.py
Costs      15 minutes on two CPU cores that did other work beside it; no download.
Expect     As trained: linear fails at 2x (1.5 to 1.8), NTK carries 2x (below 1.1), YaRN is the best of the schedules
           from 4x on (about 1.4), and the window stays below 1.05. Tuned for 80 steps all four are close at 4x.
"""

from dataclasses import replace

from posjax import NTK, Interpolation, Rope, Yarn
from posjax.data import StandardLibrary
from posjax.encodings import Schedule
from posjax.encodings.schedules import PLAIN
from posjax.evaluation import Extrapolation, FixedLengths
from posjax.models import Architecture, Embedding, decoder
from posjax.runs import Experiment, Run
from posjax.stages import Stage, Stages
from posjax.training import AdamW, Train

SEEDS = (0, 1, 2)
LENGTH = 64
LONGER = 4 * LENGTH

TRAIN = Train(steps=300, length=LENGTH, batch=32, optimizer=AdamW(learning_rate=4e-3))
# As many bytes a step as before, in windows four times as long.
TUNE = Train(steps=80, length=LONGER, batch=8, optimizer=AdamW(learning_rate=1e-3))

ZERO_SHOT = Extrapolation(
    multiples=(1, 2, 4, 8, 16),
    windows=32,
    extensions=("linear", "ntk", "ntk-doubled", "yarn", "parts", "llama3", "self-extend", "rerope"),
)
# The last half of the first trained length, for models of both lengths.
SAME_BYTES = FixedLengths(lengths=(64, 128, 256, 512, 1024), targets=LENGTH // 2, windows=32)

TUNED: dict[str, tuple[str, Schedule]] = {
    "tuned": ("RoPE, tuned", PLAIN),
    "tuned-pi": ("PI, tuned", Interpolation(4.0)),
    "tuned-ntk": ("NTK, tuned", NTK(4.0)),
    "tuned-yarn": ("YaRN, tuned", Yarn(4.0, LENGTH)),
}


def model(schedule: Schedule = PLAIN) -> Architecture:
    small = decoder(Rope(schedule=schedule), layers=2, width=64, heads=4)
    return replace(small, embedding=Embedding(0.02))


def zero_shot(seed: int) -> Run:
    return Run(f"rope-s{seed}", "RoPE", model(), StandardLibrary(), TRAIN, (ZERO_SHOT, SAME_BYTES), seed=seed)


def tuned(name: str, seed: int) -> Run:
    label, schedule = TUNED[name]
    stages = Stages((Stage(TRAIN, model=model()), Stage(TUNE)))
    return Run(f"{name}-s{seed}", label, model(schedule), StandardLibrary(), stages, SAME_BYTES, seed=seed)


def experiment() -> Experiment:
    runs = [zero_shot(seed) for seed in SEEDS]
    runs += [tuned(name, seed) for name in TUNED for seed in SEEDS]
    return Experiment(
        title="Extending a trained RoPE",
        question="Which schedule keeps a trained model's loss past its length, as it is and after a short fine-tuning?",
        paper="Chen et al. 2023, arXiv:2306.15595; Peng et al. 2023, arXiv:2309.00071; Jin et al. 2024, "
        "arXiv:2401.01325; Su 2023, ReRoPE",
        runs=tuple(runs),
    )
