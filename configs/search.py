"""Does a schedule that is found by gradient, with frozen weights, read further than one given by a formula?

Question   The divisor of each pair and the temperature of a trained RoPE, searched by Adam on training text at 2, 4,
           8 and 16 times the trained length: is the loss on validation text lower than YaRN's, in every seed?
Papers     Ding et al. 2024, arXiv:2402.13753 (LongRoPE, which searches by evolution); Peng et al. 2023,
           arXiv:2309.00071 (YaRN).
Command    python -m experiments.run configs/search.py
Costs      12 minutes on two CPU cores that did other work beside it; no download.
Expect     The found schedule is better than YaRN at each multiple. Of record, three seeds: 1.05 beside YaRN's 1.11
           at 2x, 1.23 beside 1.39 at 4x, 1.68 beside 1.92 at 8x and 2.43 beside 2.79 at 16x. It begins at NTK for
           2x and at YaRN from 4x on.
"""

from dataclasses import replace

from posjax import Rope
from posjax.data import StandardLibrary
from posjax.models import Embedding, decoder
from posjax.runs import Experiment, Run
from posjax.search import GradientSearch, Searched
from posjax.training import AdamW, Train

SEEDS = (0, 1, 2)
TRAIN = Train(steps=400, length=64, batch=32, optimizer=AdamW(learning_rate=4e-3))
# As in the quickstart.
MODEL = replace(decoder(Rope(), layers=2, width=64, heads=4), embedding=Embedding(0.02))
# The search reads training text alone, and the comparison validation text.
FOUND = Searched(multiples=(2, 4, 8, 16), windows=64, search=GradientSearch(steps=60))


def experiment() -> Experiment:
    return Experiment(
        title="Schedules found by gradient",
        question="Does a schedule that is found by gradient, with frozen weights, beat those given by a formula?",
        paper="Ding et al. 2024, arXiv:2402.13753; Peng et al. 2023, arXiv:2309.00071",
        runs=tuple(Run(f"rope-s{s}", "RoPE", MODEL, StandardLibrary(), TRAIN, FOUND, seed=s) for s in SEEDS),
    )
