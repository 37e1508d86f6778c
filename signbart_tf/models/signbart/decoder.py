"""The decoder, which reads the y coordinates and asks the encoder about x.

Legend: B batch, Q queries, T frames, D model width.
"""

import keras
from keras import ops

from signbart.models.signbart import SignBartConfig
from signbart_tf.models.signbart.attention import Attention
from signbart_tf.models.signbart.layers import (
    PACKAGE,
    PositionalEmbedding,
    causal_bias,
    dense,
    last_frame_selector,
    layer_norm,
    padding_bias,
)


@keras.saving.register_keras_serializable(PACKAGE)
class DecoderLayer(keras.layers.Layer):
    """Causal self-attention, cross-attention, feed-forward; a LayerNorm behind each residual."""

    def __init__(self, config: SignBartConfig, **kwargs):
        super().__init__(**kwargs)
        d_model, heads = config.d_model, config.decoder_attention_heads
        dropout = config.attention_dropout
        self.self_attn = Attention(d_model, heads, dropout, name="self_attn")
        self.self_attn_layer_norm = layer_norm(d_model, "self_attn_layer_norm")
        self.encoder_attn = Attention(d_model, heads, dropout, name="encoder_attn")
        self.encoder_attn_layer_norm = layer_norm(d_model, "encoder_attn_layer_norm")
        self.fc1 = dense(config.decoder_ffn_dim, d_model, "fc1")
        self.fc2 = dense(d_model, config.decoder_ffn_dim, "fc2")
        self.final_layer_norm = layer_norm(d_model, "final_layer_norm")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.activation_dropout = keras.layers.Dropout(
            config.activation_dropout, name="activation_dropout"
        )
        self.built = True

    def call(
        self,
        queries,
        hidden_states,
        self_bias,
        encoder_hidden_states,
        encoder_bias,
        training=None,
    ):
        """Computes the layer at `queries` alone.

        Args:
            queries: (B, Q, D): `hidden_states` itself, or those of its frames that are wanted.
            hidden_states: (B, T, D), the frames that the queries may attend to.
            self_bias: Broadcastable to (B, 1, Q, T): causality and padding.
            encoder_hidden_states: (B, T, D).
            encoder_bias: (B, 1, 1, T): padding.
            training: Whether dropout is active.

        Returns:
            (B, Q, D).
        """
        attended = self.self_attn(queries, hidden_states, self_bias, training=training)
        attended = self.dropout(attended, training=training)
        queries = self.self_attn_layer_norm(queries + attended)

        attended = self.encoder_attn(
            queries, encoder_hidden_states, encoder_bias, training=training
        )
        attended = self.dropout(attended, training=training)
        queries = self.encoder_attn_layer_norm(queries + attended)

        fed = ops.gelu(self.fc1(queries), approximate=False)
        fed = self.activation_dropout(fed, training=training)
        fed = self.dropout(self.fc2(fed), training=training)
        return self.final_layer_norm(queries + fed)


@keras.saving.register_keras_serializable(PACKAGE)
class Decoder(keras.layers.Layer):
    """Positions, LayerNorm, and a stack of `DecoderLayer`."""

    def __init__(self, config: SignBartConfig, **kwargs):
        super().__init__(**kwargs)
        self.embed_positions = PositionalEmbedding(
            config.max_position_embeddings, config.d_model, name="embed_positions"
        )
        self.layernorm_embedding = layer_norm(config.d_model, "layernorm_embedding")
        self.layers = [
            DecoderLayer(config, name=f"layers_{i}") for i in range(config.decoder_layers)
        ]
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(
        self,
        y_embed,
        encoder_hidden_states,
        attention_mask,
        last_frame_only: bool = True,
        training=None,
    ):
        """Decodes y against the encoded x; see `signbart_torch`'s `Decoder.forward`.

        Returns:
            (B, 1, D), the last valid frame's state, or with ``last_frame_only=False`` (B, T, D).
        """
        num_frames, dtype = ops.shape(y_embed)[1], y_embed.dtype
        hidden_states = self.layernorm_embedding(self.embed_positions(y_embed))
        hidden_states = self.dropout(hidden_states, training=training)
        padding = padding_bias(attention_mask, dtype)
        causal = padding + causal_bias(num_frames, dtype)

        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(
                hidden_states, hidden_states, causal, encoder_hidden_states, padding,
                training=training,
            )  # fmt: skip
        queries, self_bias = hidden_states, causal
        if last_frame_only:
            queries = ops.matmul(last_frame_selector(attention_mask, dtype), hidden_states)
            # No valid frame comes after the last one, so padding alone is its causal mask.
            self_bias = padding
        return last_layer(
            queries, hidden_states, self_bias, encoder_hidden_states, padding, training=training
        )
