"""Quantized artifacts are judged on clips: do they still recognise what PyTorch recognises?

Legend: N clips, T frames, K keypoints, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import BridgeError
from bridge.verification.compare import FAILED, PASS, WRONG, Parity, judge, worst_of
from bridge.verification.samples import Sample
from signbart.errors import SignBartError
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS, class_output
from signbart.preprocessing import model_inputs

if TYPE_CHECKING:
    from bridge.artifact.runtimes import Runtime
    from bridge.verification.limits import DataTolerance
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.artifact.runtimes import open_runtime
from bridge.quantization.calibration import (
    with_labels_of,
)
from bridge.verification.limits import DataTolerance
from bridge.weights.source import load_progress
from signbart.training.calibration import MIN_CLIPS
from signbart.training.splits import divide

if TYPE_CHECKING:
    from bridge.artifact.runtimes import Runtime
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet


@dataclass(frozen=True)
class JudgedClips:
    """Preprocessed clips to judge by, with what PyTorch says of them.

    Attributes:
        keypoints: (N, T, K, 2) float32, padded frames full of NaN.
        attention_mask: (N, T) int32.
        labels: (N,) int64; None where the clips' classes are not the model's.
        descriptions: One a clip.
        reference: (N, C) float32 logits.
        source: What the clips are, for reports.
        others: Output -> (N, …), of a model that gives more than its classes' logits.
    """

    keypoints: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray | None
    descriptions: tuple[str, ...]
    reference: np.ndarray
    source: str
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reference)

    def samples(self) -> list[Sample]:
        """The clips as inputs of a comparison."""
        return [
            Sample({KEYPOINTS: points[None], ATTENTION_MASK: mask[None]}, description, True)
            for points, mask, description in zip(
                self.keypoints, self.attention_mask, self.descriptions, strict=True
            )
        ]


def judged_clips(
    clips: ClipSet, config: RunConfig, reference: Runtime, *, labelled: bool, source: str
) -> JudgedClips:
    """Prepares clips and asks the reference about them.

    Args:
        clips: Recordings, at least one; labelled by the model's classes.
        config: The run's configuration.
        reference: What artifacts are compared with.
        labelled: Whether the clips' labels are the model's classes.
        source: What the clips are.

    Raises:
        SignBartError: The clips do not fit the configuration, or there are none.
    """
    if not len(clips):
        raise BridgeError(
            f"{source}: there are no clips to judge by; give recordings that were not trained on"
        )
    keypoints, mask = model_inputs(clips, config)
    logits, others = predict_all(reference, keypoints, mask)
    return JudgedClips(
        keypoints,
        mask,
        clips.labels if labelled else None,
        tuple(clip.source for clip in clips.clips),
        logits,
        source,
        others,
    )


def predict(
    runtime: Runtime, keypoints: np.ndarray, attention_mask: np.ndarray, batch: int = 1
) -> np.ndarray:
    """Logits (N, C) of every clip, `batch` at a time: one, where an artifact's batch is fixed."""
    return predict_all(runtime, keypoints, attention_mask, batch)[0]


def predict_all(
    runtime: Runtime, keypoints: np.ndarray, attention_mask: np.ndarray, batch: int = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """As `predict`, and beside it the model's other outputs by name, each (N, …)."""
    made = [
        runtime(
            {
                KEYPOINTS: keypoints[start : start + batch],
                ATTENTION_MASK: attention_mask[start : start + batch],
            }
        )
        for start in range(0, len(keypoints), batch)
    ]
    outputs = {name: np.concatenate([one[name] for one in made]) for name in made[0]}
    return outputs.pop(class_output(outputs)), outputs


def compare_on_clips(path: Path, scheme: str, clips: JudgedClips, limits: DataTolerance) -> Parity:
    """Runs a quantized artifact on every clip and judges it."""
    from bridge.artifact.runtimes import FloatView

    try:
        runtime = FloatView(open_runtime(path))
        found, others = predict_all(runtime, clips.keypoints, clips.attention_mask)
    except SignBartError as error:
        return Parity(path.name, FAILED, str(error), scheme=scheme)
    # A runtime that breaks off raises classes of its own.
    except Exception as error:
        return Parity(path.name, FAILED, f"{type(error).__name__}: {error}", scheme=scheme)
    if found.shape != clips.reference.shape:
        reason = f"{LOGITS}: {found.shape[1]} classes, expected {clips.reference.shape[1]}"
        return Parity(path.name, FAILED, reason, scheme=scheme)
    first = class_output(tensor.name for tensor in runtime.spec.outputs)
    classes = judge_on_clips(path.name, scheme, clips, found, limits, first)
    parities = {first: classes}
    for name, expected in clips.others.items():
        of_output = dataclasses.replace(clips, reference=expected, labels=None)
        parities[name] = judge_on_clips(path.name, scheme, of_output, others[name], limits, name)
    scores = ("accuracy", "top5", "reference_accuracy", "reference_top5")
    return dataclasses.replace(
        worst_of(parities), **{score: getattr(classes, score) for score in scores}
    )


def judge_on_clips(
    artifact: str,
    scheme: str,
    clips: JudgedClips,
    found: np.ndarray,
    limits: DataTolerance,
    output: str = LOGITS,
) -> Parity:
    """Compares logits (N, C) with the reference's and, where there are labels, with the truth.

    `limits` may be broken by one clip, however few there are; the error of the logits may not.
    """
    expected = clips.reference
    result = judge(artifact, expected, found, clips.descriptions, atol=0.0, rtol=0.0, output=output)
    result = dataclasses.replace(result, scheme=scheme)
    if result.max_abs is None:  # not finite
        return result
    problems = []
    result = dataclasses.replace(result, **_scores(clips, found))
    if result.accuracy is not None:
        lost = result.reference_accuracy - result.accuracy
        if lost > _at_least_one_clip(limits.accuracy_drop, len(clips)):
            problems.append(
                f"accuracy {result.accuracy:.2f} %, {lost:.2f} points below float32's "
                f"{result.reference_accuracy:.2f} % (limit {limits.accuracy_drop:g})"
            )
    missing = 100 * (1 - result.argmax_agreement)
    if missing > _at_least_one_clip(100 - limits.agreement, len(clips)):
        problems.append(
            f"{len(result.disagreements)} of {len(clips)} clips get another class than in float32 "
            f"(limit {100 - limits.agreement:g} %)"
        )
    if result.scaled_rmse > limits.scaled_rmse:
        problems.append(
            f"{output} are off by {result.scaled_rmse:.3g} of their root mean square (limit "
            f"{limits.scaled_rmse:g})"
        )
    if not problems:
        return dataclasses.replace(result, verdict=PASS, reason="")
    reason = f"{'; '.join(problems)}; worst on: {result.worst_sample}"
    return dataclasses.replace(result, verdict=WRONG, reason=reason)


def with_scores(parity: Parity, path: Path, clips: JudgedClips) -> Parity:
    """Adds an artifact's accuracies on the clips to a comparison that was made otherwise."""
    found = predict(open_runtime(path), clips.keypoints, clips.attention_mask)
    return dataclasses.replace(parity, **_scores(clips, found))


def _scores(clips: JudgedClips, found: np.ndarray) -> dict[str, float]:
    """The fields of `Parity` that need labels, in percent; none without them."""
    from signbart.training.metrics import score

    if clips.labels is None:
        return {}
    ours, theirs = score(found, clips.labels), score(clips.reference, clips.labels)
    return {
        "accuracy": 100 * ours.accuracy,
        "top5": 100 * ours.top5,
        "reference_accuracy": 100 * theirs.accuracy,
        "reference_top5": 100 * theirs.top5,
    }


def _at_least_one_clip(limit: float, count: int) -> float:
    """A limit in percent that one clip of `count` cannot break; rounding allowed for."""
    return max(limit, 100 / count) + 1e-9


def clips_to_judge(
    checkpoint: str | Path,
    config: RunConfig,
    class_names: Sequence[str],
    reference: Runtime,
    samples: Sequence[Sample],
    data: str | None,
    recordings: ClipSet | None,
    test_signers: Sequence[str] | None = None,
    *,
    count: int = MIN_CLIPS,
    seed: int = 0,
) -> tuple[ClipSet | None, JudgedClips]:
    """The recordings' two parts: those to calibrate on, and those to judge quantized artifacts by.

    Arguments as for `prepare`; `count` clips are what calibration takes of these recordings.

    Returns:
        None for the first part, and the comparison's inputs for the second, without recordings.
    """
    if recordings is None:
        return None, _from_samples(samples, reference)
    recordings = with_labels_of(recordings, class_names, str(data))
    if test_signers is None:
        test_signers = _test_signers(checkpoint, recordings)
    trained_on, judged, how = divide(recordings, config, test_signers, count=count, seed=seed)
    source = f"{len(judged)} clips {how} ({data})"
    return trained_on, judged_clips(judged, config, reference, labelled=True, source=source)


def _test_signers(checkpoint: str | Path, recordings: ClipSet) -> Sequence[str] | None:
    """Who the checkpoint was tested on; None where it does not say or knows other recordings."""
    known = load_progress(checkpoint).get("recordings", {})
    if known.get("fingerprint") != recordings.fingerprint():
        return None
    return known["test_signers"]


def _from_samples(samples: Sequence[Sample], reference: Runtime) -> JudgedClips:
    """Synthetic recordings among the comparison's inputs; all of them where there are none."""
    poses = [sample for sample in samples if sample.recorded]
    taken = poses or list(samples)
    keypoints, mask = (
        np.concatenate([sample.inputs[name] for sample in taken])
        for name in (KEYPOINTS, ATTENTION_MASK)
    )
    kind = "synthetic recordings" if poses else "random inputs"
    logits, others = predict_all(reference, keypoints, mask)
    return JudgedClips(
        keypoints,
        mask,
        None,
        tuple(sample.description for sample in taken),
        logits,
        f"{len(taken)} {kind}; give --data to judge by accuracy",
        others,
    )
