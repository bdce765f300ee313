"""Claims about other objectives than the next token, those of RoFormer's own experiments among them.

The loss by step is of training, each the mean over a tenth of the steps: whoever is lower there has learned faster. All
methods of a suite read the same rows in the same order.
"""

from __future__ import annotations

from experiments.claims.base import Claim
from experiments.claims.deciding import all_of, at_least, higher, highest, lower, lowest, same

ROFORMER = "Su et al. 2021, arXiv:2104.09864"
ROPE = {"label": "RoPE"}
LEARNED = {"label": "Learned"}
NOPE = {"label": "NoPE"}

HIDDEN = (
    Claim(
        name="masked-rope-learns-faster",
        words="In masked language modelling RoPE converges faster than learned and sinusoidal positions.",
        source=f"{ROFORMER}, figure 3 (left)",
        suite="masked_lm",
        test=lowest("training_loss", ROPE, (LEARNED, {"label": "Sinusoidal"}), step=(120, 200, 400)),
    ),
    Claim(
        name="masked-nope-is-a-bag",
        words="Without positions an encoder sees a bag of tokens, and cannot tell what a hidden one is.",
        source=f"{ROFORMER}, section 2.1 (self-attention alone knows no order)",
        suite="masked_lm",
        test=higher("loss", NOPE, ROPE, by=0.3, multiple=1),
    ),
    Claim(
        name="masked-rope-reads-further",
        words="An encoder with RoPE is better than one with learned positions at lengths it was not trained on.",
        source=f"{ROFORMER}, section 3.3 (flexibility of the length)",
        suite="masked_lm",
        test=lower("loss", ROPE, LEARNED, multiple=(2, 4)),
    ),
)

# Trained alike in all but positions: what differs is told by the steps, and not by the end alone.
LINEAR = (
    Claim(
        name="performer-rope-lowers-the-loss",
        words="Rotated queries and keys give linear attention faster convergence and a lower loss.",
        source=f"{ROFORMER}, figure 3 (right)",
        suite="performer",
        test=all_of(
            lower("training_loss", {"label": "FAVOR+, RoPE"}, {"label": "FAVOR+, NoPE"}, step=(150, 300)),
            lower("training_loss", {"label": "elu + 1, RoPE"}, {"label": "elu + 1, NoPE"}, step=(150, 300)),
        ),
    ),
    Claim(
        name="linear-is-as-good-as-softmax",
        words="Linear attention performs like softmax attention.",
        source="Katharopoulos et al. 2020, arXiv:2006.16236, abstract",
        suite="performer",
        test=same("loss", {"label": "elu + 1, RoPE"}, {"label": "Softmax, RoPE"}, within=0.05, multiple=1),
    ),
)

# The task is to say symbols backwards: where they stand is all there is to know.
PAIRS = (
    Claim(
        name="rope-encoder-with-alibi-decoder",
        words="An encoder with RoPE and a decoder with ALiBi can be trained together.",
        source="a design that people ask for; neither paper has it",
        suite="translation",
        test=at_least("accuracy", 0.9, label="RoPE, decoder ALiBi", multiple=1),
    ),
    Claim(
        name="transduction-needs-positions",
        words="What order alone tells cannot be transduced without positions.",
        source=f"{ROFORMER}, section 2.1",
        suite="translation",
        test=highest("accuracy", ROPE, (NOPE,), by=0.3, multiple=1),
    ),
    Claim(
        name="transduction-reaches-further",
        words="Relative encodings let an encoder-decoder carry a transduction to twice the length it was trained on.",
        source=f"{ROFORMER}, section 3.3",
        suite="translation",
        test=all_of(*(at_least("accuracy", 0.9, label=label, multiple=2) for label in ("RoPE", "T5"))),
    ),
)

# Classes are packages, so longer excerpts hold more of one author's habits.
DOCUMENTS = (
    Claim(
        name="longer-documents-classify-better",
        words="A model that reads more of a document classifies it better.",
        source=f"{ROFORMER}, table 5 (RoFormer at 1,024 above 512 characters)",
        suite="classification",
        test=higher("accuracy", {"label": "RoPE, 256 bytes"}, {"label": "RoPE, 32 bytes"}, multiple=1),
    ),
    Claim(
        name="pre-training-helps-to-classify",
        words="A masked language model that is fine-tuned classifies better than one that begins from nothing.",
        source="Devlin et al. 2018, arXiv:1810.04805, section 1",
        suite="classification",
        test=higher("accuracy", {"label": "RoPE, tuned, 256 bytes"}, {"label": "RoPE, 256 bytes"}, multiple=1),
    ),
    Claim(
        name="rope-classifies-better",
        words="RoPE classifies better than learned positions, or none.",
        source=f"{ROFORMER}, tables 2 and 5",
        suite="classification",
        test=highest(
            "accuracy",
            {"label": "RoPE, 256 bytes"},
            ({"label": "Learned, 256 bytes"}, {"label": "NoPE, 256 bytes"}),
            multiple=1,
        ),
    ),
)

CLAIMS = (*HIDDEN, *LINEAR, *PAIRS, *DOCUMENTS)
