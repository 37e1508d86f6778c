"""What all artifacts of one conversion are judged by: inputs, clips, limits, calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.artifact.runtimes import Runtime, TorchRuntime
from bridge.conversion.quantized import QuantizationOptions, calibrate
from bridge.conversion.training_facts import TrainingFacts, training_facts
from bridge.errors import BridgeError
from bridge.quantization.schemes import FLOAT, SCHEMES, Scheme
from bridge.verification import MIN_SAMPLES
from bridge.verification.clips import JudgedClips, clips_to_judge, compare_on_clips, refuse_guessed
from bridge.verification.compare import compare_artifact
from bridge.verification.limits import Limits, load_limits
from bridge.verification.raw import RawReference, compare_raw, make_raw_samples
from bridge.verification.samples import Sample, describe_samples, make_samples, open_samples
from bridge.verification.verdict import Verdict
from signbart.artifacts.lengths import config_at, signature_at
from signbart.models.io_spec import RAW_SIGNATURE, SIGNATURE, IOSpec, with_integers
from signbart.models.raw_spec import RawSignature
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.training.calibration import Calibration

if TYPE_CHECKING:
    from bridge.weights.source import Source
    from signbart.recordings.clip import ClipSet

_INTEGERS = {"int8": "int8", "int16x8": "int16"}  # scheme -> dtype of integer inputs and outputs


@dataclass(frozen=True)
class Evidence:
    """What artifacts are judged by. It can be pickled: routes run in processes of their own.

    Attributes:
        reference: What they are compared with.
        samples: Inputs for artifacts of fixed sizes.
        open_samples: Inputs for artifacts of any batch and length.
        inputs: How many samples there are, and where they came from.
        limits: Scheme -> what it may differ by.
        clips: Judge the schemes whose single numbers have no limit; None where there is none such.
        calibration: What quantizers are shown; None where none needs it.
        int8_io: Whether calibrated schemes get integer inputs and outputs.
        raw: The .tflite's second signature; None: there is none.
        raw_samples: Inputs for that.
        frames: Most frames of the signatures that are judged; None: the file's own, T.
        shorter: Frames -> what the signatures for clips of at most those are judged by.
        training: What is known of the checkpoint's, for the model card.
    """

    reference: Runtime
    samples: Sequence[Sample]
    open_samples: Sequence[Sample]
    inputs: str
    limits: Mapping[str, Limits]
    clips: JudgedClips | None = None
    calibration: Calibration | None = None
    int8_io: bool = False
    raw: RawSignature | None = None
    raw_samples: Sequence[Sample] = ()
    frames: int | None = None
    shorter: Mapping[int, Evidence] = field(default_factory=dict)
    training: TrainingFacts | None = None

    def judge(self, path: Path, scheme: str) -> tuple[Verdict, Sequence[Sample]]:
        """Compares an artifact, by what its scheme has limits for.

        Returns:
            The verdict, and the inputs it was reached on.
        """
        limits, signature = self.limits[scheme], signature_at(SIGNATURE, self.frames)
        if limits.by_value:
            return compare_artifact(
                self.reference, path, self.samples, self.open_samples, limits, scheme, signature
            )
        verdict = compare_on_clips(path, scheme, self.clips, limits, signature)
        guessed = SCHEMES[scheme].calibrated and self.calibration and self.calibration.is_random
        return refuse_guessed(verdict, self.clips, bool(guessed)), self.clips.samples()

    def judge_raw(self, path: Path, scheme: str) -> Verdict:
        """Compares an artifact's signature of raw landmarks, by the limits of its scheme."""
        return compare_raw(
            RawReference(self.reference, self.raw),
            path,
            self.raw_samples,
            self.limits[scheme],
            scheme,
            signature_at(RAW_SIGNATURE, self.frames),
        )

    def judge_shorter(self, path: Path, scheme: str) -> Iterator[tuple[Verdict, Sequence[Sample]]]:
        """Compares an artifact's signatures for shorter clips; each with what it was tried on."""
        for evidence in self.shorter.values():
            yield evidence.judge(path, scheme)
            if evidence.raw:
                yield evidence.judge_raw(path, scheme), evidence.raw_samples

    def judged_on(self, scheme: str) -> str:
        """What the artifacts of a scheme are judged on, for reports."""
        return self.inputs if self.limits[scheme].by_value else self.clips.source

    @property
    def calibrations(self) -> dict[int | None, Calibration | None]:
        """Those of the signatures, by their frames; None: of all others."""
        return {e.frames: e.calibration for e in (self, *self.shorter.values())}

    def has_integer_edges(self, scheme: str) -> bool:
        """Whether that scheme's inputs and outputs are integers."""
        return self.int8_io and SCHEMES[scheme].calibrated

    def promised(self, spec: IOSpec, scheme: str) -> IOSpec:
        """What an artifact has to take and give where its float form has `spec`."""
        if self.has_integer_edges(scheme):
            return with_integers(spec, _INTEGERS[scheme])
        return spec

    def describe_quantization(self) -> dict[str, Any] | None:
        """For the manifest; None where nothing is judged on clips."""
        if self.clips is None:
            return None
        return {
            "calibration": self.calibration and self.calibration.record,
            "judged on": self.clips.source,
            "limits": {
                name: limits.to_dict()
                for name, limits in self.limits.items()
                if not limits.by_value
            },
        }


def gather_evidence(
    source: Source,
    schemes: Sequence[Scheme],
    options: QuantizationOptions,
    *,
    data: str | DataSource | None = None,
    samples: int = MIN_SAMPLES,
    seed: int = 0,
    raw: RawSignature | None = None,
    lengths: Sequence[int] = (),
) -> Evidence:
    """Makes inputs, divides the recordings, calibrates on one part, asks PyTorch about the other.

    Args:
        source: The checkpoint.
        schemes: Those that are made of it.
        options: What to show the quantizer; `schemes` does not count here.
        data: Recordings to compare on, beside random inputs.
        samples: Inputs per length; see `samples.make_samples`.
        seed: Of the inputs, and of the choice of calibration clips.
        raw: The second signature of the .tflite that are made; None: they have none.
        lengths: Frames of their signatures for shorter clips. For each the recordings are seen as
            by a model of that `max_frames`.

    Raises:
        SignBartError: The recordings do not fit the model, there are too few, or there are none and
            a scheme needs them.
    """
    recordings = read_recordings(data)

    def gather(frames: int | None) -> Evidence:
        config = config_at(source.config, frames)
        evidence = _gather(
            dataclasses.replace(source, config=config),
            schemes,
            options,
            data=data,
            recordings=recordings,
            samples=samples,
            seed=seed,
            raw=raw if frames is None or raw is None else raw.at(config),
        )
        return dataclasses.replace(evidence, frames=frames)

    return dataclasses.replace(
        gather(None),
        shorter={n: gather(n) for n in lengths},
        training=training_facts(source, recordings, data),
    )


def _gather(
    source: Source,
    schemes: Sequence[Scheme],
    options: QuantizationOptions,
    *,
    data: str | DataSource | None,
    recordings: ClipSet | None,
    samples: int,
    seed: int,
    raw: RawSignature | None,
) -> Evidence:
    """Of one length; see `gather_evidence`."""
    made = make_samples(source.config, clips=recordings, samples=samples, seed=seed)
    reference = TorchRuntime(source.model, source.config)
    evidence = Evidence(
        reference=reference,
        samples=made,
        open_samples=open_samples(
            made, reference.spec.longest, open_length=source.kind.open_length
        ),
        inputs=describe_samples(made, data),
        limits={FLOAT: load_limits(FLOAT)},
        raw=raw,
        raw_samples=make_raw_samples(raw, clips=recordings, seed=seed) if raw else (),
    )
    return with_clips(
        evidence, source, schemes, options, data=data, recordings=recordings, seed=seed
    )


def with_clips(
    evidence: Evidence,
    source: Source,
    schemes: Sequence[Scheme],
    options: QuantizationOptions,
    *,
    data: str | DataSource | None,
    recordings: ClipSet | None,
    seed: int,
) -> Evidence:
    """Adds what schemes without limits so far are calibrated on and judged by.

    See `gather_evidence`.
    """
    schemes = [scheme for scheme in schemes if scheme.name not in evidence.limits]
    calibrated = any(scheme.calibrated for scheme in schemes)
    if options.int8_io and not calibrated:
        raise BridgeError("--int8-io needs int8 or int16x8 among the schemes")
    if not schemes:
        return evidence
    takes_from_data = options.calibration_data is None or same_file(options.calibration_data, data)
    shown = None
    if calibrated and not takes_from_data and recordings is not None:  # or a copy of them
        shown = read_recordings(options.calibration_data)
        same = len(shown) == len(recordings)
        takes_from_data = same and shown.fingerprint() == recordings.fingerprint()
    trained_on, clips = clips_to_judge(
        source,
        evidence.reference,
        evidence.samples,
        data,
        recordings,
        options.test_signers,
        count=options.calibration_clips if calibrated and takes_from_data else 0,
        seed=seed,
    )
    calibration = None
    if calibrated:
        if takes_from_data:
            shown, path = trained_on, data
        else:
            path = options.calibration_data
        calibration = calibrate(options, source.config, shown, path, seed)
    limits = {scheme.name: load_limits(scheme.name) for scheme in schemes}
    return dataclasses.replace(
        evidence,
        limits=limits | evidence.limits,
        clips=clips,
        calibration=calibration,
        int8_io=options.int8_io,
    )


def same_file(one: str | DataSource | None, other: str | DataSource | None) -> bool:
    """Whether both paths are given, and of one file."""
    return None not in (one, other) and Path(str(one)).resolve() == Path(str(other)).resolve()
