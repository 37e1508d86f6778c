"""The encoder, which reads the x coordinates. Legend: B batch, T frames, D model width."""

import keras
from keras import ops

from signbart.models.signbart import SignBartConfig
from signbart_tf.models.signbart.attention import Attention
from signbart_tf.models.signbart.layers import (
    PACKAGE,
    PositionalEmbedding,
    dense,
    layer_norm,
    padding_bias,
)


@keras.saving.register_keras_serializable(PACKAGE)
class EncoderLayer(keras.layers.Layer):
    """Self-attention and feed-forward, each with a residual and a LayerNorm behind it."""

    def __init__(self, config: SignBartConfig, **kwargs):
        super().__init__(**kwargs)
        d_model = config.d_model
        self.self_attn = Attention(
            d_model, config.encoder_attention_heads, config.attention_dropout, name="self_attn"
        )
        self.self_attn_layer_norm = layer_norm(d_model, "self_attn_layer_norm")
        self.fc1 = dense(config.encoder_ffn_dim, d_model, "fc1")
        self.fc2 = dense(d_model, config.encoder_ffn_dim, "fc2")
        self.final_layer_norm = layer_norm(d_model, "final_layer_norm")
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.activation_dropout = keras.layers.Dropout(
            config.activation_dropout, name="activation_dropout"
        )
        self.built = True

    def call(self, hidden_states, padding, training=None):
        """(B, T, D) with the bias of `padding_bias` -> (B, T, D)."""
        attended = self.self_attn(hidden_states, hidden_states, padding, training=training)
        attended = self.dropout(attended, training=training)
        hidden_states = self.self_attn_layer_norm(hidden_states + attended)

        fed = ops.gelu(self.fc1(hidden_states), approximate=False)
        fed = self.activation_dropout(fed, training=training)
        fed = self.dropout(self.fc2(fed), training=training)
        return self.final_layer_norm(hidden_states + fed)


@keras.saving.register_keras_serializable(PACKAGE)
class Encoder(keras.layers.Layer):
    """Positions, LayerNorm, and a stack of `EncoderLayer`."""

    def __init__(self, config: SignBartConfig, **kwargs):
        super().__init__(**kwargs)
        self.embed_positions = PositionalEmbedding(
            config.max_position_embeddings, config.d_model, name="embed_positions"
        )
        self.layernorm_embedding = layer_norm(config.d_model, "layernorm_embedding")
        self.layers = [
            EncoderLayer(config, name=f"layers_{i}") for i in range(config.encoder_layers)
        ]
        self.dropout = keras.layers.Dropout(config.dropout, name="dropout")
        self.built = True

    def call(self, x_embed, attention_mask, training=None):
        """(B, T, D) embedded x, (B, T) mask -> (B, T, D)."""
        hidden_states = self.layernorm_embedding(self.embed_positions(x_embed))
        hidden_states = self.dropout(hidden_states, training=training)
        padding = padding_bias(attention_mask, hidden_states.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states, padding, training=training)
        return hidden_states
