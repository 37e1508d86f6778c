"""Multi-head attention with BART's parameter names.

Legend: B batch, Q queries, T keys, D model width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Scaled dot-product attention: q from one sequence, k and v from another or the same.

    The scale multiplies q, as in BART (and not the scores), so that rounding agrees with it.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = d_model // num_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = dropout
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.q_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, hidden_states: Tensor, key_value_states: Tensor, bias: Tensor) -> Tensor:
        """Attends.

        Args:
            hidden_states: (B, Q, D), what asks.
            key_value_states: (B, T, D), what is asked; the same tensor in self-attention.
            bias: Broadcastable to (B, H, Q, T), added to the scores.

        Returns:
            (B, Q, D).
        """
        query = self._split_heads(self.q_proj(hidden_states) * self.scaling)
        key = self._split_heads(self.k_proj(key_value_states))
        value = self._split_heads(self.v_proj(key_value_states))
        if self.training:
            # Fused: never holds the scores of a whole batch. Inference stays spelt out, for that
            # is what gets exported, and compared with the exports tensor by tensor.
            context = F.scaled_dot_product_attention(
                query, key, value, attn_mask=bias, dropout_p=self.dropout, scale=1.0
            )
        else:
            scores = torch.matmul(query, key.transpose(-1, -2)) + bias  # (B, H, Q, T)
            context = torch.matmul(scores.softmax(dim=-1), value)
        return self.out_proj(context.transpose(1, 2).flatten(2))

    def _split_heads(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, D / H)."""
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
