"""Multi-head attention with BART's attribute names.

Legend: B batch, Q queries, T keys, D model width, H heads.
"""

import keras
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
