"""The GRU's twin as one loop over frames, for the .tflite.

Legend: T frames, F features, U a GRU's units, C glosses, G categories.
"""

from __future__ import annotations

import keras
from keras import ops

from signbart.models.mediapipe_gru import HOLD
from signbart_tf.models.mediapipe_gru.model import Gru, GruDirection, MediapipeGru


def for_export(model: MediapipeGru) -> keras.Model:
    """The model for inference on one clip at a time: same inputs and outputs, one loop a pass.

    Args:
        model: Is not changed, and lends its variables.
    """
    return _ExportGraph(model)


class _ExportGraph(keras.Model):
    """The twin of `signbart_torch`'s graph, which says what differs, and why."""

    def __init__(self, model: MediapipeGru):
        super().__init__(name="export_graph")
        self.model = model
        self.built = True

    def call(self, inputs, training=None):
        """(1, T, F) and (1, T) -> (1, C) and (1, G), in dicts; see `MediapipeGru.call`."""
        keypoints, attention_mask = inputs["keypoints"], inputs["attention_mask"]
        if keypoints.shape[0] not in (1, None):
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        model, (num_frames, num_features) = self.model, keypoints.shape[1:]
        frames = ops.reshape(keypoints, (num_frames, num_features))
        present = ops.reshape(attention_mask, (num_frames, 1)) > 0
        frames = ops.where(present, frames, ops.zeros_like(frames))
        if model.input_projection is not None:
            frames = model.input_projection(frames)
        hold = (1.0 - ops.cast(present, frames.dtype)) * HOLD  # (T, 1)
        number = ops.arange(1, num_frames + 1, dtype="int32")[:, None]
        count = ops.max(number * ops.cast(present, "int32"))
        read = _read_backwards_too if model.config.bidirectional else _read
        last = read(model.gru1, model.gru2, frames, hold, count)
        return {"gloss": model.gloss_head(last), "category": model.category_head(last)}


def _read(first: Gru, second: Gru, frames, hold, count):
    """(T, F) -> the second layer's state (1, U) after the first `count` frames."""
    gates = _gates(first.forwards, frames)

    def step(frame, state1, state2):
        held = _row(hold, frame)
        state1 = first.forwards.cell(_row(gates, frame), held, state1)
        state2 = second.forwards.cell(_gates(second.forwards, state1), held, state2)
        return frame + 1, state1, state2

    start = [ops.zeros((1, layer.units), frames.dtype) for layer in (first, second)]
    return _loop(step, count, start)[1]


def _read_backwards_too(first: Gru, second: Gru, frames, hold, count):
    """(T, F) -> both directions' last states of the second layer, side by side, (1, 2U)."""
    _, *states = _both_directions(first, frames, hold, count, keep=True)
    sequence = ops.concatenate(states, axis=1)
    return _both_directions(second, sequence, hold, count, keep=False)[0]


def _both_directions(layer: Gru, sequence, hold, count, *, keep: bool):
    """See the function of this name in `signbart_torch.models.mediapipe_gru.export_graph`."""
    gates, gates_back = _gates(layer.forwards, sequence), _gates(layer.backwards, sequence)

    def step(frame, state, back, *kept):
        mirrored = count - 1 - frame
        state = layer.forwards.cell(_row(gates, frame), _row(hold, frame), state)
        back = layer.backwards.cell(_row(gates_back, mirrored), _row(hold, mirrored), back)
        if kept:
            forwards, backwards = kept
            forwards = ops.slice_update(forwards, (frame, 0), state)
            kept = (forwards, ops.slice_update(backwards, (mirrored, 0), back))
        return frame + 1, state, back, *kept

    rows = [1, 1, *([sequence.shape[0]] * 2 if keep else [])]
    state, back, *kept = _loop(
        step, count, [ops.zeros((n, layer.units), sequence.dtype) for n in rows]
    )
    return [ops.concatenate([state, back], axis=1), *kept]


def _gates(direction: GruDirection, inputs):
    return ops.matmul(inputs, direction.kernel) + direction.bias


def _row(table, index):
    """(T, N) -> row `index`, (1, N)."""
    return ops.take(table, ops.reshape(index, (1,)), axis=0)


def _loop(step, count, states):
    """Calls ``step(frame, *states)`` for frames 0 … count - 1; returns the last states."""
    _, *states = ops.while_loop(
        lambda frame, *_: frame < count, step, (ops.zeros((), "int32"), *states)
    )
    return states
