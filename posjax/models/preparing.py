"""What the layers of one pass share: where tokens stand, angles and tables of their positions, biases and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax

from posjax import attention
from posjax.attention import Mask, Prepared, Segments, Tokens, as_mask
from posjax.attention.given_masks import held
from posjax.attention.masks import rules
from posjax.attention.prepared import check_causal
from posjax.encodings.base import Encoding, Params
from posjax.encodings.parameters import given_constants
from posjax.encodings.several import first_coordinate
from posjax.encodings.traits import structure, told_by_fields
from posjax.errors import InputError
from posjax.models.architecture import Architecture, StackName
from posjax.models.cache import Cache
from posjax.models.given import given_memory
from posjax.models.memory import Memory
from posjax.models.plans import Kind, StackPlan, plan
from posjax.models.windows import Windowed, windowed
from posjax.positions import check

ALL = attention.Full()

Constants = Mapping[str, Mapping[str, Params]]
"""For each stack of a model the constants of each encoding that learns for itself, by its name."""


@dataclass(frozen=True)
class PreparedLayers:
    """One pass through a stack: what each kind of its sublayers needs, and what the encodings add to the embedding.

    `embedding`: one kind for each encoding that learns for itself. `windowed`: the kinds of which a cache keeps a
    window alone. `may_end`: whether a token may stand past what an encoding holds, and comes out as NaN. Kinds have
    names, since `nnx.tabulate` shows a dict of such values.
    """

    tokens: Tokens
    kinds: dict[str, Prepared]
    embedding: tuple[str, ...] = ()
    windowed: tuple[str, ...] = ()
    may_end: bool = False

    @property
    def void(self) -> jax.Array | None:
        """Which tokens have no position."""
        return next(iter(self.kinds.values())).void


jax.tree_util.register_dataclass(
    PreparedLayers, data_fields=["tokens", "kinds"], meta_fields=["embedding", "windowed", "may_end"]
)


@dataclass(frozen=True)
class Pass:
    """What a caller says of one pass: the tokens that come, and what they may look at."""

    count: int
    positions: jax.Array | None = None
    mask: Mask = ALL
    constants: Constants | None = None
    length: int | None = None
    cache: Cache | None = None
    memory: Memory | None = None


jax.tree_util.register_dataclass(
    Pass, data_fields=["positions", "mask", "constants", "cache", "memory"], meta_fields=["count", "length"]
)


def _itself(encoding: Encoding) -> Encoding:
    return encoding


def constants_of(
    architecture: Architecture, change: Callable[[Encoding], Encoding] = _itself
) -> dict[str, dict[str, Params]]:
    """The constants of all encodings of an architecture, each put through `change`, as a model's call takes them.

    Errors: `InputError` for an encoding that depends on the length of the context, and is not told it by `change`; for
    a change of more than constants, of which `structure` is what remains.

    >>> from dataclasses import replace
    >>> from posjax.encodings.schedules.uniform import Interpolation
    >>> from posjax.models.presets import decoder
    >>> twice_as_long = constants_of(decoder(), lambda rope: replace(rope, schedule=Interpolation(2.0)))
    >>> sorted(twice_as_long["decoder"])
    ['0']
    """
    if not isinstance(architecture, Architecture) or not callable(change):
        raise InputError(
            f"constants_of got {architecture!r:.80} and {change!r:.80}: needed are an Architecture, as "
            "model.architecture is one, and a function from an encoding to another"
        )
    found: dict[str, dict[str, Params]] = {}
    for name, stack in architecture.stacks.items():
        found[name] = {}
        for owner, (encoding, sizes) in plan(stack, architecture.width).owners.items():
            changed = change(encoding)
            if not isinstance(changed, Encoding):
                raise InputError(f"change made {changed!r:.80} of {encoding!r}: needed is an encoding")
            # Arrays of the same shapes may mean something else to the hooks of another.
            if structure(changed) != structure(encoding) and not told_by_fields(encoding):
                raise InputError(
                    f"{changed!r} differs from {encoding!r} in more than its constants tell: build a model of "
                    "architecture.with_encodings(change), and give it the weights"
                )
            # Its own constants are those of the trained length, and would hold at any other in silence.
            # One of its own that does not keep what it was told cannot be asked whether it was.
            if changed.length_dependent and not changed.at_length(1).length_dependent:
                raise InputError(
                    f"{changed!r} has other constants for another length of the context: say which one, "
                    "constants_of(architecture, lambda encoding: encoding.at_length(n))"
                )
            found[name][owner] = changed.constants(sizes)
    return found


def prepare(architecture: Architecture, name: StackName, learned: Mapping[str, Params], given: Pass) -> PreparedLayers:
    """What the layers of a stack need for one pass; `learned` is what each encoding of it has learned, by name.

    Errors: `InputError` for a mask that lets a causal encoding look ahead, positions of another number of tokens,
    positions beside a cache that keeps none, and a cache without room.
    """
    stack = architecture.stacks[name]
    layers = plan(stack, architecture.width)
    if given.memory is not None:
        if not layers.crossing:
            raise InputError(f"memory was given and no layer of the {name} reads one: leave it out")
        given_memory(given.memory, architecture.width)
    at = _checked(given, layers)
    tokens = _tokens(at, given)
    # Padding, at a negative position, is computed elsewhere: its marks would reach every weight's gradient.
    void, inside = None, tokens
    if at is not None:
        void = _is_padding(at)
        never_negative = jnp.maximum(at, 0)
        inside = replace(tokens, q_positions=never_negative)
    told = _told(layers, given, tokens)
    constants = _constants(name, layers, given, told)
    held = {}
    joined, ready = {}, {}
    for owner, (encoding, sizes) in layers.owners.items():
        held[owner] = encoding
        # Where constants alone hold the length, all lengths share one trace.
        if structure(told[owner]) != structure(encoding):
            held[owner] = told[owner]
        joined[owner] = held[owner].join(learned[owner], constants[owner])
        # Once for all layers: angles and tables of the tokens' positions.
        at_queries = first_coordinate(encoding, inside.q_positions)
        ready[owner] = held[owner].prepare(joined[owner], at_queries, sizes)
    # A mask or a place of keys more is another kind: bias and mask are gathered for each.
    kinds = {}
    narrow = []
    for kind_name, kind in layers.kinds:
        kind = replace(kind, encoding=held[kind.owner])
        call, is_windowed = _call(kind, given, tokens, joined[kind.owner])
        kinds[kind_name] = replace(
            call,
            tokens=replace(call.tokens, q_positions=first_coordinate(kind.encoding, inside.q_positions)),
            params=ready[kind.owner],
            void=void,
        )
        if is_windowed:
            narrow.append(kind_name)
    # Of any layer: a row that one makes NaN is NaN in all that follow.
    may_end = any(call.may_end for call in kinds.values())
    # An encoding embeds once, however many kinds of layer take it.
    first = {kind.owner: kind_name for kind_name, kind in reversed(layers.kinds)}
    embedding = tuple(first[owner] for owner in layers.owners)
    return PreparedLayers(inside, kinds, embedding, tuple(narrow), may_end)


def _tokens(at: jax.Array | None, given: Pass) -> Tokens:
    """Where the tokens of the stream stand, and those before them in a cache."""
    count, cache = given.count, given.cache
    if cache is None:
        return Tokens.at(count, count, 0, at, at)
    k_positions = cache.placed(at, count)
    return Tokens.at(count, cache.size, cache.begun, at, k_positions)


def _call(kind: Kind, given: Pass, tokens: Tokens, raw: Params) -> tuple[Prepared, bool]:
    """The call of attention of one kind, and whether its keys are a window of those in the cache."""
    if kind.keys_from == "memory":
        memory = given.memory
        if memory is None:
            raise InputError(
                "the decoder reads an encoder's memory and none was given: pass memory=model.encode(source), or make "
                "the cache with model.cache(..., memory=memory)"
            )
        memory = given_memory(memory, kind.dims.model_size)
        # Two sequences: the first query has no place among the keys, and their indices tell no distance.
        q_positions = first_coordinate(kind.encoding, tokens.q_positions)
        k_positions = first_coordinate(kind.encoding, memory.k_positions)
        where = Tokens.at(tokens.queries, memory.tokens, 0, q_positions, k_positions)
        mask = kind.mask & memory.mask(tokens.queries)
        return attention.gather(kind.encoding, raw, kind.dims, where, mask), False
    called = _called(given)
    if kind.linear:
        called = _of_step(called, given)
    narrow = _windowed(kind, given)
    where = tokens
    mask = _joint(kind, called)
    if narrow is not None:
        where = narrow.tokens(tokens)
        mask = kind.mask & narrow.mask(called)
    check_causal(kind.encoding, mask)
    # Keys of later tokens are not in the cache, so a row that is to see them would be wrong in silence.
    if given.cache is not None and given.cache.looks_past(mask, given.count):
        raise InputError(
            f"the mask {mask!r} lets tokens look ahead, past the {given.count} that come now, and a cache has none "
            "there yet: let all that a prefix sees come in the first pass, or intersect the mask with Causal()"
        )
    q_positions = first_coordinate(kind.encoding, where.q_positions)
    k_positions = first_coordinate(kind.encoding, where.k_positions)
    where = replace(where, q_positions=q_positions, k_positions=k_positions)
    return attention.gather(kind.encoding, raw, kind.dims, where, mask), narrow is not None


def _windowed(kind: Kind, given: Pass) -> Windowed | None:
    if given.cache is None or kind.linear:
        return None
    return windowed(kind.mask, given.cache, given.count)


def _called(given: Pass) -> Mask:
    """The mask of the call, its arrays held to the tokens."""
    called = as_mask(given.mask)
    if given.cache is None:
        return called
    sizes = {"B": given.cache.rows, "T": given.count, "S": given.cache.size}
    return held(called, sizes, given.cache.begun)


def _of_step(called: Mask, given: Pass) -> Mask:
    """The mask of a call for linear attention, which is told the documents of the tokens that come, and no others."""
    if given.cache is None:
        return called
    found: Mask = attention.Full()
    for rule in rules(called):
        if type(rule) is Segments:
            ids = jnp.asarray(rule.queries)
            own = lax.dynamic_slice_in_dim(ids, given.cache.begun, given.count, 1)
            # Other ids of its keys are refused there, as without a cache.
            rule = Segments(jnp.broadcast_to(own, (given.cache.rows, given.count)), rule.keys)
        found = found & rule
    return found


def _joint(kind: Kind, called: Mask) -> Mask:
    if isinstance(called, attention.Full):
        return kind.mask
    return kind.mask & called


def _told(layers: StackPlan, given: Pass, tokens: Tokens) -> dict[str, Encoding]:
    """Each encoding at the length of the context that the tokens reach, or that was given."""
    found = {}
    for owner, (encoding, _) in layers.owners.items():
        found[owner] = encoding
        # Given constants are those of a length, unless a hook reads what else it is told.
        if encoding.length_dependent and (given.constants is None or told_by_fields(encoding)):
            found[owner] = encoding.at_length(_context(owner, encoding, layers, given, tokens))
        elif given.length is not None:  # Nobody reads it, and a wrong one is still a mistake.
            attention.context_length(encoding, given.length)
    return found


def _context(owner: str, encoding: Encoding, layers: StackPlan, given: Pass, tokens: Tokens) -> int:
    q_offset = tokens.q_offset
    if given.length is None and not isinstance(q_offset, int):
        raise InputError(
            f"{encoding!r} depends on the length of the context, and how full the cache is is known at run time only: "
            "pass length=, or constants= where its constants alone depend on it"
        )
    end = tokens.k_positions
    if tokens.contiguous:
        end = tokens.keys
        if given.cache is not None and isinstance(q_offset, int):
            end = q_offset + tokens.queries  # A roomy cache is no longer context.
    ends = [end]
    # Cross attention sees the memory's tokens too, which may reach further.
    if given.memory is not None and owner in layers.crossing:
        ends.append(given.memory.k_positions)
    return attention.context_length(encoding, given.length, *ends)


def _constants(name: StackName, layers: StackPlan, given: Pass, told: Mapping[str, Encoding]) -> Mapping[str, Params]:
    """The encodings' constants, as given or as they come to at the length of the context."""
    if given.constants is not None:
        return _held_constants(name, layers, given.constants)
    return {owner: told[owner].constants(sizes) for owner, (_, sizes) in layers.owners.items()}


def _held_constants(name: StackName, layers: StackPlan, given: Constants) -> Mapping[str, Params]:
    if not isinstance(given, Mapping):
        raise InputError(f"constants is a {type(given).__name__}: needed is what constants_of(architecture) makes")
    of_stack = given.get(name)
    owners = layers.owners
    # A name too many would be read by nothing.
    if of_stack is None or sorted(of_stack) != sorted(owners):
        have = sorted(given)
        if of_stack is not None:
            have = sorted(of_stack)
        raise InputError(
            f"constants are named {have}: needed are those of each encoding of the {name}, under "
            f"{', '.join(sorted(owners))}; make them by constants_of(architecture)"
        )
    for owner, (encoding, sizes) in owners.items():
        given_constants(encoding, of_stack[owner], sizes)
    return of_stack


def _checked(given: Pass, layers: StackPlan) -> jax.Array | None:
    """The positions, of as many tokens as come; without a cache a model learns its batch from the tokens."""
    if given.positions is None:
        return None
    coordinates = max(encoding.coordinates for encoding, _ in layers.owners.values())
    at = check(given.positions, "positions", coordinates)
    # Those of all rows at once have no axis for the batch.
    rows = 1
    if at.ndim > 1:
        rows = at.shape[0]
    if given.cache is not None:
        rows = given.cache.rows
    return check(at, "positions", coordinates, (rows, given.count))


def _is_padding(positions: jax.Array) -> jax.Array:
    """Which tokens have no position, bool `[T]` or `[B, T]`: all coordinates count, where there are several."""
    if positions.ndim == 3:
        return jnp.any(positions < 0, axis=-1)
    return positions < 0
