"""Which encodings of encoder and decoder carry a transduction to twice the length that was trained?

Question   Trained to say up to 16 symbols backwards, which encoder-decoders do so with 32, each symbol foretold from
           those before it; and may encoder and decoder have different encodings, as RoPE and ALiBi?
Papers     Su et al. 2021, arXiv:2104.09864, section 4.1 (translation, RoPE in both stacks); Press et al. 2021,
           arXiv:2108.12409 (ALiBi); Raffel et al. 2020, arXiv:1910.10683, section 2.1 (T5's bias).
Command    python -m experiments.run configs/translation.py [--only rope-alibi-s0 ...]
           python -m experiments.run configs/translation.py --pairs SOURCES TARGETS
           with two files whose lines of the same number belong together, of up to 128 bytes each.
Costs      19 minutes on two CPU cores that did other work beside it; no download, the task is drawn.
Expect     At the trained length sinusoidal positions have 1.0 of the symbols right, RoPE 0.96, with an ALiBi decoder
           0.94; T5's bias 0.43 and NoPE 0.35. At 2x RoPE has 0.43, sinusoidal positions 0.11, and no row is wholly
           right with any.
"""

from dataclasses import replace

from posjax import Alibi, Encoding, NoPE, Rope, Sinusoidal, T5Bias
from posjax.data import Reversal, TextPairs
from posjax.evaluation import ObjectiveLoss
from posjax.models import Architecture, Embedding, encoder_decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, SeqToSeq, Train

LENGTH = 17
"""Of the decoder: the token that begins, and 16 symbols."""
TEXT_LENGTH = 129
TRAIN = Train(steps=350, length=LENGTH, batch=64, objective=SeqToSeq(), optimizer=AdamW(learning_rate=3e-3))
EVALUATION = ObjectiveLoss(multiples=(1, 2), windows=128)
# What the encoder has, and what the decoder has.
METHODS: dict[str, tuple[str, Encoding, Encoding]] = {
    "rope": ("RoPE", Rope(), Rope()),
    "rope-alibi": ("RoPE, decoder ALiBi", Rope(), Alibi()),
    "sinusoidal": ("Sinusoidal", Sinusoidal(), Sinusoidal()),
    "t5": ("T5", T5Bias(16, LENGTH, bidirectional=True), T5Bias(16, LENGTH)),
    "nope": ("NoPE", NoPE(), NoPE()),
}


def model(encoding: Encoding, decoder_encoding: Encoding) -> Architecture:
    made = encoder_decoder(encoding, decoder_encoding, layers=2, width=64, heads=4)
    # Its waves are of size 1, so the token embedding must be too.
    if isinstance(encoding, Sinusoidal):
        return replace(made, embedding=Embedding(1.0))
    return made


def experiment(pairs: tuple[str, ...] = ()) -> Experiment:
    """`pairs`: a file of sources and one of targets, in the place of symbols said backwards."""
    data: Reversal | TextPairs = Reversal()
    train = TRAIN
    evaluation = EVALUATION
    if pairs:
        sources, targets = pairs
        data = TextPairs(sources, source_length=TEXT_LENGTH - 1, targets=targets)
        # Lines are as long as they are: there are none of twice the length to ask for.
        train = replace(TRAIN, length=TEXT_LENGTH)
        evaluation = replace(EVALUATION, multiples=(1,))
    runs = [
        Run(f"{name}-s{seed}", label, model(encoding, of_decoder), data, train, evaluation, seed)
        for name, (label, encoding, of_decoder) in METHODS.items()
        for seed in range(3)
    ]
    return Experiment(
        title="Sources and targets",
        question="Which encodings of encoder and decoder carry a transduction to twice the length that was trained?",
        paper="Su et al. 2021, arXiv:2104.09864; Press et al. 2021, arXiv:2108.12409",
        runs=tuple(runs),
    )
