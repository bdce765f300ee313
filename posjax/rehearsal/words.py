"""A rehearsal in words, at most 80 columns wide."""

from __future__ import annotations

import math
import textwrap

from posjax.rehearsal.rehearse import Rehearsal
from posjax.rehearsal.traffic import Collective
from posjax.training import Train

WIDTH = 80
BOUND = {
    "compute": "products take longest, as they should",
    "memory": "more rows a device would use what is read for more products",
    "links": "more rows a device would send less for each token, as would fewer devices along fsdp",
}
"""What is told of the part that binds."""


def lines(found: Rehearsal, train: Train) -> list[str]:
    """What was found, a line each."""
    told = [*_what(found, train), *_memory(found)]
    if found.work is None:
        told.append("It does not fit, and was not compiled to its end.")
    else:
        told += _work(found)
    for sentence in advice(found, train):
        told += textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return told


def _what(found: Rehearsal, train: Train) -> list[str]:
    batch = f"{train.batch:,} rows of {train.length:,} tokens"
    if train.accumulate > 1:
        batch += f", in {train.accumulate} parts"
    return [
        _row("devices", f"{math.prod(found.mesh.values())} of {found.kind}"),
        _row("mesh", ", ".join(f"{name} {size}" for name, size in found.mesh.items())),
        _row("model", f"{found.size:,} parameters"),
        _row("batch", batch),
        _row("computed", f"in {train.compute.dtype}, remat {train.compute.remat!r}"),
        _row("attention", found.backend),
        *_refusals(found),
    ]


def _refusals(found: Rehearsal) -> list[str]:
    """Why the backends before it were passed over."""
    said = [line.strip() for line in found.why.splitlines() if line.strip().startswith("not ")]
    told = []
    for reason in said:
        told += textwrap.wrap(reason, WIDTH, initial_indent=" " * 14, subsequent_indent=" " * 16)
    return told


def _memory(found: Rehearsal) -> list[str]:
    memory = found.memory
    told = ["", "Memory of each device"]
    told.append(_row("parameters", size(memory.parameters)))
    told.append(_row("optimiser", size(memory.optimizer)))
    told.append(_row("batch", size(memory.batch)))
    if memory.temporaries is not None:
        told.append(_row("temporaries", f"{size(memory.temporaries)}, gradients and activations among them"))
        told.append(_row("program", size(memory.program)))
    total = size(memory.total)
    if found.chip is not None:
        share = memory.total / found.chip.memory
        total += f" of {size(found.chip.memory)}, {100 * share:.0f} %"
    told.append(_row("together", total))
    return told


def _work(found: Rehearsal) -> list[str]:
    work = found.work
    assert work is not None
    told = ["", "Work of each device in a step"]
    products = flop(work.flops)
    if work.in_attention:
        products += f", of which {flop(work.in_attention)} in attention's kernels and loops"
    told.append(_row("products", products))
    told.append(_row("memory", f"{size(work.moved)} read and written"))
    # Those of a few numbers, such as a norm, would be most of the lines.
    told += [_row("links", _collective(one)) for one in work.collectives if one.over_links >= 1e-3 * work.over_links]
    if work.rounds != 1:
        told += textwrap.wrap(
            "The length of some loops of attention is known at run time only: its products are counted by formula, "
            f"which makes {work.rounds:.1f} rounds of each.",
            WIDTH,
        )
    times = found.times()
    if not times:
        return [*told, "What this device can do at best is not known: no times."]
    told += ["", "The time of a step, if one thing alone were waited for"]
    told += [_row(name, f"{1e3 * seconds:,.1f} ms") for name, seconds in times.items()]
    # At best the others hide behind it.
    binding = max(times, key=lambda name: times[name])
    told += textwrap.wrap(f"Bound by {binding}: {BOUND[binding]}.", WIDTH)
    rate = found.tokens / times[binding]
    told.append(f"At best {rate:,.0f} tokens a second on all devices together.")
    return told


def _collective(one: Collective) -> str:
    return f"{one.count:,.0f} {one.kind} among {one.devices}: {size(one.size)}, {size(one.over_links)} sent"


def advice(found: Rehearsal, train: Train) -> list[str]:
    """What to change where it does not fit, the cheapest first."""
    if found.fits is not False or found.chip is None:
        return []
    told = []
    memory, limit = found.memory, found.chip.memory
    held = memory.parameters + memory.optimizer
    mesh = found.mesh
    # It costs no operation, and sends what the links of most chips carry beside the products.
    if mesh["data"] > 1:
        most = mesh["data"] * mesh["fsdp"]
        told.append(
            f"--train.devices.fsdp {most}: parameters and optimiser take {size(held)} of each device, and would take "
            f"{size(held * mesh['fsdp'] / most)}"
        )
    if train.compute.remat != "all":
        told.append("--train.compute.remat all: the backward pass keeps one input for each layer, and computes again")
    # A part of a batch has one row a device at least.
    rows = train.batch // (mesh["data"] * mesh["fsdp"])
    if rows > train.accumulate:
        told.append(f"--train.accumulate {2 * train.accumulate}: half as many rows at once, and the same batch")
    elif train.compute.remat == "all":
        told.append(
            f"--train.devices.context {2 * mesh['context']}, or tensor: a device has one row at a time already, and "
            "would have a part of its tokens, or of its heads"
        )
    if held > limit / 2:
        told.append("more devices, or chips with more memory: what is held all the time is more than half of it")
    return told


def _row(name: str, text: str) -> str:
    return f"  {name:12}{text}"


def flop(number: float) -> str:
    """Floating-point operations as people say them.

    >>> flop(1.0236e13), flop(12)
    ('10.2 TFLOP', '1.2e-05 MFLOP')
    """
    for unit, step in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if number >= step:
            return f"{number / step:.3g} {unit}FLOP"
    return f"{number / 1e6:.3g} MFLOP"


def size(number: float) -> str:
    """Bytes as people say them.

    >>> size(3 * 2**30), size(1000)
    ('3.00 GiB', '0.000954 MiB')
    """
    if number >= 2**30:
        return f"{number / 2**30:,.2f} GiB"
    return f"{number / 2**20:,.3g} MiB"
