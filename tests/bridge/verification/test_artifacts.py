"""Artifacts that were made before are judged as their conversion judged them."""

import argparse
import dataclasses

import numpy as np
import pytest

from bridge.conversion.evidence import QuantizationOptions
from bridge.conversion.pipeline import convert
from bridge.errors import BridgeError
from bridge.options import add_published_arguments
from bridge.routes import RAW_ONNX, is_raw_onnx
from bridge.verification.artifacts import compare_artifacts
from bridge.verification.verdict import PASS, WRONG
from bridge.weights.source import published_options, read_source
from signbart.artifacts.metadata import read_metadata
from signbart.models.io_spec import RAW_SIGNATURE
from signbart.recordings.packed import write_packed
from signbart_torch.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def calibrated(checkpoint, performances, performances_file, tmp_path_factory):
    """A model whose name ends as the .onnx of raw landmarks does, in int8, and its recordings."""
    folder = tmp_path_factory.mktemp("calibrated")
    known = load_checkpoint(checkpoint)
    config = dataclasses.replace(known.config, name="hand_landmarks")
    named = folder / "hand.safetensors"
    save_checkpoint(dataclasses.replace(known, config=config), named)
    few = folder / "few.npz"
    write_packed(performances.select(range(48)), few)
    made = convert(
        named,
        folder / "made",
        routes=["onnx"],
        quantization=QuantizationOptions(
            schemes=["fp32,int8"], calibration_data=str(performances_file)
        ),
        data=str(few),
    )
    return named, few, {artifact.path.name: artifact for artifact in made}


@pytest.mark.slow
def test_a_model_may_be_called_as_the_file_of_raw_landmarks_is(calibrated):
    made = calibrated[2]
    assert {artifact.parity.verdict for artifact in made.values()} == {PASS}
    raw, plain = f"hand_landmarks{RAW_ONNX}", "hand_landmarks.onnx"
    assert read_metadata(made[raw].path)["signature"] == RAW_SIGNATURE
    assert read_metadata(made[plain].path)["signature"] != RAW_SIGNATURE
    assert is_raw_onnx(raw, list(made)) and not is_raw_onnx(plain, list(made))


@pytest.mark.slow
def test_clips_that_others_calibrated_are_all_judged_by(calibrated, performances_file):
    checkpoint, few, made = calibrated
    artifact = made["hand_landmarks_onnx_int8.tflite"]
    source = read_source(checkpoint)
    for data, judged in ((few, "48 clips"), (performances_file, "140 clips")):
        found = compare_artifacts(source, [artifact.path], data=str(data))
        assert [verdict.verdict for verdict in found.verdicts] == [PASS, PASS], found.verdicts
        # What calibrated it is left out where it is there, and nothing else.
        assert found.settings["quantized judged on"].startswith(judged)


@pytest.mark.slow
def test_inputs_of_ones_own_are_compared_on_alone(calibrated, tmp_path):
    checkpoint, few, made = calibrated
    artifact = made["hand_landmarks_onnx_int8.tflite"]
    source = read_source(checkpoint)
    shape = (1, source.config.data.max_frames, source.config.num_keypoints, 2)
    inputs = tmp_path / "inputs.npz"
    np.savez(
        inputs,
        keypoints=np.full(shape, 30.0, np.float32),  # far beyond any range that was calibrated
        attention_mask=np.ones(shape[:2], np.int32),
    )
    for data in (None, str(few)):
        found = compare_artifacts(source, [artifact.path], inputs=inputs, data=data)
        (verdict,) = found.verdicts
        assert verdict.verdict == WRONG and len(found.tried[0]) == 1


@pytest.mark.slow
def test_random_calibration_passes_nowhere(checkpoint, tmp_path):
    (made,) = convert(
        checkpoint,
        tmp_path,
        quantization=QuantizationOptions(schemes=["int8"], allow_random_calibration=True),
        raw_frames=0,
    )
    assert made.parity.verdict == WRONG
    found = compare_artifacts(read_source(checkpoint), [made.path])
    assert found.verdicts[0].verdict == WRONG
    assert "calibrated on random numbers" in found.verdicts[0].reason


@pytest.mark.parametrize("frames", [-5, 16_385])
def test_a_signature_that_nothing_can_open_is_not_made(checkpoint, tmp_path, frames):
    with pytest.raises(BridgeError, match=rf"--raw-frames {frames}: .* 1 to 16,384 frames; 0 "):
        convert(checkpoint, tmp_path / "made", raw_frames=frames)
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())


def test_an_override_without_its_configuration_is_refused(checkpoint):
    with pytest.raises(BridgeError, match="--set overrides a key of --config, which is missing"):
        read_source(checkpoint, overrides=["data.max_frames=7"])


def test_printed_commands_say_all_that_a_published_file_does_not():
    parser = argparse.ArgumentParser()
    add_published_arguments(parser)
    given = ["--config", "a.yaml", "--set", "data.max_frames=7", "--labels", "label2id.json"]
    options = parser.parse_args(given)
    assert published_options(options.config, options.overrides, options.labels) == given
