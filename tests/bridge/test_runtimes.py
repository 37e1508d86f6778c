"""One call for every runtime: by name, nothing cast, and files that cannot be run are refused."""

import numpy as np
import pytest
import torch

from bridge.errors import ArtifactError, RuntimeInputError
from bridge.runtimes import TFLiteRuntime, TorchRuntime
from bridge.samples import make_samples
from bridge.spec import ATTENTION_MASK, KEYPOINTS, LOGITS, io_spec


def inputs(frames=12, batch=1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(frames)
    mask = np.ones((batch, frames), np.int32)
    mask[:, frames // 2 :] = 0
    return {
        KEYPOINTS: rng.random((batch, frames, 41, 2), np.float32),
        ATTENTION_MASK: mask,
    }


@pytest.mark.parametrize("shape", [{"frames": 12}, {"frames": 3, "batch": 4}])
def test_torch_says_what_the_model_says(reference, model, config, shape):
    arrays = inputs(**shape)
    found = reference(arrays)
    with torch.no_grad():
        wanted = model.eval()(*(torch.from_numpy(array) for array in arrays.values()))
    assert found.keys() == {LOGITS} and found[LOGITS].dtype == np.float32
    np.testing.assert_array_equal(found[LOGITS], wanted)


def test_torch_leaves_training_mode(model, config):
    runtime = TorchRuntime(model.train(), config)
    arrays = inputs()
    assert not model.training
    np.testing.assert_array_equal(runtime(arrays)[LOGITS], runtime(arrays)[LOGITS])


def test_torch_refuses_what_does_not_fit(reference):
    arrays = inputs()
    with pytest.raises(RuntimeInputError, match=r"torch takes keypoints float32 \(any, any, 41, 2"):
        reference({**arrays, KEYPOINTS: arrays[KEYPOINTS].astype(np.float64)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"no \.tflite at .*absent\.tflite"):
        TFLiteRuntime(tmp_path / "absent.tflite")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"no model at all", bytes(8) + b"TFL3"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "odd.tflite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"odd\.tflite cannot be loaded"):
        TFLiteRuntime(path)


@pytest.mark.slow
def test_a_truncated_artifact_is_refused(tmp_path, converted):
    path = tmp_path / "cut.tflite"
    path.write_bytes(converted.plain()[:100_000])
    with pytest.raises(ArtifactError, match=r"cut\.tflite cannot be loaded"):
        TFLiteRuntime(path)


@pytest.mark.slow
def test_an_artifact_without_a_signature_is_refused(tmp_path, converted):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(converted.plain(), 0)
    path = tmp_path / "anonymous.tflite"
    for signatures, found in ((None, "none"), ([b"other"], "other")):
        if signatures:
            model.signatureDefs[0].signatureKey = signatures[0]
        kept, model.signatureDefs = model.signatureDefs, model.signatureDefs if signatures else []
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        model.signatureDefs = kept
        with pytest.raises(
            ArtifactError, match=rf"anonymous.*no signature 'serving_default' \(found: {found}\)"
        ):
            TFLiteRuntime(path)


@pytest.mark.slow
def test_tflite_has_the_contract_and_answers_by_name(converted, config, reference, recordings):
    runtime = TFLiteRuntime(converted.artifact)
    spec = io_spec(config)
    assert set(runtime.spec.inputs) == set(spec.inputs)
    assert runtime.spec.outputs == spec.outputs
    assert runtime.name == "small_litert_fp32.tflite"
    answers = []
    for sample in make_samples(config, clips=recordings, seed=9):
        found, wanted = runtime(sample.inputs)[LOGITS], reference(sample.inputs)[LOGITS]
        assert (np.abs(found - wanted) <= 1e-5 + 1e-5 * np.abs(wanted)).all(), sample.description
        backwards = dict(reversed(sample.inputs.items()))
        np.testing.assert_array_equal(runtime(backwards)[LOGITS], found)
        answers.append((found, found.copy()))
    # The interpreter reuses its buffers: what was returned must not change with later calls.
    assert all(np.array_equal(kept, copy) for kept, copy in answers)
    with pytest.raises(RuntimeInputError, match=r"small_litert_fp32\.tflite takes .*\(1, 11"):
        runtime(inputs(frames=11))


@pytest.mark.slow
def test_padded_frames_change_no_bit_of_the_artifact_either(converted):
    runtime, arrays = TFLiteRuntime(converted.artifact), inputs()
    wanted = runtime(arrays)[LOGITS]
    for garbage in (np.nan, np.inf, 1e30):
        arrays[KEYPOINTS][arrays[ATTENTION_MASK] == 0] = garbage
        np.testing.assert_array_equal(runtime(arrays)[LOGITS], wanted)
