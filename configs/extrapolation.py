"""Trained at 64 bytes, read up to 1,024: which encodings keep their loss, and do they use the text that is far?

Question   Of the encodings of this library, which still predict the next byte past the trained length, in three seeds,
           and does any of them do better than the same model that may only look at its last 64 bytes?
Papers     Press et al. 2021, arXiv:2108.12409, figure 1 and table 2 (extrapolation); Chi et al. 2022, arXiv:2205.09921
           (KERPLE); Li et al. 2023, arXiv:2310.04418 (FIRE); Peng et al. 2023, arXiv:2309.00071 (YaRN).
Command    python -m experiments.run configs/extrapolation.py [--text FILE ...] [--only rope-s0 ...]
Costs      46 minutes on two CPU cores that did other work beside it; no download.
Expect     Learned, sinusoidal and RoPE explode past the trained length, T5, FIRE and NoPE leak, ALiBi and KERPLE are
           flat, and no better than their own windows. Exploded numbers differ by seed: they rank nothing.
"""

from dataclasses import replace

from posjax import (
    Alibi,
    CoPE,
    Encoding,
    Fire,
    Forgetting,
    Kerple,
    Learned,
    NoPE,
    Rope,
    Sandwich,
    Shaw,
    Sinusoidal,
    T5Bias,
    XPos,
    chain,
)
from posjax.data import StandardLibrary, Text
from posjax.evaluation import Extrapolation
from posjax.models import Embedding, decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 64
TRAIN = Train(steps=400, length=LENGTH, batch=32, optimizer=AdamW(learning_rate=4e-3))
PLAIN = Extrapolation(multiples=(1, 2, 4, 8, 16), windows=64, extensions=())
METHODS: dict[str, tuple[str, Encoding]] = {
    "nope": ("NoPE", NoPE()),
    "learned": ("Learned", Learned(length=16 * LENGTH)),
    "sinusoidal": ("Sinusoidal", Sinusoidal()),
    "shaw": ("Shaw", Shaw()),
    "t5": ("T5", T5Bias(max_distance=LENGTH // 2)),
    "rope": ("RoPE", Rope()),
    "rope100": ("RoPE base 100", Rope(base=100.0)),
    "xpos": ("XPos", XPos(unit=LENGTH)),
    "alibi": ("ALiBi", Alibi()),
    "sandwich": ("Sandwich", Sandwich()),
    "kerple": ("KERPLE", Kerple()),
    "fire": ("FIRE", Fire(threshold=LENGTH / 2)),
    "cope": ("CoPE", CoPE()),
    "fox": ("Forgetting", Forgetting()),
    "rope-alibi": ("RoPE and ALiBi", chain(Rope(), Alibi())),
}


def runs(name: str, label: str, encoding: Encoding, data: StandardLibrary | Text) -> tuple[Run, ...]:
    """One run for each of three seeds."""
    deviation = 0.02
    # Its waves are of size 1, so the token embedding must be too.
    if isinstance(encoding, Sinusoidal):
        deviation = 1.0
    model = replace(decoder(encoding, layers=2, width=64, heads=4), embedding=Embedding(deviation))
    evaluation = PLAIN
    # Of one rotary encoding: what extensions do is the question of another config.
    if name == "rope":
        evaluation = replace(PLAIN, extensions=("linear", "ntk", "yarn", "parts"))
    # Its rows past the trained length were never trained: each way of filling them is tried.
    if name == "learned":
        evaluation = replace(PLAIN, fills=("clamp", "wrap", "interpolate"))
    return tuple(Run(f"{name}-s{seed}", label, model, data, TRAIN, evaluation, seed) for seed in range(3))


def experiment(text: tuple[str, ...] = ()) -> Experiment:
    """`text`: files to train and measure on, in the place of Python's standard library."""
    data: StandardLibrary | Text = StandardLibrary()
    if text:
        data = Text(paths=text)
    every = [runs(name, label, encoding, data) for name, (label, encoding) in METHODS.items()]
    return Experiment(
        title="Every encoding past the trained length",
        question="Which encodings still predict past the trained length, and does any of them use what is far?",
        paper="Press et al. 2021, arXiv:2108.12409; Chi et al. 2022, arXiv:2205.09921; Peng et al. 2023, "
        "arXiv:2309.00071",
        runs=sum(every, ()),
    )
