"""Any model file, opened to run: its runtime, configuration and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import BridgeError
from signbart.checksums import require_checksum
from signbart.class_names import check_class_names
from signbart.models.io_spec import (
    ATTENTION_MASK,
    KEYPOINTS,
    RAW_SIGNATURE,
    SIGNATURE,
    class_output,
    raw_input,
)
from signbart.weights.stored import has_header

if TYPE_CHECKING:
    from bridge.artifact.runtimes import Runtime
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import Clip, ClipSet


@dataclass(frozen=True)
class OpenedModel:
    """A model of any kind, ready to run, and what it carries.

    Attributes:
        runtime: Takes and gives real numbers, even where the file has integer inputs. Of a file
            with signatures for shorter clips the shortest that holds a clip runs, in `raw` too.
        config: The run's configuration, and with it the preprocessing.
        class_names: C labels, in the order of the logits.
        temperature: Divides the logits before the softmax, so that scores are shares of hits; 1
            where nothing was fitted. See `signbart.training.confidence`.
        raw: The same file by its signature of raw landmarks; None where it has none.
        threshold: Probability from which on a stream's answer is a sign; None where it does not
            say.
    """

    runtime: Runtime
    config: RunConfig
    class_names: tuple[str, ...]
    temperature: float = 1.0
    raw: Runtime | None = None
    threshold: float | None = None

    def classify(
        self, clip: Clip | ClipSet | str | Path, **reading: Any
    ) -> list[tuple[str, float]]:
        """Every class with its score, the likeliest first.

        By the signature of raw landmarks, where the file has it and the recording is not too long
        for it: what a program elsewhere runs is what runs here.

        Args:
            clip: The recording, a set of it alone, or what
                `signbart.recordings.reading.read_single_clip` reads.
            reading: How the landmarks of what is read are to be understood; further arguments of
                that function, with a path alone.

        Returns:
            Labels and scores: the softmax of the logits over the temperature, which sums up to 1.

        Raises:
            SignBartError: The recording cannot be read, does not fit the model, or is not one.
        """
        from signbart.recordings.clip import Clip, ClipSet
        from signbart.recordings.reading import read_single_clip
        from signbart.training.confidence import softmax

        if isinstance(clip, str | Path):
            clip = read_single_clip(str(clip), **reading)
        elif reading:
            raise BridgeError(
                f"{', '.join(reading)}: only for a path; this recording is read already"
            )
        clips = ClipSet((clip,), ("",)) if isinstance(clip, Clip) else clip
        if len(clips) != 1:
            raise BridgeError(f"expected one recording, found a set of {len(clips)}")
        outputs = self._run(clips)
        (logits,) = outputs[class_output(outputs)]
        require_finite(self.runtime.name, logits[None], clips)
        scores = softmax(logits, self.temperature)
        order = np.argsort(-logits, kind="stable")
        return [(self.class_names[at], float(scores[at])) for at in order]

    def _run(self, clips: ClipSet) -> dict[str, np.ndarray]:
        """The outputs for one recording, from its raw landmarks or prepared by NumPy."""
        from signbart.preprocessing import model_inputs

        clips = clips.to_layout(self.config.data.landmark_layout)
        landmarks = np.asarray(clips.clips[0].landmarks)
        if self.raw is not None:
            _, longest, _, coordinates = self.raw.spec.inputs[0].shape
            if len(landmarks) <= longest:
                return self.raw(raw_input(self.raw.spec, landmarks[..., :coordinates]))
        if self.runtime.spec.signature == RAW_SIGNATURE:
            raise BridgeError(
                f"{clips.clips[0].source}: {len(landmarks)} frames, and {self.runtime.name} takes "
                f"at most {longest}; take the file with the signature {SIGNATURE}"
            )
        keypoints, mask = model_inputs(clips, self.config)
        return self.runtime({KEYPOINTS: keypoints, ATTENTION_MASK: mask})


def open_model(
    path: str | Path,
    config: RunConfig | None = None,
    class_names: Sequence[str] = (),
    *,
    checksum: bool = True,
) -> OpenedModel:
    """Opens a .tflite, an .onnx or a checkpoint in its own runtime.

    Args:
        path: The file.
        config: For a checkpoint of another program, the configuration it was trained with; refused
            for others, which carry their own.
        class_names: For such a checkpoint, its C labels.
        checksum: Refuse a file that is not what its checksum was made of.

    Raises:
        SignBartError: The file is missing, damaged, of another kind, or carries no metadata.
    """
    from bridge.artifact.runtimes import FloatView, KerasRuntime, TorchRuntime, open_runtime
    from bridge.weights.source import is_keras, load_twin, read_temperature
    from signbart.training.confidence import temperature_of, threshold_of
    from signbart_runtime.evaluation.shortest import ShortestRuntime

    path = Path(path)
    if not lacks_header(path) and (config is not None or class_names):
        raise BridgeError(f"{path} carries its own configuration and labels; give none beside it")
    if path.suffix in (".tflite", ".onnx"):
        from signbart.artifacts.completeness import require_complete
        from signbart.artifacts.lengths import carried_lengths
        from signbart.artifacts.metadata import (
            carried_config,
            carried_raw,
            read_metadata,
        )

        require_complete(path)
        require_checksum(path, checksum)
        metadata = read_metadata(path)
        config = carried_config(metadata, path)
        lengths = carried_lengths(metadata, path)

        def run_by(signature: str, longest: int) -> Runtime:
            shorter = [frames for frames in lengths if frames < longest]
            if shorter:
                return ShortestRuntime(path, signature, shorter)
            return FloatView(open_runtime(path, signature))

        runtime = run_by(SIGNATURE, config.data.max_frames)
        # What the graph itself says, and not the text beside it.
        classes = _classes_of({tensor.name: tensor.shape for tensor in runtime.spec.outputs})
        names = check_class_names(metadata["labels"], str(path), BridgeError, classes=classes)
        temperature = temperature_of(metadata, path)
        signature = carried_raw(metadata, config)
        raw = None if signature is None else run_by(RAW_SIGNATURE, signature.frames)
        if raw is not None and not raw.spec.keeps(signature.spec):
            raise BridgeError(
                f"{path}: signature {RAW_SIGNATURE} takes and gives {raw.spec.describe()}; by its "
                f"metadata it is {signature.spec.describe()}; get it again, or convert again"
            )
        threshold = threshold_of(metadata, path)
        return OpenedModel(runtime, config, names, temperature, raw, threshold)
    if is_keras(path):
        twin, config, class_names = load_twin(path)
        runtime = KerasRuntime(twin, config, path.name)
        return OpenedModel(runtime, config, class_names, read_temperature(path))
    from signbart_torch.training.checkpoint import load_model

    model, config, class_names = load_model(path, config, class_names, checksum=checksum)
    runtime = TorchRuntime(model, config, path.name)
    return OpenedModel(runtime, config, class_names, read_temperature(path))


def require_finite(model: str, logits: np.ndarray, clips: ClipSet) -> None:
    """Refuses answers (N, C) to as many clips that are none: the first class would win of them.

    Raises:
        BridgeError: Some are NaN or infinite; names the `model` and the first clip.
    """
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise BridgeError(
            f"{model} gives NaN or infinity on {len(broken)} of {len(clips)} clips, first on "
            f"{clips.clips[broken[0]].source}; bridge.parity says where it goes wrong"
        )


def lacks_header(path: str | Path) -> bool:
    """Whether a checkpoint, and no artifact, needs configuration and labels beside it."""
    return Path(path).suffix not in (".tflite", ".onnx") and not has_header(path)


def _classes_of(outputs: Mapping[str, Sequence[int | None]]) -> int | None:
    """How many classes outputs, shapes by name, tell apart; None where they do not say."""
    try:
        classes = outputs[class_output(outputs)][-1]
    except (IndexError, KeyError, TypeError, StopIteration):
        return None
    return classes if type(classes) is int else None
