"""Do scores fall with the distance, before anything is trained?

Question   Which encodings make far keys score less than near ones by themselves, and is RoPE's decay monotone?
Papers     Su et al. 2021, arXiv:2104.09864, section 3.4.3 and its figure of the bound; Press et al. 2021,
           arXiv:2108.12409 (ALiBi). The monotone decay is a claim of tutorials: the paper shows a bound.
Command    python -m experiments.run configs/decay.py
Costs      About a minute and a half on two CPU cores: nothing is trained, and no text is read.
Expect     RoPE's mean score of equal vectors and its bound trend down and rise on about half of all steps; of
           independent vectors it has no decay at all (mean 0, deviation 1 everywhere). ALiBi and KERPLE alone fall on
           every step: Sandwich and xPos, made to decay, rise on 47 %. Learned, T5 and Shaw start flat: what they become
           is learned.
"""

from posjax import (
    NTK,
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
    Yarn,
)
from posjax.data import Needles
from posjax.evaluation import Decay
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.stages import Untrained

LENGTH = 512
NEAR = (0, 1, 2, 4, 8, 16, 32)
EVALUATION = Decay(distances=(*NEAR, *range(64, LENGTH + 1, 64)))
FAR = Decay(distances=(*NEAR, 64, 128, 256, 320, 512, 1024, 2048, 4096))


def run(name: str, label: str, encoding: Encoding, evaluation: Decay = EVALUATION, heads: int = 8) -> Run:
    # One layer of heads of 64: only its sizes and what the encoding draws are read. The data are never looked at.
    model = decoder(encoding, layers=1, width=512, heads=heads)
    return Run(name, label, model, Needles(), Untrained(LENGTH), evaluation)


def experiment() -> Experiment:
    return Experiment(
        title="Scores by distance, without training",
        question="Which encodings make far keys score less by themselves, and is RoPE's decay monotone?",
        paper="Su et al. 2021, arXiv:2104.09864, section 3.4.3; Press et al. 2021, arXiv:2108.12409",
        runs=(
            run("nope", "NoPE", NoPE()),
            run("sinusoidal", "Sinusoidal", Sinusoidal()),
            run("learned", "Learned", Learned(length=LENGTH + 1)),
            run("rope", "RoPE", Rope()),
            # The sizes of a published Llama: heads of 128, and distances up to its window.
            run("rope-128", "RoPE, head size 128", Rope(), FAR, heads=4),
            run("rope-500k", "RoPE, base 500,000", Rope(base=500_000.0)),
            run("rope-ntk", "RoPE, NTK by 8", Rope(schedule=NTK(8.0))),
            run("rope-yarn", "RoPE, YaRN by 8", Rope(schedule=Yarn(8.0, 64))),
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
