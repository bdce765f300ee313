"""After a swap the configuration says what its family's code reads, and what that cannot say is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posjax import NTK, InputError, Interpolation, Rope
from posjax.interop import describe, swapped, write
from posjax.models import build
from tests.interop.test_describing import gpt, sized

SIZES = (32, 64, 1, 4, 9)
GPTJ = gpt("gptj", 32, 1, 4, 9, rotary_dim=4)
LLAMA = sized("llama", *SIZES, rope_theta=1e4)
ROFORMER = sized("roformer", *SIZES, max_position_embeddings=64)


def rewritten(config, encoding, folder):
    """The configuration of a model with another encoding, and its architecture."""
    described = describe(config)
    model = build(swapped(described.required(), encoding), described.vocabulary, 0)
    write(model, folder, config=config)
    return json.loads((folder / "config.json").read_text()), describe(folder).required()


def test_gptj_says_how_many_channels_turn(tmp_path):
    rope = Rope(layout="interleaved", fraction=0.75)
    values, again = rewritten(GPTJ, rope, tmp_path)
    assert values == {**GPTJ, "rotary_dim": 6} and again.encoding == rope


@pytest.mark.parametrize(
    ("config", "encoding", "told"),
    [
        (GPTJ, Rope(500.0, layout="interleaved", fraction=0.5), "a base of 10000.0 and reads rotary_dim"),
        (GPTJ, Rope(schedule=Interpolation(2.0), layout="interleaved", fraction=0.5), "and reads rotary_dim"),
        (ROFORMER, Rope(500.0, layout="interleaved"), "reads nothing about it"),
        (LLAMA, Rope(fraction=0.5), "whose code turns the whole head"),
    ],
)
def test_what_the_code_cannot_be_told_is_refused(tmp_path, config, encoding, told):
    with pytest.raises(InputError, match=told):
        rewritten(config, encoding, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_ntk_is_written_as_the_base_that_it_grows_to(tmp_path):
    rope = Rope(schedule=NTK(4.0))
    values, again = rewritten(LLAMA, rope, tmp_path)
    found = again.encoding
    # 10,000 * 4^(8 / 6), Peng et al. 2023, arXiv:2309.00071, section 3.1; and the same frequencies to the bit.
    assert values["rope_theta"] == pytest.approx(63_496.042) and values["rope_scaling"] is None
    ours, _ = rope.schedule.frequencies(8, rope.base)
    np.testing.assert_array_equal(found.schedule.frequencies(8, found.base)[0], ours)


def test_gpt_neox_keeps_its_older_names(tmp_path):
    config = sized("gpt_neox", *SIZES, rotary_pct=0.25, rotary_emb_base=10_000)
    values, _ = rewritten(config, Rope(500.0, fraction=0.5), tmp_path)
    assert {"rope_theta", "partial_rotary_factor"}.isdisjoint(values)
    assert (values["rotary_emb_base"], values["rotary_pct"]) == (500.0, 0.5)


@pytest.mark.parametrize(("model_type", "step"), [("gemma3_text", 6), ("cohere2", 4)])
def test_a_pattern_that_the_code_does_not_read_is_refused(model_type, step):
    config = sized(model_type, *SIZES, num_key_value_heads=4, head_dim=8)
    with pytest.raises(InputError, match="_sliding_window_pattern=2: needed is sliding_window_pattern or layer_types"):
        describe({**config, "_sliding_window_pattern": 2})
    expected = describe(config)
    assert describe({**config, "_sliding_window_pattern": step}) == expected
    listed = {**config, "layer_types": ["sliding_attention"]}
    assert describe({**listed, "_sliding_window_pattern": 2}) == expected


def test_a_cap_that_the_code_of_gemma_3_does_not_read_is_refused():
    config = sized("gemma3_text", *SIZES, num_key_value_heads=4, head_dim=8)
    with pytest.raises(InputError, match="attn_logit_softcapping=50: needed is null"):
        describe({**config, "attn_logit_softcapping": 50})
