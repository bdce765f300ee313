"""How fast attention is on a GPU, beside its peers; of posjax's libraries jax alone is needed."""

from experiments.benchmarks import bare

# Before any module of this package imports posjax, and so here.
MISSING = bare.allow()
"""The library for want of which posjax stands here without its front page; `None` where all are installed."""
