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


class OneQueryAttention(Attention):
    """The same of one query, which projects no frame to a key or a value.

    With x_t the frames' states, head h scores them by (q_h W_k,h) x_t + q_h b_k,h, whose last term
    is the same for all t, and softmax drops it. Its context is W_v,h (sum of w_t x_t) + b_v,h, for
    the weights w_t sum to 1 (of training with dropout this holds on average). Heads are rows here,
    each 0 but in its own part, so that both projections stay products with constant weights: k's
    transposed, and so on other int8 grids.
    """

    def forward(self, hidden_states: Tensor, key_value_states: Tensor, bias: Tensor) -> Tensor:
        """(B, 1, D), (B, T, D) and (B, 1, 1, T) -> (B, 1, D); see `Attention.forward`."""
        _, values = self.products(hidden_states, key_value_states, bias)
        context = (values * own_parts(self, values.dtype, values.device)).sum(dim=1, keepdim=True)
        return self.out_proj(context)

    def products(
        self, hidden_states: Tensor, key_value_states: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the two projections give of `forward`'s arguments: two of (B, H, D)."""
        heads = own_parts(self, hidden_states.dtype, hidden_states.device)
        queries = self.q_proj(hidden_states) * self.scaling * heads  # (B, H, D)
        keys = self.ask_keys(queries)
        # What softmax drops is left in, so that training finds a gradient of every parameter.
        dropped = (queries * self.k_proj.bias).sum(dim=-1, keepdim=True)
        scores = torch.matmul(keys, key_value_states.transpose(1, 2)) + dropped + bias[:, 0]
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)  # (B, H, T)
        return keys, self.v_proj(torch.matmul(weights, key_value_states))

    def ask_keys(self, queries: Tensor) -> Tensor:
        """(B, H, D) -> (B, H, D): what the frames' states are multiplied by to get scores."""
        return torch.matmul(queries, self.k_proj.weight)


def own_parts(
    attention: Attention, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """(H, D), 1 where a channel is the head's own and 0 elsewhere."""
    heads = torch.eye(attention.num_heads, dtype=dtype, device=device)
    return heads.repeat_interleave(attention.head_dim, dim=1)
