"""The twin: same attribute names."""

import keras
from keras import ops

from signbart.models.signbart import MASK_BIAS


def built(layer, *shape):
    layer.build(shape)
    return layer


class TinyHybrid(keras.Model):
    def __init__(self, config, name="tiny_hybrid"):
        super().__init__(name=name)
        self.config = config
        layers, width = keras.layers, config.d_model
        self.embedding = built(layers.Dense(width), None, 3 * config.num_keypoints)
        self.depthwise = built(
            layers.DepthwiseConv1D(config.width, padding="same"), None, None, width
        )
        self.pointwise = built(
            layers.Conv1D(2 * width, config.width, padding="same"), None, None, width
        )
        self.norm = built(layers.BatchNormalization(epsilon=1e-5), None, None, 2 * width)
        self.q_proj, self.k_proj, self.v_proj = (
            built(layers.Dense(width), None, 2 * width) for _ in range(3)
        )
        self.head = built(layers.Dense(config.num_labels), None, width)
        self.built = True

    def call(self, inputs, training=None):
        keypoints, mask = inputs["keypoints"], inputs["attention_mask"][:, :, None]
        present = ops.cast(mask, "float32")
        frames = ops.reshape(keypoints, (-1, keypoints.shape[1], 3 * keypoints.shape[2]))
        frames = ops.where(mask > 0, frames, ops.zeros_like(frames))
        states = self.embedding(frames) * present
        states = ops.relu(self.depthwise(states)) * present
        states = ops.relu(self.norm(self.pointwise(states), training=training))
        scores = ops.matmul(self.q_proj(states), ops.transpose(self.k_proj(states), (0, 2, 1)))
        bias = (1 - ops.cast(inputs["attention_mask"][:, None], "float32")) * MASK_BIAS
        scores = scores * self.config.d_model**-0.5 + bias
        attended = ops.matmul(ops.softmax(scores), self.v_proj(states))
        pooled = ops.sum(attended * present, axis=1) / ops.maximum(ops.sum(present, axis=1), 1.0)
        return {"logits": self.head(pooled)}


Network = TinyHybrid


def for_export(twin):
    return twin
