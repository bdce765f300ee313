"""Values of each encoding, one for each branch that matters.

The conformance suite holds each of them to the laws, `experiments.check --all` measures them, and the pages are about
them. An encoding that is not named here has one example, the value of its defaults.
"""

from __future__ import annotations

from posjax.encodings.alibi import Alibi
from posjax.encodings.axial import AxialRope
from posjax.encodings.base import Encoding, NoPE
from posjax.encodings.by_head import ByHead
from posjax.encodings.chain import Chain
from posjax.encodings.chunks import Chunks
from posjax.encodings.cope import CoPE
from posjax.encodings.fire import Fire
from posjax.encodings.kerple import Kerple
from posjax.encodings.log_n import LogN
from posjax.encodings.near_far import NearFar
from posjax.encodings.pinned import Pinned
from posjax.encodings.regrouped import Regrouped
from posjax.encodings.rope import Rope
from posjax.encodings.sandwich import Sandwich
from posjax.encodings.schedules import NTK, DynamicNTK, Interpolation, Llama3, NTKByParts, Proportional, Yarn
from posjax.encodings.shaw import Shaw
from posjax.encodings.sinusoidal import Sinusoidal
from posjax.encodings.step_temperature import StepTemperature
from posjax.encodings.t5 import T5Bias
from posjax.encodings.wrapped import Wrapped
from posjax.encodings.xpos import XPos

_CHUNKED = NearFar(Chunks(4, 2), Wrapped(Rope(), 4, shift=4, most=5), Wrapped(Rope(), 4, shift=5, most=5))
"""The far side of dual chunk attention: the next chunk, and all beyond it."""

_EXAMPLES: dict[type[Encoding], tuple[Encoding, ...]] = {
    Alibi: (
        Alibi(),
        Alibi("symmetric", factor=4.0),
        Alibi("asymmetric"),
        Alibi("halves"),
        Alibi(learned=True),
        Alibi("asymmetric", learned=True),
        Alibi("symmetric", given_slopes=(0.25,)),
    ),
    AxialRope: (AxialRope(), AxialRope((3, 1, 4), frequencies="shared", layout="interleaved")),
    ByHead: (ByHead((Rope(), NoPE(), Alibi())),),
    CoPE: (CoPE(length=6),),
    Fire: (Fire(hidden=8, threshold=5.0),),
    Kerple: (Kerple(), Kerple("power")),
    LogN: (LogN(original_length=4),),
    NearFar: (
        NearFar(4, Rope(), Regrouped(Rope(), 3, 2)),
        NearFar(5, Rope(), Pinned(Rope(), 5)),
        NearFar(Chunks(4), Rope(), _CHUNKED),
    ),
    Rope: (
        Rope(),
        Rope(layout="interleaved", fraction=0.5),
        Rope(schedule=Interpolation(factor=2.0)),
        Rope(schedule=NTK(factor=2.0)),
        Rope(schedule=NTKByParts(factor=2.0, original_length=256, beta_fast=8.0), base=100.0),
        Rope(base=100.0, schedule=Yarn(factor=4.0, original_length=256, beta_fast=8.0)),
        Rope(schedule=DynamicNTK(factor=2.0, original_length=4)),
        Rope(base=100.0, schedule=Llama3(factor=8.0, original_length=64)),
        Rope(schedule=Proportional(fraction=0.5)),
    ),
    Sandwich: (Sandwich(size=16),),
    Shaw: (Shaw(clip=5, deviation=1.0),),
    Sinusoidal: (Sinusoidal(), Sinusoidal(base=500.0, layout="split")),
    StepTemperature: (StepTemperature(window=4, shift=1),),
    T5Bias: (T5Bias(), T5Bias(buckets=8, max_distance=20), T5Bias(bidirectional=True)),
    XPos: (XPos(), XPos(unit=64, layout="interleaved")),
    # The suite chains the other encodings' examples.
    Chain: (),
    # Without a layer it is no encoding: models resolve it, and their tests hold it.
    # These repeat positions by design, and so break a law alone: `NearFar`'s examples hold them.
    Pinned: (),
    Regrouped: (),
    Wrapped: (),
}


def examples(kind: type[Encoding]) -> tuple[Encoding, ...]:
    """The examples of one class.

    >>> examples(Kerple)
    (Kerple(kind='log'), Kerple(kind='power'))
    """
    if kind in _EXAMPLES:
        return _EXAMPLES[kind]
    return (kind(),)
