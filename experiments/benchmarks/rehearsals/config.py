"""Do large models at long lengths fit TPUs that are not there, and what would bind a step of theirs?

Question   The memory of each chip, the work of a step, and whether compute, memory or links would bind it.
Command    python -m experiments.benchmarks.rehearsals.program
Costs      Minutes on two CPU cores for each of the four; no TPU.
Expect     Each fits; compute binds.
"""

from posjax import Rope
from posjax.data import StandardLibrary
from posjax.evaluation import Extrapolation
from posjax.models import Architecture, Compute, decoder
from posjax.runs import Experiment, Run
from posjax.training import Devices, Train

COMPUTE = Compute("bfloat16", remat="all", scan=True)
ONE = decoder(Rope(), layers=16, width=2048, heads=16, key_value_heads=8, feed_forward=8192)
"""About a billion parameters, of which most are matrices of its layers."""
EIGHT = decoder(Rope(5e5), layers=32, width=4096, heads=32, key_value_heads=8, feed_forward=14336)
"""The sizes of Llama 3 8B (Grattafiori et al. 2024, arXiv:2407.21783, table 3)."""


def planned(name: str, label: str, model: Architecture, batch: int, length: int, devices: Devices) -> Run:
    """A run that is only rehearsed: its text and its evaluation are never looked at."""
    train = Train(steps=1000, length=length, batch=batch, devices=devices, compute=COMPUTE)
    return Run(name, label, model, StandardLibrary(), train, Extrapolation(multiples=(1,), windows=1))


def experiment() -> Experiment:
    """The runs of the page."""
    return Experiment(
        title="Large models, rehearsed",
        question="Do large models at long lengths fit TPUs that are not there, and what would bind their steps?",
        runs=(
            planned("1b-8k", "1 B at 8k", ONE, 256, 8192, Devices(fsdp=256)),
            planned("1b-32k", "1 B at 32k", ONE, 256, 32768, Devices(fsdp=256)),
            planned("8b-8k", "8 B at 8k", EIGHT, 256, 8192, Devices(fsdp=256)),
            planned("1b-128k-ring", "1 B at 128k", ONE, 16, 131072, Devices(fsdp=16, context=16)),
        ),
    )
