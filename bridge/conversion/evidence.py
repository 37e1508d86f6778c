"""What all quantized artifacts of one conversion share: calibration, clips to judge by, limits."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.artifact.contents import multiply_accumulates
from bridge.artifact.metadata import carried_config, embed_metadata, read_metadata, tensors_of
from bridge.artifact.runtimes import open_runtime
from bridge.conversion.converter_log import chatter_to
from bridge.conversion.folder import settle
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.calibration import (
    Calibration,
    calibrate_on,
    calibrate_on_noise,
    with_labels_of,
)
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import FLOAT, SCHEMES, Scheme
from bridge.verification.clips import (
    JudgedClips,
    _from_samples,
    clips_to_judge,
    compare_on_clips,
    judged_clips,
)
from bridge.verification.compare import FAILED, WRONG, Parity
from bridge.verification.limits import DataTolerance, load_data_tolerance
from bridge.verification.samples import Sample, make_samples, read_recordings
from signbart.files import make_folder
from signbart.models.io_spec import IOSpec, with_integers
from signbart.training.calibration import MIN_CLIPS
from signbart.training.splits import divide

if TYPE_CHECKING:
    from bridge.artifact.runtimes import Runtime
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet

_INTEGERS = {"int8": "int8", "int16x8": "int16"}  # scheme -> dtype of integer inputs and outputs


@dataclass(frozen=True)
class QuantizationOptions:
    """What to quantize to, and what to show the quantizer.

    Attributes:
        schemes: Names of `quantize.SCHEMES`, ``all`` for every one.
        calibration_data: Recordings to calibrate on; by default those of the comparison that were
            trained on.
        calibration_clips: How many of them.
        allow_random_calibration: Calibrate on random numbers where there are no recordings.
        test_signers: Signers that were not trained on; None: as the checkpoint says.
        int8_io: Integer inputs and outputs, for ``int8`` and ``int16x8``.
    """

    schemes: Sequence[str] = (FLOAT,)
    calibration_data: str | None = None
    calibration_clips: int = MIN_CLIPS
    allow_random_calibration: bool = False
    test_signers: Sequence[str] | None = None
    int8_io: bool = False


@dataclass(frozen=True)
class QuantizationJob:
    """See the module; made by `prepare`."""

    calibration: Calibration | None
    clips: JudgedClips
    limits: Mapping[str, DataTolerance]
    int8_io: bool

    @property
    def inputs(self) -> str:
        """What artifacts are judged on, for reports."""
        return self.clips.source

    @property
    def record(self) -> Mapping[str, Any] | None:
        """What the quantizer was shown; None where nothing was."""
        return self.calibration.record if self.calibration else None

    def has_integer_edges(self, scheme: str) -> bool:
        """Whether that scheme's inputs and outputs are integers."""
        return self.int8_io and SCHEMES[scheme].calibrated

    def promised(self, spec: IOSpec, scheme: Scheme) -> IOSpec:
        """What a quantized artifact has to take and give where its float form has `spec`."""
        if self.has_integer_edges(scheme.name):
            return with_integers(spec, _INTEGERS[scheme.name])
        return spec

    def make(self, source: Path, scheme: Scheme, target: Path) -> dict[str, Any]:
        """Quantizes a float .tflite; see `quantize.quantize`.

        Returns:
            What the artifact says of it: scheme, number formats of its products, calibration.
        """
        quantize(
            source,
            scheme,
            target,
            self.calibration if scheme.calibrated else None,
            int8_io=self.has_integer_edges(scheme.name),
        )
        return quantization_record(target, scheme, self.calibration)

    def judge(self, path: Path, scheme: Scheme) -> Parity:
        """Compares a quantized artifact with PyTorch, on clips."""
        parity = compare_on_clips(path, scheme.name, self.clips, self.limits[scheme.name])
        guessed = scheme.calibrated and self.record is not None and self.record["random"]
        if parity.passed and guessed and self.clips.labels is None:
            # Random inputs fit random ranges: such a comparison says nothing about real clips.
            reason = "calibrated on random numbers, and there are no recordings to judge it by"
            return dataclasses.replace(parity, verdict=WRONG, reason=reason)
        return parity

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "calibration": self.record,
            "judged on": self.clips.source,
            "limits": {name: vars(limits) for name, limits in self.limits.items()},
        }


def quantization_record(
    path: Path, scheme: Scheme, calibration: Calibration | None
) -> dict[str, Any]:
    """What a quantized .tflite's metadata say of how it was made."""
    products = multiply_accumulates(path)
    return {
        "scheme": scheme.name,
        "description": scheme.description,
        "multiply_accumulates": dict(products),
        "shares": {name: round(count / products.total(), 4) for name, count in products.items()},
        "calibration": dict(calibration.record) if scheme.calibrated and calibration else None,
    }


def prepare(
    options: QuantizationOptions,
    schemes: Sequence[Scheme],
    *,
    checkpoint: str | Path,
    config: RunConfig,
    class_names: Sequence[str],
    reference: Runtime,
    samples: Sequence[Sample],
    data: str | None,
    recordings: ClipSet | None,
    seed: int,
) -> QuantizationJob:
    """Divides the recordings, calibrates on one part and asks PyTorch about the other.

    Args:
        options: What the user wants.
        schemes: The chosen ones but fp32.
        checkpoint: Where the model comes from; it knows what it was trained on.
        config: The run's configuration.
        class_names: The model's classes.
        reference: PyTorch.
        samples: The comparison's inputs: judged by where there are no recordings.
        data: Path of the recordings that are compared on.
        recordings: Those.
        seed: Of the choice of calibration clips.

    Raises:
        SignBartError: The recordings do not fit the model, there are too few, or there are none and
            a scheme needs them.
    """
    calibrated = any(scheme.calibrated for scheme in schemes)
    if options.int8_io and not calibrated:
        raise BridgeError("--int8-io needs int8 or int16x8 among the schemes")
    takes_from_data = options.calibration_data is None or _same_file(options.calibration_data, data)
    trained_on, clips = clips_to_judge(
        checkpoint,
        config,
        class_names,
        reference,
        samples,
        data,
        recordings,
        options.test_signers,
        count=options.calibration_clips if calibrated and takes_from_data else 0,
        seed=seed,
    )
    calibration = None
    if calibrated:
        calibration = _calibrate(
            options, config, trained_on if takes_from_data else None, data, seed
        )
    return QuantizationJob(
        calibration=calibration,
        clips=clips,
        limits={scheme.name: load_data_tolerance(scheme.name) for scheme in schemes},
        int8_io=options.int8_io,
    )


def quantize_artifact(
    source: Path,
    scheme: Scheme,
    target: Path,
    options: QuantizationOptions,
    *,
    data: str | None = None,
    seed: int = 0,
) -> tuple[Parity, Path | None, str]:
    """Quantizes a float .tflite of `conversion.convert` and judges the result by it.

    Args:
        source: The float .tflite, with its metadata.
        scheme: Any but fp32.
        target: The file to write. What does not agree goes into ``rejected/`` beside it.
        options: `schemes` and `test_signers` do not count here.
        data: Labelled recordings to judge by; by default those of the calibration data that
            calibration does not take, and without any the comparison's synthetic inputs.
        seed: Of the choice of clips.

    Returns:
        The comparison; where the file is, None where none could be made; what it was judged on.

    Raises:
        SignBartError: `source` is no such file, or the recordings do not fit it.
    """
    for path in (source, target):
        if path.suffix != ".tflite":
            raise BridgeError(f"{path} is no .tflite file; only those are quantized")
    if target.resolve() == source.resolve():
        raise BridgeError(f"{source} would be overwritten; choose another --output")
    if options.int8_io and not scheme.calibrated:
        raise BridgeError(f"integer inputs and outputs need int8 or int16x8, not {scheme.name}")
    metadata = read_metadata(source)
    if metadata["scheme"] != FLOAT:
        raise BridgeError(
            f"{source} is quantized already ({metadata['scheme']}); give its {FLOAT} form"
        )
    config = carried_config(metadata, source)
    reference = open_runtime(source)
    recordings = read_recordings(data or options.calibration_data)
    named = str(data or options.calibration_data)
    calibration = None
    if recordings is None:
        clips = _from_samples(make_samples(config, seed=seed), reference)
    else:
        recordings = with_labels_of(recordings, metadata["labels"], named)
        judged, how = recordings, "to judge by"
        if data is None or _same_file(data, options.calibration_data):
            count = options.calibration_clips if scheme.calibrated else 0
            _, judged, how = divide(recordings, config, None, count=count, seed=seed)
        clips = judged_clips(
            judged, config, reference, labelled=True, source=f"{len(judged)} clips {how} ({named})"
        )
    if scheme.calibrated:
        calibration = _calibrate(options, config, None, None, seed)
    job = QuantizationJob(
        calibration, clips, {scheme.name: load_data_tolerance(scheme.name)}, options.int8_io
    )
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".quantizing-") as folder:
        path, log = Path(folder) / target.name, Path(folder) / "log"
        try:
            with chatter_to(log):
                record = job.make(source, scheme, path)
        except ConversionError as error:
            failed = Parity(target.name, FAILED, str(error), scheme=scheme.name)
            return failed, None, job.inputs
        embed_metadata(
            path,
            metadata
            | {"scheme": scheme.name, "quantization": record}
            | tensors_of(open_runtime(path).spec),
        )
        parity = job.judge(path, scheme)
        return parity, settle(path, target.parent, parity), job.inputs


def _calibrate(
    options: QuantizationOptions,
    config: RunConfig,
    trained_on: ClipSet | None,
    data: str | None,
    seed: int,
) -> Calibration:
    count = options.calibration_clips
    if trained_on is None and options.calibration_data is not None:
        trained_on, data = read_recordings(options.calibration_data), options.calibration_data
    if trained_on is not None:
        return calibrate_on(trained_on, config, count=count, seed=seed, source=str(data))
    if options.allow_random_calibration:
        return calibrate_on_noise(config, count=count, seed=seed)
    raise BridgeError(
        "int8 and int16x8 are calibrated on recordings: give --calibration-data (or, to "
        "bridge/convert.py, --data, of which it takes those that were trained on). "
        "(--allow-random-calibration takes random numbers, for trying things out: such ranges fit "
        "no real clip)"
    )


def _same_file(one: str | None, other: str | None) -> bool:
    return None not in (one, other) and Path(one).resolve() == Path(other).resolve()
