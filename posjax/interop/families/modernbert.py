"""ModernBERT: an encoder of windows that look both ways, each kind of layer with a base of its own."""

from __future__ import annotations

from posjax.attention import Full, Window
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.interop.rules import Weight
from posjax.models.architecture import Architecture, Embedding, Hidden, Layer, Output
from posjax.models.parts import FeedForward, Norm


def _architecture(config: Config) -> Architecture:
    # Heads of other tasks, how it was trained, and ways to compute.
    config.ignore("classifier_pooling", "sparse_prediction", "sparse_pred_ignore_index", "deterministic_flash_attn")
    config.ignore("reference_compile", "repad_logits_with_grad", "embedding_dropout", "layer_norm_eps")
    config.only("is_causal", False)
    config.only("tie_word_embeddings", True)
    epsilon = config.positive("norm_eps", default=1e-5)
    norm = Norm("layer", epsilon, bias=config.flag("norm_bias", default=False))
    kinds = (values.FULL, values.SLIDING)
    encodings = {kind: values.rotary(config, kind) for kind in kinds}
    # So many on either side, the token itself not counted.
    window = Window(config.whole("local_attention", default=128) // 2 + 1)
    masks = {values.FULL: Full(), values.SLIDING: window}
    biases = values.biased(config, "attention_bias")
    function = values.activation(config, "hidden_activation", default="gelu")
    inner = FeedForward(config.whole("intermediate_size"), function, bias=config.flag("mlp_bias", default=False))
    layers = []
    for kind in values.layer_types(config, _kinds(config), *kinds):
        attention = values.attention(config, encodings[kind], masks[kind], biases)
        layers.append(Layer((attention, inner), norm))
    hidden = Hidden(
        values.activation(config, "classifier_activation", default="gelu"),
        norm,
        config.flag("classifier_bias", default=False),
    )
    return Architecture(
        values.width(config),
        encoder=values.stack(layers, norm, norm_first=False),
        embedding=Embedding(norm=norm),
        output=Output(tied=True, bias=config.flag("decoder_bias", default=True), hidden=hidden),
    )


def _kinds(config: Config) -> list[str]:
    """The first of each group sees everything."""
    step = config.whole("global_attn_every_n_layers", default=3)
    count = values.layer_count(config)
    kinds = [values.SLIDING] * count
    kinds[::step] = [values.FULL] * len(kinds[::step])
    return kinds


def _weights(config: Config) -> Rules:
    heads = config.whole("num_attention_heads")
    layer = (
        names.joined("attn.Wqkv", heads, heads, "(part H)")
        | names.output("attn", "Wo")
        | names.plain("mlp", "up Wo")
        | names.both_in_one("mlp.Wi", config.whole("intermediate_size"))
        | names.norm("attention_norm", "attn_norm")
        | names.norm("feed_forward_norm", "mlp_norm")
    )
    rules = (
        names.embedding("model.embeddings.tok_embeddings")
        | names.norm("embedding_norm", "model.embeddings.norm")
        | names.layers("encoder", "model.layers", layer)
        | names.norm("norms.encoder", "model.final_norm")
        | names.norm("head.hidden.norm", "head.norm")
    )
    rules["head.hidden.dense.kernel"] = Weight("head.dense.weight", "E D -> D E")
    rules["head.hidden.dense.bias"] = Weight("head.dense.bias", "E -> E")
    rules["head.bias"] = Weight("decoder.bias", "V -> V")
    return rules


FAMILY = ModelFamily(
    ("modernbert",),
    _architecture,
    _weights,
    twins=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
)
