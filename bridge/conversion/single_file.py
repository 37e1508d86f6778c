"""A float .tflite of an earlier conversion, quantized by itself: that file is the reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bridge.artifact.runtimes import open_runtime
from bridge.conversion.artifact_record import Artifact
from bridge.conversion.evidence import Evidence, QuantizationOptions, same_file
from bridge.conversion.folder import Change, recover, staging_folder
from bridge.conversion.quantized import calibrate, quantize_file
from bridge.conversion.relisting import list_again
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.schemes import FLOAT, Scheme
from bridge.verification.clips import clips_of_samples, judged_clips
from bridge.verification.limits import load_limits
from bridge.verification.raw import make_raw_samples
from bridge.verification.samples import make_samples
from bridge.verification.verdict import FAILED, Verdict
from bridge.verification.weights import judge_weights
from signbart.artifacts.completeness import MANIFEST
from signbart.artifacts.lengths import carried_lengths, config_at, signature_at
from signbart.artifacts.metadata import (
    carried_config,
    carried_kind,
    carried_raw,
    embed_metadata,
    read_metadata,
    tensors_of,
)
from signbart.checksums import require_checksum
from signbart.console import redirect_output
from signbart.models.io_spec import SIGNATURE
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.training.splits import divide


def quantize_artifact(
    source: Path,
    scheme: Scheme,
    target: Path,
    options: QuantizationOptions,
    *,
    data: str | DataSource | None = None,
    seed: int = 0,
    checksum: bool = True,
) -> Artifact:
    """Quantizes a float .tflite of `convert` and judges the result by it.

    Args:
        source: The float .tflite, with its metadata.
        scheme: Any but fp32.
        target: The file to write. What does not agree goes into ``rejected/`` beside it.
        options: `schemes` and `test_signers` do not count here.
        data: Labelled recordings to judge by; by default those of the calibration data that
            calibration does not take, and without any the comparison's synthetic inputs.
        seed: Of the choice of clips.
        checksum: Refuse a `source` that is not what its checksum was made of.

    Raises:
        SignBartError: `source` is no such file, or the recordings do not fit it.
    """
    for path in (source, target):
        if path.suffix != ".tflite":
            raise BridgeError(f"{path} is no .tflite file; only those are quantized")
        recover(path)
    if target.resolve() == source.resolve():
        raise BridgeError(f"{source} would be overwritten; choose another --output")
    if options.int8_io and not scheme.calibrated:
        raise BridgeError(f"integer inputs and outputs need int8 or int16x8, not {scheme.name}")
    require_checksum(source, checksum)
    metadata = read_metadata(source)
    if metadata["scheme"] != FLOAT:
        raise BridgeError(
            f"{source} is quantized already ({metadata['scheme']}); give its {FLOAT} form"
        )
    evidence = _evidence_of(source, metadata, scheme, options, data, seed)
    inputs = evidence.judged_on(scheme.name)
    with staging_folder(target.parent, shared=True) as folder:
        path, log = folder / target.name, folder / "log"
        try:
            with redirect_output(log):
                record = quantize_file(
                    source,
                    scheme,
                    path,
                    evidence.calibrations,
                    operators=carried_kind(metadata).quantized_operators,
                    int8_io=evidence.has_integer_edges(scheme.name),
                )
        except ConversionError as error:
            failed = Verdict(target.name, FAILED, str(error), scheme.name)
            return Artifact(metadata["route"], scheme.name, None, failed, inputs=inputs)
        about = {"scheme": scheme.name, "quantization": record}
        embed_metadata(path, metadata | about | tensors_of(open_runtime(path).spec))
        verdict, _ = evidence.judge(path, scheme.name)
        verdict = judge_weights(verdict, path, parent=source)
        made = Artifact(metadata["route"], scheme.name, path, verdict, inputs=inputs)
        made = made.with_others(evidence)
        change = Change(target.parent, folder)
        made = dataclasses.replace(made, path=change.place(path, made.parity))
        change.commit(MANIFEST if list_again(change, made) else None)
        return change.settled(made)


def _evidence_of(
    source: Path,
    metadata: dict,
    scheme: Scheme,
    options: QuantizationOptions,
    data: str | DataSource | None,
    seed: int,
) -> Evidence:
    """What a quantized file is judged by where its float form is the reference."""
    whole = carried_config(metadata, source)
    signature = carried_raw(metadata, whole)
    recordings = read_recordings(data or options.calibration_data)
    named = str(data or options.calibration_data)
    shared = data is None or same_file(data, options.calibration_data)

    def gather(frames: int | None) -> Evidence:
        config = config_at(whole, frames)
        reference = open_runtime(source, signature_at(SIGNATURE, frames))
        raw = signature if frames is None or signature is None else signature.at(config)
        if recordings is None:
            clips = clips_of_samples(make_samples(config, seed=seed), reference)
        else:
            judged, how = recordings.relabel(metadata["labels"], named), "to judge by"
            if shared:
                count = options.calibration_clips if scheme.calibrated else 0
                _, judged, how = divide(judged, config, None, count=count, seed=seed)
            text = f"{len(judged)} clips {how} ({named})"
            clips = judged_clips(judged, config, reference, labelled=True, source=text)
        calibration = None
        if scheme.calibrated:
            shown = recordings if shared else None  # read already
            calibration = calibrate(options, config, shown, options.calibration_data, seed)
        return Evidence(
            reference=reference,
            samples=(),
            open_samples=(),
            inputs=clips.source,
            limits={scheme.name: load_limits(scheme.name)},
            clips=clips,
            calibration=calibration,
            int8_io=options.int8_io,
            raw=raw,
            raw_samples=make_raw_samples(raw, clips=recordings, seed=seed) if raw else (),
            frames=frames,
        )

    lengths = carried_lengths(metadata, source)
    return dataclasses.replace(gather(None), shorter={n: gather(n) for n in lengths})
