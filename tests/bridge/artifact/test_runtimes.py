"""One call for every runtime: by name, nothing cast, and files that cannot be run are refused.

The smallest possible .onnx, made here, shows what ONNX Runtime is given; the slow tests take real
artifacts.
"""

import dataclasses

import numpy as np
import pytest
import torch

from bridge.artifact.runtimes import (
    FloatView,
    KerasRuntime,
    OnnxRuntime,
    TFLiteRuntime,
    TorchRuntime,
    faults_of,
    open_runtime,
)
from bridge.verification.samples import make_samples
from signbart.errors import (
    ArtifactError,
    MemoryShortageError,
    RuntimeInputError,
    SignBartError,
)
from signbart.models import io_spec
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS, with_integers


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
    with pytest.raises(ArtifactError, match=r"odd\.tflite is a damaged"):
        TFLiteRuntime(path)


# Keras


def test_keras_says_what_torch_says_and_takes_the_same(twin_file, reference, config):
    runtime = open_runtime(twin_file)
    assert isinstance(runtime, KerasRuntime) and runtime.name == "small.keras"
    assert runtime.spec == reference.spec == io_spec(config, batch=None, frames=None)
    for arrays in (inputs(), inputs(frames=3, batch=4)):
        arrays[KEYPOINTS][arrays[ATTENTION_MASK] == 0] = np.nan
        found, kept = runtime(arrays), {name: array.copy() for name, array in arrays.items()}
        assert found.keys() == {LOGITS} and type(found[LOGITS]) is np.ndarray
        np.testing.assert_allclose(found[LOGITS], reference(arrays)[LOGITS], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(runtime(arrays)[LOGITS], found[LOGITS])  # no dropout
        for name, array in kept.items():
            np.testing.assert_array_equal(arrays[name], array)
    with pytest.raises(RuntimeInputError, match=r"small\.keras takes keypoints float32 \(any, any"):
        runtime({**arrays, KEYPOINTS: arrays[KEYPOINTS].astype(np.float16)})


# Integers at the edges


def test_a_view_takes_and_gives_real_numbers(config):
    integers = with_integers(io_spec(config), "int8")
    keypoints, mask = integers.inputs
    spec = dataclasses.replace(
        integers,
        inputs=(dataclasses.replace(keypoints, scale=0.5, zero_point=-8), mask),
        outputs=(dataclasses.replace(integers.outputs[0], scale=0.25, zero_point=3),),
    )
    given = {}

    class Integers:
        name = "q.tflite"

        def __init__(self):
            self.spec = spec

        def __call__(self, arrays):
            given.update(arrays)
            return {LOGITS: np.arange(5, dtype=np.int8)[None]}

    view = FloatView(Integers())
    assert view.name == "q.tflite" and view.spec == dataclasses.replace(
        io_spec(config), longest=spec.longest
    )
    arrays = inputs()
    arrays[KEYPOINTS][:] = 2.0
    arrays[KEYPOINTS][arrays[ATTENTION_MASK] == 0] = np.nan
    found = view(arrays)[LOGITS]
    assert found.dtype == np.float32 and found.tolist() == [[-0.75, -0.5, -0.25, 0, 0.25]]
    assert given[KEYPOINTS].dtype == np.int8
    assert set(given[KEYPOINTS][arrays[ATTENTION_MASK] == 1].ravel().tolist()) == {-4}
    assert set(given[KEYPOINTS][arrays[ATTENTION_MASK] == 0].ravel().tolist()) == {-8}
    assert given[ATTENTION_MASK] is arrays[ATTENTION_MASK]
    with pytest.raises(RuntimeInputError, match=r"q\.tflite takes keypoints float32"):
        view(given)


def test_a_view_of_a_float_runtime_changes_nothing(reference):
    arrays = inputs()
    view = FloatView(reference)
    assert view.spec == reference.spec
    np.testing.assert_array_equal(view(arrays)[LOGITS], reference(arrays)[LOGITS])


# ONNX


@pytest.fixture
def onnx_file(tmp_path):
    """logits = the sum of a clip's keypoints, and the mask is an input that nothing reads."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["keypoints", "axes"], ["logits"], keepdims=0)],
        "sum",
        [
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["b", "t", 41, 2]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT32, ["b", "t"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 2])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )
    path = tmp_path / "sum.onnx"
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_onnx_answers_by_name_with_open_sizes(onnx_file):
    runtime = open_runtime(onnx_file)
    assert isinstance(runtime, OnnxRuntime) and runtime.name == "sum.onnx"
    assert [tensor.describe() for tensor in (*runtime.spec.inputs, *runtime.spec.outputs)] == [
        "keypoints float32 (any, any, 41, 2)",
        "attention_mask int32 (any, any)",
        "logits float32 (any, 2)",
    ]
    for arrays in (inputs(), inputs(frames=3, batch=4)):
        wanted = arrays[KEYPOINTS].sum(axis=(1, 2))
        for order in (arrays, dict(reversed(arrays.items()))):
            np.testing.assert_allclose(runtime(order)[LOGITS], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"args_0": np.zeros(1, np.float32)}, r"sum\.onnx takes .*given args_0, attention_mask"),
        ({KEYPOINTS: np.zeros((1, 12, 42, 2), np.float32)}, r"\(any, any, 41, 2\); .*12, 42, 2\)"),
        ({KEYPOINTS: np.zeros((1, 12, 41, 2))}, r"takes keypoints float32 .*keypoints float64"),
        ({ATTENTION_MASK: np.ones((1, 12), np.int64)}, r"takes attention_mask int32 .* int64"),
        ({ATTENTION_MASK: np.zeros((1, 12), np.int32)}, "row 0 of attention_mask has no frame"),
    ],
)
def test_onnx_refuses_what_does_not_fit(onnx_file, change, text):
    with pytest.raises(RuntimeInputError, match=text):
        open_runtime(onnx_file)({**inputs(), **change})


def test_what_says_nothing_of_a_file_does_not_say_that_it_cannot_be_run():
    error = RuntimeInputError("other inputs")
    with pytest.raises(RuntimeInputError) as caught, faults_of("a.onnx", "ONNX Runtime"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [MemoryError(), Exception("[ONNXRuntimeError] : 6 : Failed to allocate memory for 8")]
)
def test_a_shortage_of_memory_does_not_say_that_a_file_cannot_be_run(error):
    with (
        pytest.raises(MemoryShortageError, match=r"a\.onnx: memory ran out"),
        faults_of("a.onnx", "ONNX Runtime"),
    ):
        raise error


@pytest.mark.parametrize("content", [b"", b"no model at all", bytes(64)])
def test_an_onnx_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"odd\.onnx cannot be run by ONNX Runtime"):
        open_runtime(path)


# By ending


@pytest.mark.parametrize("ending", [".tflite", ".onnx", ".keras"])
def test_a_missing_artifact_is_named_whatever_its_kind(tmp_path, ending):
    with pytest.raises(SignBartError, match=rf"no \S+ at .*absent\{ending}"):
        open_runtime(tmp_path / f"absent{ending}")


@pytest.mark.parametrize("name", ["model.pb", "model", "model.tflite.zip", "model.weights.h5"])
def test_an_ending_that_no_runtime_takes_is_refused(tmp_path, name):
    with pytest.raises(ArtifactError, match=r"no runtime for .* known: \.tflite, \.onnx, \.keras"):
        open_runtime(tmp_path / name)


@pytest.mark.slow
def test_every_artifact_says_what_torch_says(artifact, config, reference, recordings):
    runtime = open_runtime(artifact)
    fixed = artifact.suffix == ".tflite"
    assert runtime.name == artifact.name
    sizes = {} if fixed else {"batch": None, "frames": None}
    assert set(runtime.spec.inputs) == set(io_spec(config, **sizes).inputs)
    assert runtime.spec.outputs == io_spec(config, **sizes).outputs
    for arrays in (inputs(), inputs(frames=3, batch=4), inputs(frames=16), inputs(frames=1)):
        arrays[ATTENTION_MASK][:, 0] = 1
        if fixed and arrays[ATTENTION_MASK].shape != (1, 12):
            with pytest.raises(RuntimeInputError, match=r"takes .*\(1, 12"):
                runtime(arrays)
            continue
        np.testing.assert_allclose(
            runtime(arrays)[LOGITS], reference(arrays)[LOGITS], rtol=1e-5, atol=1e-5
        )


# LiteRT


@pytest.mark.slow
def test_a_truncated_artifact_is_refused(tmp_path, converted):
    path = tmp_path / "cut.tflite"
    path.write_bytes(converted.plain()[:100_000])
    with pytest.raises(ArtifactError, match=r"cut\.tflite is a damaged \.tflite file"):
        TFLiteRuntime(path)


@pytest.mark.slow
def test_an_artifact_without_a_signature_is_refused(tmp_path, converted):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(converted.parts()[0], 0)
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
def test_padded_frames_change_no_bit_of_the_artifact_either(artifact):
    runtime, arrays = open_runtime(artifact), inputs()
    wanted = runtime(arrays)[LOGITS]
    for garbage in (np.nan, np.inf, 1e30):
        arrays[KEYPOINTS][arrays[ATTENTION_MASK] == 0] = garbage
        np.testing.assert_array_equal(runtime(arrays)[LOGITS], wanted)


@pytest.mark.slow
def test_a_bare_inference_is_that_of_the_inputs_given(converted):
    runtime = TFLiteRuntime(converted.artifact)
    arrays = inputs()
    run = runtime.invocation(arrays)
    run()
    interpreter = run.__self__
    (output,) = interpreter.get_output_details()
    np.testing.assert_array_equal(
        interpreter.get_tensor(output["index"]), runtime(arrays)["logits"]
    )
    with pytest.raises(RuntimeInputError, match="it was given keypoints"):
        runtime.invocation({KEYPOINTS: arrays[KEYPOINTS]})
