"""Does a relative encoding stay relative far from the beginning?

Question   Do scores depend on the distance alone at positions up to 2^31, and do the usual float32 angles keep that?
Papers     Su et al. 2021, arXiv:2104.09864, equation 16 (the relative property).
Command    python -m experiments.run configs/invariance.py
Costs      About 20 seconds on two CPU cores: nothing is trained, and no text is read.
Expect     Every relative encoding keeps its scores to 1e-6 of their size at every offset, up to the last position of
           int32. RoPE with float32 angles is off by 1e-2 at a million, and by half of the scores at 2^24. Sinusoidal
           and learned encodings are added to tokens, and move with the offset.
"""

from posjax import (
    Alibi,
    CoPE,
    Encoding,
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
    Yarn,
    chain,
)
from posjax.data import Needles
from posjax.evaluation import Invariance
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.stages import Untrained

TOKENS = 64
OFFSETS = (0, 1000, 10_000, 100_000, 1_000_000, 2**24, 2**31 - 1 - TOKENS)


def run(name: str, label: str, encoding: Encoding) -> Run:
    model = decoder(encoding, layers=1, width=256, heads=4)
    # The data are never looked at: queries and keys are drawn.
    return Run(name, label, model, Needles(), Untrained(TOKENS), Invariance(OFFSETS, TOKENS))


def experiment() -> Experiment:
    return Experiment(
        title="The relative property far from the beginning",
        question="Do scores depend on the distance alone at every position, and do float32 angles keep that?",
        paper="Su et al. 2021, arXiv:2104.09864, equation 16",
        runs=(
            run("nope", "NoPE", NoPE()),
            run("rope", "RoPE", Rope()),
            run("rope-500k", "RoPE, base 500,000", Rope(base=500_000.0)),
            run("rope-yarn", "RoPE, YaRN by 8", Rope(schedule=Yarn(8.0, 64))),
            run("rope-alibi", "RoPE and ALiBi", chain(Rope(), Alibi())),
            run("alibi", "ALiBi", Alibi()),
            run("t5", "T5", T5Bias()),
            run("kerple", "KERPLE", Kerple()),
            run("sandwich", "Sandwich", Sandwich()),
            run("shaw", "Shaw", Shaw()),
            run("transformer-xl", "Transformer-XL", TransformerXL()),
            run("cope", "CoPE", CoPE(length=64)),
            # It ends at 30,720 positions, and its offsets with it.
            run("xpos", "xPos", XPos()),
            run("sinusoidal", "Sinusoidal", Sinusoidal()),
            run("learned", "Learned", Learned(length=2048)),
        ),
    )
