"""The oracles agree with every golden vector, and with what the papers say where no vector is at hand."""

import inspect
import pathlib
import re

import numpy as np
import pytest

from tests import content_oracles, golden, oracles, schedule_oracles

EVERY = [
    function
    for module in (oracles, schedule_oracles, content_oracles)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
]


@pytest.mark.parametrize("oracle", EVERY, ids=lambda function: function.__name__)
def test_an_oracle_names_its_source_and_its_second_source(oracle):
    """One written from the same reading as the code proves little: whoever relies on it must see that."""
    said = inspect.getdoc(oracle) or ""
    sources = re.findall(r"^(Source|Second source): \S", said, re.M)
    assert sources == ["Source", "Second source"], f'{oracle.__name__}: write both, "none" where no second one is'
    here = pathlib.Path(__file__).read_text()
    assert all(f'"{vectors}"' in here for vectors in re.findall(r"\w+\.json", said)), "it is compared here with each"


def frequencies_of(case):
    """A golden case's schedule by our oracles; an extended model's `factor` is that of its rope parameters."""
    given = dict(case["rope_parameters"])
    kind, base = given.pop("rope_type"), given.pop("rope_theta")
    r = int(case["head_dim"] * given.pop("partial_rotary_factor", 1.0))
    given["original_length"] = given.pop("original_max_position_embeddings", case["max_position_embeddings"])
    length = case["seq_len"]
    if kind == "default":
        return oracles.plain(r, base)
    if kind == "linear":
        return oracles.interpolation(r, base, given["factor"])
    if kind == "dynamic":
        return oracles.dynamic_ntk(r, base, length=length, **given)
    if kind == "llama3":
        given["low_frequency_factor"] = given.pop("low_freq_factor")
        given["high_frequency_factor"] = given.pop("high_freq_factor")
        return oracles.llama3(r, base, **given)
    if kind == "longrope":
        return oracles.long_rope(r, base, length=length, **given)
    return oracles.yarn(r, base, **given)


@pytest.mark.parametrize("case", golden.cases("rope_frequencies.json"))
def test_schedules_match_golden_frequencies(case):
    frequencies, factor = frequencies_of(case)
    assert frequencies.dtype == np.float64
    np.testing.assert_allclose(frequencies, case["inv_freq"], rtol=1e-6, atol=0)
    np.testing.assert_allclose(factor, case["attention_factor"], rtol=1e-12)


@pytest.mark.parametrize("case", golden.cases("rope_frequencies.json"))
def test_ntk_is_the_golden_dynamic_scaling_by_its_stretch(case):
    given = case["rope_parameters"]
    if given["rope_type"] == "dynamic":
        ratio = max(case["seq_len"] / case["max_position_embeddings"], 1.0)
        stretch = given["factor"] * ratio - (given["factor"] - 1)
        frequencies, _ = oracles.ntk(case["head_dim"], given["rope_theta"], stretch)
        np.testing.assert_allclose(frequencies, case["inv_freq"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", golden.cases("rope_far_positions.json"))
def test_exact_angles_match_golden_far_positions(case):
    exact = oracles.rope_exact_angles(case["positions"], case["head_dim"], case["theta"])
    np.testing.assert_allclose(np.stack(exact, -1), case["cos_sin"], rtol=0, atol=1e-15)
    frequencies, _ = oracles.plain(case["head_dim"], case["theta"])
    from_float64 = oracles.exact_cos_sin(case["positions"], frequencies)
    np.testing.assert_allclose(np.stack(from_float64, -1), case["cos_sin"], rtol=0, atol=5e-7)


@pytest.mark.parametrize("layout", ["split", "interleaved"])
def test_rotation_matches_golden(layout):
    reference = golden.load("rope_rotation.json")
    x = np.array(reference["x"])
    frequencies, _ = oracles.plain(x.shape[-1], reference["theta"])
    turned = oracles.rope(x, [reference["positions"]], frequencies, layout=layout)
    expected = reference["split_halves" if layout == "split" else layout]
    np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("entry", golden.cases("alibi_slopes.json", "slopes"))
def test_slopes_match_golden(entry):
    heads, expected = int(entry[0]), np.array(entry[1])
    slopes = oracles.alibi_slopes(heads)
    if heads in (1, 2, 4, 8):
        np.testing.assert_array_equal(slopes, expected)
    # The reference raises a float32 base to the power h, so its rounding grows with h: 4 units at 32 heads.
    np.testing.assert_allclose(slopes, expected, rtol=5 * 2.0**-23, atol=0)


@pytest.mark.parametrize("case", golden.cases("t5_buckets.json"))
def test_buckets_match_golden(case):
    first, last = case["relative_position"]
    relative = np.arange(first, last + 1)
    buckets = oracles.t5_bucket(relative, case["bidirectional"], case["num_buckets"], case["max_distance"])
    np.testing.assert_array_equal(buckets, case["bucket"])


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
@pytest.mark.parametrize("encoding", ["none", "rope", "alibi", "rope_alibi"])
def test_attention_matches_golden(encoding, direction):
    reference = golden.load("attention.json")
    q, k, v = (np.array(reference[name]) for name in "qkv")
    time, heads = q.shape[1:3]
    positions = np.arange(time)
    bias = None
    if "rope" in encoding:
        frequencies, _ = oracles.plain(q.shape[-1], 10000.0)
        q, k = (oracles.rope(x, positions[None], frequencies) for x in (q, k))
    if "alibi" in encoding:
        bias = oracles.alibi_bias(heads, positions, positions, "causal" if direction == "causal" else "symmetric")
    allowed = oracles.distances(positions, positions)[None] >= 0 if direction == "causal" else None
    out = oracles.attention(q, k, v, bias, allowed)
    np.testing.assert_allclose(out, reference["out"][f"{encoding}_{direction}"], rtol=0, atol=1e-9)


def test_sinusoidal_is_sine_then_cosine_of_each_frequency():
    angles = np.array([[0, 0], [1, 0.01], [7, 0.07]])
    sine, cosine = np.sin(angles), np.cos(angles)
    expected = np.stack([sine[:, 0], cosine[:, 0], sine[:, 1], cosine[:, 1]], -1)
    np.testing.assert_allclose(oracles.sinusoidal([0, 1, 7], 4), expected, atol=1e-15)
    split = oracles.sinusoidal([0, 1, 7], 4, layout="split")
    np.testing.assert_allclose(split, np.concatenate([sine, cosine], -1), atol=1e-15)


@pytest.mark.parametrize(("r", "expected"), [(64, 20452.2), (128, 20221.3)])
def test_ntk_changes_the_base_and_divides_the_lowest_frequency_by_the_factor(r, expected):
    plain, (scaled, factor) = oracles.plain(r, 10000.0)[0], oracles.ntk(r, 10000.0, 2.0)
    assert scaled[0] == 1.0 and factor == 1.0
    np.testing.assert_allclose(scaled[1] ** (-r / 2), expected, atol=0.05)
    np.testing.assert_allclose(plain[-1] / scaled[-1], 2.0, rtol=1e-12)


@pytest.mark.parametrize("truncate", [True, False])
def test_by_parts_keeps_high_frequencies_and_interpolates_low_ones(truncate):
    plain, _ = oracles.plain(64, 10000.0)
    scaled, factor = oracles.ntk_by_parts(64, 10000.0, 4.0, 512, truncate=truncate)
    turns, shrunk = 512 * plain / (2 * np.pi), plain / scaled
    np.testing.assert_array_equal(shrunk[turns > 32], 1.0)
    np.testing.assert_allclose(shrunk[turns < 1], 4.0, rtol=1e-12)
    between = shrunk[(turns < 30) & (turns > 1.5)]
    assert factor == 1.0 and np.all((between > 1) & (between < 4)) and np.all(np.diff(between) > 0)


def test_yarn_temperature_precedence():
    def factor(**given):
        return oracles.yarn(64, 10000.0, 4.0, 512, **given)[1]

    paper, half = 0.1 * np.log(4.0) + 1, 0.05 * np.log(4.0) + 1
    np.testing.assert_allclose(factor(), paper)
    np.testing.assert_allclose(factor(mscale=0.5), paper)
    np.testing.assert_allclose(factor(mscale=0.5, mscale_all_dim=0.0), paper)
    np.testing.assert_allclose(factor(mscale=1.0, mscale_all_dim=0.5), paper / half)
    assert factor(attention_factor=1.5, mscale=1.0, mscale_all_dim=0.5) == 1.5
    assert oracles.yarn(64, 10000.0, 1.0, 512)[1] == 1.0


def test_proportional_keeps_the_exponents_of_the_whole_head():
    plain, _ = oracles.plain(16, 10000.0)
    np.testing.assert_array_equal(oracles.proportional(16, 10000.0, 0.25)[0], [plain[0], plain[1], 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("layout", ["split", "interleaved"])
def test_rotated_scores_depend_on_distance_alone_and_partial_channels_pass(layout):
    q, k = np.random.default_rng(0).normal(size=(2, 1, 5, 3, 8))
    frequencies, _ = oracles.plain(6, 10000.0)
    here, there = np.arange(5)[None], np.arange(5)[None] + 1000

    def scores(positions, factor=1.0):
        turned = [oracles.rope(x, positions, frequencies, factor, layout, rotary=6) for x in (q, k)]
        np.testing.assert_array_equal(turned[0][..., 6:], q[..., 6:])
        return np.einsum("btnh,bsnh->bnts", *(x[..., :6] for x in turned))

    np.testing.assert_allclose(scores(here), scores(there), atol=1e-11)
    np.testing.assert_allclose(scores(here, 1.5), 1.5**2 * scores(here), atol=1e-12)
    assert not np.allclose(scores(here), scores(2 * here))
    with pytest.raises(ValueError, match="3 frequencies"):
        oracles.rope(q, here, frequencies, rotary=8)


def test_xpos_scores_decay_by_zeta_per_512_positions():
    one = np.ones((1, 1, 1, 2))
    q, k = oracles.xpos(one, [[700]], "query"), oracles.xpos(one, [[188]], "key")
    plain = [oracles.rope(one, [[m]], [1.0]) for m in (700, 188)]
    np.testing.assert_allclose(np.sum(q * k), 0.4 / 1.4 * np.sum(plain[0] * plain[1]), rtol=1e-12)


def test_doubling_ntk_grows_at_doublings():
    for length, alpha in ((64, 1), (65, 3), (128, 3), (129, 7)):
        np.testing.assert_allclose(oracles.doubling_ntk(8, 100.0, 64, length)[0], oracles.ntk(8, 100.0, alpha)[0])


def test_step_temperature_steps_by_windows():
    scaled = oracles.step_temperature(np.ones((1, 3, 1, 1)), [[3, 4, 14]], 2.0, 5, 1).ravel()
    np.testing.assert_allclose(scaled, [1, 1 + 2 * np.log(2), 1 + 2 * np.log(4)])


def test_log_n_is_one_within_the_trained_length():
    scaled = oracles.log_n(np.ones((1, 3, 1, 1)), [[0, 15, 255]], 16).ravel()
    np.testing.assert_allclose(scaled, [1, 1, 2], rtol=1e-12)


def test_alibi_has_its_steepest_slope_at_head_0_and_ignores_keys_ahead_unless_symmetric():
    assert oracles.alibi_slopes(8)[0] == 0.5 and oracles.alibi_slopes(8)[-1] == 1 / 256
    causal = oracles.alibi_bias(8, [5, 2**31 - 1], [3, 7])
    np.testing.assert_array_equal(causal[0], [[-1, 0], [-(2**31 - 4) / 2, -(2**31 - 8) / 2]])
    np.testing.assert_array_equal(oracles.alibi_bias(8, [5], [3, 7], "symmetric")[0], [[-1, -1]])


def test_t5_reads_its_table_by_bucket_with_boundaries_exact():
    # Eight log buckets over a ratio of 16 double every two: 16, 32 and 64 start buckets 10, 12 and 14 to the unit.
    np.testing.assert_array_equal(
        oracles.t5_bucket([-7, -8, -15, -16, -31, -32, -63, -64, -127, -128, 0, 5], False, 16, 128),
        [7, 8, 9, 10, 11, 12, 13, 14, 15, 15, 0, 0],
    )
    np.testing.assert_array_equal(oracles.t5_bucket([-16, 16, 2**31 - 1, 0], True, 32, 128), [10, 26, 31, 0])
    table = np.arange(64.0).reshape(2, 32)
    np.testing.assert_array_equal(oracles.t5_bias(table, [5], [3, 6], True), [[[2, 17]], [[34, 49]]])


def test_learned_biases_by_hand():
    np.testing.assert_allclose(oracles.kerple_log([2.0], [3.0], [4], [2]), [[[-2 * np.log(7)]]])
    np.testing.assert_allclose(oracles.kerple_power([2.0], [0.5], [9], [0]), [[[-6.0]]])
    ratio = oracles.fire(lambda x: np.stack([x, 2 * x], -1), 1.0, 7.0, [3, 15], [0, 12])
    expected = np.array([[np.log(4) / np.log(8), 0.0], [1.0, np.log(4) / np.log(16)]])
    np.testing.assert_allclose(ratio, [expected, 2 * expected], rtol=1e-12)


def test_grouped_attention_reads_its_group_and_gives_zeros_where_nothing_is_allowed():
    rng = np.random.default_rng(1)
    q, (k, v) = rng.normal(size=(2, 3, 4, 8)), rng.normal(size=(2, 2, 5, 2, 8))
    allowed = np.ones((1, 3, 5), bool)
    allowed[0, 1] = False
    out = oracles.attention(q, k, v, allowed=allowed)
    alone = oracles.attention(q[:, :, 2:3], k[:, :, 1:], v[:, :, 1:], allowed=allowed)
    np.testing.assert_allclose(out[:, :, 2:3], alone, rtol=1e-12)
    np.testing.assert_array_equal(out[:, 1], 0.0)
    sums = oracles.attention_weights(q, k, allowed=allowed).sum(-1)
    np.testing.assert_allclose(sums, np.broadcast_to([1.0, 0.0, 1.0], sums.shape), rtol=1e-12)
    with pytest.raises(ValueError, match="do not divide"):
        oracles.attention(q[:, :, :3], k, v)
