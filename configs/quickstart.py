"""How does a positional encoding behave past the length it was trained on?

Question   Trained on 64 bytes of context, which encodings still predict the next byte at 128 to 1024, which of them
           use that context, and what does extending RoPE without training give?
Papers     Press et al. 2021, arXiv:2108.12409 (extrapolation, ALiBi); Peng et al. 2023, arXiv:2309.00071 (YaRN).
Command    python -m experiments.run configs/quickstart.py
Costs      About four minutes on two CPU cores; no download, the text is Python's own standard library.
Expect     Past the trained length learned, sinusoidal and raw RoPE explode (4x ratio above 2), T5 leaks (4x 1.15 to
           1.6), ALiBi is flat (16x below 1.05), YaRN rescues RoPE (4x below 1.6). RoPE that may only look at its last
           64 bytes beats every extension (1.02), and yet it and ALiBi lose the far needle that YaRN finds.
"""

from dataclasses import replace

from posjax import Alibi, Encoding, Learned, Rope, Sinusoidal, T5Bias
from posjax.data import Needles, StandardLibrary
from posjax.evaluation import Extrapolation, Retrieval
from posjax.models import Architecture, Embedding, decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 64

LANGUAGE = Train(steps=400, length=LENGTH, batch=32, optimizer=AdamW(learning_rate=4e-3))
RETRIEVAL = Train(steps=250, length=LENGTH, batch=64, optimizer=AdamW(learning_rate=3e-3, weight_decay=0.01))


def model(encoding: Encoding, deviation: float = 0.02) -> Architecture:
    small = decoder(encoding, layers=2, width=64, heads=4)
    return replace(small, embedding=Embedding(deviation))


def language(name: str, label: str, architecture: Architecture) -> Run:
    evaluation = Extrapolation(multiples=(1, 2, 4, 8, 16), windows=64, extensions=("linear", "ntk", "yarn"))
    return Run(name, label, architecture, StandardLibrary(), LANGUAGE, evaluation)


def needle(name: str, label: str, encoding: Encoding) -> Run:
    evaluation = Retrieval(multiples=(1, 2, 4, 16), depths=(0.0, 0.45, 0.9), sequences=128, extensions=("yarn",))
    return Run(f"needle-{name}", label, model(encoding), Needles(), RETRIEVAL, evaluation)


def experiment() -> Experiment:
    return Experiment(
        title="Past the trained length",
        question="How does a positional encoding behave past the length it was trained on?",
        paper="Press et al. 2021, arXiv:2108.12409; Peng et al. 2023, arXiv:2309.00071",
        runs=(
            # Rows past the trained length are there and stay untrained: what a longer table alone is worth.
            language("learned", "Learned", model(Learned(length=16 * LENGTH))),
            # Its waves are of size 1, so the token embedding must be too.
            language("sinusoidal", "Sinusoidal", model(Sinusoidal(), deviation=1.0)),
            # A max_distance past the trained length would leave buckets that are never trained.
            language("t5", "T5", model(T5Bias(max_distance=LENGTH // 2))),
            language("rope", "RoPE", model(Rope())),
            language("alibi", "ALiBi", model(Alibi())),
            needle("rope", "RoPE", Rope()),
            needle("alibi", "ALiBi", Alibi()),
        ),
    )
