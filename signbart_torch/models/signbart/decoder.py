"""The decoder, which reads the y coordinates and asks the encoder about x.

Legend: B batch, Q queries, T frames, D model width.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from signbart.models.signbart import LAYER_NORM_EPSILON, SignBartConfig
from signbart_torch.models.signbart.attention import Attention
from signbart_torch.models.signbart.dropout import dropout
from signbart_torch.models.signbart.layers import (
    PositionalEmbedding,
    causal_bias,
    last_frame_selector,
    padding_bias,
)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention, feed-forward; a LayerNorm behind each residual."""

    def __init__(self, config: SignBartConfig):
        super().__init__()
        self.dropout = config.dropout
        self.activation_dropout = config.activation_dropout
        heads = config.decoder_attention_heads
        self.self_attn = Attention(config.d_model, heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.encoder_attn = Attention(config.d_model, heads, config.attention_dropout)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.fc1 = nn.Linear(config.d_model, config.decoder_ffn_dim)
        self.fc2 = nn.Linear(config.decoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)

    def forward(
        self,
        queries: Tensor,
        hidden_states: Tensor,
        self_bias: Tensor,
        encoder_hidden_states: Tensor,
        encoder_bias: Tensor,
    ) -> Tensor:
        """Computes the layer at `queries` alone.

        Args:
            queries: (B, Q, D): `hidden_states` itself, or those of its frames that are wanted.
            hidden_states: (B, T, D), the frames that the queries may attend to.
            self_bias: Broadcastable to (B, 1, Q, T): causality and padding.
            encoder_hidden_states: (B, T, D).
            encoder_bias: (B, 1, 1, T): padding.

        Returns:
            (B, Q, D).
        """
        attended = self.self_attn(queries, hidden_states, self_bias)
        attended = dropout(attended, self.dropout, self.training)
        queries = self.self_attn_layer_norm(queries + attended)

        attended = self.encoder_attn(queries, encoder_hidden_states, encoder_bias)
        attended = dropout(attended, self.dropout, self.training)
        queries = self.encoder_attn_layer_norm(queries + attended)

        fed = F.gelu(self.fc1(queries))
        fed = dropout(fed, self.activation_dropout, self.training)
        fed = dropout(self.fc2(fed), self.dropout, self.training)
        return self.final_layer_norm(queries + fed)


class Decoder(nn.Module):
    """Positions, LayerNorm, and a stack of `DecoderLayer`."""

    def __init__(self, config: SignBartConfig):
        super().__init__()
        self.dropout = config.dropout
        self.embed_positions = PositionalEmbedding(config.max_position_embeddings, config.d_model)
        self.layernorm_embedding = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))

    def forward(
        self,
        y_embed: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        *,
        last_frame_only: bool = True,
    ) -> Tensor:
        """Decodes y against the encoded x.

        Only the last valid frame is read by the head, so by default the last layer computes that
        one query. This is exact: its keys and values still come from every frame.

        Args:
            y_embed: (B, T, D).
            encoder_hidden_states: (B, T, D).
            attention_mask: (B, T), 1 a frame and 0 padding.
            last_frame_only: False computes every frame of the last layer too.

        Returns:
            (B, 1, D), the last valid frame's state, or (B, T, D).
        """
        num_frames, dtype = y_embed.shape[1], y_embed.dtype
        hidden_states = self.layernorm_embedding(self.embed_positions(y_embed))
        hidden_states = dropout(hidden_states, self.dropout, self.training)
        padding = padding_bias(attention_mask, dtype)
        causal = padding + causal_bias(num_frames, dtype, y_embed.device)

        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(
                hidden_states, hidden_states, causal, encoder_hidden_states, padding
            )
        if not last_frame_only:
            return last_layer(hidden_states, hidden_states, causal, encoder_hidden_states, padding)
        queries = last_frame_selector(attention_mask, dtype) @ hidden_states
        # No valid frame comes after the last one, so padding alone is its causal mask.
        return last_layer(queries, hidden_states, padding, encoder_hidden_states, padding)
