"""Does a model use its context, or only survive it?

Question   A loss that stays flat past the trained length may come from text that the model does not read. How far back
           does it provably read, where does its attention go, and what of a longer window is fewer early tokens?
Claims     ALiBi extrapolates; ALiBi's gain from longer windows is that of early tokens; RoPE fails past its length
           since its attention spreads out; log-n scaling keeps it sharp, which mends it.
Papers     Press et al. 2021, arXiv:2108.12409, with its appendix B; Chiang and Cholak 2022, arXiv:2202.12172.
Command    python -m experiments.run configs/use_of_context.py
Costs      23 minutes on two CPU cores that did other work beside it, 9 runs.
Expect     ALiBi's loss is that of its windowed control (ratio 1.01 at 8x), though what lies past 64 bytes does change
           it a little. Its attention is more even than RoPE's throughout (3.6 nats against 2.9 at 8x), so evenness
           does not explain RoPE's failure. Log-n makes attention sharper, and mends neither RoPE (8x 7.5) nor NoPE.
"""

from posjax import Alibi, Encoding, NoPE, Rope
from posjax.data import StandardLibrary
from posjax.evaluation import (
    AttentionMaps,
    EffectiveContext,
    Evaluation,
    ExtensionLike,
    Extrapolation,
    Reach,
    SlidingWindow,
)
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 64
SEEDS = (0, 1, 2)
TRAIN = Train(steps=400, length=LENGTH, batch=32, optimizer=AdamW(learning_rate=4e-3))


def evaluations(*extensions: ExtensionLike) -> tuple[Evaluation, ...]:
    return (
        # What is asked of the other three: whether the loss moves at all.
        Extrapolation((1, 2, 4, 8), windows=32, extensions=extensions),
        EffectiveContext(multiple=4, windows=64, extensions=extensions),
        AttentionMaps(multiples=(1, 2, 4, 8), windows=8, bins=16, extensions=extensions),
        # A stride of its window is the usual way to measure, and a short one leaves early tokens out.
        SlidingWindow(multiples=(1, 2, 4), strides=("window", 16), stretches=16, extensions=()),
    )


def trained(name: str, label: str, encoding: Encoding, evaluation: tuple[Evaluation, ...]) -> list[Run]:
    model = decoder(encoding, layers=2, width=64, heads=4)
    return [Run(f"{name}-s{seed}", label, model, StandardLibrary(), TRAIN, evaluation, seed=seed) for seed in SEEDS]


def experiment() -> Experiment:
    return Experiment(
        title="Does a model use its context",
        question="How far back does a model provably read, past the length it was trained at?",
        paper="Press et al. 2021, arXiv:2108.12409; Chiang and Cholak 2022, arXiv:2202.12172",
        runs=(
            *trained("rope", "RoPE", Rope(), evaluations("yarn", "log-n")),
            # Of the three it alone has a bias, and so a reach that is known beforehand.
            *trained("alibi", "ALiBi", Alibi(), (*evaluations(), Reach())),
            *trained("nope", "NoPE", NoPE(), evaluations("log-n")),
        ),
    )
