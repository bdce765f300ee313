"""BERT and RoFormer, with their head for masked tokens: norms of sums, kinds of token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from posjax.attention import Full
from posjax.encodings.base import Encoding
from posjax.encodings.learned import Learned
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.interop.rules import Weight
from posjax.models.architecture import Architecture, Embedding, Hidden, Layer, Output
from posjax.models.parts import FeedForward

HEADS = ("*.pooler.*", "cls.seq_relationship.*")
"""Of whole texts, which no masked token depends on."""
OLDER = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
"""How files say it that were made of TensorFlow's."""
HEAD_TWINS = (
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
)


def _bert(config: Config) -> Architecture:
    config.only("position_embedding_type", "absolute")
    return _described(config, Learned(config.whole("max_position_embeddings", default=512)))


def _roformer(config: Config) -> Architecture:
    # A narrower table is projected, by weights that no place here has.
    config.only("embedding_size", values.width(config))
    return _described(config, values.rotary(config))


def _described(config: Config, encoding: Encoding) -> Architecture:
    # As a decoder it has a causal mask, and reads an encoder.
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    config.only("is_causal", False)
    config.only("tie_word_embeddings", True)
    # Of the pooled stream, and of a way to compute.
    config.ignore("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers")
    config.ignore("pooler_size_per_head", "pooler_type", "directionality")
    norm = values.layer_norm(config, default=1e-12)
    attention = values.attention(config, encoding, Full(), values.ALL)
    function = values.activation(config, "hidden_act", default="gelu")
    inner = FeedForward(config.whole("intermediate_size"), function, gated=False, bias=True)
    layers = values.alike(config, Layer((attention, inner), norm, "sum"))
    return Architecture(
        values.width(config),
        encoder=values.stack(layers, None),
        embedding=Embedding(norm=norm, types=config.whole("type_vocab_size", default=2)),
        output=Output(tied=True, bias=True, hidden=Hidden(function, norm)),
    )


def _weights(prefix: str) -> Rules:
    layer = (
        names.projections("attention", "self.query self.key self.value output.dense")
        | names.plain("", "intermediate.dense output.dense")
        | names.norm("attention_norm", "attention.output.LayerNorm")
        | names.norm("feed_forward_norm", "output.LayerNorm")
    )
    rules = (
        names.embedding(f"{prefix}.embeddings.word_embeddings")
        | names.learned("encoder", f"{prefix}.embeddings.position_embeddings")
        | names.norm("embedding_norm", f"{prefix}.embeddings.LayerNorm")
        | names.layers("encoder", f"{prefix}.encoder.layer", layer)
        | names.norm("head.hidden.norm", "cls.predictions.transform.LayerNorm")
    )
    rules["token_types"] = Weight(f"{prefix}.embeddings.token_type_embeddings.weight", "X D -> X D")
    rules["head.hidden.dense.kernel"] = Weight("cls.predictions.transform.dense.weight", "E D -> D E")
    rules["head.hidden.dense.bias"] = Weight("cls.predictions.transform.dense.bias", "E -> E")
    rules["head.bias"] = Weight("cls.predictions.bias", "V -> V")
    return rules


def _table(config: Config) -> Mapping[str, np.ndarray]:
    """The sines and cosines by which RoFormer's code turns: halves of an axis, in the precision of its own."""
    length, heads = config.whole("max_position_embeddings"), config.whole("num_attention_heads")
    size = values.width(config) // heads
    pair = np.arange(size // 2)
    angles = np.arange(length)[:, None] / np.power(10000, 2 * pair / size)
    # Both halves have the same angles, which the model computes from here as it does for any rotation.
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return {"roformer.encoder.embed_positions.weight": table.astype(np.float32)}


def _bert_weights(config: Config) -> Rules:
    return _weights("bert")


def _roformer_weights(config: Config) -> Rules:
    return _weights("roformer")


BERT = ModelFamily(
    ("bert",),
    _bert,
    _bert_weights,
    spellings=(OLDER,),
    ignored=(*HEADS, "bert.embeddings.position_ids"),
    twins=HEAD_TWINS,
)
ROFORMER = ModelFamily(("roformer",), _roformer, _roformer_weights, spellings=(OLDER,), ignored=HEADS, fixed=_table)
