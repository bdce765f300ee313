"""A config of two runs that trains, evaluates and reports within seconds. Its corpus stands in `text` beside it."""

from pathlib import Path

from posjax import Alibi, Encoding, Rope
from posjax.data import Text
from posjax.evaluation import Extrapolation
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import AdamW, Devices, Train

TEXT = Text(paths=(str(Path(__file__).parent / "text"),), validation_share=0.3)
TRAIN = Train(
    steps=4,
    length=8,
    batch=4,
    optimizer=AdamW(learning_rate=1e-2),
    devices=Devices(data=1),
    checkpoint_every=2,
    log_every=1,
)


def run(name: str, encoding: Encoding) -> Run:
    model = decoder(encoding, layers=1, width=16, heads=2, feed_forward=16)
    return Run(name, name.upper(), model, TEXT, TRAIN, Extrapolation(multiples=(1, 2), windows=2, extensions=("yarn",)))


def experiment() -> Experiment:
    return Experiment("Tiny", "Does it work?", (run("rope", Rope()), run("alibi", Alibi())))
