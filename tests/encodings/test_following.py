"""What stretches an encoding follows the context's length, and scales queries and keys once: for all there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from posjax import Dims, DynamicNTK, Rope, invariants
from posjax.encodings.schedules.base import Schedule
from posjax.invariants.following import other_length, temperature_of
from tests.cases import DIMS, ENCODINGS


@pytest.mark.parametrize("encoding", ENCODINGS, ids=repr)
def test_every_encoding_follows_the_length_and_has_its_temperature_once(encoding):
    invariants.assert_length(encoding, DIMS, 8)
    invariants.assert_temperature(encoding, DIMS)


@dataclass(frozen=True)
class Warm(Schedule):
    """A schedule from scratch, whose square is no mistake of anyone's."""

    def frequencies(self, rotary_size, base, length=None):
        return base ** -(np.arange(rotary_size // 2) * 2 / rotary_size), 1.44


def test_a_schedule_from_scratch_answers_what_it_likes():
    rope = Rope(schedule=Warm())
    invariants.assert_temperature(rope, DIMS)
    assert temperature_of(rope, DIMS) == pytest.approx(1.44, rel=1e-5)


@dataclass(frozen=True)
class ByHook(Rope):
    """It says its length in no constant: the rotation reads it."""

    length: int = 0

    @property
    def length_dependent(self):
        return not self.length

    def at_length(self, length):
        return ByHook(length=length)

    def prepare(self, params, positions, dims):
        return super().prepare(params, positions // (2 if self.length > 100 else 1), dims)


@dataclass(frozen=True)
class DeafByHook(ByHook):
    def prepare(self, params, positions, dims):
        return Rope.prepare(self, params, positions, dims)

    def at_length(self, length):
        return DeafByHook(length=length)


def test_a_length_may_be_followed_without_constants():
    dims = Dims(heads=2, head_size=8)
    assert other_length(Rope(schedule=DynamicNTK(2.0, 64)), dims, 8) == 128
    invariants.assert_length(ByHook(), dims, 8)
    with pytest.raises(AssertionError, match="the same at every length"):
        invariants.assert_length(DeafByHook(), dims, 8)
