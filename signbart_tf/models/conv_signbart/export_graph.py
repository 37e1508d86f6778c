"""The same network, spelt for the CPU runtimes that exports end up in.

The twin of `signbart_torch`'s, which says what differs from the plain model, and why.

Legend: T frames, D model width, W channels of a convolution, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
from keras import ops

from signbart.models.signbart import POSITION_OFFSET
from signbart_tf.models.conv_signbart.layers import ConvBlock, convolve, pool
from signbart_tf.models.conv_signbart.model import ConvSignBart
from signbart_tf.models.motion import with_motion
from signbart_tf.models.signbart.attention import Attention
from signbart_tf.models.signbart.export_graph import JoinedAttention, layer_norm
from signbart_tf.models.signbart.layers import padding_bias


def for_export(model: ConvSignBart) -> keras.Model:
    """The model for inference on one clip at a time: same inputs, same logits, a faster graph.

    Args:
        model: Is not changed. It lends its variables; what is joined or folded are copies, made
            now.
    """
    return _ExportGraph(model)


def joined_projections(model: ConvSignBart) -> Iterator[tuple[Attention, tuple[str, ...]]]:
    """Every attention, and which of its projections are one product there."""
    yield model.attention.self_attn, ("q_proj", "k_proj", "v_proj")


class _ExportGraph(keras.Model):
    """See `for_export`."""

    def __init__(self, model: ConvSignBart):
        super().__init__(name="export_graph")
        self.model = model
        ((attention, names),) = joined_projections(model)
        self.self_attn = JoinedAttention(attention, names)
        self.blocks = [_Block(block) for block in (*model.blocks_before, *model.blocks_after)]
        self.built = True

    def call(self, inputs, training=None):
        """(1, T, K, 2 or 3) and (1, T) -> logits (1, C), in dicts; see `ConvSignBart.call`."""
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        if keypoints.shape[0] not in (1, None):
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, num_frames = self.model, attention_mask.shape[1]
        frames = ops.reshape(keypoints, (num_frames, -1))
        mask = ops.reshape(attention_mask, (num_frames, 1))
        # A select and not a product: NaN * 0 is NaN.
        frames = ops.where(mask > 0, frames, ops.zeros_like(frames))
        if model.config.motion:
            frames = with_motion(frames, mask)
        present = ops.cast(mask, frames.dtype)
        states = model.input_projection(frames)
        before = len(model.blocks_before)
        for block in self.blocks[:before]:
            states = block.compute(states, present)
        first = POSITION_OFFSET
        positions = model.embed_positions.embeddings[first : first + num_frames]
        padding = ops.reshape(padding_bias(attention_mask, frames.dtype), (1, num_frames, 1))
        states = self._attention_layer(states + positions, padding)
        for block in self.blocks[before:]:
            states = block.compute(states, present)
        pooled = ops.expand_dims(pool(states, present), axis=0)
        normed = layer_norm(model.head.layer_norm, pooled)
        # As in SignBART's graph: it keeps the converter from merging LayerNorm and head.
        normed = ops.sum(ops.expand_dims(normed, axis=0), axis=0)
        return {"logits": model.head.out_proj(normed)}

    def _attention_layer(self, states, padding):
        """(T, D) -> (T, D)."""
        layer = self.model.attention
        normed = layer_norm(layer.self_attn_layer_norm, states)
        states = states + self.self_attn.attend(normed, normed, padding)
        normed = layer_norm(layer.final_layer_norm, states)
        return states + layer.fc2(ops.gelu(layer.fc1(normed), approximate=False))


class _Block:
    """`ConvBlock.call` on one clip, with BatchNorm in the convolution."""

    def __init__(self, block: ConvBlock):
        self.block = block
        self.kernel, self.bias = (ops.convert_to_numpy(part) for part in block.depthwise.folded())

    def compute(self, states, present):
        """(T, D) and (T, 1) -> (T, D)."""
        block = self.block
        expanded = ops.gelu(block.expand(layer_norm(block.layer_norm, states)), approximate=False)
        maps = ops.expand_dims(expanded * present, axis=0)
        convolved = ops.squeeze(convolve(maps, self.kernel), axis=0) + self.bias
        return states + block.contract(ops.gelu(convolved, approximate=False))
