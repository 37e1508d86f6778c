"""What goes into the signature of raw landmarks, and what comes out.

Legend: S raw frames, N landmarks of the layout.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from signbart.models import io_spec
from signbart.models.io_spec import (
    FRAMES_USED,
    LANDMARKS,
    NUM_FRAMES,
    PROBABILITIES,
    RAW_SIGNATURE,
    IOSpec,
    TensorSpec,
    class_output,
)

RAW_FRAMES = 256  # 8.5 s at 30 frames a second


@dataclass(frozen=True)
class RawSignature:
    """What the second signature of a run's artifacts is.

    Attributes:
        config: The run's configuration (a `RunConfig`).
        frames: Most frames of a recording.
        temperature: Scores are divided by it before the softmax that gives the probabilities.
    """

    config: Any
    frames: int
    temperature: float = 1.0

    def at(self, config: Any) -> RawSignature | None:
        """That of the same model for `config.data.max_frames`, which takes no more than those.

        None where it is not the shorter one.
        """
        frames = config.data.max_frames
        if frames >= self.frames:
            return None
        return dataclasses.replace(self, config=config, frames=frames)

    @property
    def alone(self) -> RawSignature:
        """Without what decides nothing here: equal where what stands around the model is."""
        config = type(self.config)(model=self.config.model, data=self.config.data)
        return dataclasses.replace(self, config=config)

    @property
    def spec(self) -> IOSpec:
        """Its inputs and outputs."""
        return raw_spec(self.config, self.frames)

    @property
    def around(self) -> IOSpec:
        """Those of what stands around the model: it also gives what that takes, and the reverse."""
        model, whole = io_spec(self.config), self.spec
        scores = class_output(tensor.name for tensor in model.outputs)
        return IOSpec(
            inputs=(*whole.inputs, *(t for t in model.outputs if t.name == scores)),
            outputs=(*model.inputs, *(t for t in whole.outputs if t not in model.outputs)),
        )


def raw_spec(config: Any, raw_frames: int) -> IOSpec:
    """The inputs and outputs of a run's model in the signature of raw landmarks.

    Args:
        config: The run's configuration (a `RunConfig`), with `model.num_labels` set.
        raw_frames: S, the most frames of a recording.

    Returns:
        Landmarks (1, S, N, 2 or 3) and their frames' number (1,) -> the model's own outputs, what
        the classes' softmax is, and (1,) the number of frames that was used.
    """
    layout, outputs = config.data.landmark_layout, io_spec(config).outputs
    coordinates = 3 if layout.unit == "metres" else 2
    classes = class_output(tensor.name for tensor in outputs)
    (scores,) = (tensor for tensor in outputs if tensor.name == classes)
    return IOSpec(
        inputs=(
            TensorSpec(LANDMARKS, (1, raw_frames, layout.num_keypoints, coordinates), "float32"),
            TensorSpec(NUM_FRAMES, (1,), "int32"),
        ),
        outputs=(
            *outputs,
            TensorSpec(PROBABILITIES, scores.shape, "float32"),
            TensorSpec(FRAMES_USED, (1,), "int32"),
        ),
        signature=RAW_SIGNATURE,
    )
