"""Which encodings find again what stands far back, and how far past the trained length?

Question   Trained to look up needles in 64 tokens, which encodings still find them in 128 to 1,024, does it matter
           where in the text they lie, and does a flat loss (suite `extrapolation`) mean that the far is remembered?
Papers     Hsieh et al. 2024, arXiv:2404.06654 (RULER, whose retrieval these tasks are, in tokens); Liu et al. 2023,
           arXiv:2307.03172 (lost in the middle); Peng et al. 2023, arXiv:2309.00071 (YaRN).
Command    python -m experiments.run configs/retrieval.py [--only rope-s0 ...]
Costs      50 minutes on two CPU cores that did other work beside it; no download.
Expect     Everyone finds all needles at 64 tokens. At 1,024 RoPE and ALiBi lose those that are far (below 0.3), YaRN
           finds nearly all, T5 and NoPE about 0.7 at every depth. The windowed control is at chance, 1/16.
"""

from dataclasses import replace

from posjax import Alibi, Encoding, Kerple, NoPE, Rope, T5Bias
from posjax.data import DepthTask, MultiNeedles, Needles
from posjax.evaluation import Retrieval
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 64
SEEDS = (0, 1, 2)

# That of the quickstart's needles, which all of these encodings learn.
TRAIN = Train(steps=250, length=LENGTH, batch=64, optimizer=AdamW(learning_rate=3e-3, weight_decay=0.01))
# Five depths, so that a curve can be seen to fall in the middle.
DEPTHS = (0.0, 0.25, 0.5, 0.75, 0.9)
EVALUATION = Retrieval(
    multiples=(1, 2, 4, 16), depths=DEPTHS, sequences=48, extensions=("linear", "ntk", "yarn"), control=True
)

ENCODINGS: dict[str, tuple[str, Encoding]] = {
    "rope": ("RoPE", Rope()),
    "alibi": ("ALiBi", Alibi()),
    # A max_distance past the trained length would leave buckets that are never trained.
    "t5": ("T5", T5Bias(max_distance=LENGTH // 2)),
    "nope": ("NoPE", NoPE()),
    "kerple": ("KERPLE", Kerple()),
}


def found(name: str, label: str, encoding: Encoding, task: DepthTask, train: Train = TRAIN) -> tuple[Run, ...]:
    """A run for each seed."""
    model = decoder(encoding, layers=2, width=64, heads=4)
    return tuple(Run(f"{name}-s{seed}", label, model, task, train, EVALUATION, seed) for seed in SEEDS)


def experiment() -> Experiment:
    needles = [found(name, label, encoding, Needles()) for name, (label, encoding) in ENCODINGS.items()]
    # Other keys to be misled by, and one question a row, so that each row teaches less.
    several = found("rope-multi-key", "RoPE, multi-key", Rope(), MultiNeedles(needles=4), replace(TRAIN, steps=400))
    return Experiment(
        title="What stands far back",
        question="Which encodings find again what stands far back, and how far past the trained length?",
        paper="Hsieh et al. 2024, arXiv:2404.06654; Liu et al. 2023, arXiv:2307.03172; Peng et al. 2023, "
        "arXiv:2309.00071",
        runs=(*(run for runs in needles for run in runs), *several),
    )
