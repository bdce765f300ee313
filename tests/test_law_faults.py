"""What an encoding of one's own gets wrong beside its hooks: each mistake is found by the law that holds it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest

from posjax import AxialRope, Dims, DynamicNTK, Encoding, Forgetting, RelativeBias, Rope, Sinusoidal, invariants

DIMS = Dims(heads=2, head_size=4, model_size=8)


@dataclass(frozen=True)
class Factored(Encoding):
    """A product of two factors of low rank, of which one begins at zero."""

    def init(self, key, dims):
        return {"up": jnp.ones((dims.head_size, 2)), "down": jnp.zeros((2, dims.head_size))}

    def rotate(self, params, x, positions, role):
        return x + x @ (params["up"] @ params["down"])


def test_gradients_accuse_no_factor_that_begins_at_zero():
    invariants.assert_gradients(Factored(), DIMS)


class PreparesTwice(Encoding):
    """What it prepares turns once more."""

    def prepare(self, params, positions, dims):
        return {**params, "ready": jnp.ones(())}

    def rotate(self, params, x, positions, role):
        return x * (2.0 if "ready" in params else 1.0)


class LikeTheFirstRow(Encoding):
    """Every row is turned as the first is."""

    def rotate(self, params, x, positions, role):
        return Rope().rotate(params, x, positions[0] if positions.ndim > 1 else positions, role)


@dataclass(frozen=True)
class OtherSlopes(RelativeBias):
    """Kernels are told other slopes than the bias has."""

    def by_distance(self, params, distance, head):
        return -0.5 * jnp.abs(distance).astype(jnp.float32)

    def slopes(self, params, heads):
        return jnp.full(heads, 0.25)


class Planar(Encoding):
    """Two coordinates, of which the first row's serve all rows."""

    @property
    def coordinates(self):
        return 2

    def rotate(self, params, x, positions, role):
        return AxialRope((1, 1)).rotate({}, x, positions[:1] if positions.ndim == 3 else positions, role)


class Widens(Encoding):
    """What it embeds is float32, whatever it gets."""

    def embed(self, params, x, positions):
        return x.astype(jnp.float32)


class Loses(Encoding):
    """A token is left out where positions move."""

    def move(self, params, positions, key):
        return positions[..., :-1]


BESIDE = [PreparesTwice(), LikeTheFirstRow(), OtherSlopes(), Planar(), Widens(), Loses()]


@pytest.mark.parametrize("encoding", BESIDE, ids=repr)
def test_tile_catches_what_is_made_beside_the_hooks(encoding):
    with pytest.raises(AssertionError, match=r"prepared|second row|slopes|embed: float32|move: int32\[2, 11\] of"):
        invariants.assert_tile(encoding, {}, DIMS)


@dataclass(frozen=True)
class SaysSwept(Encoding):
    """A hook reads the length from a field that is said to act through constants alone."""

    swept = ("length",)
    length: int = 1

    def at_length(self, length):
        return replace(self, length=length)

    def rotate(self, params, x, positions, role):
        return x * self.length


@pytest.mark.exhaustive
def test_a_field_that_is_no_constant_is_not_swept():
    invariants.assert_length(Rope(schedule=DynamicNTK(4.0, 16)), DIMS, 16)
    with pytest.raises(AssertionError, match="length"):
        invariants.assert_length(SaysSwept(), DIMS, 16)
    (found,) = [f for f in invariants.check(SaysSwept(), DIMS, show=False) if f.law == "length"]
    assert not found.holds


class OtherFading(Forgetting):
    """Backends are told to forget twice as fast as the score says."""

    def fading(self, params, k):
        return 2 * super().fading(params, k)

    def score(self, params, q, k, pairs):
        return Forgetting().score(params, q, k, pairs)


def test_decode_catches_a_backend_that_is_told_something_else():
    encoding = OtherFading()
    with pytest.raises(AssertionError, match="reference"):
        invariants.assert_decode(encoding, encoding.init(jax.random.key(0), DIMS), DIMS)


class EmbedsAndIsRelative(Encoding):
    """Adds where a token is to what it is, and says that scores do not know."""

    @property
    def relative(self):
        return True

    def embed(self, params, x, positions):
        return Sinusoidal().embed({}, x, positions)


def test_relative_catches_what_is_embedded():
    with pytest.raises(AssertionError, match="not relative"):
        invariants.assert_relative(EmbedsAndIsRelative(), {}, DIMS)
