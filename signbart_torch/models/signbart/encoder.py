"""The encoder, which reads the x coordinates. Legend: B batch, T frames, D model width."""

from torch import Tensor, nn
from torch.nn import functional as F

from signbart.models.signbart import LAYER_NORM_EPSILON, SignBartConfig
from signbart_torch.models.signbart.attention import Attention
from signbart_torch.models.signbart.dropout import dropout
from signbart_torch.models.signbart.layers import PositionalEmbedding, padding_bias


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual and a LayerNorm behind it."""

    def __init__(self, config: SignBartConfig):
        super().__init__()
        self.dropout = config.dropout
        self.activation_dropout = config.activation_dropout
        self.self_attn = Attention(
            config.d_model, config.encoder_attention_heads, config.attention_dropout
        )
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)

    def forward(self, hidden_states: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D) with the bias of `padding_bias` -> (B, T, D)."""
        attended = self.self_attn(hidden_states, hidden_states, padding)
        attended = dropout(attended, self.dropout, self.training)
        hidden_states = self.self_attn_layer_norm(hidden_states + attended)

        fed = F.gelu(self.fc1(hidden_states))
        fed = dropout(fed, self.activation_dropout, self.training)
        fed = dropout(self.fc2(fed), self.dropout, self.training)
        return self.final_layer_norm(hidden_states + fed)


class Encoder(nn.Module):
    """Positions, LayerNorm, and a stack of `EncoderLayer`."""

    def __init__(self, config: SignBartConfig):
        super().__init__()
        self.dropout = config.dropout
        self.embed_positions = PositionalEmbedding(config.max_position_embeddings, config.d_model)
        self.layernorm_embedding = nn.LayerNorm(config.d_model, LAYER_NORM_EPSILON)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, x_embed: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T, D) embedded x, (B, T) mask -> (B, T, D)."""
        hidden_states = self.layernorm_embedding(self.embed_positions(x_embed))
        hidden_states = dropout(hidden_states, self.dropout, self.training)
        padding = padding_bias(attention_mask, hidden_states.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states, padding)
        return hidden_states
