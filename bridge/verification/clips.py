"""Quantized artifacts are judged on clips: do they still recognise what PyTorch recognises?

Legend: N clips, T frames, K keypoints, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.artifact.runtimes import FloatView, Runtime, open_runtime
from bridge.errors import BridgeError
from bridge.verification.compare import judge_outputs
from bridge.verification.limits import Limits
from bridge.verification.samples import Sample
from bridge.verification.verdict import FAILED, WRONG, Verdict
from signbart.errors import SignBartError
from signbart.memory import raise_shortage
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS, SIGNATURE, class_output
from signbart.preprocessing import model_inputs
from signbart.training.calibration import MIN_CLIPS
from signbart.training.metrics import compare_scores
from signbart.training.seen import seen_before
from signbart.training.splits import UNSEEN, divide
from signbart.waiting import track
from signbart.weights.stored import read_progress

if TYPE_CHECKING:
    from bridge.weights.source import Source
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart.recordings.data_source import DataSource


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

    `labelled` says whether their labels count the model's classes, `source` what they are.

    Raises:
        SignBartError: The clips do not fit the configuration, or there are none.
    """
    if not len(clips):
        raise BridgeError(
            f"{source}: there are no clips to judge by; give recordings that were not trained on"
        )
    labels, names = clips.labels if labelled else None, tuple(c.source for c in clips.clips)
    return _ask(reference, *model_inputs(clips, config), labels, names, source)


def clips_of_samples(samples: Sequence[Sample], reference: Runtime) -> JudgedClips:
    """The recordings among a comparison's inputs, unlabelled; all inputs where there are none."""
    poses = [sample for sample in samples if sample.recorded]
    taken = poses or list(samples)
    keypoints, mask = (
        np.concatenate([sample.inputs[name] for sample in taken])
        for name in (KEYPOINTS, ATTENTION_MASK)
    )
    kind = "synthetic recordings" if poses else "random inputs"
    source = f"{len(taken)} {kind}; give --data to judge by accuracy"
    names = tuple(sample.description for sample in taken)
    return _ask(reference, keypoints, mask, None, names, source)


def _ask(
    reference: Runtime,
    keypoints: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray | None,
    descriptions: tuple[str, ...],
    source: str,
) -> JudgedClips:
    logits, others = predict_all(reference, keypoints, mask)
    return JudgedClips(keypoints, mask, labels, descriptions, logits, source, others)


def clips_to_judge(
    source: Source,
    reference: Runtime,
    samples: Sequence[Sample],
    data: str | DataSource | None,
    recordings: ClipSet | None,
    test_signers: Sequence[str] | None = None,
    *,
    count: int = MIN_CLIPS,
    seed: int = 0,
) -> tuple[ClipSet | None, JudgedClips]:
    """The recordings' two parts: those to calibrate on, and those to judge quantized artifacts by.

    Args:
        source: The checkpoint; it knows what it was trained on.
        reference: PyTorch.
        samples: The comparison's inputs: judged by where there are no recordings.
        data: Path of the recordings.
        recordings: Those; None where there are none.
        test_signers: Signers that were not trained on; None: as the checkpoint says.
        count: Clips that calibration takes of these recordings.
        seed: Of that choice.

    Returns:
        None for the first part, and the comparison's inputs for the second, without recordings.

    Raises:
        SignBartError: The recordings do not fit the model.
    """
    if recordings is None:
        return None, clips_of_samples(samples, reference)
    recordings = recordings.relabel(source.class_names, str(data))
    known = source.test_signers(recordings)
    tested = known if test_signers is None else sorted(test_signers)
    order = tested if known is None or set(tested) != set(known) else known  # says who validated
    trained_on, judged, how = divide(recordings, source.config, order, count=count, seed=seed)
    if known is not None and set(tested) != set(known):
        raise BridgeError(
            f"{source.checkpoint}: was trained on these recordings without "
            f"{', '.join(known) or 'holding out a signer'}, and not without "
            f"{', '.join(tested)}; leave --test-signers out"
        )
    if how == UNSEEN and seen_before(read_progress(source.checkpoint)):
        how = "that it was not trained on, but perhaps its teachers, or what it started from"
    text = f"{len(judged)} clips {how} ({data})"
    return trained_on, judged_clips(judged, source.config, reference, labelled=True, source=text)


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
        for start in track(range(0, len(keypoints), batch), f"running {runtime.name}")
    ]
    outputs = {name: np.concatenate([one[name] for one in made]) for name in made[0]}
    return outputs.pop(class_output(outputs)), outputs


def compare_on_clips(
    path: Path, scheme: str, clips: JudgedClips, limits: Limits, signature: str = SIGNATURE
) -> Verdict:
    """Runs an artifact, by the signature that takes the clips, on every one and judges it."""
    try:
        runtime = FloatView(open_runtime(path, signature))
        found, others = predict_all(runtime, clips.keypoints, clips.attention_mask)
    except SignBartError as error:
        raise_shortage(path, error)
        return Verdict(path.name, FAILED, str(error), scheme, signature)
    # A runtime that breaks off raises classes of its own.
    except Exception as error:
        raise_shortage(path, error)
        return Verdict(path.name, FAILED, f"{type(error).__name__}: {error}", scheme, signature)
    if found.shape != clips.reference.shape:
        reason = f"{LOGITS}: {found.shape[1]} classes, expected {clips.reference.shape[1]}"
        return Verdict(path.name, FAILED, reason, scheme, signature)
    first = class_output(tensor.name for tensor in runtime.spec.outputs)
    verdict = judge_outputs(
        path.name,
        {first: clips.reference, **clips.others},
        {first: found, **others},
        clips.descriptions,
        limits,
        scheme=scheme,
        labels=clips.labels,
    )
    return dataclasses.replace(verdict, signature=signature)


def refuse_guessed(verdict: Verdict, clips: JudgedClips, guessed: bool) -> Verdict:
    """No pass where ranges are `guessed` and nothing real was shown."""
    if not (verdict.passed and guessed and clips.labels is None):
        return verdict
    # Random inputs fit random ranges: such a comparison says nothing about real clips.
    reason = "calibrated on random numbers, and there are no recordings to judge it by"
    return dataclasses.replace(verdict, verdict=WRONG, reason=reason)


def with_scores(verdict: Verdict, path: Path, clips: JudgedClips) -> Verdict:
    """Adds an artifact's accuracies on the clips to a comparison that was made otherwise."""
    found = predict(open_runtime(path), clips.keypoints, clips.attention_mask)
    return dataclasses.replace(verdict, **compare_scores(clips.reference, found, clips.labels))
