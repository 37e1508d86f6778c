"""The second signature of a .tflite: raw landmarks in, the same model in the middle."""

import dataclasses
import re
import shutil
from functools import partial

import numpy as np
import pytest

from bridge.artifact.raw_signature import add_raw_signature, split_raw_signature
from bridge.artifact.runtimes import FloatView, TFLiteRuntime, open_runtime
from bridge.conversion.evidence import Evidence
from bridge.conversion.folder import Change
from bridge.conversion.pipeline import file_name
from bridge.conversion.route_run import RouteRun
from bridge.errors import BridgeError, ConversionError
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from bridge.verification.artifacts import compare_artifacts
from bridge.verification.limits import load_limits
from bridge.verification.raw import RawReference, compare_raw, make_raw_samples
from bridge.verification.report import save_repro
from bridge.verification.samples import make_samples, read_sample
from bridge.verification.verdict import FAILED, PASS, WRONG
from bridge.weights.source import Source, read_source
from signbart.artifacts.compaction import read_model
from signbart.artifacts.contents import multiply_accumulates, operators
from signbart.artifacts.graphs import graph_of
from signbart.artifacts.metadata import carried_raw, read_metadata
from signbart.errors import ArtifactError
from signbart.models.io_spec import (
    FRAMES_USED,
    LOGITS,
    NUM_FRAMES,
    PROBABILITIES,
    RAW_SIGNATURE,
    SIGNATURE,
)
from signbart.models.raw_spec import RawSignature
from signbart.preprocessing import model_inputs
from signbart.recordings.clip import Clip, ClipSet
from signbart_runtime.evaluation.opened import OpenedModel, open_model
from signbart_runtime.evaluation.predict import evaluate

pytestmark = pytest.mark.slow
FRAMES = 256
every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture(scope="module")
def raw(config) -> RawSignature:
    return RawSignature(config, FRAMES)


@pytest.fixture(scope="module")
def samples(raw, recordings):
    return make_raw_samples(raw, clips=recordings, seed=3)


@pytest.fixture
def raw_reference(reference, raw) -> RawReference:
    return RawReference(reference, raw)


def graphs(path):
    """The first signature's graph, the second's, and the names of operator codes."""
    model = read_model(path)
    first, second = (
        model.subgraphs[graph_of(model, signature)] for signature in (SIGNATURE, RAW_SIGNATURE)
    )
    return model, first, second


def answers(runtime, inputs) -> list[bytes]:
    return [runtime(given)[LOGITS].tobytes() for given in inputs]


# In the file


@every_route
def test_the_first_signature_stays_as_it_was_to_the_bit(route, converted, tmp_path, samples):
    path = converted.path(route, ".tflite")
    core, around = tmp_path / "core.tflite", tmp_path / "around.tflite"
    assert split_raw_signature(path, core, around)
    assert not split_raw_signature(core, around, around), "it has the first signature alone"
    clips = [clip_inputs(path, sample.inputs) for sample in samples]
    assert answers(open_runtime(path), clips) == answers(open_runtime(core), clips)
    assert operators(path) == operators(core)
    assert multiply_accumulates(path) == multiply_accumulates(core) != {}


def clip_inputs(path, inputs):
    """Something of the first signature's shapes that differs with `inputs`."""
    spec = open_runtime(path).spec
    points = np.resize(inputs["landmarks"], spec.inputs[1].shape).astype(np.float32)
    mask = np.zeros(spec.inputs[0].shape, np.int32)
    mask[0, : max(1, int(inputs[NUM_FRAMES][0]) % 13)] = 1
    return dict(zip([tensor.name for tensor in spec.inputs], (mask, points), strict=True))


@every_route
def test_weights_are_there_once(route, converted, tmp_path):
    path = converted.path(route, ".tflite")
    model, first, second = graphs(path)
    for own, other in zip(first.tensors, second.tensors, strict=False):
        assert own.buffer == other.buffer and own.type == other.type
    own_buffers = {tensor.buffer for tensor in first.tensors}
    added = {tensor.buffer for tensor in second.tensors} - own_buffers
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    # Indices and a few numbers; of weights there are twenty times as many bytes.
    assert sum(sizes[at] for at in added) < 6_000 < sum(sizes[at] for at in own_buffers) / 10
    core = tmp_path / "core.tflite"
    split_raw_signature(path, core, tmp_path / "around.tflite")
    assert path.stat().st_size - core.stat().st_size < 45_000


def test_a_file_can_be_taken_apart_and_joined_again(converted, tmp_path, samples):
    core, around = tmp_path / "core.tflite", tmp_path / "around.tflite"
    split_raw_signature(converted.artifact, core, around)
    shutil.copy(core, tmp_path / "again.tflite")
    add_raw_signature(tmp_path / "again.tflite", around)
    given = [sample.inputs for sample in samples]
    whole, again = (
        open_runtime(path, RAW_SIGNATURE)
        for path in (converted.artifact, tmp_path / "again.tflite")
    )
    assert again.spec == whole.spec and answers(again, given) == answers(whole, given)
    with pytest.raises(ConversionError, match="gives no attention_mask"):
        add_raw_signature(tmp_path / "again.tflite", core)
    with pytest.raises(ArtifactError, match="no signature 'landmarks'"):
        open_runtime(core, RAW_SIGNATURE)


# Against NumPy and PyTorch


def test_the_samples_show_every_kind_of_length(raw, samples, config):
    numbers = [int(sample.inputs[NUM_FRAMES][0]) for sample in samples]
    longest = config.data.max_frames
    assert {0, 1, 2, longest - 1, longest, longest + 1, FRAMES, FRAMES + 1} <= set(numbers)
    holes = [
        np.isnan(s.inputs["landmarks"][0, : max(n, 1)]).any()
        for s, n in zip(samples, numbers, strict=True)
    ]
    assert 4 < sum(holes) < len(samples) and sum(sample.recorded for sample in samples) >= 6


@every_route
def test_it_agrees_at_every_length(route, converted, raw_reference, samples):
    verdict = compare_raw(
        raw_reference, converted.path(route, ".tflite"), samples, load_limits(FLOAT)
    )
    assert (verdict.verdict, verdict.reason, verdict.signature) == (PASS, "", RAW_SIGNATURE)
    assert verdict.max_abs < 1e-5 and verdict.samples == len(samples)


def test_the_onnx_beside_agrees_too(converted, raw_reference, samples):
    path = converted.folder / "small_landmarks.onnx"
    assert compare_raw(raw_reference, path, samples, load_limits(FLOAT)).verdict == PASS
    metadata = read_metadata(path)
    assert metadata["signature"] == RAW_SIGNATURE
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["landmarks", "num_frames"]


def changed(config, **data):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data))


def other_joints(config):
    joints = list(config.model.joint_idx)
    joints[3], joints[4] = joints[4], joints[3]
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, joint_idx=tuple(joints))
    )


@pytest.mark.parametrize(
    ("alter", "complaint"),
    [
        (lambda config: {"config": changed(config, normalization="bbox")}, LOGITS),
        (lambda config: {"config": other_joints(config)}, LOGITS),
        (lambda _: {"temperature": 1.1}, PROBABILITIES),
        (lambda _: {"frames": FRAMES - 1}, "landmarks float32"),
    ],
    ids=["normalization", "joints", "temperature", "frames"],
)  # fmt: skip
def test_a_contract_that_differs_is_found(alter, complaint, converted, reference, raw, samples):
    wrong = RawReference(reference, dataclasses.replace(raw, **alter(raw.config)))
    verdict = compare_raw(wrong, converted.artifact, samples, load_limits(FLOAT))
    assert verdict.verdict in (WRONG, FAILED) and complaint in verdict.reason


def test_frames_that_are_read_beyond_the_recording_are_found(converted, reference, raw, samples):
    class OneLess(RawReference):
        def __call__(self, inputs):
            fewer = np.maximum(inputs[NUM_FRAMES] - 1, 1)
            return super().__call__(inputs | {NUM_FRAMES: fewer})

    verdict = compare_raw(OneLess(reference, raw), converted.artifact, samples, load_limits(FLOAT))
    assert verdict.verdict == WRONG


@pytest.mark.parametrize(("given", "used"), [(0, 1), (-3, 1), (FRAMES + 1, FRAMES), (7, 7)])
def test_a_number_of_frames_that_cannot_be_is_cut_and_said(converted, samples, given, used):
    run = open_runtime(converted.artifact, RAW_SIGNATURE)
    outputs = run(samples[-1].inputs | {NUM_FRAMES: np.array([given], np.int32)})
    assert outputs[FRAMES_USED].tolist() == [used]
    assert np.isfinite(outputs[LOGITS]).all()
    assert outputs[PROBABILITIES].sum() == pytest.approx(1, abs=1e-6)


def test_an_artifact_whose_second_signature_is_wrong_is_held_back(
    converted, checkpoint, model, config, reference, raw, samples, tmp_path
):
    fresh = tmp_path / "converting" / "small_litert_fp32.tflite"
    fresh.parent.mkdir()
    fresh.write_bytes(converted.plain())
    wrong = dataclasses.replace(raw, config=changed(config, normalization="bbox"))
    made = make_samples(config)
    run = RouteRun(
        source=Source(model, config, "abcde", checkpoint),
        route=ROUTES["litert"],
        endings=(".tflite",),
        schemes=(),
        evidence=Evidence(
            reference, made, made, "", {FLOAT: load_limits(FLOAT)}, raw=wrong, raw_samples=samples
        ),
        name=partial(file_name, "small"),
        folder=fresh.parent,
    )
    judged = run._finish(fresh, SCHEMES[FLOAT], 0.0, "")
    assert [verdict.verdict for verdict in judged.verdicts] == [WRONG, WRONG]
    assert re.match("signature landmarks: .* samples are out of tolerance", judged.parity.reason)
    assert judged.parity.max_abs < 1e-5 < judged.raw_parity.max_abs
    rejected = Change(tmp_path / "out", tmp_path).place(fresh, judged.parity)
    assert rejected.parent.name == "rejected"
    # The input that it is worst on can be tried alone.
    save_repro(checkpoint, fresh, judged.parity, judged.tried, tmp_path)
    alone = read_sample(tmp_path / f"repro_{fresh.name}.npz")
    assert set(alone.inputs) == {"landmarks", "num_frames"}
    found = compare_artifacts(
        read_source(checkpoint),
        [converted.artifact],
        inputs=tmp_path / f"repro_{fresh.name}.npz",
    )
    assert [(v.verdict, v.signature, v.samples) for v in found.verdicts] == [
        (PASS, RAW_SIGNATURE, 1)
    ]


# Quantized


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != FLOAT])
def test_what_stands_around_stays_float_in_every_scheme(scheme, quantized, converted, samples):
    path = quantized("litert", scheme)
    integers = {9, 7, 1}  # INT8, INT16, FLOAT16
    _, first, second = graphs(path)
    added = second.tensors[len(first.tensors) :]
    assert added and not integers & {tensor.type for tensor in added}
    assert integers & {tensor.type for tensor in first.tensors}
    given = [sample.inputs for sample in samples if sample.recorded]
    assert answers(open_runtime(path, RAW_SIGNATURE), given) == [
        prepared(path, converted, inputs)[LOGITS].tobytes() for inputs in given
    ]


def prepared(path, converted, inputs):
    """The first signature's answer to what NumPy makes of a recording."""
    config = open_model(converted.artifact).config
    length = int(inputs[NUM_FRAMES][0])
    clips = ClipSet((Clip(inputs["landmarks"][0, :length], 0, "", 0, ""),), ("",))
    keypoints, mask = model_inputs(clips, config)
    runtime = FloatView(open_runtime(path))
    return runtime({"keypoints": keypoints, "attention_mask": mask})


def test_integer_edges_are_the_first_signatures_alone(quantized, converted, samples):
    path = quantized("litert", "int8", int8_io=True)
    run = TFLiteRuntime(path, signature=RAW_SIGNATURE)
    assert {tensor.dtype for tensor in run.spec.inputs} == {"float32", "int32"}
    assert {tensor.dtype for tensor in open_runtime(path).spec.outputs} == {"int8"}
    given = [sample.inputs for sample in samples if sample.recorded]
    for inputs in given:
        outputs = run(inputs)
        np.testing.assert_allclose(
            outputs[LOGITS], prepared(path, converted, inputs)[LOGITS], rtol=1e-6
        )
        assert outputs[PROBABILITIES].argmax() == outputs[LOGITS].argmax()


# Used


def test_the_papers_speak_of_it(converted, raw, config):
    metadata = read_metadata(converted.artifact)
    assert carried_raw(metadata, config) == raw
    said = metadata["raw"]
    assert (said["signature"], said["frames"]) == ("landmarks", FRAMES)
    assert said["inputs"][0] == {
        "name": "landmarks", "shape": [1, FRAMES, 63, 2], "dtype": "float32"
    }  # fmt: skip
    assert said["holistic"] == list(config.data.landmark_layout.holistic)
    assert carried_raw(read_metadata(converted.folder / "small.onnx"), config) is None


def test_recordings_are_classified_by_it(converted, recordings, config):
    model = open_model(converted.artifact)
    by_numpy = dataclasses.replace(model, raw=None)
    clip = recordings.clips[3]
    found = model.classify(ClipSet((clip,), ("",)))
    assert found == by_numpy.classify(ClipSet((clip,), ("",)))

    class Refusing:
        spec = model.raw.spec

        def __call__(self, inputs):
            raise AssertionError("it was asked")

    refusing = dataclasses.replace(model, raw=Refusing())
    with pytest.raises(AssertionError, match="it was asked"):
        refusing.classify(clip)
    longer = np.resize(np.asarray(clip.landmarks), (FRAMES + 1, 63, 2))
    longer = dataclasses.replace(clip, landmarks=longer)
    assert refusing.classify(longer) == by_numpy.classify(longer)
    alone = open_model(converted.folder / "small_landmarks.onnx")
    assert [label for label, _ in alone.classify(clip)] == [label for label, _ in found]
    with pytest.raises(
        BridgeError, match=r"257 frames, and small_landmarks\.onnx takes at most 256"
    ):
        alone.classify(longer)
    with pytest.raises(BridgeError, match=r"small_landmarks\.onnx takes one recording's landmarks"):
        evaluate(alone, recordings, "recordings")


def test_the_temperature_counts_however_a_recording_is_prepared(converted, recordings):
    model = open_model(converted.artifact)
    cooler = OpenedModel(model.runtime, model.config, model.class_names, 0.5)
    (best, score), *_ = cooler.classify(recordings.clips[3])
    assert model.classify(recordings.clips[3])[0][0] == best
    assert score > model.classify(recordings.clips[3])[0][1]
