"""The GRU, spelt for the runtimes that exports end up in; neither form unrolls the frames.

`for_export` is one loop that carries both layers' states from frame to frame, so that no sequence
is written between them, and stops behind the last frame. LiteRT has no GRU operator, and what
converters make of `torch.nn.GRU` is 11,000 operators for 300 frames. `for_onnx` is ONNX's own GRU
operator, which the exporter would otherwise put together from an unrolled trace of a fixed length.

Legend: B batch, T frames, F features, U a GRU's units, C glosses, G categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop
from torch.nn import functional as F
from torch.onnx import ops as onnx_ops

from signbart.models.mediapipe_gru import HOLD
from signbart_torch.models.mediapipe_gru.model import MediapipeGru, directions_of, holding

# The version of ONNX's GRU that opsets 14 to 21 have.
_ONNX_GRU_VERSION = 14


def for_export(model: MediapipeGru) -> nn.Module:
    """The model for inference on one clip at a time: same inputs and outputs, one loop a pass.

    Args:
        model: Is not changed, and lends its parameters.
    """
    return _ExportGraph(model).eval()


def for_onnx(model: MediapipeGru) -> nn.Module:
    """The model for `torch.onnx.export`, of any batch and length; it cannot be run itself.

    Args:
        model: Is not changed; its weights are copied.
    """
    return _OnnxGraph(model).eval()


class _Weights(nn.Module):
    """A layer's weights, for no graph that holds an `nn.GRU` can be traced with a loop in it."""

    def __init__(self, gru: nn.GRU):
        super().__init__()
        self.directions = nn.ModuleList(nn.ParameterList(weights) for weights in directions_of(gru))
        self.units = gru.hidden_size


class _ExportGraph(nn.Module):
    """See `for_export`."""

    def __init__(self, model: MediapipeGru):
        super().__init__()
        self.input_projection = model.input_projection
        self.gru1, self.gru2 = _Weights(model.gru1), _Weights(model.gru2)
        self.gloss_head, self.category_head = model.gloss_head, model.category_head

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """(1, T, F) and (1, T) -> (1, C) and (1, G); see `MediapipeGru.forward`."""
        if keypoints.shape[0] != 1:
            raise ValueError(f"the graph for export takes one clip, and not {keypoints.shape[0]}")
        frames = keypoints.squeeze(0)
        present = attention_mask.reshape(-1, 1) > 0  # (T, 1)
        frames = torch.where(present, frames, torch.zeros_like(frames))
        if self.input_projection is not None:
            frames = self.input_projection(frames)
        # (T, 1): what opens the update gates so far that they keep the state.
        hold = (1.0 - present.to(frames.dtype)) * HOLD
        number = torch.arange(1, len(frames) + 1, dtype=torch.int32).unsqueeze(1)
        count = (number * present.to(torch.int32)).amax(dim=0)  # (1,)
        read = _read_backwards_too if len(self.gru1.directions) == 2 else _read
        last = read(self.gru1, self.gru2, frames, hold, count)
        return {"gloss": self.gloss_head(last), "category": self.category_head(last)}


def _read(first: _Weights, second: _Weights, frames: Tensor, hold: Tensor, count: Tensor) -> Tensor:
    """(T, F) -> the second layer's state (1, U) after the first `count` frames."""
    (ih1, hh1, bias_ih1, bias_hh1), (ih2, hh2, bias_ih2, bias_hh2) = (
        list(layer.directions[0]) for layer in (first, second)
    )
    gates = F.linear(frames, ih1, bias_ih1)  # (T, 3U), of every frame in one product

    def step(frame: Tensor, state1: Tensor, state2: Tensor) -> tuple[Tensor, ...]:
        held = hold.index_select(0, frame)
        state1 = _cell(gates.index_select(0, frame), state1, hh1, bias_hh1, held)
        state2 = _cell(F.linear(state1, ih2, bias_ih2), state2, hh2, bias_hh2, held)
        return frame + 1, state1, state2

    states = [frames.new_zeros(1, layer.units) for layer in (first, second)]
    return _loop(step, count, states)[1]


def _read_backwards_too(
    first: _Weights, second: _Weights, frames: Tensor, hold: Tensor, count: Tensor
) -> Tensor:
    """(T, F) -> both directions' last states of the second layer, side by side, (1, 2U)."""
    _, *states = _both_directions(first, frames, hold, count, keep=True)
    last, *_ = _both_directions(second, torch.cat(states, dim=1), hold, count, keep=False)
    return last


def _both_directions(
    layer: _Weights, sequence: Tensor, hold: Tensor, count: Tensor, *, keep: bool
) -> list[Tensor]:
    """Runs a layer forwards and backwards.

    Args:
        layer: Which one.
        sequence: (T, F).
        hold: (T, 1).
        count: (1,), frames up to the last one that is not padding.
        keep: Whether to return every state, and not only the last ones.

    Returns:
        The last state of each direction, side by side, (1, 2U); and where they are kept the states
        of each direction, two of (T, U), 0 beyond the last frame.
    """
    (ih, hh, bias_ih, bias_hh), (ih_back, hh_back, bias_ih_back, bias_hh_back) = (
        list(weights) for weights in layer.directions
    )
    gates = F.linear(sequence, ih, bias_ih)
    gates_back = F.linear(sequence, ih_back, bias_ih_back)

    def step(frame: Tensor, state: Tensor, back: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        mirrored = count - 1 - frame
        held, held_back = hold.index_select(0, frame), hold.index_select(0, mirrored)
        state = _cell(gates.index_select(0, frame), state, hh, bias_hh, held)
        back = _cell(gates_back.index_select(0, mirrored), back, hh_back, bias_hh_back, held_back)
        if kept:
            forwards, backwards = kept
            forwards = forwards.index_copy(0, frame.long(), state)
            kept = (forwards, backwards.index_copy(0, mirrored.long(), back))
        return frame + 1, state, back, *kept

    # Tensors of their own: `while_loop` refuses one that is given to it twice.
    rows = [1, 1, *([len(sequence)] * 2 if keep else [])]
    state, back, *kept = _loop(step, count, [sequence.new_zeros(n, layer.units) for n in rows])
    return [torch.cat([state, back], dim=1), *kept]


def _loop(
    step: Callable[..., tuple[Tensor, ...]], count: Tensor, states: Sequence[Tensor]
) -> list[Tensor]:
    """Calls ``step(frame, *states)`` for frames 0 … count - 1; returns the last states."""
    frame = torch.zeros_like(count)
    if torch.compiler.is_exporting():
        _, *states = while_loop(
            lambda frame, *_: (frame < count).reshape(()), step, (frame, *states)
        )
    else:
        for _ in range(int(count)):
            frame, *states = step(frame, *states)
    return list(states)


def _cell(gates: Tensor, state: Tensor, weight: Tensor, bias: Tensor, held: Tensor) -> Tensor:
    """One frame.

    Args:
        gates: (1, 3U), what the input gives to r, z and n.
        state: (1, U).
        weight: (3U, U), and `bias` (3U,), of the state.
        bias: See `weight`.
        held: (1, 1), `HOLD` in padded frames and 0 in others.

    Returns:
        (1, U).
    """
    reset_in, update_in, new_in = gates.chunk(3, dim=1)
    reset_from, update_from, new_from = F.linear(state, weight, bias).chunk(3, dim=1)
    update = torch.sigmoid(update_in + update_from + held)
    new = torch.tanh(new_in + torch.sigmoid(reset_in + reset_from) * new_from)
    # In this form a gate of 1 keeps the state to the bit.
    return update * state + (1.0 - update) * new


class _OnnxGru(nn.Module):
    """One GRU operator, with weights in ONNX's order of gates: z, r, n.

    Constants, and not computed in the graph from the checkpoint's: onnx2tf transposes those, and
    scores other things without a word.
    """

    def __init__(self, gru: nn.GRU):
        super().__init__()
        self.units = gru.hidden_size
        directions = [[holding(weight_ih), *others] for weight_ih, *others in directions_of(gru)]
        ordered = [[_update_first(tensor.detach()) for tensor in group] for group in directions]
        weight_ih, weight_hh, bias_ih, bias_hh = (
            torch.stack(tensors) for tensors in zip(*ordered, strict=True)
        )
        self.register_buffer("weight_ih", weight_ih)
        self.register_buffer("weight_hh", weight_hh)
        self.register_buffer("bias", torch.cat([bias_ih, bias_hh], dim=1))

    def forward(self, inputs: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """(T, B, F) and (T, B, 1), 1 in padded frames -> (T, B, directions * U), last (B, …)."""
        directions, (frames, batch) = len(self.weight_ih), inputs.shape[:2]
        states, last = onnx_ops.symbolic_multi_out(
            "GRU",
            (torch.cat([inputs, padding], dim=-1), self.weight_ih, self.weight_hh, self.bias),
            {
                "direction": "bidirectional" if directions == 2 else "forward",
                "hidden_size": self.units,
                # Whether the reset gate multiplies the product with the state, as in PyTorch.
                "linear_before_reset": 1,
            },
            dtypes=(inputs.dtype, inputs.dtype),
            shapes=((frames, directions, batch, self.units), (directions, batch, self.units)),
            version=_ONNX_GRU_VERSION,
        )
        return states.transpose(1, 2).flatten(2), last.transpose(0, 1).flatten(1)


def _update_first(tensor: Tensor) -> Tensor:
    """(3U, …) in PyTorch's order r, z, n -> z, r, n."""
    reset, update, new = tensor.chunk(3)
    return torch.cat([update, reset, new])


class _OnnxGraph(nn.Module):
    """See `for_onnx`."""

    def __init__(self, model: MediapipeGru):
        super().__init__()
        self.config = model.config
        self.input_projection = model.input_projection
        self.gru1, self.gru2 = _OnnxGru(model.gru1), _OnnxGru(model.gru2)
        self.gloss_head, self.category_head = model.gloss_head, model.category_head

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """(B, T, F) and (B, T) -> (B, C) and (B, G); see `MediapipeGru.forward`."""
        present = attention_mask[:, :, None] > 0
        states = torch.where(present, keypoints, torch.zeros_like(keypoints))
        if self.input_projection is not None:
            states = self.input_projection(states)
        padding = (1.0 - present.to(states.dtype)).transpose(0, 1)
        states, _ = self.gru1(states.transpose(0, 1), padding)
        _, last = self.gru2(states, padding)
        return {"gloss": self.gloss_head(last), "category": self.category_head(last)}
