"""What a later training takes of what an earlier one's encodings have learned: each layer its own, of its kind."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import NoPE, RelativeBias, Rope, T5Bias, chain
from posjax.models import Architecture, Attention, FeedForward, Layer, Stack, build, decoder
from posjax.models.plans import plan
from posjax.training import Devices, Train, carried, carry
from posjax.training.carrying import Carried


def test_a_layer_keeps_its_own_table_when_an_encoding_before_it_goes():
    tables = [T5Bias(buckets=8, max_distance=n) for n in (16, 32, 64)]
    pattern = tuple(Layer((Attention(2, encoding=each), FeedForward(16))) for each in tables)
    before = Architecture(16, decoder=Stack(3, pattern))
    after = before.with_encodings(lambda each: each if each.max_distance == 64 else NoPE())
    dropped = ("encodings.decoder.0.arrays.table", "encodings.decoder.1.arrays.table")
    assert carried(before, after, 11) == Carried(dropped)
    model = build(before, 11, 0)
    there, here = (Train(steps=2, length=8, batch=4, devices=Devices(data=1)).trainer(m, 11) for m in (before, after))
    new = here.trained(carry(there, here, nnx.state(model), 1))
    owner = next(name for name, (each, _) in plan(after.decoder, 16).owners.items() if each == tables[2])
    got, want = (m.encodings["decoder"][name].get_value()["table"] for m, name in ((new, owner), (model, "2")))
    np.testing.assert_array_equal(got, want)


@dataclass(frozen=True)
class Table(RelativeBias):
    """A table of one's own, called and shaped as T5's."""

    def init(self, key, dims):
        return {"table": jnp.zeros((dims.heads, 8))}

    def by_distance(self, params, distance, head):
        return head.of(params["table"])[jnp.clip(distance, 0, 7)]


@pytest.mark.parametrize("of", [lambda each: each, lambda each: chain(Rope(), each)], ids=["alone", "in a chain"])
def test_a_part_of_another_kind_begins_anew(of):
    model, other = (decoder(of(each), layers=1, width=16, heads=2) for each in (T5Bias(buckets=8), Table()))
    found = carried(model, other, 11)
    assert found.dropped and found.dropped == found.drawn
