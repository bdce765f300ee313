"""How far does a published model go past the length it was trained at, without further training?

Question   Which extension of RoPE keeps the loss of a trained model at 2, 4 and 8 times its length, and does any of
           them gain from the further text, beyond the same model that may only look at its trained length?
Papers     Chen et al. 2023, arXiv:2306.15595 (Linear); Peng et al. 2023, arXiv:2309.00071 (NTK, by parts, YaRN);
           Jin et al. 2024, arXiv:2401.01325 (Self-Extend); Su 2023, https://kexue.fm/archives/9706 (ReRoPE).
Command    python -m experiments.run configs/extend_published.py --checkpoint FOLDER --text FILE
           with a folder of config.json, tokenizer.json and safetensors that rotates, and text of its own domain.
           Several folders are compared in one report: --checkpoint FOLDER FOLDER --text FILE FILE.
Costs      About twenty minutes on two CPU cores for two models of 0.3 and 0.9 M parameters, trained at 512 and 256.
Expect     Of two Llamas trained on short stories: as trained, a ratio above 1.3 at 4x. Linear is bad at 2x already, NTK
           carries 2x, YaRN goes further than NTK with heads of 16 and not of 8, Self-Extend and ReRoPE are best from 2x
           on (8x below 1.1). None beats the window, since nothing in a short story lies further back.
"""

from pathlib import Path

from posjax.data import Text
from posjax.errors import InputError
from posjax.evaluation import Extrapolation
from posjax.interop import pretrained
from posjax.runs import Experiment, Run

EVALUATION = Extrapolation(
    multiples=(1, 2, 4, 8),
    windows=16,
    extensions=("linear", "ntk", "ntk-doubled", "yarn", "parts", "llama3", "self-extend", "rerope"),
)


def published(folder: str, text: str, begin: str) -> Run:
    weights = pretrained(folder)
    tokenizer = str(Path(folder, "tokenizer.json"))
    # Nothing is trained, so all but a few bytes of the text are there to be measured on.
    data = Text(paths=(text,), validation_share=0.9999, tokenizer=tokenizer, begin=begin)
    name = Path(folder).resolve().name
    return Run(name, name, weights.architecture, data, weights, EVALUATION)


def experiment(checkpoint: tuple[str, ...], text: tuple[str, ...], begin: str = "<s>") -> Experiment:
    """`checkpoint`: folders of published models. `text`: a file for each. `begin`: the token that begins a text."""
    if len(checkpoint) != len(text) or not text:
        raise InputError(
            f"{len(checkpoint)} folders and {len(text)} texts: give --checkpoint FOLDER ... and --text with a file for "
            "each of them"
        )
    # Texts may differ though their domain is one: a model of characters may know no newline.
    runs = [published(folder, file, begin) for folder, file in zip(checkpoint, text, strict=True)]
    return Experiment(
        title="A published model past its trained length",
        question="Which extension of RoPE keeps a trained model's loss past its length, and does any beat a window?",
        paper="Chen et al. 2023, arXiv:2306.15595; Peng et al. 2023, arXiv:2309.00071; Jin et al. 2024, "
        "arXiv:2401.01325; Su 2023, ReRoPE",
        runs=tuple(runs),
    )
