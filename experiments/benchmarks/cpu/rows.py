"""The rows of the attention benchmark: each peer of one case, checked against ours, then timed in turns."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from experiments.benchmarks.common.cases import ENCODINGS, Arrays, Case, Ready, Unable, error, tolerance
from experiments.benchmarks.common.peers import OURS, PEERS, Peer
from experiments.benchmarks.common.timing import Times, interleave, once, ratio

UNBIASED = "posjax, no bias"
"""Ours without any encoding, timed beside each."""


@dataclass(frozen=True)
class CpuRow:
    """One peer of one case: CPU and wall seconds, or the reason why there are none.

    `ours` and `ours_wall`: what our attention with this encoding takes of these times, `timing.ratio`. `halved`:
    whether it skips the pairs that a causal mask rules out. `error`: how far its results are from ours, relative to
    their largest, and `agrees` whether that is rounding.
    """

    encoding: str
    peer: str
    length: int
    backward: bool
    relative: bool
    cpu: float | None = None
    wall: float | None = None
    ours: float | None = None
    ours_wall: float | None = None
    samples: int = 0
    halved: bool | None = None
    error: float | None = None
    agrees: bool | None = None
    why: str = ""


@dataclass(frozen=True)
class Limits:
    """How long and how much may be measured; without `all_peers`, ours alone."""

    rounds: int
    memory: float
    longest: float
    row_seconds: float
    all_peers: bool


@dataclass
class Compiled:
    """What one case has so far: the peers that can be timed, with the CPU and wall seconds of each one's first run.

    `wanted`: our own results, once they are there.
    """

    ready: dict[str, Ready] = field(default_factory=dict)
    first: dict[str, tuple[float, float]] = field(default_factory=dict)
    wanted: Arrays | None = None


def measure(case: Case, limits: Limits, before: Sequence[CpuRow]) -> list[CpuRow]:
    """One row for each peer. `before`: the rows so far, from which long times are foretold."""
    so_far = Compiled()
    rows = []
    for peer, peers_case in _peers(case, limits):
        # The row is the case's, also where its peer leaves the encoding out.
        relative = case.encoding.bias_kind == "relative"
        row = CpuRow(case.name, peer.name, case.length, case.backward, relative)
        try:
            _check_time(peer, peers_case, limits, before, row)
            rows.append(_prepared(peer, peers_case, limits, row, so_far))
        except (Unable, NotImplementedError, MemoryError) as reason:
            # What a peer, or a backend of ours, says that it cannot do, in its own words.
            rows.append(replace(row, why=str(reason) or type(reason).__name__))
        except RuntimeError as reason:
            # A peer's own compiler, or an allocation that failed. Its texts run over pages.
            first_line = str(reason).splitlines()[0]
            rows.append(replace(row, why=f"{type(reason).__name__}: {first_line[:80]}"))
    times = _timed(so_far, limits)
    # Programs hold their arguments. They are given back before the next case needs the memory.
    del so_far
    gc.collect()
    return [_filled(row, times.get(row.peer), times.get(OURS)) for row in rows]


def _peers(case: Case, limits: Limits) -> list[tuple[Peer, Case]]:
    """Ours, then ours without an encoding, then the others."""
    mine, *others = PEERS
    chosen = [(mine, case)]
    if case.name != "NoPE":
        plain = replace(case, name="NoPE", encoding=ENCODINGS["NoPE"])
        chosen.append((replace(mine, name=UNBIASED), plain))
    if limits.all_peers:
        chosen += [(peer, case) for peer in others]
    return chosen


def _check_time(peer: Peer, case: Case, limits: Limits, before: Sequence[CpuRow], row: CpuRow) -> None:
    """Errors: `Unable` for a peer that is not installed, or whose last time foretells one that is too long."""
    if peer.absent is not None:
        raise Unable(f"{peer.absent} is not installed")
    # The last of them is the longest, and foretells best.
    last = None
    for earlier in before:
        same = (earlier.encoding, earlier.peer, earlier.backward) == (row.encoding, peer.name, case.backward)
        if same and earlier.wall is not None:
            last = earlier
    if last is None or last.wall is None:
        return
    # Attention's time grows with the square of the length.
    foretold = last.wall * (case.length / last.length) ** 2
    if foretold > limits.longest:
        raise Unable(f"would take about {foretold:.0f} s")


def _prepared(peer: Peer, case: Case, limits: Limits, row: CpuRow, so_far: Compiled) -> CpuRow:
    """Compiles a peer, runs it once, and compares what it gives with ours."""
    made = peer.prepare(case, limits.memory)
    if peer.late:
        # Its first run compiles, and would foretell too long a time.
        made.call.finished()
    result, first = once(made.call)
    numbers = made.numbers(result)
    if peer.name == OURS:
        so_far.wanted = numbers
    # Without the encoding it is another attention, and has nothing to agree with.
    if so_far.wanted is not None and peer.name != UNBIASED:
        off = error(numbers, so_far.wanted)
        row = replace(row, error=off, agrees=off <= tolerance(case.dtype))
    so_far.ready[peer.name] = made
    so_far.first[peer.name] = first
    return replace(row, halved=made.halved, why=made.note)


def _timed(prepared: Compiled, limits: Limits) -> dict[str, Times]:
    """The samples of each; a run of more than a row's time is its own sample."""
    times = {}
    calls = {}
    seconds = {}
    for name, made in prepared.ready.items():
        cpu, wall = prepared.first[name]
        if wall > limits.row_seconds:
            times[name] = Times([cpu], [wall])
        else:
            calls[name] = made.call
            seconds[name] = wall
    return times | interleave(calls, limits.rounds, seconds, limits.row_seconds)


def _filled(row: CpuRow, times: Times | None, ours: Times | None) -> CpuRow:
    """The row with its times, and what ours are of them."""
    if times is None:
        return row
    cpu, wall = times.medians
    row = replace(row, cpu=cpu, wall=wall, samples=len(times.cpu))
    # Of ours itself the ratio would be 1.
    if ours is None or row.peer == OURS:
        return row
    return replace(row, ours=ratio(ours.cpu, times.cpu), ours_wall=ratio(ours.wall, times.wall))
