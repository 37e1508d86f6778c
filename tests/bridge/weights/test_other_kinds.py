"""The other classifiers' weights, PyTorch to Keras and back; and the routes' loop."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from bridge.weights.port import torch_arrays
from signbart.errors import WeightMapError
from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart.weights.mediapipe_gru import rules as mediapipe_gru_rules
from signbart.weights.port import audit, keras_to_torch, keras_variables, torch_to_keras
from signbart.weights.rules import TRANSPOSE
from signbart.weights.sign_transformer import rules as sign_transformer_rules
from signbart_tf.models import export_graph as keras_export_graph
from signbart_tf.models.mediapipe_gru import model as keras_gru
from signbart_tf.models.sign_transformer import model as keras_transformer
from signbart_torch.models import export_graph
from signbart_torch.models.mediapipe_gru import export_graph as gru_export
from signbart_torch.models.mediapipe_gru.model import MediapipeGru
from signbart_torch.models.sign_transformer.model import SignTransformer

SIZES = {"num_features": 14, "max_frames": 12, "num_labels": 7, "num_categories": 4}
TRANSFORMER = SignTransformerConfig(
    **SIZES, d_model=24, encoder_layers=2, attention_heads=3, ffn_dim=20
)
GRU = MediapipeGruConfig(**SIZES, hidden1=10, hidden2=6)
CONFIGS = {
    "transformer": TRANSFORMER,
    "transformer-max": dataclasses.replace(TRANSFORMER, pooling="max"),
    "transformer-cls": dataclasses.replace(TRANSFORMER, pooling="cls"),
    "gru": GRU,
    "gru-projected": dataclasses.replace(GRU, projection_dim=9),
    "gru-bidirectional": dataclasses.replace(GRU, bidirectional=True),
}


def kinds(config):
    """The PyTorch class, the Keras class, and the rules."""
    if isinstance(config, SignTransformerConfig):
        return SignTransformer, keras_transformer.SignTransformer, sign_transformer_rules(config)
    return MediapipeGru, keras_gru.MediapipeGru, mediapipe_gru_rules(config)


def build(config):
    torch.manual_seed(5)
    model = kinds(config)[0](config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def port(model, rules=None):
    """The twin with the model's weights."""
    _, kind, right = kinds(model.config)
    twin = kind(model.config)
    torch_to_keras(right if rules is None else rules, torch_arrays(model), twin)
    return twin


def clip_of(frames, features=14, seed=2):
    """One clip with holes, NaN in them, as the two arrays that both sides take."""
    rng = np.random.default_rng(seed)
    keypoints = rng.normal(size=(1, frames, features)).astype(np.float32)
    mask = np.ones((1, frames), np.int32)
    mask[0, 1::3] = 0
    keypoints[mask == 0] = np.nan
    return {"keypoints": keypoints, "attention_mask": mask}


def difference(model, twin, clip) -> float:
    """Largest |Δ|, in parts of the largest logit."""
    with torch.no_grad():
        expected = model(*(torch.from_numpy(array) for array in clip.values()))
    found = twin(clip)
    assert expected.keys() == found.keys() == {"gloss", "category"}
    return max(
        float(np.abs(np.asarray(found[name]) - expected[name].numpy()).max())
        / float(expected[name].abs().max())
        for name in expected
    )


@pytest.fixture(params=list(CONFIGS))
def model(request):
    return build(CONFIGS[request.param])


def test_the_map_is_complete(model):
    _, kind, rules = kinds(model.config)
    arrays, variables = torch_arrays(model), keras_variables(kind(model.config), rules)
    assert {rule.torch_key for rule in rules} == set(arrays)
    assert {rule.keras_path for rule in rules} == set(variables)
    audit(rules, arrays, {path: v.numpy() for path, v in variables.items()})
    for rule in rules:
        assert (rule.transform == TRANSPOSE) == (arrays[rule.torch_key].ndim == 2)


def test_published_sizes_are_mapped_too():
    for config in (SignTransformerConfig(), MediapipeGruConfig(bidirectional=True)):
        model = kinds(config)[0](config)
        assert port(model).num_parameters == model.num_parameters


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # one frame is allowed
@pytest.mark.parametrize("frames", [1, 2, 11])
def test_both_score_the_same(model, frames):
    clip = clip_of(frames)
    clip["attention_mask"][0, 0] = 1
    twin = port(model)
    assert difference(model, twin, clip) < 1e-5
    assert difference(model, keras_export_graph(twin), clip) < 1e-5


def test_published_sizes_score_the_same_over_300_frames():
    for config in (SignTransformerConfig(encoder_layers=1), MediapipeGruConfig()):
        torch.manual_seed(0)
        model = kinds(config)[0](config).eval()
        assert difference(model, port(model), clip_of(300, 178)) < 1e-5


def test_there_and_back_changes_no_bit(model):
    bits = np.array([0x7FC12345, 0x80000000, 0x00000001], np.uint32).view(np.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[:3] = torch.from_numpy(bits)
    arrays = torch_arrays(model)
    back = keras_to_torch(kinds(model.config)[2], port(model), arrays)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].tobytes() == array.tobytes() and back[name].shape == array.shape


# What would go wrong unseen


@pytest.mark.parametrize("swapped", [("reset", "update"), ("update", "new")], ids="-".join)
@pytest.mark.parametrize("at", ["gru1.weight_ih_l0", "gru2.weight_hh_l0", "gru1.bias_hh_l0"])
def test_swapped_gates_pass_the_audit_and_change_the_scores(at, swapped):
    model = build(GRU)
    twin = port(model)
    gates = dict(
        zip(("reset", "update", "new"), torch.chunk(model.state_dict()[at], 3), strict=True)
    )
    one, other = swapped
    gates[one], gates[other] = gates[other], gates[one]
    arrays = torch_arrays(model) | {at: torch.cat(list(gates.values())).numpy()}
    torch_to_keras(mediapipe_gru_rules(GRU), arrays, twin)  # no complaint
    assert difference(model, twin, clip_of(11)) > 1e-3


@pytest.mark.parametrize("gate", ["reset", "update", "new"])
def test_the_two_biases_may_be_summed_for_every_gate_but_the_new_state(gate):
    model = build(GRU)
    arrays = torch_arrays(model)
    rows = {"reset": slice(0, 10), "update": slice(10, 20), "new": slice(20, 30)}[gate]
    into, of = arrays["gru1.bias_ih_l0"].copy(), arrays["gru1.bias_hh_l0"].copy()
    into[rows] += of[rows]
    of[rows] = 0
    twin = port(model)
    summed = arrays | {"gru1.bias_ih_l0": into, "gru1.bias_hh_l0": of}
    torch_to_keras(mediapipe_gru_rules(GRU), summed, twin)
    found = difference(model, twin, clip_of(11))
    # The reset gate multiplies the state's share of the new state, its bias included.
    assert found > 1e-3 if gate == "new" else found < 1e-5


def test_exchanged_biases_and_directions_are_seen():
    model = build(CONFIGS["gru-bidirectional"])
    for pair in (
        ("gru1.bias_ih_l0", "gru1.bias_hh_l0"),
        ("gru2.weight_hh_l0", "gru2.weight_hh_l0_reverse"),
    ):
        other = dict(zip(pair, reversed(pair), strict=True))
        rules = [
            dataclasses.replace(rule, torch_key=other.get(rule.torch_key, rule.torch_key))
            for rule in mediapipe_gru_rules(model.config)
        ]
        assert difference(model, port(model, rules), clip_of(11)) > 1e-3


@pytest.mark.parametrize(
    ("config", "other", "named"),
    [
        (TRANSFORMER, dataclasses.replace(TRANSFORMER, encoder_layers=1), "encoder_layers.1"),
        (GRU, CONFIGS["gru-bidirectional"], "gru1.weight_ih_l0_reverse does not exist"),
        (CONFIGS["gru-bidirectional"], GRU, "gru1.weight_ih_l0_reverse is not in the map"),
        (CONFIGS["gru-projected"], GRU, "input_projection.weight is not in the map"),
    ],
)
def test_a_map_of_another_size_is_refused(config, other, named):
    with pytest.raises(WeightMapError, match=re.escape(named)):
        port(build(config), kinds(other)[2])


# The artifacts


def run_tflite(path, clip):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
    return interpreter.get_signature_runner()(**clip), operators


def check(model, path, frames):
    """That the artifact scores as the model does, with few operators."""
    clip = clip_of(frames)
    found, operators = run_tflite(path, clip)
    assert difference(model, lambda clip: found, clip) < 1e-5
    assert len(operators) < 150
    if isinstance(model, MediapipeGru):
        assert operators.count("WHILE") == 1 + model.config.bidirectional
    short = {"keypoints": clip["keypoints"], "attention_mask": (np.arange(frames) < 1)[None] * 1}
    short["attention_mask"] = short["attention_mask"].astype(np.int32)
    found, _ = run_tflite(path, short)
    assert difference(model, lambda clip: found, short) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gru", "gru-bidirectional", "transformer-max"], indirect=True)
def test_litert_torch_converts_the_loop(model, tmp_path):
    from bridge.routes.while_loops import convert

    example = {name: torch.from_numpy(array) for name, array in clip_of(11).items()}
    convert(export_graph(model), example, tmp_path / "model.tflite")
    check(model, tmp_path / "model.tflite", 11)


@pytest.mark.slow
def test_keras_converts_the_loop(model, tmp_path):
    import keras

    signature = {
        name: keras.InputSpec(shape=array.shape, dtype=str(array.dtype), name=name)
        for name, array in clip_of(11).items()
    }
    path = tmp_path / "model.tflite"
    keras_export_graph(port(model)).export(
        str(path), format="litert", input_signature=[signature], verbose=False
    )
    check(model, path, 11)


@pytest.mark.slow
def test_one_onnx_file_takes_any_batch_and_length(model, tmp_path):
    import onnx
    import onnxruntime

    is_gru, path = isinstance(model, MediapipeGru), tmp_path / "model.onnx"
    dims = {
        0: torch.export.Dim("batch", max=2**16),
        1: torch.export.Dim("frames", max=model.config.longest or 2**16),
    }
    example = {n: torch.from_numpy(np.concatenate([a, a])) for n, a in clip_of(7).items()}
    torch.onnx.export(
        gru_export.for_onnx(model) if is_gru else model, kwargs=example, dynamo=True,
        opset_version=20, input_names=list(example), output_names=["gloss", "category"],
        dynamic_shapes=dict.fromkeys(example, dims), verbose=False,
    ).save(str(path))  # fmt: skip
    onnx.checker.check_model(str(path), full_check=True)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("GRU") == 2 * is_gru
    session = onnxruntime.InferenceSession(str(path))
    for frames, batch in ((1, 1), (4, 3), (11, 2)):
        clip = {name: np.concatenate([array] * batch) for name, array in clip_of(frames).items()}
        clip["attention_mask"][-1, 0] = 0 if frames > 1 else 1
        clip["keypoints"][clip["attention_mask"] == 0] = np.nan
        names = ("gloss", "category")
        found = dict(zip(names, session.run(names, clip), strict=True))
        assert difference(model, lambda _, found=found: found, clip) < 1e-5
