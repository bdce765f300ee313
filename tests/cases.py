"""What the conformance suite iterates over: the registry's examples and some of their chains, and the backends."""

import jax

from posjax.attention import BACKENDS
from posjax.encodings import REGISTRY, Dims, Encoding, NoPE, RelativeBias, chain

# Six heads, so that no encoding may count on a power of two.
DIMS = Dims(heads=6, head_size=8, model_size=48)

SINGLE: tuple[Encoding, ...] = tuple(value for kind in REGISTRY for value in kind.examples())


def _chains() -> tuple[Encoding, ...]:
    """One of each pair of kinds: what turns or embeds with what biases, and two biases."""
    turning = [v for kind in REGISTRY for v in kind.examples()[:1] if not isinstance(v, RelativeBias | NoPE)]
    biased = [v for kind in REGISTRY for v in kind.examples()[:1] if isinstance(v, RelativeBias)]
    return (*(chain(a, b) for a in turning for b in biased), chain(*biased), chain(*turning))


CHAINS = _chains()
ENCODINGS = SINGLE + CHAINS
BACKEND_NAMES = tuple(BACKENDS)


def params_of(encoding: Encoding, dims: Dims = DIMS, seed: int = 0) -> object:
    """Joined parameters, as hooks take them."""
    return encoding.join(encoding.init(jax.random.key(seed), dims), encoding.constants(dims))


def short(value: object) -> str:
    """A readable test id."""
    return repr(value) if isinstance(value, Encoding) else str(value)
