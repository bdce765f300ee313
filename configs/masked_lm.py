"""Does RoPE learn faster than absolute positions where hidden tokens are foretold from both sides?

Question   Of encoders that are trained alike to foretell hidden bytes, does the one with RoPE have the lower loss at
           each tenth of its steps, and does it keep that loss at lengths it was not trained on?
Papers     Su et al. 2021, arXiv:2104.09864, section 4.2 and figure 3 (RoFormer against BERT, loss by step); Devlin et
           al. 2018, arXiv:1810.04805, section 3.1 (hidden tokens).
Command    python -m experiments.run configs/masked_lm.py [--text FILE ...] [--only rope-s0 ...]
Costs      21 minutes on two CPU cores that did other work beside it; no download, the text is Python's own standard
           library.
Expect     RoPE learns faster and further: a loss of 1.8 where learned positions end at 2.3, sinusoidal ones at 2.6
           and none at 2.8, a bag of bytes. At four times the length RoPE has 2.1, and all others 2.8 or more.
"""

from dataclasses import replace

from posjax import Encoding, Learned, NoPE, Rope, Sinusoidal
from posjax.data import StandardLibrary, Text
from posjax.evaluation import ObjectiveLoss
from posjax.models import Embedding, encoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, MaskedLM, Train

LENGTH = 64
TRAIN = Train(steps=400, length=LENGTH, batch=32, objective=MaskedLM(), optimizer=AdamW(learning_rate=4e-3))
EVALUATION = ObjectiveLoss(multiples=(1, 2, 4), windows=128)
METHODS: dict[str, tuple[str, Encoding]] = {
    "rope": ("RoPE", Rope()),
    "learned": ("Learned", Learned(length=4 * LENGTH)),
    "sinusoidal": ("Sinusoidal", Sinusoidal()),
    "nope": ("NoPE", NoPE()),
}


def runs(name: str, label: str, encoding: Encoding, data: StandardLibrary | Text) -> tuple[Run, ...]:
    """One run for each of three seeds; all methods read the same rows, with the same bytes hidden."""
    deviation = 0.02
    # Its waves are of size 1, so the token embedding must be too.
    if isinstance(encoding, Sinusoidal):
        deviation = 1.0
    model = replace(encoder(encoding, layers=2, width=64, heads=4), embedding=Embedding(deviation))
    return tuple(Run(f"{name}-s{seed}", label, model, data, TRAIN, EVALUATION, seed) for seed in range(3))


def experiment(text: tuple[str, ...] = ()) -> Experiment:
    """`text`: files to train and measure on, in the place of Python's standard library."""
    data = StandardLibrary()
    if text:
        data = Text(paths=text)
    every = [runs(name, label, encoding, data) for name, (label, encoding) in METHODS.items()]
    return Experiment(
        title="Hidden tokens",
        question="Does RoPE learn faster than absolute positions where hidden tokens are foretold from both sides?",
        paper="Su et al. 2021, arXiv:2104.09864, figure 3",
        runs=tuple(run for of_method in every for run in of_method),
    )
