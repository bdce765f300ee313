"""Where weights lie under the names of others: the rules of one module each, put together by the families.

Torch's Linear keeps [out, in]. Which biases and norms a model has its architecture says: a rule without a parameter is
passed over.
"""

from __future__ import annotations

from dataclasses import replace

from posjax.interop.family import Rules
from posjax.interop.rules import Part, Weight


def embedding(theirs: str) -> Rules:
    """The table of the tokens."""
    return {"embedding.embedding": Weight(f"{theirs}.weight", "V D -> V D")}


def head(theirs: str) -> Rules:
    """The output's own table, and its bias."""
    return {
        "head.table.kernel": Weight(f"{theirs}.weight", "V D -> D V"),
        "head.bias": Weight(f"{theirs}.bias", "V -> V"),
    }


def learned(stack: str, theirs: str) -> Rules:
    """A table of positions."""
    return {f"encodings.{stack}.0.arrays.table": Weight(f"{theirs}.weight", "T D -> T D")}


def norm(ours: str, theirs: str, layout: str = "D -> D") -> Rules:
    """Scale and bias."""
    return {
        f"{ours}.scale": Weight(f"{theirs}.weight", layout),
        f"{ours}.bias": Weight(f"{theirs}.bias", layout),
    }


def projections(theirs: str, names: str, ours: str = "attention") -> Rules:
    """Queries, keys, values and output, by their four names: "q_proj k_proj v_proj o_proj"."""
    query, key, value, out = names.split()
    rules = output(theirs, out, ours)
    for name, given in (("query", query), ("key", key), ("value", value)):
        rules[f"{ours}.{name}.kernel"] = Weight(f"{theirs}.{given}.weight", "(N H) D -> D N H")
        rules[f"{ours}.{name}.bias"] = Weight(f"{theirs}.{given}.bias", "(N H) -> N H")
    return rules


def output(theirs: str, out: str, ours: str = "attention") -> Rules:
    """The projection of what attention gives."""
    return {
        f"{ours}.out.kernel": Weight(f"{theirs}.{out}.weight", "D (N H) -> N H D"),
        f"{ours}.out.bias": Weight(f"{theirs}.{out}.bias", "D -> D"),
    }


def joined(theirs: str, heads: int, shared: int, order: str) -> Rules:
    """Queries, keys and values in one tensor, whose rows are in the order "(part H)": all queries, then all keys, ...

    With "(K part H)" each key-value head has its queries, a key and a value together.
    """
    # Counted in groups of one head: where each group holds all three, its queries are those that share a key.
    of_group = 1
    if "K" not in order:
        of_group = shared
    sizes = {"query": heads * of_group // shared, "key": of_group, "value": of_group}
    whole = sum(sizes.values())
    # Ours has the head's channels as an axis of their own.
    ours = order.replace(" H", ")").replace("))", ")")
    rules = {}
    start = 0
    for name, size in sizes.items():
        part = Part(start, size, whole)
        rules[f"attention.{name}.kernel"] = Weight(f"{theirs}.weight", f"{order} D -> D {ours} H", part)
        rules[f"attention.{name}.bias"] = Weight(f"{theirs}.bias", f"{order} -> {ours} H", part)
        start += size
    return rules


def gated(theirs: str, names: str) -> Rules:
    """A gated feed-forward, by its three names: "gate_proj up_proj down_proj"."""
    gate, up, down = names.split()
    # The gate goes through the activation, and up does not.
    return _into("gate", f"{theirs}.{gate}") | plain(theirs, f"{up} {down}")


def plain(theirs: str, names: str) -> Rules:
    """A feed-forward of two maps, by their names: "fc1 fc2"."""
    up, down = names.split()
    # OPT's and BERT's maps stand in the layer itself.
    prefix = theirs
    if theirs:
        prefix = f"{theirs}."
    rules = _into("up", f"{prefix}{up}")
    rules["feed_forward.down.kernel"] = Weight(f"{prefix}{down}.weight", "D F -> F D")
    rules["feed_forward.down.bias"] = Weight(f"{prefix}{down}.bias", "D -> D")
    return rules


def _into(ours: str, theirs: str) -> Rules:
    return {
        f"feed_forward.{ours}.kernel": Weight(f"{theirs}.weight", "F D -> D F"),
        f"feed_forward.{ours}.bias": Weight(f"{theirs}.bias", "F -> F"),
    }


def both_in_one(theirs: str, size: int) -> Rules:
    """Gate and then up in one tensor, each of that size."""
    rules = {}
    # The half through the activation is the first.
    for at, name in enumerate(("gate", "up")):
        part = Part(at * size, size, 2 * size)
        rules[f"feed_forward.{name}.kernel"] = Weight(f"{theirs}.weight", "part D -> D part", part)
        rules[f"feed_forward.{name}.bias"] = Weight(f"{theirs}.bias", "part -> part", part)
    return rules


def layers(stack: str, theirs: str, rules: Rules) -> Rules:
    """The rules of one layer as those of all: theirs lie under `theirs.{}`."""
    # Which of them a layer has its architecture says, so all layers are named alike.
    found = {}
    for ours, rule in rules.items():
        found[f"blocks.{stack}.{{}}.{ours}"] = replace(rule, key=f"{theirs}.{{}}.{rule.key}")
    return found
