"""Do two runtimes agree? Names, then shapes, dtypes, NaN and infinity, and only then values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bridge.artifact.runtimes import Runtime, open_runtime
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.verification.computed import artifact_tensors, reference_layers
from bridge.verification.divergence import first_divergence, reads_another_frame
from bridge.verification.limits import Limits
from bridge.verification.samples import Sample
from bridge.verification.verdict import FAILED, PASS, WRONG, Verdict, judge
from signbart.errors import SignBartError
from signbart.memory import raise_shortage
from signbart.models import kind_of
from signbart.models.io_spec import ATTENTION_MASK, SIGNATURE, class_output
from signbart.waiting import track

if TYPE_CHECKING:
    from torch import nn

_PROBED = 2  # further samples on which a diverging layer is looked for


def compare(
    reference: Runtime,
    candidate: Runtime,
    samples: Sequence[Sample],
    limits: Limits,
    scheme: str = FLOAT,
) -> Verdict:
    """Runs both on every sample and judges the candidate."""
    problem = _first_mismatch_of_names(reference, candidate)
    if problem:
        return Verdict(candidate.name, FAILED, problem, scheme)
    names = [tensor.name for tensor in reference.spec.outputs]
    expected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    descriptions: list[str] = []
    for sample in track(samples, f"running {candidate.name}"):
        wanted = reference(sample.inputs)
        try:
            got = candidate(sample.inputs)
        # Inputs that do not fit, or a runtime that breaks off: each raises classes of its own, ONNX
        # Runtime's deriving from Exception alone.
        except Exception as error:
            raise_shortage(candidate.name, error)
            return Verdict(candidate.name, FAILED, f"{error} ({sample.description})", scheme)
        for name in names:
            right, other = wanted[name], got[name]
            for problem in (
                other.shape != right.shape and f"shape {other.shape}, expected {right.shape}",
                other.dtype != right.dtype and f"dtype {other.dtype}, expected {right.dtype}",
            ):
                if problem:
                    reason = f"{name}: {problem} ({sample.description})"
                    return Verdict(candidate.name, FAILED, reason, scheme)
            expected[name].append(right)
            found[name].append(other)
        descriptions += [sample.description] * len(wanted[names[0]])
    right, other = (
        {name: np.concatenate(parts) for name, parts in outputs.items()}
        for outputs in (expected, found)
    )
    return judge_outputs(candidate.name, right, other, descriptions, limits, scheme=scheme)


def judge_outputs(
    artifact: str,
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    descriptions: Sequence[str],
    limits: Limits,
    *,
    scheme: str = FLOAT,
    labels: np.ndarray | None = None,
) -> Verdict:
    """One verdict on all outputs by name; otherwise as `judge`. `labels` are of the classes."""
    classes = class_output(expected)
    verdicts = {
        name: judge(
            artifact,
            right,
            found[name],
            descriptions,
            limits,
            output=name,
            scheme=scheme,
            labels=labels if name == classes else None,
        )
        for name, right in expected.items()
    }
    by_label = ("accuracy", "top5", "reference_accuracy", "reference_top5")
    return dataclasses.replace(
        worst_of(verdicts), **{score: getattr(verdicts[classes], score) for score in by_label}
    )


def worst_of(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict from those of a model's outputs: every one has to pass.

    The verdict and its reason are those of the worst output, the numbers the worst of each kind.
    """
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    by_badness = sorted(
        verdicts.values(),
        # What is not finite, or was not even compared, has no distance.
        key=lambda v: (v.passed, v.max_scaled is not None, -(v.max_scaled or 0.0)),
    )
    shown = ("passed", "max_abs", "rmse", "cosine", "argmax_agreement")
    worst = dataclasses.replace(
        by_badness[0],
        reason="; ".join(verdict.reason for verdict in by_badness if not verdict.passed),
        outputs={
            name: {key: getattr(verdict, key) for key in shown}
            for name, verdict in verdicts.items()
        },
    )
    if any(verdict.max_abs is None for verdict in verdicts.values()):
        return worst
    highest = ("max_abs", "mean_abs", "rmse", "max_scaled", "scaled_rmse")
    lowest = ("cosine", "argmax_agreement")
    return dataclasses.replace(
        worst,
        **{key: max(getattr(v, key) for v in verdicts.values()) for key in highest},
        **{key: min(getattr(v, key) for v in verdicts.values()) for key in lowest},
        disagreements=tuple(
            {"output": name, **entry} for name, v in verdicts.items() for entry in v.disagreements
        ),
        errors=np.concatenate([verdict.errors for verdict in verdicts.values()], axis=1),
    )


def compare_artifact(
    reference: Runtime,
    path: Path,
    samples: Sequence[Sample],
    open_samples: Sequence[Sample],
    limits: Limits,
    scheme: str = FLOAT,
    signature: str = SIGNATURE,
) -> tuple[Verdict, Sequence[Sample]]:
    """Opens an artifact and compares it: on `open_samples`, if it takes any batch.

    `signature` is which of a .tflite's is meant.

    Returns:
        The verdict, `FAILED` where the artifact cannot be opened, and the inputs it was reached on.
    """
    try:
        candidate = open_runtime(path, signature)
    except SignBartError as error:
        raise_shortage(path, error)
        return Verdict(path.name, FAILED, str(error), scheme, signature), samples
    if None in candidate.spec.inputs[0].shape:
        samples = open_samples
    verdict = compare(reference, candidate, samples, limits, scheme)
    return dataclasses.replace(verdict, signature=signature), samples


def diagnose(
    model: nn.Module,
    path: str | Path,
    result: Verdict,
    samples: Sequence[Sample],
    rms: float | None = None,
) -> Verdict:
    """Adds the first diverging layer to the reason of an artifact that runs but disagrees.

    It is looked for on the worst of the `samples` that `compare` reached the `result` on, and where
    no layer differs there on those with the most frames. A quantized artifact that passed is looked
    into as well, and is wrong where a layer is: a model may hardly show it on these samples. Of one
    of fixed ranges, which cut off what some clips reach, the outputs judge that, and here the frame
    alone that its last layer asks with.

    Args:
        model: PyTorch.
        path: The artifact.
        result: What `compare` said.
        samples: What it was reached on.
        rms: Of a quantized artifact: see `divergence.first_divergence`.
    """
    scheme = SCHEMES[result.scheme]
    passing = result.verdict == PASS and rms is not None
    if (result.verdict != WRONG and not passing) or result.signature != SIGNATURE:
        return result
    spec = kind_of(model.config).io_spec(model.config, None, None)
    outputs = [tensor.name for tensor in spec.outputs]
    worst = next(sample for sample in samples if sample.description == result.worst_sample)
    longest = sorted(samples, key=lambda sample: -int(sample.inputs[ATTENTION_MASK].sum()))
    divergence = None
    try:
        for sample in (worst, *longest[:_PROBED]):
            layers = reference_layers(model, sample.inputs)
            tensors = artifact_tensors(path, sample.inputs)
            if not (passing and scheme.calibrated) or reads_another_frame(layers, tensors, rms):
                divergence = first_divergence(layers, tensors, outputs, rms)
            if divergence:
                break
    # A verdict stands, whatever keeps a broken artifact from being looked into.
    except Exception as error:
        raise_shortage(path, error)
        if passing:
            return result
        where = f"its layers could not be compared ({type(error).__name__}: {error})"
    else:
        where = divergence.describe() if divergence else "run step by step, no layer differs"
    if passing:
        return dataclasses.replace(result, verdict=WRONG, reason=where) if divergence else result
    return dataclasses.replace(result, reason=f"{result.reason}; {where}")


def _first_mismatch_of_names(reference: Runtime, candidate: Runtime) -> str:
    """What keeps the two from being called alike; empty where nothing does."""
    for kind in ("inputs", "outputs"):
        wanted = {tensor.name: tensor for tensor in getattr(reference.spec, kind)}
        got = {tensor.name: tensor for tensor in getattr(candidate.spec, kind)}
        if set(wanted) != set(got):
            return (
                f"{kind} are called {', '.join(sorted(got))}; expected {', '.join(sorted(wanted))}"
            )
        for name, tensor in got.items():
            if not wanted[name].accepts_shape(tensor.shape) or tensor.dtype != wanted[name].dtype:
                return f"{kind}: {tensor.describe()}; expected {wanted[name].describe()}"
    return ""
