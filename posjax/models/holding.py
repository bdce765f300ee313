"""A model held to its laws: each a program that is compiled once, for a loop of training or of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from posjax.arguments import integers
from posjax.errors import InputError
from posjax.invariants import Finding, asserting
from posjax.models.architecture import Architecture
from posjax.models.compute import Compute
from posjax.models.folding import fold
from posjax.models.law_scope import hold_encodings, left_out
from posjax.models.laws import LAWS, Compared, LawSample, error, finding, forward, worst
from posjax.models.transformer import Transformer, build

EXACT = 1e-3
"""The largest error of a token in float32: small models come to 1e-6, and deep ones to more."""
ROUNDINGS = 4.0
"""In another dtype, how many times its own rounding: two passes that round apart differ by about twice."""
ROUGHEST = 0.25
"""And no more than that: what is wrong in this dtype alone would count as rounding."""


class ModelLaws:
    """The laws of one model, each a program that is compiled once: `graph` is its structure, by `nnx.split`.

    `exact` is the structure of the same model in float32, where it computes in another dtype.

    Errors: `AssertionError` for an encoding that breaks a law by itself.
    """

    def __init__(self, graph: Any, exact: Any, architecture: Architecture, length: int):
        hold_encodings(architecture, length)
        self.graph = graph
        self.exact = exact
        self.left_out = left_out(architecture, length)
        self.forward = jax.jit(self._logits)
        self._rounding = jax.jit(self._rounded)
        held = {name: law for name, law in LAWS.items() if name not in self.left_out}
        self._programs = {name: jax.jit(partial(self._errors, law)) for name, law in held.items()}

    def _logits(self, params: Any, sample: LawSample) -> jax.Array:
        return forward(nnx.merge(self.graph, params), sample)

    def _rounded(self, params: Any, sample: LawSample, logits: jax.Array) -> jax.Array:
        want = forward(nnx.merge(self.exact, params), sample)
        return jnp.max(error((logits, want), sample.counted))

    def _errors(self, law: Callable[..., Compared], params: Any, sample: LawSample, want: jax.Array) -> Any:
        return worst(error(law(nnx.merge(self.graph, params), sample, want)))

    def allowed(self, params: Any, sample: LawSample, logits: jax.Array) -> float:
        """The largest error of a token that rounding explains, by what rounding does to these very rows."""
        if self.exact is None:
            return EXACT
        # No one number would do: it grows with layers, and with how sharply a model attends.
        try:
            rounding = self._rounding(params, sample, logits)
        except NotImplementedError:  # The backend that is named has no float32.
            return ROUGHEST
        return min(max(ROUNDINGS * float(np.asarray(rounding)), EXACT), ROUGHEST)

    def findings(self, params: Any, sample: LawSample, logits: jax.Array, allowed: float) -> Iterator[Finding]:
        """What holds and what does not, of a sample and its logits."""
        plain = sample.plain
        # The laws pack and decode for themselves.
        if sample.positions is not None or sample.segments is not None:
            logits = self.forward(params, plain)
        for name, program in list(self._programs.items()):
            try:
                found = program(params, plain, logits)
            except (NotImplementedError, InputError) as why:
                # A backend that is named need not do what a law asks for, nor a model.
                self.left_out[name] = str(why)
                del self._programs[name]
                continue
            yield finding(name, found, allowed)


@jax.jit
def _largest(logits: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(logits))


def assert_numbers(logits: jax.Array) -> None:
    """Asserts, by chex, that all logits are numbers."""
    # Of what is fetched: whoever has once called `chex.chexify` is warned by chex as the process ends, sound or not.
    largest = _largest(logits)
    chex.assert_tree_all_finite({"logits": np.asarray(largest)})


def assert_model(model: Transformer, tokens: ArrayLike, source: ArrayLike | None = None) -> None:
    """Asserts the laws on a model of one's own, with the parameters it has, on `tokens [B, T]`: in any loop.

    `source [B, S]` is for a model that reads an encoder. Laws that say nothing of the model are left out:
    `left_out(model.architecture, T)` tells which. It does nothing after `chex.disable_asserts()`.

    Errors: `AssertionError` names the law, the error and the token.

    >>> from posjax.models.presets import decoder
    >>> from posjax.models.transformer import build
    >>> assert_model(build(decoder(layers=1, width=16, heads=2), 11, seed=0), jnp.ones((1, 6), jnp.int32))
    """
    if not asserting():
        return
    graph, params = nnx.split(model)
    exact = None
    if model.compute.dtype != "float32":
        exact = nnx.graphdef(nnx.eval_shape(lambda: _in_float32(model)))
    rows = jnp.asarray(integers(tokens, "the tokens", (2,), "needed are integers [B, T]"))
    if source is not None:
        source = jnp.asarray(source)
    laws = ModelLaws(graph, exact, model.architecture, rows.shape[1])
    sample = LawSample(rows, source=source)
    with precisely(model.compute.dtype):
        logits = laws.forward(params, sample)
        assert_numbers(logits)
        for found in laws.findings(params, sample, logits, laws.allowed(params, sample, logits)):
            if not found.holds:
                raise AssertionError(f"the model breaks {found.told}")


def _in_float32(model: Transformer) -> Transformer:
    made = build(model.architecture, model.vocabulary, 0, in_float32(model.compute))
    if model.folded:
        return fold(made)
    return made


def in_float32(compute: Compute) -> Compute:
    """The same computation in float32."""
    return replace(compute, dtype="float32")


def precisely(dtype: str) -> Any:
    """In what precision matrices are multiplied: some devices do float32 in less, if they are not told."""
    if dtype == "float32":
        return jax.default_matmul_precision("highest")
    return contextlib.nullcontext()
