"""Graphs that take raw landmarks: preprocessing before a model, and probabilities behind it.

Legend: S raw frames, N landmarks of the layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from signbart.models import io_spec
from signbart.models.io_spec import (
    ATTENTION_MASK,
    FRAMES_USED,
    KEYPOINTS,
    LANDMARKS,
    NUM_FRAMES,
    PROBABILITIES,
    class_output,
)
from signbart_torch.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig


class Around(nn.Module):
    """What stands before and behind a model in a graph that takes raw landmarks.

    Args:
        config: The run's configuration.
        raw_frames: S, the most frames that it takes.
        temperature: Scores are divided by it before the softmax.
    """

    def __init__(self, config: RunConfig, raw_frames: int, temperature: float = 1.0):
        super().__init__()
        self.preprocessing = Preprocessing(config, raw_frames)
        self.temperature = temperature
        self.outputs = [tensor.name for tensor in io_spec(config).outputs]
        self.scores = class_output(self.outputs)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Raw landmarks and their number, and the model's class scores -> everything else.

        Both halves in one module, so that one conversion makes them; a model goes between.
        """
        keypoints, mask, used = self.preprocessing(inputs[LANDMARKS], inputs[NUM_FRAMES])
        return {
            KEYPOINTS: keypoints,
            ATTENTION_MASK: mask,
            FRAMES_USED: used,
            PROBABILITIES: (inputs[self.scores] / self.temperature).softmax(dim=-1),
        }


class RawGraph(nn.Module):
    """A model that takes raw landmarks: with `Around` around it.

    Args:
        model: The graph to run, for one clip of the configuration's length.
        around: What stands around it.
    """

    def __init__(self, model: nn.Module, around: Around):
        super().__init__()
        self.model, self.around = model, around

    def forward(self, landmarks: Tensor, num_frames: Tensor) -> dict[str, Tensor]:
        """(1, S, N, 2 or 3) and (1,) int32 -> outputs by name; see `raw_spec`."""
        around = self.around
        keypoints, mask, used = around.preprocessing(landmarks, num_frames)
        outputs = self.model(keypoints=keypoints, attention_mask=mask)
        if isinstance(outputs, Tensor):
            outputs = {around.scores: outputs}
        probabilities = (outputs[around.scores] / around.temperature).softmax(dim=-1)
        ordered = {name: outputs[name] for name in around.outputs}  # as `raw_spec` has them
        return {**ordered, PROBABILITIES: probabilities, FRAMES_USED: used}
