"""What does a positional encoding cost?

Question   How much longer does a pass take, and how much more memory, than without positions, by length?
Papers     Press et al. 2021, arXiv:2108.12409, section 3 and its figure of speed and memory (ALiBi costs as much as
           sinusoidal embeddings, and T5's bias about twice).
Command    python -m experiments.run configs/cost.py
Costs      Four minutes on two CPU cores that do nothing else, nearly all of it compilation: nothing is trained.
Expect     In training RoPE, ALiBi, T5, KERPLE, sinusoidal and learned cost within 7 % of NoPE's CPU seconds, and 3 %
           of its memory. FIRE costs 2 to 3 times as much; Shaw, Transformer-XL and CoPE, whose scores are more than a
           product, 8, 9 and 20 times at 1,024 tokens. Ratios are of this machine's CPU: on a GPU they are measured by
           `experiments.benchmarks.gpu`.
"""

from posjax import (
    Alibi,
    CoPE,
    Encoding,
    Fire,
    Kerple,
    Learned,
    NoPE,
    Rope,
    Sandwich,
    Shaw,
    Sinusoidal,
    T5Bias,
    TransformerXL,
    XPos,
)
from posjax.data import Needles
from posjax.evaluation import Cost
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.stages import Untrained

LENGTHS = (256, 1024)


def run(name: str, label: str, encoding: Encoding) -> Run:
    model = decoder(encoding, layers=1, width=128, heads=8)
    # The data give the model a vocabulary; the tokens are drawn.
    return Run(name, label, model, Needles(), Untrained(LENGTHS[0]), Cost(LENGTHS, repeats=15))


def experiment() -> Experiment:
    return Experiment(
        title="What an encoding costs",
        question="How much longer does a pass take, and how much more memory, than without positions?",
        paper="Press et al. 2021, arXiv:2108.12409",
        runs=(
            # Against itself: what a ratio of 1 looks like on this machine.
            run("nope", "NoPE", NoPE()),
            run("sinusoidal", "Sinusoidal", Sinusoidal()),
            run("learned", "Learned", Learned(length=LENGTHS[-1])),
            run("rope", "RoPE", Rope()),
            run("xpos", "xPos", XPos()),
            run("alibi", "ALiBi", Alibi()),
            run("t5", "T5", T5Bias()),
            run("kerple", "KERPLE", Kerple()),
            run("fire", "FIRE", Fire()),
            run("sandwich", "Sandwich", Sandwich()),
            run("shaw", "Shaw", Shaw()),
            run("transformer-xl", "Transformer-XL", TransformerXL()),
            run("cope", "CoPE", CoPE(length=64)),
        ),
    )
