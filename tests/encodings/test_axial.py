"""RoPE over several coordinates: text is plain RoPE, and scores know the offset along each coordinate alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Alibi, AxialRope, Dims, InputError, Rope, attend, chain
from tests import oracles
from tests.cases import first_of

GRID = np.array([[i, j] for i in range(3) for j in range(4)])


def rotated(encoding, x, at, role="query") -> np.ndarray:
    params = encoding.join(None, encoding.constants(Dims(x.shape[2], x.shape[3])))
    return np.asarray(encoding.rotate(params, jnp.asarray(x), jnp.asarray(at, jnp.int32), role))


def rows(heads: int, size: int, count: int = 12) -> np.ndarray:
    return np.asarray(np.random.default_rng(size).normal(size=(2, count, heads, size)), np.float32)


@first_of("layout", ["split", "interleaved"], keep=1)
def test_shared_frequencies_on_text_are_rope(layout):
    x = rows(3, 16)
    encoding = AxialRope(sections=(3, 2, 3), frequencies="shared", layout=layout)
    for at in (np.arange(12), np.arange(12)[None].repeat(2, 0) * 1000):
        expected = rotated(Rope(layout=layout), x, at)
        np.testing.assert_array_equal(rotated(encoding, x, at), expected)
        np.testing.assert_array_equal(
            rotated(encoding, x, np.stack(np.broadcast_arrays(*[at if at.ndim == 2 else at[None]] * 3), -1)), expected
        )


def turned(x, at, sections, frequencies, base, layout) -> np.ndarray:
    """By hand: a complex number for each pair, times exp(i position theta)."""
    pairs = sum(sections)
    flat = x[..., : 2 * pairs].astype(np.float64)
    a, b = (flat[..., :pairs], flat[..., pairs:]) if layout == "split" else (flat[..., 0::2], flat[..., 1::2])
    theta = (
        oracles.plain(2 * pairs, base)[0]
        if frequencies == "shared"
        else np.concatenate([oracles.plain(2 * n, base)[0] for n in sections])
    )
    which = np.repeat(np.arange(len(sections)), sections)
    z = (a + 1j * b) * np.exp(1j * at[..., which] * theta)[:, :, None, :]
    out = x.astype(np.float64).copy()
    if layout == "split":
        out[..., :pairs], out[..., pairs : 2 * pairs] = z.real, z.imag
    else:
        out[..., 0 : 2 * pairs : 2], out[..., 1 : 2 * pairs : 2] = z.real, z.imag
    return out


@pytest.mark.holds(AxialRope, to=oracles.plain)
@pytest.mark.parametrize("frequencies", ["own", "shared"])
@pytest.mark.parametrize("layout", ["split", "interleaved"])
@pytest.mark.parametrize(("sizes", "sections"), [((3, 8), (2, 2)), ((6, 16), (5, 2)), ((3, 16), (1, 1))])
def test_each_section_turns_by_its_coordinate(frequencies, layout, sizes, sections):
    x, at = rows(*sizes), np.stack([GRID, GRID[::-1] * 77])
    encoding = AxialRope(sections, 500.0, frequencies, layout)
    np.testing.assert_allclose(rotated(encoding, x, at), turned(x, at, sections, frequencies, 500.0, layout), atol=1e-5)


@pytest.mark.parametrize("frequencies", ["own", "shared"])
def test_scores_depend_on_both_offsets_alone(frequencies):
    x = rows(3, 8)
    encoding = AxialRope((2, 2), frequencies=frequencies)

    def scores(at):
        q, k = (rotated(encoding, x, np.stack([at, at]), role) for role in ("query", "key"))
        return np.einsum("btnh,bsnh->bnts", q, k)

    np.testing.assert_allclose(scores(GRID), scores(GRID + np.array([1000, 7])), atol=1e-4)
    for stretch in ([2, 1], [1, 2]):
        assert np.abs(scores(GRID) - scores(GRID * stretch)).max() > 0.1


@pytest.mark.holds(AxialRope, to=(oracles.alibi_bias, oracles.attention, oracles.plain))
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_attend_takes_coordinates_and_a_bias_reads_the_first(backend):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 12, 6, 8))
    at = np.stack([GRID, GRID + 3])
    got = attend(
        q,
        k,
        v,
        q_positions=jnp.asarray(at),
        k_positions=jnp.asarray(at),
        backend=backend,
        encoding=chain(AxialRope(), Alibi()),
    )
    turn = [turned(np.asarray(x), at, (2, 2), "own", 10_000.0, "split") for x in (q, k)]
    bias = np.stack([oracles.alibi_bias(6, row[:, 0], row[:, 0]) for row in at])
    expected = oracles.attention(*turn, v, bias=bias, allowed=np.tril(np.ones((1, 12, 12), bool)))
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: AxialRope((2, 0)), "sections=(2, 0)", "1 pair or more"),
        (lambda: AxialRope(()), "sections=()", "1 pair or more"),
        (lambda: AxialRope(base=1.0), "base=1.0", "above 1"),
        (lambda: AxialRope(frequencies="all"), "frequencies='all'", "'own' or 'shared'"),  # type: ignore[arg-type]
        (lambda: AxialRope(layout="half"), "layout='half'", "'split' or 'interleaved'"),  # type: ignore[arg-type]
        (lambda: AxialRope((3, 2)).constants(Dims(1, 8)), "10 channels", "head size of 8"),
        (lambda: rotated(AxialRope(), rows(3, 8), np.zeros((2, 12, 3))), "positions of shape (2, 12, 3)", "[B, T, 2]"),
        (
            lambda: attend(
                *[jnp.ones((1, 2, 1, 8))] * 3,
                q_positions=jnp.zeros((1, 2, 3), int),
                k_positions=jnp.zeros((1, 2, 3), int),
                encoding=AxialRope(),
            ),
            "(1, 2, 3)",
            "[1, 2, 2]",
        ),
        (
            lambda: attend(
                *[jnp.ones((1, 2, 1, 8))] * 3,
                q_positions=jnp.zeros((1, 2, 2), int),
                k_positions=jnp.zeros((1, 2, 2), int),
                encoding=Rope(),
            ),
            "(1, 2, 2)",
            "[B, T]",
        ),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
