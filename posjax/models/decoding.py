"""Generation, one token at a time with a cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import core

from posjax import positions
from posjax.arguments import integers, whole
from posjax.attention import Causal, Mask, Segments
from posjax.encodings.base import Params
from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.models.cache import Cache
from posjax.models.decoder import Decoder, dims
from posjax.models.transformer import Transformer

COLDEST = 1e-30
"""Below it a temperature is no number of float32 any more, or soon none; 0 says what is meant."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: greedily at temperature 0, else from the softmax of logits / temperature.

    `top_k` keeps the k most likely tokens, `top_p` the fewest whose probabilities reach p; with both, `top_k` is first.

    Errors: `InputError` for a negative temperature, `top_k` below 1, or `top_p` outside (0, 1].
    Source of top-p: Holtzman et al. 2019, arXiv:1904.09751.

    >>> Sampling(temperature=0.0).draw(jnp.array([[0.1, 2.0]]), jax.random.key(0)).tolist()
    [1]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.temperature < 0 or 0 < self.temperature < COLDEST:
            raise InputError(
                f"Sampling got temperature={self.temperature}: needed is 0 (greedy) or more, from {COLDEST} on"
            )
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"Sampling got top_k={self.top_k}: needed is 1 or more, or None for all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"Sampling got top_p={self.top_p}: needed is a probability in (0, 1], or None")

    def draw(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        """One token for each row: `logits [B, V]` -> int32 `[B]`, -1 for a row of which any logit is no number."""
        void = jnp.any(jnp.isnan(logits), -1)
        drawn = self._drawn(logits, key)
        return jnp.where(void, NOTHING, drawn)

    def _drawn(self, logits: jax.Array, key: jax.Array) -> jax.Array:
        if self.temperature == 0:
            likeliest = jnp.argmax(logits, -1)
            return likeliest.astype(jnp.int32)
        # From the largest on, so that a low temperature takes nothing past what a float holds.
        largest = jnp.max(logits, -1, keepdims=True)
        logits = (logits - largest) / self.temperature
        vocabulary = logits.shape[-1]
        if self.top_k is not None and self.top_k < vocabulary:
            most_likely, _ = jax.lax.top_k(logits, self.top_k)
            least = most_likely[:, -1:]
            logits = _at_least(logits, least)
        if self.top_p is not None:
            rising = jnp.sort(logits, -1)
            falling = rising[:, ::-1]
            probabilities = jax.nn.softmax(falling, -1)
            # What stands before a token, without it: so the one that reaches top_p is kept, and always the first.
            up_to = jnp.cumsum(probabilities, -1)
            before = up_to - probabilities
            is_kept = before < self.top_p
            kept = jnp.where(is_kept, falling, jnp.inf)
            least = jnp.min(kept, -1, keepdims=True)
            logits = _at_least(logits, least)
        drawn = jax.random.categorical(key, logits)
        return drawn.astype(jnp.int32)


def _at_least(logits: jax.Array, least: jax.Array) -> jax.Array:
    """The logits of at least that size: all others are never drawn."""
    # By size and not by place: tokens as likely as the last that is kept are kept with it.
    too_small = logits < least
    return jnp.where(too_small, -jnp.inf, logits)


GREEDY = Sampling(temperature=0.0)
NOTHING = -1
"""The token of a row whose logits are no numbers: none of the vocabulary."""


def generate(
    model: Transformer,
    prompt: jax.Array,
    new: int,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    real: jax.Array | None = None,
) -> jax.Array:
    """Continues each row of a prompt by `new` tokens: int32 `[B, T]` -> int32 `[B, new]`.

    `real [B, T]` bool marks the tokens of rows that are padded on the left. The continuation equals the one without a
    cache. The exception is an encoding that depends on the length of the context, past the length where it changes: its
    keys are rotated anew for every length, but in deeper layers they come from streams that were computed under the
    shorter one, as in every cache. The last of the `new` tokens is drawn but not read, so the context is T + new - 1
    long.

    Errors: `InputError` for a prompt without tokens, `new` below 1, a context longer than the encoding's table, or a
    `real` of another shape, with a row of padding alone, or padded on the right.
    """
    if not isinstance(model, Transformer):
        raise InputError(f"generate got {model!r:.80}: needed is a model, such as build(Decoder(), vocabulary, seed)")
    prompt = integers(prompt, "the prompt's tokens", (2,), "needed are integers [B, T]")
    model.check_tokens(prompt)
    prompt = jnp.asarray(prompt).astype(jnp.int32)
    new = whole(new, "new", least=1)
    if not isinstance(seed, core.Tracer):
        seed = whole(seed, "seed")
    if not prompt.shape[1]:
        raise InputError(
            f"generate got a prompt of shape {prompt.shape} and new={new}: needed is [B, T], T of 1 or more"
        )
    if not isinstance(sampling, Sampling):
        raise InputError(f"generate got sampling={sampling!r}: needed is a Sampling, such as Sampling(temperature=0.8)")
    if real is not None:
        real = _checked(real, prompt.shape)
    read = _longest(real, prompt.shape[1])
    config = model.config
    # The last token is drawn and never read.
    length = read + new - 1
    most = config.encoding.max_length
    if most is not None and length > most:
        raise InputError(
            f"generate would reach {length} tokens and {type(config.encoding).__name__} holds {most}: "
            f"generate {max(most - read + 1, 0)} at most, or train a longer table"
        )
    graph, state = nnx.split(model)
    numbers = _numbers(config, read, length)
    key = jax.random.key(seed)
    plan = (new, sampling)
    tokens = _generate(graph, state, prompt, real, key, numbers, plan)
    _expect_numbers(tokens)
    return tokens


def _expect_numbers(tokens: jax.Array) -> None:
    """Errors: `InputError` where a token could not be drawn."""
    # The loop over tokens is compiled and cannot raise: it marks such a row, and goes on.
    if isinstance(tokens, core.Tracer):
        return
    nothing = np.argwhere(np.asarray(tokens) == NOTHING)
    if nothing.size:
        row, at = nothing[0]
        raise InputError(
            f"the model's logits are no numbers at token {at} after the prompt of row {row}: its parameters, or what "
            "they compute, are not finite, as after a training that diverged"
        )


def _longest(real: jax.Array | None, tokens: int) -> int:
    """How many tokens the longest row of a prompt holds, beside its padding; all of them where that is traced."""
    if real is None or isinstance(real, core.Tracer):
        return tokens
    held = np.asarray(real).sum(1)
    return int(held.max(initial=1))


def _checked(real: Any, shape: tuple[int, ...]) -> jax.Array:
    if not hasattr(real, "dtype"):
        real = np.asarray(real)
    if real.shape != shape or not (real.dtype == bool or jnp.issubdtype(real.dtype, jnp.integer)):
        raise InputError(
            f"generate got real of shape {real.shape} and type {real.dtype}: needed is bool {shape}, true "
            "where the prompt has a token"
        )
    real = jnp.asarray(real.astype(bool))
    if isinstance(real, core.Tracer):
        return real
    known = np.asarray(real)
    # Each row must end with a token, and may step from padding to tokens but never back.
    padded_at_end = ~known[:, -1]
    steps = np.diff(known.astype(int), axis=1)
    falls = (steps < 0).any(1)
    wrong = np.flatnonzero(padded_at_end | falls)
    if wrong.size:
        raise InputError(
            f"generate got row {wrong[0]} of real with padding after a token, or no token: "
            "rows are padded on the left, so that the last column is the last token of each"
        )
    return real


def _numbers(config: Decoder, prompt: int, length: int) -> tuple[Params, Params]:
    """The encoding's constants for the prompt, and stacked for each longer context where they depend on its length."""
    encoding = config.encoding
    sizes = dims(config)

    def constants(length: int) -> Params:
        return encoding.at_length(length).constants(sizes)

    first = constants(prompt)
    later = [constants(n) for n in range(prompt + 1, length + 1)]
    if not encoding.length_dependent or not later:
        return first, None
    # Stacked, so that the loop over tokens takes them as data and is compiled once.
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *later)
    return first, stacked


def _padding(real: jax.Array | None, new: int) -> tuple[jax.Array | None, Mask]:
    """Where the tokens of a prompt stand, and which of these and the `new` ones may be seen."""
    if real is None:
        return None, Causal()
    rows = real.shape[0]
    # Segment 0 is padding; whatever comes after the prompt is real.
    before = real.astype(jnp.int32)
    after = jnp.ones((rows, new - 1), jnp.int32)
    segments = jnp.concatenate([before, after], axis=1)
    return positions.left_padded(real), Causal() & Segments(segments)


@partial(jax.jit, static_argnums=(0, 6))
def _generate(
    graph: Any,
    state: Any,
    prompt: jax.Array,
    real: jax.Array | None,
    key: jax.Array,
    numbers: tuple[Params, Params],
    plan: tuple[int, Sampling],
) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    rows, length = prompt.shape
    new, sampling = plan
    first, later = numbers
    at, mask = _padding(real, new)
    # No room for the last token, which is drawn and never read.
    size = length + new - 1
    cache = Cache.empty(model.config, rows, size, positions=at is not None)
    prepared = model.prepare(length, at, mask=mask, constants=first, cache=cache)
    x, cache, _ = model.hidden(prompt, prepared, cache)
    assert cache is not None
    # The prompt's last token alone: logits of all of them would be [B, T, V].
    logits = model.logits(x[:, -1:])
    own_key = jax.random.fold_in(key, 0)
    token = sampling.draw(logits[:, 0], own_key)

    def step(carry: Any, scanned: Any) -> Any:
        token, at, cache = carry
        i, constants = scanned
        if later is None:  # The same for every length.
            constants = first
        if at is not None:
            at = at[:, -1:] + 1
        prepared = model.prepare(1, at, mask=mask, constants=constants, cache=cache)
        x, cache, _ = model.hidden(token[:, None], prepared, cache)
        logits = model.logits(x)
        # A key of its own for each token, by its number: the first ones do not hang on how many follow.
        own_key = jax.random.fold_in(key, i)
        token = sampling.draw(logits[:, 0], own_key)
        return (token, at, cache), token

    if at is not None:
        at = at[:, -1:]
    # The loop's carry must be arrays, the cache's length too.
    cache = jax.tree.map(jnp.asarray, cache)
    each = (jnp.arange(1, new), later)
    carry = (token, at, cache)
    _, rest = jax.lax.scan(step, carry, each, length=new - 1)
    # A scan stacks what it gives along the first axis, so the rows come as columns.
    first_token = token[:, None]
    return jnp.concatenate([first_token, rest.T], axis=1)
