"""The encodings. One file each and one line here; the registry is what this module imports."""

from posjax.encodings import schedules
from posjax.encodings.alibi import Alibi
from posjax.encodings.base import Dims, Encoding, Head, NoPE, Params, RelativeBias, Role
from posjax.encodings.chain import Chain, chain
from posjax.encodings.learned import Learned
from posjax.encodings.rope import Rope
from posjax.encodings.schedules import NTK, Linear, NTKByParts, Plain, Schedule, Yarn
from posjax.encodings.sinusoidal import Sinusoidal
from posjax.encodings.t5 import T5Bias


def _concrete(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Encoding) and value not in (Encoding, RelativeBias)


REGISTRY: tuple[type[Encoding], ...] = tuple(value for value in list(globals().values()) if _concrete(value))
"""Every encoding imported above: what the conformance suite, the checks and the documentation iterate over."""

__all__ = [
    "NTK", "REGISTRY", "Alibi", "Chain", "Dims", "Encoding", "Head", "Learned", "Linear", "NTKByParts", "NoPE",
    "Params", "Plain", "RelativeBias", "Role", "Rope", "Schedule", "Sinusoidal", "T5Bias", "Yarn", "chain", "schedules",
]
