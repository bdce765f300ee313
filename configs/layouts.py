"""Which layers should see everything, and which a window? All choices over four layers.

Question   Local layers of RoPE with a window and global layers without positions, in every order: which of them keep
           their loss past the trained length, and how far back does each provably read?
Claims     Interleaving both extrapolates where each alone does not (SWAN), and keeps far text within reach (RNoPE).
Papers     Yang et al. 2025, arXiv:2501.18795 (RNoPE-SWA); Puvvada et al. 2025, arXiv:2504.08719 (SWAN-GPT).
Command    python -m experiments.run configs/layouts.py
Costs      25 minutes on two CPU cores; three seeds for the layouts that claims are about, and one for the others.
Expect     Every layout with a window in one layer or more keeps its loss: 8x ratio 1.05 or less, RRRN and NRRR 1.01.
           RRRR is flat too, and reads 8 bytes back where NRRR provably reads 192. NNNN leaks (8x 1.20) and RoPE in
           full explodes (4x 2.3, 8x 3.2), by another amount in each seed.
"""

from itertools import product

from posjax import Causal, Rope, Window
from posjax.data import StandardLibrary
from posjax.evaluation import EffectiveContext, Extrapolation
from posjax.models import Architecture, Attention, FeedForward, Layer, Stack, decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 64
LAYERS = 4
SEEDS = (0, 1, 2)
CLAIMED = ("NRRR", "RNRR", "RRNR", "RRRN", "RRRR", "NNNN")
"""Layouts that a claim is about: one that sees everything among windows, and none or nothing else."""
TRAIN = Train(steps=200, length=LENGTH, batch=32, optimizer=AdamW(learning_rate=4e-3))

# "R" looks at the last 16 bytes, rotated; "N" at all, and is told no positions.
LAYER = {
    "R": Layer((Attention(4, encoding=Rope(), mask=Causal() & Window(LENGTH // 4)), FeedForward(176))),
    "N": Layer((Attention(4), FeedForward(176))),
}

EVALUATION = (
    Extrapolation(multiples=(1, 2, 4, 8), windows=32, extensions=()),
    # Four windowed layers reach 60 bytes back: what lies further counts for the others alone.
    EffectiveContext(multiple=4, distances=(0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0), windows=32, control=False),
)


def runs_of(label: str, model: Architecture, seeds: tuple[int, ...]) -> list[Run]:
    name = label.lower()
    return [Run(f"{name}-s{seed}", label, model, StandardLibrary(), TRAIN, EVALUATION, seed=seed) for seed in seeds]


def layout_runs(layout: str) -> list[Run]:
    """Layouts are written from the first layer to the last, so that RRRN ends with the one that sees everything."""
    model = Architecture(64, decoder=Stack(LAYERS, tuple(LAYER[letter] for letter in layout)))
    return runs_of(layout, model, SEEDS if layout in CLAIMED else SEEDS[:1])


def experiment() -> Experiment:
    layouts = ["".join(letters) for letters in product("RN", repeat=LAYERS)]
    # What all of them are an answer to: every layer rotated, and none with a window.
    full = runs_of("RoPE", decoder(Rope(), layers=LAYERS, width=64, heads=4), SEEDS)
    return Experiment(
        title="Which layers should see everything",
        question="Which layouts of windowed RoPE and full NoPE layers keep their loss past the trained length?",
        paper="Yang et al. 2025, arXiv:2501.18795; Puvvada et al. 2025, arXiv:2504.08719",
        runs=(*full, *(run for layout in layouts for run in layout_runs(layout))),
    )
