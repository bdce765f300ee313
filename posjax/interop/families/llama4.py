"""Llama 4's text model where no layer is a mixture: chunks that turn, and full layers with a temperature."""

from __future__ import annotations

from posjax.attention import Chunked, Mask
from posjax.encodings.base import Encoding
from posjax.encodings.step_temperature import StepTemperature
from posjax.errors import InputError
from posjax.interop.config import Config
from posjax.interop.families import llama, names, smollm3, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, NO_POSITIONS, SCORES, FeedForward, Norm, Scores


def _architecture(config: Config) -> Architecture:
    _require_dense(config)
    norm = values.rms(config, default=1e-5)
    biases = values.biased(config, "attention_bias")
    # Its dense layers have a size of their own; the plain key is that of experts.
    inner = FeedForward(config.whole("intermediate_size_mlp", default=16384), values.activation(config, "hidden_act"))
    rotary: Encoding = values.rotary(config)
    masks: dict[str, Mask] = {values.FULL: CAUSAL}
    kind_of = {True: values.FULL, False: values.FULL}
    # What turns sees a chunk, unless a null says that there are none.
    if not values.nulled(config, "attention_chunk_size"):
        masks[values.CHUNKED] = CAUSAL & Chunked(config.whole("attention_chunk_size", default=8192))
        kind_of[True] = values.CHUNKED
    turns = smollm3.rotated(config, 4)
    kinds = [kind_of[turning] for turning in turns]
    layers = []
    still = _temperature(config)
    unit = SCORES
    if config.flag("use_qk_norm", default=True):
        # After the rotation, which keeps lengths but for the factor of its schedule: the norm takes that out again.
        # Ours comes before the rotation, where there must be no factor then.
        rotary = values.unfactored(rotary)
        unit = Scores(norm=Norm("rms", norm.epsilon, scaled=False))
    # What does not turn has a temperature in place of a rotation.
    for turning, kind in zip(turns, values.layer_types(config, kinds, *masks), strict=True):
        attention = values.attention(config, still, masks[kind], biases)
        if turning:
            attention = values.attention(config, rotary, masks[kind], biases, unit)
        layers.append(Layer((attention, inner), norm))
    return values.decoder(config, layers, norm, values.tied(config, False))


def _require_dense(config: Config) -> None:
    step = config.whole("interleave_moe_layer_step", default=1)
    mixtures = config.get("moe_layers")
    listed = isinstance(mixtures, list) and all(type(layer) is int for layer in mixtures)
    if mixtures is not None and not listed:
        raise config.refusal(("moe_layers",), "a list of layers, [] for none")
    if mixtures is None:
        mixtures = list(range(step - 1, values.layer_count(config), step))
    if mixtures:
        raise InputError(
            f"{config.origin} has mixtures of experts in {len(mixtures)} layers (moe_layers), which are not read: "
            "take a dense model"
        )
    # What mixtures alone are made of.
    config.ignore("intermediate_size", "num_experts_per_tok", "num_local_experts", "output_router_logits")
    config.ignore("router_aux_loss_coef", "router_jitter_noise", "for_llm_compressor")


def _temperature(config: Config) -> Encoding:
    """What the layers have that do not turn."""
    config.ignore("attn_scale", "floor_scale")
    if not config.get("attn_temperature_tuning", default=True):
        return NO_POSITIONS
    floor = config.number("floor_scale", default=8192)
    if floor != int(floor) or floor < 1:
        raise config.refusal(("floor_scale",), "a whole number of tokens, 1 or more")
    return StepTemperature(config.positive("attn_scale", default=0.1), int(floor), 1)


def _weights(config: Config) -> Rules:
    layer = (
        names.projections("self_attn", llama.NAMES)
        | names.gated("feed_forward", "gate_proj up_proj down_proj")
        | llama.before()
    )
    return llama.around(layer)


FAMILY = ModelFamily(("llama4_text",), _architecture, _weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
