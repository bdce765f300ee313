"""The rows of the attention benchmark: each peer of one case, checked against ours, then timed in turns."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.benchmarks.common.cases import ENCODINGS, Arrays, Case, Ready, Unable, error, tolerance
from experiments.benchmarks.common.peers import OURS, PEERS, Peer
from experiments.benchmarks.common.timing import Times, interleave, once, ratio

UNBIASED = "posjax, no bias"
"""Ours without any encoding, timed beside each."""


@dataclass(frozen=True)
class Row:
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


def measure(case: Case, limits: Limits, before: Sequence[Row]) -> list[Row]:
    """One row for each peer. `before`: the rows so far, from which long times are foretold."""
    rows: list[Row] = []
    ready: dict[str, Ready] = {}
    first: dict[str, tuple[float, float]] = {}
    wanted: Arrays | None = None
    for peer, peers_case in _peers(case, limits):
        row = Row(case.name, peer.name, case.length, case.backward, case.encoding.bias_kind == "relative")
        try:
            made = _prepared(peer, peers_case, limits, before, row)
            if peer.late:
                made.call.finished()
            result, first[peer.name] = once(made.call)
            numbers = made.numbers(result)
        except (Unable, NotImplementedError, MemoryError) as reason:
            rows.append(replace(row, why=str(reason) or type(reason).__name__))
            continue
        except RuntimeError as reason:  # A peer's own compiler, or an allocation that failed.
            rows.append(replace(row, why=f"{type(reason).__name__}: {str(reason).splitlines()[0][:80]}"))
            continue
        if peer.name == OURS:
            wanted = numbers
        if wanted is not None and peer.name != UNBIASED:
            off = error(numbers, wanted)
            row = replace(row, error=off, agrees=off <= tolerance(case.dtype))
        ready[peer.name] = made
        rows.append(replace(row, halved=made.halved, why=made.note))
    times = _timed(ready, first, limits)
    del ready
    gc.collect()
    return [_filled(row, times.get(row.peer), times.get(OURS)) for row in rows]


def _peers(case: Case, limits: Limits) -> list[tuple[Peer, Case]]:
    """Ours, then ours without an encoding, then the others."""
    chosen = [(peer, case) for peer in (PEERS if limits.all_peers else PEERS[:1])]
    if case.name != "NoPE":
        chosen.insert(1, (replace(PEERS[0], name=UNBIASED), replace(case, name="NoPE", encoding=ENCODINGS["NoPE"])))
    return chosen


def _prepared(peer: Peer, case: Case, limits: Limits, before: Sequence[Row], row: Row) -> Ready:
    if peer.absent is not None:
        raise Unable(f"{peer.absent} is not installed")
    earlier = [
        r
        for r in before
        if (r.encoding, r.peer, r.backward) == (row.encoding, peer.name, case.backward) and r.wall is not None
    ]
    if earlier and earlier[-1].wall is not None:
        foretold = earlier[-1].wall * (case.length / earlier[-1].length) ** 2
        if foretold > limits.longest:
            raise Unable(f"would take about {foretold:.0f} s")
    return peer.prepare(case, limits.memory)


def _timed(ready: dict[str, Ready], first: dict[str, tuple[float, float]], limits: Limits) -> dict[str, Times]:
    """The samples of each; a run of more than a row's time is its own sample."""
    slow = {name: Times([first[name][0]], [first[name][1]]) for name in ready if first[name][1] > limits.row_seconds}
    calls = {name: made.call for name, made in ready.items() if name not in slow}
    return slow | interleave(calls, limits.rounds, {name: first[name][1] for name in calls}, limits.row_seconds)


def _filled(row: Row, times: Times | None, ours: Times | None) -> Row:
    if times is None:
        return row
    cpu, wall = times.medians
    row = replace(row, cpu=cpu, wall=wall, samples=len(times.cpu))
    if ours is None or row.peer == OURS:
        return row
    return replace(row, ours=ratio(ours.cpu, times.cpu), ours_wall=ratio(ours.wall, times.wall))
