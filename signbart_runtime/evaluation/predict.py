"""What a model says of labelled clips, whatever kind of file it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from bridge.verification.clips import predict
from signbart.models.io_spec import SIGNATURE
from signbart.preprocessing import model_inputs
from signbart.training.predictions import Predictions
from signbart_runtime.evaluation.opened import require_finite

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet
    from signbart_runtime.evaluation.opened import OpenedModel

_BATCH = 64  # for speed alone; logits differ by rounding


def evaluate(model: OpenedModel, clips: ClipSet, source: str) -> Predictions:
    """Runs a model on labelled clips, prepared as its own configuration says.

    Their classes are the model's, some or all, in whatever order; `source`, their path, is for
    messages.

    Raises:
        SignBartError: The clips do not fit the model: classes, landmarks, or there are none.
    """
    if model.runtime.spec.signature != SIGNATURE:
        raise BridgeError(
            f"{model.runtime.name} takes one recording's landmarks as they are; evaluate the file "
            f"with the signature {SIGNATURE}, which answers the same"
        )
    if not len(clips):
        raise BridgeError(f"{source}: there are no clips to evaluate on")
    clips = clips.relabel(model.class_names, source)
    takes_any = model.runtime.spec.inputs[0].shape[0] is None
    inputs = model_inputs(clips, model.config)
    logits = predict(model.runtime, *inputs, batch=_BATCH if takes_any else 1)
    require_finite(model.runtime.name, logits, clips)
    return Predictions.of(model.runtime.name, clips, logits, model.temperature)
