"""What does RoPE's base decide, in training and after it?

Question   Does a larger base in training help past the trained length, or one after training? Is scaling free within
           it? And is what a few more steps give worth them: in stages of length, at once, or without positions?
Claims     A larger base is better for long contexts; scaled, a model is as good at short ones as before; longer stages
           beat one jump; the rotation may be dropped after training at no loss (DroPE).
Papers     Liu et al. 2023, arXiv:2310.05209, and Men et al. 2024, arXiv:2405.14591 (bases and their bound); Gelberg et
           al. 2025, arXiv:2512.12167 (DroPE); Xiong et al. 2023, arXiv:2309.16039 (longer stages, larger bases).
Command    python -m experiments.run configs/base_scaling.py
Costs      26 minutes on two CPU cores that did other work beside it, 24 runs.
Expect     No base saves raw RoPE (4x 3.6 and more for 10,000), and a base that grows with the factor does at 2x
           (1.09). Scaled by 8 at the trained length, linear costs a ratio of 2.9, YaRN 1.3, NTK 1.1. Dropped at once,
           RoPE's ratio is 3.6 to 5.0; trained on without it, its loss of 2.2 is that of NoPE, 2.1, and not RoPE's
           1.7.
"""

from posjax import Encoding, NoPE, Rope, Yarn
from posjax.data import StandardLibrary
from posjax.evaluation import Evaluation, Extrapolation, Rebased, Static
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.stages import Stage, Stages
from posjax.training import AdamW, Train

LENGTH = 64
SEEDS = (0, 1, 2)
ADAM = AdamW(learning_rate=4e-3)

SHORT = Train(steps=300, length=LENGTH, batch=32, optimizer=ADAM)
MULTIPLES = (1, 2, 4, 8)
BASES = Extrapolation(MULTIPLES, windows=32, extensions=("base", "ntk", "yarn"))
SCHEDULES = Extrapolation(
    MULTIPLES,
    windows=32,
    extensions=(
        *("linear", "ntk", "dynamic-ntk", "yarn", "parts", "log-n", "drop"),
        *(Rebased(1.0), Rebased(2.0), Rebased(3.3)),
        # One factor for all lengths, the trained one too.
        *(Static(8.0, "linear"), Static(8.0, "ntk"), Static(8.0, "yarn")),
    ),
)
# Models that were trained at 4 L: the same longest windows, so the same texts.
LONGER = Extrapolation((1, 2), windows=32, extensions=())


def trained(name: str, label: str, encoding: Encoding, train: Train | Stages, evaluation: Evaluation) -> list[Run]:
    model = decoder(encoding, layers=2, width=64, heads=4)
    return [Run(f"{name}-s{seed}", label, model, StandardLibrary(), train, evaluation, seed=seed) for seed in SEEDS]


def based(base: float, evaluation: Extrapolation) -> list[Run]:
    return trained(f"base{base:.0e}".replace("+0", ""), f"RoPE {base:,.0f}", Rope(base), SHORT, evaluation)


def rows(steps: int, multiple: int) -> Train:
    """Steps of as many bytes as those of the first stage, in rows that are longer."""
    return Train(steps=steps, length=multiple * LENGTH, batch=32 // multiple, optimizer=AdamW(learning_rate=1e-3))


def scaled(multiple: int) -> Rope:
    return Rope(schedule=Yarn(float(multiple), LENGTH))


def in_stages() -> list[Run]:
    """Of the same model and the same number of bytes: by twice and by four times, and by four times at once."""
    start = Stage(SHORT, decoder(Rope(), layers=2, width=64, heads=4))
    twice = Stage(rows(60, 2), decoder(scaled(2), layers=2, width=64, heads=4))
    progressive = Stages((start, twice, Stage(rows(60, 4))))
    at_once = Stages((start, Stage(rows(120, 4))))
    dropped = Stages((start, Stage(Train(steps=120, length=LENGTH, batch=32, optimizer=ADAM))))
    return [
        *trained("progressive", "Progressive", scaled(4), progressive, LONGER),
        *trained("at-once", "At once", scaled(4), at_once, LONGER),
        *trained("drope", "DroPE", NoPE(), dropped, Extrapolation(MULTIPLES, windows=32, extensions=())),
    ]


def experiment() -> Experiment:
    # As many bytes without positions from the start as DroPE has with and without.
    nope = Train(steps=420, length=LENGTH, batch=32, optimizer=ADAM)
    return Experiment(
        title="RoPE's base, and what a little more training gives",
        question="What does RoPE's base decide, in training and after it?",
        paper="Liu et al. 2023, arXiv:2310.05209; Men et al. 2024, arXiv:2405.14591; Gelberg et al. 2025, "
        "arXiv:2512.12167",
        runs=(
            *based(1e4, SCHEDULES),
            *based(1e2, BASES),
            *based(1e3, BASES),
            *based(1e6, BASES),
            *in_stages(),
            *trained("nope", "NoPE", NoPE(), nope, Extrapolation(MULTIPLES, windows=32, extensions=())),
        ),
    )
