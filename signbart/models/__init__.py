"""The kinds of model, as one table.

Training, routes, runtimes, the weight map and the commands all read `MODEL_KINDS`; none of them
names a kind. A further one is a file of its name here and in each package that carries it (see
`kind.ModelKind`), and one row below.
"""

from __future__ import annotations

from typing import Any

from signbart.errors import ConfigError
from signbart.models import mediapipe_gru, sign_transformer, signbart
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
from signbart.models.kind import ModelKind

MODEL_KINDS: dict[str, ModelKind] = {
    kind.name: kind for kind in (signbart.KIND, sign_transformer.KIND, mediapipe_gru.KIND)
}
# Of a configuration that names none, and of the field's flat files.
DEFAULT_KIND = signbart.KIND


def kind_of(config: Any) -> ModelKind:
    """The kind whose configuration this is.

    Raises:
        ConfigError: There is none.
    """
    for kind in MODEL_KINDS.values():
        if type(config) is kind.config:
            return kind
    known = ", ".join(kind.config.__name__ for kind in MODEL_KINDS.values())
    raise ConfigError(f"no model is configured by {type(config).__name__}; known: {known}")


def io_spec(config: Any, *, batch: int | None = 1, frames: int | None = -1) -> IOSpec:
    """The inputs and outputs of a run's model.

    Args:
        config: The run's configuration (a `RunConfig`), with `model.num_labels` set.
        batch: B; None for any.
        frames: T; None for any, -1 for `config.data.max_frames`.
    """
    frames = config.data.max_frames if frames == -1 else frames
    return kind_of(config.model).io_spec(config.model, batch, frames)


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
