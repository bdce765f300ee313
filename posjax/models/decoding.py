"""Generation, one token at a time with a cache: all tokens at once, or each as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import core

from posjax.arguments import integers, narrowed, whole
from posjax.attention.masks import counts_tokens
from posjax.errors import InputError
from posjax.models.cache import Cache
from posjax.models.explicit import expect_whole
from posjax.models.given import given_memory
from posjax.models.lengths import Lengths, lengths
from posjax.models.memory import Memory
from posjax.models.prompts import Prompt, prompt_of
from posjax.models.sampling import GREEDY, NOTHING, Sampling
from posjax.models.transformer import Transformer


@dataclass(frozen=True)
class Continuation:
    """What is compiled for: how many tokens, how they are drawn, and which one ends a row."""

    new: int
    sampling: Sampling
    stop: int | None


@dataclass(frozen=True)
class Carry:
    """What one token leaves for the next: itself `[B]`, where it stands, the cache, and which rows have ended."""

    token: jax.Array
    at: jax.Array | None
    cache: Cache
    ended: jax.Array


jax.tree_util.register_dataclass(Carry, data_fields=["token", "at", "cache", "ended"], meta_fields=[])


def generate(
    model: Transformer,
    prompt: jax.Array,
    new: int,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    real: jax.Array | None = None,
    stop: int | None = None,
    memory: Memory | None = None,
) -> jax.Array:
    """Continues each row of a prompt by `new` tokens: int32 `[B, T]` -> int32 `[B, new]`.

    `real [B, T]` bool marks the tokens of rows that are padded, on the left or the right: each row gives what it alone
    would. A row that draws the token `stop` goes on with nothing but that, and when all have, the loop ends. `memory`
    is what an encoder made of the source, `model.encode(source)`, for a decoder that reads one. The prompt is read in
    one pass: it has to hold all of a prefix whose tokens see each other.

    The continuation equals the one without a cache. The exception is an encoding that depends on the length of the
    context, past the length where it changes: its keys are rotated anew for every length, but in deeper layers they
    come from streams that were computed under the shorter one, as in every cache. The last of the `new` tokens is drawn
    but not read, so the context is T + new - 1 long.

    Errors: `InputError` for a prompt without tokens, `new` below 1, a context longer than the encoding's table, a
    `real` of another shape or with a row of padding alone or in between, a `real` beside a mask that counts tokens from
    the first on, a mask that looks ahead of the prompt, or a memory that is missing. A row of a traced `real` that
    would be refused is -1.
    """
    asked = _asked(model, prompt, new, sampling, seed, real, stop, memory)
    tokens = _generate(asked.graph, asked.state, asked.prompt, asked.memory, asked.key, asked.numbers, asked.plan)
    _expect_numbers(tokens)
    if asked.prompt.whole is not None:  # What could not be refused is marked.
        tokens = jnp.where(asked.prompt.whole[:, None], tokens, NOTHING)
    return tokens


def stream(
    model: Transformer,
    prompt: jax.Array,
    new: int,
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    real: jax.Array | None = None,
    stop: int | None = None,
    memory: Memory | None = None,
) -> Iterator[np.ndarray]:
    """The tokens that `generate` returns, int32 `[B]`, each as soon as it is drawn; arguments and errors are the same.

    Ends after `new` of them, or once every row has drawn `stop`.
    """
    asked = _asked(model, prompt, new, sampling, seed, real, stop, memory)
    return _streamed(asked)


def _streamed(asked: Asked) -> Iterator[np.ndarray]:
    if asked.prompt.whole is not None or isinstance(asked.prompt.tokens, core.Tracer):
        raise InputError("stream hands out each token as it is drawn, which a traced prompt has none of: call generate")
    first = asked.numbers.first
    carry = _begin(asked.graph, asked.state, asked.prompt, asked.memory, asked.key, first, asked.plan)
    for i in range(1, asked.plan.new + 1):
        # Waits for this token alone: the next one is not begun yet.
        token = np.asarray(carry.token)
        _expect_numbers(token[:, None])
        yield token
        if i == asked.plan.new or bool(np.all(np.asarray(carry.ended))):
            return
        constants = asked.numbers.at(i - 1)
        at = jnp.asarray(i)
        carry = _next(asked.graph, asked.state, asked.prompt, carry, asked.key, at, constants, asked.plan)


@dataclass(frozen=True)
class Asked:
    """A call of `generate` or `stream`, checked."""

    graph: Any
    state: Any
    prompt: Prompt
    memory: Memory | None
    key: jax.Array
    numbers: Lengths
    plan: Continuation


def _asked(
    model: Transformer,
    prompt: jax.Array,
    new: int,
    sampling: Sampling,
    seed: int,
    real: jax.Array | None,
    stop: int | None,
    memory: Memory | None,
) -> Asked:
    if not isinstance(model, Transformer):
        raise InputError(f"generate got {model!r:.80}: needed is a model, such as build(decoder(), vocabulary, seed)")
    if model.architecture.output.classes is not None:
        raise InputError("generate got a model whose output are classes of a row: needed is one that predicts tokens")
    prompt = integers(prompt, "the prompt's tokens", (2,), "needed are integers [B, T]")
    model.check_tokens(prompt)
    prompt = narrowed(jnp.asarray(prompt))
    expect_whole(prompt, "generate")
    new = whole(new, "new", least=1)
    if not isinstance(seed, core.Tracer):
        seed = whole(seed, "seed")
    if not prompt.shape[1]:
        raise InputError(
            f"generate got a prompt of shape {prompt.shape} and new={new}: needed is [B, T], T of 1 or more"
        )
    if not isinstance(sampling, Sampling):
        raise InputError(f"generate got sampling={sampling!r}: needed is a Sampling, such as Sampling(temperature=0.8)")
    stop = _held_stop(model, stop)
    given = prompt_of(prompt, real)
    if given.real is not None:
        _expect_no_counting(model)
        _expect_one_length(model, given)
    # The last token is drawn and never read.
    length = given.longest + new - 1
    architecture = model.architecture
    most = architecture.max_length
    if most is not None and length > most:
        raise InputError(
            f"generate would reach {length} tokens and {architecture.encoding!r} holds {most}: "
            f"generate {max(most - given.longest + 1, 0)} at most, or train a longer table"
        )
    graph, state = nnx.split(model)
    # On the host, and exact: inside the loop they would be computed in float32.
    memory = _held_memory(model, memory)
    numbers = lengths(architecture, given.longest, length, memory)
    return Asked(graph, state, given, memory, jax.random.key(seed), numbers, Continuation(new, sampling, stop))


def _held_stop(model: Transformer, stop: int | None) -> int | None:
    """The token that ends a row as Python's own number, which a compiled function can be told apart by."""
    if stop is None:
        return None
    held = whole(stop, "stop")
    if held >= model.vocabulary:
        raise InputError(f"generate got stop={held}: needed is a token of the vocabulary, 0 to {model.vocabulary - 1}")
    return held


def _held_memory(model: Transformer, memory: Memory | None) -> Memory | None:
    """A memory whose arrays are arrays, held to its tokens."""
    if memory is None:
        return None
    return given_memory(memory, model.architecture.width)


def _expect_no_counting(model: Transformer) -> None:
    """Errors: `InputError` for a mask that counts a row's tokens, padding among them."""
    # Moved to the left, a row's first token has another number than it has alone.
    for attending in model.architecture.main_stack.attentions():
        if counts_tokens(attending.mask):
            raise InputError(
                f"generate got real, and the mask {attending.mask!r} counts the tokens of a row, padding among them: "
                "generate rows of one length together, without real"
            )


def _expect_one_length(model: Transformer, given: Prompt) -> None:
    """Errors: `InputError` for rows of several lengths where the encoding depends on it: they would have one."""
    architecture = model.architecture
    every = architecture.main_stack.encodings(architecture.width)
    depends = any(encoding.length_dependent for encoding, _ in every)
    if not depends:
        return
    if isinstance(given.real, core.Tracer):
        raise InputError(
            f"generate got a real that is known at run time only, and {architecture.encoding!r} depends on how many "
            "tokens a row has: leave real out of jit, or generate rows of one length without it"
        )
    counts = np.asarray(given.real).astype(bool).sum(axis=1)
    if counts.min() != counts.max():
        raise InputError(
            f"generate got rows of {counts.min()} to {counts.max()} tokens, and {architecture.encoding!r} depends on "
            "the length, which would be that of the longest for all: generate rows of one length together"
        )


def _expect_numbers(tokens: jax.Array | np.ndarray) -> None:
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


def _first(
    model: Transformer, prompt: Prompt, memory: Memory | None, key: jax.Array, constants: Any, plan: Continuation
) -> Carry:
    """The prompt read, and the first token drawn."""
    rows, length = prompt.tokens.shape
    # No room for the last token, which is drawn and never read.
    size = length + plan.new - 1
    at = prompt.positions
    cache = model.cache(rows, size, positions=at is not None, memory=memory)
    mask = prompt.mask(plan.new)
    prepared = model.prepare(length, at, mask=mask, constants=constants, cache=cache)
    x, cache, _ = model.hidden(prompt.tokens, prepared, cache)
    assert cache is not None
    # The prompt's last token alone: logits of all of them would be [B, T, V].
    logits = model.logits(x[:, -1:])
    own_key = jax.random.fold_in(key, 0)
    token = plan.sampling.draw(logits[:, 0], own_key)
    # Without a stop no row ends, and the loop's length is known.
    ended = jnp.zeros(rows, bool)
    if plan.stop is not None:
        ended = token == plan.stop
    if at is not None:
        at = at[:, -1:]
    # What a loop carries must be arrays, the cache's length too.
    cache = jax.tree.map(jnp.asarray, cache)
    return Carry(token, at, cache, ended)


def _step(
    model: Transformer, mask: Any, carry: Carry, key: jax.Array, i: Any, constants: Any, plan: Continuation
) -> Carry:
    """One more token read, and the next one drawn."""
    at = carry.at
    if at is not None:
        at = at[:, -1:] + 1
    prepared = model.prepare(1, at, mask=mask, constants=constants, cache=carry.cache)
    x, cache, _ = model.hidden(carry.token[:, None], prepared, carry.cache)
    assert cache is not None
    logits = model.logits(x)
    # A key of its own for each token, by its number: the first ones do not hang on how many follow.
    own_key = jax.random.fold_in(key, i)
    token = plan.sampling.draw(logits[:, 0], own_key)
    ended = carry.ended
    if plan.stop is not None:
        # What a row would draw past its end is drawn from a text that has none.
        token = jnp.where(ended, plan.stop, token)
        ended = ended | (token == plan.stop)
    return Carry(token, at, cache, ended)


@partial(jax.jit, static_argnums=(0, 6))
def _generate(
    graph: Any, state: Any, prompt: Prompt, memory: Any, key: jax.Array, numbers: Lengths, plan: Continuation
) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    carry = _first(model, prompt, memory, key, numbers.first, plan)
    mask = prompt.mask(plan.new)
    if plan.stop is not None:
        return _until_all_end(model, mask, carry, key, numbers, plan)

    def step(carry: Carry, i: jax.Array) -> tuple[Carry, jax.Array]:
        after = _step(model, mask, carry, key, i, numbers.at(i - 1), plan)
        return after, after.token

    # A scan stacks what it gives along the first axis, so the rows come as columns.
    first_token = carry.token[:, None]
    _, rest = jax.lax.scan(step, carry, jnp.arange(1, plan.new), length=plan.new - 1)
    return jnp.concatenate([first_token, rest.T], axis=1)


def _until_all_end(
    model: Transformer, mask: Any, carry: Carry, key: jax.Array, numbers: Lengths, plan: Continuation
) -> jax.Array:
    """The same for rows that may end: the loop does when all of them have."""
    assert plan.stop is not None
    rows = carry.token.shape[0]
    tokens = jnp.full((rows, plan.new), plan.stop, jnp.int32)
    tokens = tokens.at[:, 0].set(carry.token)

    def goes_on(state: Any) -> jax.Array:
        i, carry, _ = state
        return (i < plan.new) & ~jnp.all(carry.ended)

    def step(state: Any) -> Any:
        i, carry, tokens = state
        after = _step(model, mask, carry, key, i, numbers.at(i - 1), plan)
        # In its place, since a while loop stacks nothing.
        return i + 1, after, tokens.at[:, i].set(after.token)

    _, _, tokens = jax.lax.while_loop(goes_on, step, (jnp.int32(1), carry, tokens))
    return tokens


@partial(jax.jit, static_argnums=(0, 6))
def _begin(
    graph: Any, state: Any, prompt: Prompt, memory: Any, key: jax.Array, constants: Any, plan: Continuation
) -> Carry:
    return _first(nnx.merge(graph, state), prompt, memory, key, constants, plan)


@partial(jax.jit, static_argnums=(0, 7), donate_argnums=(3,))
def _next(
    graph: Any,
    state: Any,
    prompt: Prompt,
    carry: Carry,
    key: jax.Array,
    i: jax.Array,
    constants: Any,
    plan: Continuation,
) -> Carry:
    model: Transformer = nnx.merge(graph, state)
    return _step(model, prompt.mask(plan.new), carry, key, i, constants, plan)
