"""Does RoPE help linear attention, which no bias can tell of positions?

Question   Of decoders whose layers attend linearly, does the one whose queries and keys are rotated have the lower loss
           at each tenth of its steps, and past the trained length?
Papers     Su et al. 2021, arXiv:2104.09864, section 4.4 and figure 3 (Performer with and without RoPE, loss by step);
           Choromanski et al. 2020, arXiv:2009.14794 (Performer); Katharopoulos et al. 2020, arXiv:2006.16236 (elu + 1).
Command    python -m experiments.run configs/performer.py [--text FILE ...] [--only elu-rope-s0 ...]
Costs      21 minutes on two CPU cores that did other work beside it; no download, the text is Python's own standard
           library.
Expect     Within the length RoPE helps both: 2.0 against 2.2 with elu + 1, 2.1 against 2.2 with FAVOR+, and softmax
           has 1.7. Past it RoPE hurts: at 4x 2.7 and 3.2, where linear attention without positions keeps 2.4.
"""

from dataclasses import replace
from typing import Any, Literal

from posjax import Encoding, Favor, NoPE, Rope
from posjax.data import StandardLibrary, Text
from posjax.evaluation import ObjectiveLoss
from posjax.models import Architecture, LinearAttention, decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Train

LENGTH = 64
TRAIN = Train(steps=300, length=LENGTH, batch=32, optimizer=AdamW(learning_rate=4e-3))
# Its loss over windows whose every token has one context: Extrapolation reads attention that is not there.
EVALUATION = ObjectiveLoss(multiples=(1, 2, 4), windows=64)
SIZES: dict[str, Any] = {"layers": 2, "width": 64, "heads": 4}
# Random features estimate softmax attention; elu(x) + 1 is an attention of its own.
FEATURES: dict[str, tuple[str, Literal["elu"] | Favor]] = {
    "elu": ("elu + 1", "elu"),
    "favor": ("FAVOR+", Favor(32)),
}


def linear(encoding: Encoding, features: Literal["elu"] | Favor) -> Architecture:
    """A decoder with linear attention in the place of softmax attention."""
    made = decoder(encoding, **SIZES)
    assert made.decoder is not None
    (layer,) = made.decoder.pattern
    _, feed_forward = layer.sublayers
    attention = LinearAttention(SIZES["heads"], encoding=encoding, features=features)
    changed = replace(layer, sublayers=(attention, feed_forward))
    return replace(made, decoder=replace(made.decoder, pattern=(changed,)))


def methods() -> dict[str, tuple[str, Architecture]]:
    """Each model by its name, with its label."""
    found = {"softmax-rope": ("Softmax, RoPE", decoder(Rope(), **SIZES))}
    for name, (label, features) in FEATURES.items():
        found[f"{name}-rope"] = (f"{label}, RoPE", linear(Rope(), features))
        found[f"{name}-nope"] = (f"{label}, NoPE", linear(NoPE(), features))
    return found


def experiment(text: tuple[str, ...] = ()) -> Experiment:
    """`text`: files to train and measure on, in the place of Python's standard library."""
    data = StandardLibrary()
    if text:
        data = Text(paths=text)
    runs = [
        Run(f"{name}-s{seed}", label, model, data, TRAIN, EVALUATION, seed)
        for name, (label, model) in methods().items()
        for seed in range(3)
    ]
    return Experiment(
        title="Linear attention with RoPE",
        question="Does RoPE help linear attention, which no bias can tell of positions?",
        paper="Su et al. 2021, arXiv:2104.09864, section 4.4",
        runs=tuple(runs),
    )
