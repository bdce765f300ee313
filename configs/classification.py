"""Are longer documents classified better, and does the encoding matter to it?

Question   Which of five packages of Python's standard library an excerpt comes from: does a model that reads 256 bytes
           tell better than one that reads 32, does RoPE tell better than learned positions or none, and does it help
           to have foretold hidden bytes before?
Papers     Su et al. 2021, arXiv:2104.09864, section 4.5 and table 5 (RoFormer on long legal cases, 512 and 1,024
           characters); Devlin et al. 2018, arXiv:1810.04805 (an encoder that classifies).
Command    python -m experiments.run configs/classification.py [--only rope-256-s0 ...]
           python -m experiments.run configs/classification.py --labelled FILE
           with a line for each text, of up to 256 bytes: its label, a tab, the text.
Costs      27 minutes on two CPU cores that did other work beside it; no download, the text is Python's own standard
           library.
Expect     Accuracy rises with the bytes that are read, from 0.38 at 32 to 0.50 at 256 with RoPE, where a guess has
           0.2. Between encodings the differences are within those of seeds, and tuning a masked model gains nothing
           (0.49).
"""

from dataclasses import replace
from typing import Any

from posjax import Encoding, Learned, NoPE, Rope
from posjax.data import Labelled, Origins, StandardLibrary
from posjax.errors import InputError
from posjax.evaluation import ObjectiveLoss
from posjax.models import Output, encoder
from posjax.runs import Experiment, Run
from posjax.stages import Stage, Stages
from posjax.training import AdamW, Classification, MaskedLM, Train

LENGTHS = (32, 256)
TOKENS = 2048
"""Of a batch, at any length: what is compared is how they are cut."""
SIZES: dict[str, Any] = {"layers": 2, "width": 64, "heads": 4}
CLASSIFY = Train(steps=300, objective=Classification(), optimizer=AdamW(learning_rate=2e-3))
EVALUATION = ObjectiveLoss(multiples=(1, 2), windows=400)
METHODS: dict[str, tuple[str, Encoding]] = {
    "rope": ("RoPE", Rope()),
    "learned": ("Learned", Learned(length=2 * max(LENGTHS))),
    "nope": ("NoPE", NoPE()),
}


def run(name: str, length: int, seed: int, data: Origins | Labelled) -> Run:
    """A model that learns to classify from nothing."""
    label, encoding = METHODS[name]
    # The mean of all tokens: each is part of the document that is told from others.
    output = Output(classes=len(data.classes), pool="mean")
    model = replace(encoder(encoding, **SIZES), output=output)
    train = replace(CLASSIFY, length=length, batch=TOKENS // length)
    evaluation = EVALUATION
    # Its texts are as long as they are.
    if isinstance(data, Labelled):
        evaluation = replace(EVALUATION, multiples=(1,))
    return Run(f"{name}-{length}-s{seed}", f"{label}, {length} bytes", model, data, train, evaluation, seed)


def tuned(seed: int) -> Run:
    """RoPE at the longest length, after hidden bytes of the whole library: all but the output goes over."""
    length = max(LENGTHS)
    plain = run("rope", length, seed, Origins())
    assert isinstance(plain.train, Train)
    hide = replace(plain.train, objective=MaskedLM(), optimizer=AdamW(learning_rate=4e-3))
    # Of one share, both hold out the same files: none of those that are asked about was read before.
    library = StandardLibrary(validation_share=Origins().validation_share)
    first = Stage(hide, model=encoder(Rope(), **SIZES), data=library)
    name, label = f"tuned-{length}-s{seed}", f"RoPE, tuned, {length} bytes"
    return replace(plain, name=name, label=label, train=Stages((first, Stage(plain.train))))


def experiment(labelled: tuple[str, ...] = ()) -> Experiment:
    """`labelled`: a file of labels and texts, in the place of excerpts of Python's standard library."""
    if len(labelled) > 1:
        raise InputError(f"--labelled got {len(labelled)} files: needed is one")
    data = Origins()
    lengths = LENGTHS
    if labelled:
        data = Labelled(labelled[0])
        # A text that is longer than what is read is refused: each length would need a file of its own.
        lengths = (max(LENGTHS),)
    runs = [run(name, length, seed, data) for length in lengths for name in METHODS for seed in range(3)]
    if not labelled:
        runs += [tuned(seed) for seed in range(3)]
    return Experiment(
        title="Longer documents",
        question="Are longer documents classified better, and does the encoding matter to it?",
        paper="Su et al. 2021, arXiv:2104.09864, section 4.5",
        runs=tuple(runs),
    )
