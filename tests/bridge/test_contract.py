"""What every kind of model promises, and that a further one needs no more than files and a row.

The further one is made up, in `tests/kinds`: convolutions, BatchNorm and attention over x, y, z.
"""

import dataclasses
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bridge.artifact.runtimes import KerasRuntime, TorchRuntime
from bridge.conversion.evidence import QuantizationOptions
from bridge.conversion.pipeline import convert
from bridge.errors import ConversionError
from bridge.quantization import quantizer
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import RAW_ONNX, ROUTES, routes_of
from bridge.verification.clips import predict
from bridge.verification.compare import compare
from bridge.verification.limits import Limits
from bridge.verification.samples import make_samples, open_samples
from bridge.verification.verdict import FAILED, PASS, WRONG
from bridge.weights.port import build_original, build_twin, torch_arrays
from signbart.artifacts.contents import multiply_accumulates, stored_weights
from signbart.artifacts.metadata import read_metadata
from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.errors import WeightMapError
from signbart.landmarks.layouts import get_layout
from signbart.models import MODEL_KINDS, io_spec, kind_of
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, RAW_SIGNATURE
from signbart.preprocessing import model_inputs
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import write_packed
from signbart.weights.port import audit, keras_variables, torch_to_keras
from signbart.weights.rules import IDENTITY, TRANSPOSE, Rule, rules_of
from signbart_runtime.evaluation.opened import open_model
from signbart_torch import train
from signbart_torch.models import new_model
from signbart_torch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

FURTHER = "tiny_hybrid"
# SignBART once more, with what it leaves out by default.
IN_MOTION = "signbart in motion"
CASES = [*MODEL_KINDS, IN_MOTION, FURTHER]
FILES = Path(__file__).resolve().parents[1] / "kinds"
LIMITS = Limits(atol=1e-5, rtol=1e-5)
LABELS = ("one", "two", "three", "four", "five")
# Every kind has a square matrix among those that are transposed; no two other sizes are alike.
_SIGNBART = {
    "d_model": 24, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 6, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28,
    "max_position_embeddings": 16,
}  # fmt: skip
RUNS = {
    "signbart": (
        {**_SIGNBART, "joint_idx": list(range(5, 18))},
        {"layout": "kp63", "max_frames": 12, "normalization": "bbox_ignore_missing"},
    ),
    IN_MOTION: (
        {
            **_SIGNBART, "kind": "signbart", "joint_idx": list(range(2, 12)), "decoder_layers": 1,
            "coordinates": 3, "motion": True,
        },
        {"layout": "kinect20", "max_frames": 14, "normalization": "body_centred"},
    ),
    "conv_signbart": (
        {
            "joint_idx": list(range(2, 13)), "d_model": 24, "blocks_before": 2, "blocks_after": 1,
            "kernel_size": 5, "ffn_dim": 20, "max_position_embeddings": 16,
        },
        {"layout": "kinect20", "max_frames": 14, "normalization": "body_centred"},
    ),
    "sign_transformer": (
        {
            "num_categories": 3, "d_model": 24, "encoder_layers": 1, "attention_heads": 4,
            "ffn_dim": 20, "max_frames": 16,
        },
        {"layout": "kp89", "max_frames": 12, "normalization": "bbox_ignore_missing"},
    ),
    "mediapipe_gru": (
        {"num_categories": 3, "hidden1": 18, "hidden2": 6, "max_frames": 12},
        {"layout": "kp89", "max_frames": 12, "normalization": "bbox_ignore_missing"},
    ),
    FURTHER: (
        {"joint_idx": list(range(2, 12))},
        {"layout": "kinect20", "max_frames": 14, "normalization": "body_centred"},
    ),
}  # fmt: skip
# Untrained pre-norm attention has little to tell clips apart by: more noise, and int8 decides.
NOISE = {"sign_transformer": 0.1, FURTHER: 0.2}
# Each scheme once a kind: which route quantizes does not matter, the quantizer is one.
SCHEMES_BY = {
    "litert": "fp32,fp16,dynamic_int8",
    "onnx": "fp32,weight_only_int8",
    "keras": "fp32,int8,int16x8",
}
# In an .onnx, padding is a weight of 100 beside a GRU's others, and int8 steps as wide as that.
SCHEMES_OF = {
    IN_MOTION: {"litert": "fp32", "onnx": "fp32", "keras": "fp32,int8"},  # the rest is SignBART's
    "mediapipe_gru": {**SCHEMES_BY, "onnx": "fp32", "keras": "fp32,weight_only_int8,int8,int16x8"},
}


@pytest.fixture(scope="module", autouse=True)
def further_kind():
    """Adds the files and the one row."""
    packages = [
        import_module(name)
        for name in (
            "signbart.models", "signbart_torch.models", "signbart_tf.models", "signbart.weights"
        )
    ]  # fmt: skip
    for package in packages:
        package.__path__.append(str(FILES / package.__name__.replace(".", "/")))
    MODEL_KINDS[FURTHER] = import_module(f"signbart.models.{FURTHER}").KIND
    yield
    del MODEL_KINDS[FURTHER]
    for package in packages:
        package.__path__.pop()


@pytest.fixture(scope="module", params=CASES)
def case(request, further_kind) -> str:
    return request.param


@pytest.fixture(scope="module")
def config(case) -> RunConfig:
    model, data = RUNS.get(case, ({}, {}))  # of a kind without a row here: its defaults
    name = case.replace(" ", "_")
    tree = {"name": name, "model": {"kind": case, "num_labels": 5, **model}, "data": data}
    return from_dict(tree, source="tests")


@pytest.fixture(scope="module")
def kind(config) -> str:
    return kind_of(config.model).name


@pytest.fixture(scope="module")
def model(config, kind):
    """No bias, norm or running mean is left as it was made, which would hide mistakes."""
    torch.manual_seed(3)
    model = new_model(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(NOISE.get(kind, 0.3) * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.3, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def samples(config):
    made = make_samples(config)
    open_length = kind_of(config.model).open_length
    return open_samples(made, io_spec(config).longest, open_length=open_length)


def batch(config: RunConfig) -> dict[str, np.ndarray]:
    """Three clips whose masks have holes; numbers, not garbage, in the padding."""
    rng = np.random.default_rng(8)
    frames, shape = config.data.max_frames, io_spec(config).inputs[0].shape[2:]
    mask = (rng.random((3, frames)) < 0.6).astype(np.int32)
    mask[:, 2] = 1
    keypoints = rng.normal(size=(3, frames, *shape)).astype(np.float32)
    return {KEYPOINTS: keypoints, ATTENTION_MASK: mask}


# Configuration


def test_a_configuration_comes_back_from_its_header(config, kind):
    tree = config.to_dict()
    assert from_dict(tree, source="header") == config and config.kind == kind
    assert tree["model"].get("kind", "signbart") == kind


def test_inputs_are_what_the_kind_says(config, kind):
    points = io_spec(config, batch=None, frames=None).inputs[0]
    row = MODEL_KINDS[kind]
    size = (config.num_keypoints, config.coordinates)
    assert points.shape == (None, None, *(size if row.frame == "points" else (size[0] * size[1],)))
    assert config.coordinates in ((2, 3) if row.coordinates is None else (row.coordinates,))


def test_it_is_trained_in_pytorch_and_its_default_route_carries_it(kind):
    row = MODEL_KINDS[kind]
    assert "torch" in row.trained_in and row.default_route in routes_of(row)


# Mask and padding


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -7.5])
def test_what_padded_frames_hold_changes_no_bit(model, config, garbage):
    run, inputs = TorchRuntime(model, config), batch(config)
    expected = run(inputs)
    inputs[KEYPOINTS][inputs[ATTENTION_MASK] == 0] = garbage
    for name, found in run(inputs).items():
        np.testing.assert_array_equal(found, expected[name])


def test_how_much_padding_follows_does_not_matter(model, config):
    run, inputs = TorchRuntime(model, config), batch(config)
    short = {name: array[:, :7] for name, array in inputs.items()}
    padded = {name: array.copy() for name, array in inputs.items()}
    padded[ATTENTION_MASK][:, 7:] = 0
    expected = run(short)
    for name, found in run(padded).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-5)


def test_a_frame_that_is_there_matters(model, config):
    """The control of the two above."""
    run, inputs = TorchRuntime(model, config), batch(config)
    expected = run(inputs)
    inputs[KEYPOINTS][:, 2] += 1
    assert all((found != expected[name]).any() for name, found in run(inputs).items())


# The twin and the map


def test_the_twin_computes_the_same(model, config, samples):
    reference, twin = TorchRuntime(model, config), KerasRuntime(build_twin(model), config)
    result = compare(reference, twin, samples, LIMITS)
    assert result.verdict == PASS, result.reason


def test_there_and_back_is_bit_identical(model):
    back = build_original(build_twin(model)).state_dict()
    for name, tensor in model.state_dict().items():
        counted = name.endswith("num_batches_tracked")  # Keras does not count
        assert back.keys() == model.state_dict().keys()
        assert counted or torch.equal(back[name], tensor), name


def test_a_square_matrix_left_untransposed_fails(model, config, samples):
    from signbart_tf.models import new_model as new_twin

    rules, arrays = rules_of(model.config), torch_arrays(model)
    square = next(
        rule
        for rule in rules
        if rule.transform == TRANSPOSE and len(set(arrays[rule.torch_key].shape)) == 1
    )
    wrong = [dataclasses.replace(rule, transform=IDENTITY) if rule is square else rule
             for rule in rules]  # fmt: skip
    twin = new_twin(model.config)
    torch_to_keras(wrong, arrays, twin)  # shapes fit: nothing but the comparison can tell
    result = compare(TorchRuntime(model, config), KerasRuntime(twin, config), samples, LIMITS)
    assert result.verdict == WRONG


def test_a_map_that_lacks_or_invents_a_tensor_is_refused(model):
    rules, arrays = rules_of(model.config), torch_arrays(model)
    variables = keras_variables(build_twin(model), rules)
    values = {path: variable.numpy() for path, variable in variables.items()}
    audit(rules, arrays, values)
    for wrong, text in (
        (rules[1:], f"{rules[0].torch_key} is not in the map"),
        ([*rules, rules[0]], "is mapped 2 times"),
        ([*rules, Rule("other.weight", "other/kernel", IDENTITY)], "other.weight does not exist"),
    ):
        with pytest.raises(WeightMapError, match=text):
            audit(wrong, arrays, values)


# Training


def test_it_trains_an_epoch(config, recordings, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()), encoding="utf-8")
    arguments = [
        "--config",
        str(path),
        "--data",
        str(recordings),
        "--output",
        str(tmp_path / "run"),
    ]
    assert train.main([*arguments, "--set", "train.epochs=1"]) in (None, 0)
    trained = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert trained.config.kind == config.kind and trained.class_names == LABELS


# Routes and schemes


@pytest.fixture(scope="module")
def checkpoint(model, config, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(config.name) / "best.safetensors"
    save_checkpoint(Checkpoint(model.state_dict(), config, LABELS), path)
    return path


@pytest.fixture(scope="module")
def recordings(model, config, tmp_path_factory) -> Path:
    """150 clips labelled by what the model sees in them, those between two classes left out."""
    rng = np.random.default_rng(6)
    layout = get_layout(config.data.layout)
    coordinates = 3 if layout.unit == "metres" else 2
    clips = []
    for index in range(1200):
        shape = (int(rng.integers(3, 21)), layout.num_keypoints, coordinates)
        landmarks = rng.uniform(0.2, 0.8, shape[1:]) + 0.1 * rng.normal(size=shape).cumsum(axis=0)
        clips.append(Clip(landmarks.astype(np.float32), 0, "abc"[index % 3], index, ""))
    clip_set = ClipSet(tuple(clips), LABELS)
    logits = predict(TorchRuntime(model, config), *model_inputs(clip_set, config), batch=50)
    ordered = np.sort(logits, axis=1)
    clearest = np.argsort(ordered[:, -2] - ordered[:, -1])[:150]
    path = tmp_path_factory.mktemp(f"{config.name}_recordings") / "clips.npz"
    kept = [dataclasses.replace(clips[i], label=int(logits[i].argmax())) for i in clearest]
    write_packed(ClipSet(tuple(kept), LABELS), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_carries_it_and_every_scheme_reaches_all_its_weights(
    checkpoint, recordings, config, case, kind, tmp_path, route
):
    row = MODEL_KINDS[kind]
    if route not in routes_of(row):
        pytest.skip(f"{kind} has no twin, and no route {route}")
    asked = SCHEMES_OF.get(case, SCHEMES_BY)[route]
    made = convert(
        checkpoint,
        tmp_path,
        routes=[route],
        quantization=QuantizationOptions(schemes=[asked]),
        data=str(recordings),
    )
    schemes = asked.split(",")
    assert [a.scheme for a in made if a.path is None or a.path.suffix == ".tflite"] == schemes
    for artifact in made:
        scheme = SCHEMES[artifact.scheme]
        if "WHILE" in made[0].operators and scheme.calibrated:
            # ai-edge-quantizer does not see what a loop computes.
            assert artifact.parity.verdict == FAILED
            for word in ("quantizer", "WHILE", "dynamic_int8"):
                assert word in artifact.parity.reason
            continue
        assert artifact.parity.verdict == PASS, artifact.parity.reason
        assert artifact.path.parent == tmp_path
        assert read_metadata(artifact.path)["labels"] == list(LABELS)
        if artifact.path.name.endswith(RAW_ONNX):
            assert artifact.parity.signature == RAW_SIGNATURE
            continue
        if artifact.path.suffix == ".onnx":
            frames = None if row.open_length else config.data.max_frames
            assert open_model(artifact.path).runtime.spec.inputs[0].shape[:2] in (
                (None, frames), (None, None)
            )  # fmt: skip
            continue
        if kind == "conv_signbart":
            # One each, and none that XNNPACK would run otherwise than a depthwise convolution.
            assert artifact.operators["DEPTHWISE_CONV_2D"] == 3
            assert "CONV_2D" not in artifact.operators
        assert artifact.raw_parity.verdict == PASS and artifact.raw_parity.samples >= 24
        weights = stored_weights(artifact.path, row.quantized_operators)
        assert set(weights) == {scheme.weights}
        computed = scheme.computed(row.quantized_operators)
        products = multiply_accumulates(artifact.path, computed, weighted=True)
        assert set(products) == {scheme.arithmetic}
        if kind == FURTHER and scheme.name != FLOAT:
            held = {name: stored_weights(artifact.path, [name]) for name in row.quantized_operators}
            assert held["CONV_2D"] and held["FULLY_CONNECTED"]
            assert multiply_accumulates(artifact.path, ["CONV_2D"], weighted=True).total() > 10_000


@pytest.fixture(scope="module")
def float_file(model, config, tmp_path_factory) -> Path:
    """By the default route, before anything is quantized."""
    path = tmp_path_factory.mktemp(f"{config.name}_float") / "float.tflite"
    ROUTES["litert"].export(model, io_spec(config), {".tflite": path})
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", [FURTHER], indirect=True)
@pytest.mark.parametrize("scheme", ["fp16", "dynamic_int8", "weight_only_int8"])
def test_an_int8_label_cannot_stand_on_float_convolutions(
    float_file, config, tmp_path, monkeypatch, scheme
):
    """A quantizer that forgets the convolutions is found out."""
    operators = kind_of(config.model).quantized_operators
    whole = quantizer._recipe
    monkeypatch.setattr(
        quantizer, "_recipe", lambda scheme, _, int8_io: whole(scheme, ["FULLY_CONNECTED"], int8_io)
    )
    with pytest.raises(ConversionError, match=r"CONV_2D .* left some in float"):
        quantizer.quantize(float_file, SCHEMES[scheme], tmp_path / "q.tflite", operators=operators)
    # What it left is float32 indeed, and nobody would see it by the linear layers alone.
    quantizer.quantize(float_file, SCHEMES[scheme], tmp_path / "q.tflite")
    assert set(stored_weights(tmp_path / "q.tflite", ["CONV_2D"])) == {"FLOAT32"}
