"""Multi-head attention with BART's attribute names.

Legend: B batch, Q queries, T keys, D model width, H heads.
"""

import keras
import numpy as np
from keras import ops

from signbart_tf.models.signbart.layers import PACKAGE, dense


@keras.saving.register_keras_serializable(PACKAGE)
class Attention(keras.layers.Layer):
    """Scaled dot-product attention: q from one sequence, k and v from another or the same.

    The scale multiplies q, as in BART (and not the scores), so that rounding agrees with it.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.num_heads = num_heads
        self.head_dim = d_model // num_heads
        self.scaling = self.head_dim**-0.5
        self.k_proj = dense(d_model, d_model, "k_proj")
        self.v_proj = dense(d_model, d_model, "v_proj")
        self.q_proj = dense(d_model, d_model, "q_proj")
        self.out_proj = dense(d_model, d_model, "out_proj")
        self.dropout = keras.layers.Dropout(dropout, name="dropout")
        self.built = True

    def call(self, hidden_states, key_value_states, bias, training=None):
        """Attends.

        Args:
            hidden_states: (B, Q, D), what asks.
            key_value_states: (B, T, D), what is asked; the same tensor in self-attention.
            bias: Broadcastable to (B, H, Q, T), added to the scores.
            training: Whether dropout is active.

        Returns:
            (B, Q, D).
        """
        query = self._split_heads(self.q_proj(hidden_states) * self.scaling)
        key = self._split_heads(self.k_proj(key_value_states))
        value = self._split_heads(self.v_proj(key_value_states))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) + bias  # (B, H, Q, T)
        weights = self.dropout(ops.softmax(scores, axis=-1), training=training)
        context = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (B, Q, H, D / H)
        num_queries = ops.shape(context)[1]
        return self.out_proj(ops.reshape(context, (-1, num_queries, self.d_model)))

    def _split_heads(self, states):
        """(B, T, D) -> (B, H, T, D / H)."""
        # -1 for the batch: exports trace with an unknown one.
        shape = (-1, ops.shape(states)[1], self.num_heads, self.head_dim)
        return ops.transpose(ops.reshape(states, shape), (0, 2, 1, 3))


class OneQueryAttention(Attention):
    """The same of one query, which projects no frame; see `signbart_torch`'s.

    It is what fake-quantized layers compute, and no ordinary ones.
    """

    def call(self, hidden_states, key_value_states, bias, training=None):
        """(B, 1, D), (B, T, D) and (B, 1, 1, T) -> (B, 1, D); see `Attention.call`."""
        heads = own_parts(self)
        queries = self.q_proj(hidden_states) * self.scaling * heads  # (B, H, D)
        keys = self.k_proj.transposed(queries)
        # What softmax drops is left in, so that training finds a gradient of every variable.
        dropped = ops.sum(queries * self.k_proj.bias, axis=-1, keepdims=True)
        scores = ops.matmul(keys, ops.transpose(key_value_states, (0, 2, 1))) + dropped
        weights = self.dropout(ops.softmax(scores + bias[:, 0], axis=-1), training=training)
        values = self.v_proj(ops.matmul(weights, key_value_states))  # (B, H, D)
        return self.out_proj(ops.sum(values * heads, axis=1, keepdims=True))


def own_parts(attention: Attention) -> np.ndarray:
    """(H, D), 1 where a channel is the head's own and 0 elsewhere."""
    return np.repeat(np.eye(attention.num_heads, dtype=np.float32), attention.head_dim, axis=1)
