"""The kinds of model, as one table.

Training, routes, runtimes, the weight map and the commands all read `MODEL_KINDS`; none of them
names a kind. A further one is a file of its name here and in each package that carries it (see
`kind.ModelKind`), and one row below.
"""

from __future__ import annotations

from typing import Any

from signbart.errors import ConfigError
from signbart.models import conv_signbart, mediapipe_gru, sign_transformer, signbart
from signbart.models.io_spec import IOSpec
from signbart.models.kind import ModelKind

MODEL_KINDS: dict[str, ModelKind] = {
    module.KIND.name: module.KIND
    for module in (signbart, conv_signbart, sign_transformer, mediapipe_gru)
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
