"""Do the verdicts of a toy hold at 25 and at 60 million parameters, trained at 512 and 1,024 bytes and read up to 16k?

Question   Is the order of encodings past the trained length the one that 0.1 million parameters at 64 bytes show?
Papers     Press et al. 2021, arXiv:2108.12409, figure 1; Peng et al. 2023, arXiv:2309.00071, tables 1 and 5.
Command    python -m experiments.run configs/scale.py [--size small | large] [--text FILE ...] [--only rope ...]
Costs      For one GPU: each run is a piece of a few minutes, and any of them can be given alone with --only. Not run
           yet: --list tells the operations, and docs/rehearsal.md the memory of a step.
Expect     The three groups of configs/extrapolation.py, if a toy predicts scale: RoPE above 2 at 4 times the length,
           ALiBi below 1.05. YaRN gains on interpolation, as half of the pairs turn whole within the trained window.
"""

from dataclasses import replace
from typing import Literal

from posjax import Alibi, CoPE, Encoding, Fire, Forgetting, Kerple, Learned, NoPE, Rope, Sinusoidal, T5Bias, XPos
from posjax.data import StandardLibrary, Text
from posjax.evaluation import Extrapolation
from posjax.models import Compute, Embedding, decoder
from posjax.models.architecture import Architecture
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

SIZES = {"small": (512, 8, 8, 512, 64), "large": (640, 12, 10, 1024, 32)}
"""Width, layers, heads, trained length and rows of a batch: 25 and 59 million parameters, 32,768 bytes a step."""


def encodings(length: int) -> dict[str, tuple[str, Encoding]]:
    return {
        "nope": ("NoPE", NoPE()),
        "learned": ("Learned", Learned(length=16 * length)),
        "sinusoidal": ("Sinusoidal", Sinusoidal()),
        "t5": ("T5", T5Bias(max_distance=length // 2)),
        "rope": ("RoPE", Rope()),
        "rope100": ("RoPE base 100", Rope(base=100.0)),
        "xpos": ("XPos", XPos(unit=length)),
        "alibi": ("ALiBi", Alibi()),
        "kerple": ("KERPLE", Kerple()),
        "fire": ("FIRE", Fire(threshold=length / 2)),
        "cope": ("CoPE", CoPE()),
        "fox": ("Forgetting", Forgetting()),
    }


def model(encoding: Encoding, width: int, layers: int, heads: int) -> Architecture:
    deviation = 0.02
    # Its waves are of size 1, so the token embedding must be too.
    if isinstance(encoding, Sinusoidal):
        deviation = 1.0
    plain = decoder(encoding, layers=layers, width=width, heads=heads)
    return replace(plain, embedding=Embedding(deviation))


def experiment(size: Literal["small", "large"] = "small", text: tuple[str, ...] = ()) -> Experiment:
    """`size`: 25 or 59 million parameters. `text`: files in the place of Python's standard library."""
    width, layers, heads, length, batch = SIZES[size]
    data: StandardLibrary | Text = StandardLibrary()
    if text:
        # Sixteen times 1,024 bytes in one file: the standard library has few of that length to measure on.
        data = Text(paths=text)
    # Parameters and the loss stay in float32, as everywhere.
    compute = Compute(dtype="bfloat16")
    train = Train(steps=600, length=length, batch=batch, optimizer=AdamW(learning_rate=1e-3), compute=compute)
    evaluation = Extrapolation(multiples=(1, 2, 4, 8, 16), windows=32, extensions=("linear", "ntk", "yarn"))
    runs = [
        Run(name, label, model(encoding, width, layers, heads), data, train, evaluation)
        for name, (label, encoding) in encodings(length).items()
    ]
    return Experiment(
        title=f"Past the trained length at scale: {size}",
        question="Is the order of encodings past the trained length the one that a toy shows?",
        paper="Press et al. 2021, arXiv:2108.12409; Peng et al. 2023, arXiv:2309.00071",
        runs=tuple(runs),
    )
