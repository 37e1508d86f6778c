"""Every tensor goes to its place and back bit for bit, and the audit sees what does not."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bridge.artifact.runtimes import KerasRuntime
from bridge.verification.compare import compare, diagnose
from bridge.verification.limits import Limits
from bridge.verification.samples import make_samples
from bridge.verification.verdict import WRONG
from bridge.weight_map import main
from bridge.weights.port import build_original, build_twin, torch_arrays
from signbart.configuration.reading import load_config
from signbart.console import run_command
from signbart.errors import WeightMapError
from signbart.weights.port import audit, keras_to_torch, keras_variables, torch_to_keras
from signbart.weights.rules import IDENTITY, TRANSPOSE, Rule
from signbart.weights.signbart import rules as signbart_rules
from signbart_tf.models.signbart.model import SignBart as KerasSignBart
from signbart_tf.training.checkpoint import load_model as load_keras
from signbart_tf.training.checkpoint import save_checkpoint as save_keras
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def same(one, other) -> bool:
    """Bit for bit: equal values would let -0 and NaN pass."""
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype
        and one[key].shape == other[key].shape
        and one[key].tobytes() == other[key].tobytes()
        for key in one
    )


def weights(twin) -> dict[str, np.ndarray]:
    variables = keras_variables(twin, signbart_rules(twin.config))
    return {path: variable.numpy() for path, variable in variables.items()}


@pytest.fixture
def odd(model) -> SignBart:
    """With values that only copies survive: NaN with a payload, -0, a subnormal number."""
    bits = np.array([0x7FC12345, 0x80000000, 0x00000001, 0xFF800000], np.uint32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[:4] = torch.from_numpy(bits.view(np.float32))
    return model


# The rules


@pytest.mark.parametrize(("name", "tensors"), [("arabic_90", 96), ("small", 122)])
def test_the_map_is_complete(name, tensors, config):
    sizes = config.model if name == "small" else load_config(CONFIGS / f"{name}.yaml").model
    rules = signbart_rules(sizes)
    assert len(rules) == tensors
    arrays, variables = torch_arrays(SignBart(sizes)), weights(KerasSignBart(sizes))
    assert {rule.torch_key for rule in rules} == set(arrays)
    assert {rule.keras_path for rule in rules} == set(variables)
    audit(rules, arrays, variables)
    # Linear layers' matrices, and nothing else, are the other way round.
    for rule in rules:
        linear = rule.keras_path.endswith("/kernel")
        assert (rule.transform == TRANSPOSE) == linear
        assert linear == (arrays[rule.torch_key].ndim == 2 and "embed" not in rule.torch_key)


def test_layers_of_the_two_sides_are_counted_apart(config):
    sizes = dataclasses.replace(config.model, encoder_layers=4, decoder_layers=1)
    assert len(signbart_rules(sizes)) == 12 + 4 * 16 + 26
    audit(signbart_rules(sizes), torch_arrays(SignBart(sizes)), weights(KerasSignBart(sizes)))
    with pytest.raises(WeightMapError, match=r"encoder\.layers\.3.* is not in the map"):
        audit(
            signbart_rules(dataclasses.replace(sizes, encoder_layers=3)),
            torch_arrays(SignBart(sizes)),
            weights(KerasSignBart(sizes)),
        )


def test_there_and_back_changes_no_bit(odd):
    twin = build_twin(odd)
    assert same(torch_arrays(build_original(twin)), torch_arrays(odd))
    assert same(weights(build_twin(build_original(twin))), weights(twin))
    assert list(torch_arrays(build_original(twin))) == list(torch_arrays(odd))


def test_one_changed_bit_is_seen(odd):
    arrays = torch_arrays(odd)
    other = {key: array.copy() for key, array in arrays.items()}
    other["encoder.layers.1.fc2.bias"].view(np.uint32)[-1] ^= 1
    assert same(arrays, arrays) and not same(arrays, other)


def test_a_copy_is_a_copy(model):
    twin = build_twin(model)
    kept = weights(twin)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same(weights(twin), kept)


# The audit


FC1 = "encoder.layers.0.fc1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rules, ours, theirs: ours.update({"pe.weight": np.zeros(3, np.float32)}),
            "torch key pe.weight is not in the map",
        ),
        (
            lambda rules, ours, theirs: theirs.update({"extra/kernel": np.zeros(3, np.float32)}),
            "Keras variable extra/kernel is not in the map",
        ),
        (
            lambda rules, ours, theirs: ours.pop(f"{FC1}.bias"),
            f"torch key {FC1}.bias does not exist",
        ),
        (
            lambda rules, ours, theirs: theirs.pop("encoder/layers/0/fc1/bias"),
            "Keras variable encoder/layers/0/fc1/bias does not exist",
        ),
        (
            lambda rules, ours, theirs: rules.append(
                Rule(f"{FC1}.bias", "decoder/layers/0/fc1/bias", IDENTITY)
            ),
            "torch key encoder.layers.0.fc1.bias is mapped 2 times\n"
            "  Keras variable decoder/layers/0/fc1/bias is mapped 2 times",
        ),
        (
            lambda rules, ours, theirs: rules.pop(0),
            "Keras variable projection/proj_x1/kernel is not in the map",
        ),
        (
            lambda rules, ours, theirs: ours.update({f"{FC1}.weight": ours[f"{FC1}.weight"].T}),
            "encoder.layers.0.fc1.weight (24, 20) gives (20, 24) by TRANSPOSE, but "
            "encoder/layers/0/fc1/kernel is (24, 20)",
        ),
        (
            lambda rules, ours, theirs: ours.update(
                {f"{FC1}.bias": ours[f"{FC1}.bias"].reshape(1, 20)}
            ),
            "encoder.layers.0.fc1.bias (1, 20) gives (1, 20) by IDENTITY, but",
        ),
        (
            lambda rules, ours, theirs: ours.update(
                {f"{FC1}.bias": ours[f"{FC1}.bias"].astype(np.float16)}
            ),
            "encoder.layers.0.fc1.bias is float16, but encoder/layers/0/fc1/bias is float32",
        ),
    ],
    ids=[
        "unused torch key", "unassigned variable", "missing torch key", "missing variable",
        "double assignment", "missing rule", "shape", "no reshaping", "dtype",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(model, change, message):
    rules = signbart_rules(model.config)
    ours, theirs = torch_arrays(model), weights(KerasSignBart(model.config))
    audit(rules, ours, theirs)
    change(rules, ours, theirs)
    with pytest.raises(WeightMapError) as error:
        audit(rules, ours, theirs)
    assert str(error.value).startswith("the weight map does not fit:\n") and message in str(
        error.value
    )


def test_everything_wrong_is_listed_up_to_a_limit(model):
    with pytest.raises(
        WeightMapError, match=r"(?s)(\n  torch key \S+ is not in the map){8}.*and 2"
    ):
        audit([], dict.fromkeys("abcdefghij"), {})


def test_nothing_is_copied_before_the_audit(model):
    rules, twin = signbart_rules(model.config), KerasSignBart(model.config)
    before, arrays = weights(twin), torch_arrays(model)
    last = rules[-1].torch_key
    with pytest.raises(WeightMapError, match=last):
        torch_to_keras(rules, arrays | {last: arrays[last][:-1]}, twin)
    assert same(weights(twin), before)
    with pytest.raises(WeightMapError, match=last):
        keras_to_torch(rules, twin, arrays | {last: arrays[last][:-1]})


def test_a_variable_that_no_rule_reaches_is_found_in_the_model(model):
    twin = KerasSignBart(model.config)
    twin.encoder.layers[0].extra = twin.encoder.layers[0].add_weight(shape=(3,), name="extra")
    with pytest.raises(WeightMapError, match=r"Keras variable \S*extra is not in the map"):
        torch_to_keras(signbart_rules(model.config), torch_arrays(model), twin)


@pytest.mark.slow
def test_a_square_matrix_left_untransposed_passes_the_audit_and_fails_parity(
    model, reference, config, recordings, tmp_path
):
    samples = make_samples(config, clips=recordings)[::3]
    limits = Limits(atol=1e-5, rtol=1e-5)
    at = "decoder.layers.1.encoder_attn.q_proj.weight"
    rules = signbart_rules(model.config)
    twin = build_twin(model)
    assert compare(reference, KerasRuntime(twin, config), samples, limits).passed
    careless = [
        dataclasses.replace(rule, transform=IDENTITY) if rule.torch_key == at else rule
        for rule in rules
    ]
    torch_to_keras(careless, torch_arrays(model), twin)  # no complaint
    result = compare(reference, KerasRuntime(twin, config), samples, limits)
    assert result.verdict == WRONG
    path = tmp_path / "careless.keras"
    save_keras(twin, config, "abcde", path)
    told = diagnose(model, path, result, samples)
    assert f"first diverging layer: {at.removesuffix('.weight')} (" in told.reason


def test_a_matrix_that_is_not_square_does_not_even_pass_the_audit(model):
    rules = [
        dataclasses.replace(rule, transform=IDENTITY) if "fc1.weight" in rule.torch_key else rule
        for rule in signbart_rules(model.config)
    ]
    with pytest.raises(WeightMapError, match=r"fc1\.weight \(20, 24\) gives \(20, 24\) by IDENT"):
        torch_to_keras(rules, torch_arrays(model), KerasSignBart(model.config))


# The command


def tensors(path) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in load_checkpoint(path).tensors.items()}


@pytest.fixture
def published(checkpoint, config, tmp_path) -> list[str]:
    """The same weights as a published .pth, with what it needs beside it."""
    torch.save({"model": dict(load_checkpoint(checkpoint).tensors)}, tmp_path / "published.pth")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config.to_dict()))
    labels = {"no": 4, "yes": 0, "naïve": 2, "maybe": 1, "often": 3}
    (tmp_path / "label2id.json").write_text(json.dumps(labels))
    return [
        str(tmp_path / "published.pth"), "--config", str(tmp_path / "small.yaml"),
        "--labels", str(tmp_path / "label2id.json"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "ending"), [("safetensors", ".weights.h5"), ("pth", ".keras")], ids=str
)
def test_files_convert_there_and_back_without_a_bit_changed(
    checkpoint, published, config, tmp_path, capsys, kind, ending
):
    there, back = tmp_path / f"there{ending}", tmp_path / "back.safetensors"
    source, *options = [str(checkpoint)] if kind == "safetensors" else published
    assert main(["to-keras", source, str(there), *options]) == 0
    assert main(["to-torch", str(there), str(back)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {path}: 122 tensors, each assigned once" for path in (there, back)
    ]
    assert same(tensors(back), tensors(checkpoint))
    names = load_model(checkpoint)[2] if kind == "safetensors" else (
        "yes", "maybe", "naïve", "often", "no",
    )  # fmt: skip
    for found in (load_keras(there)[1:], load_model(back)[1:]):
        assert found == (config, names)


@pytest.mark.slow
def test_what_keras_trained_comes_back_the_same_from_torch(config, tmp_path):
    twin = KerasSignBart(config.model)  # new weights, of Keras's making
    save_keras(twin, config, "abcde", tmp_path / "a.keras")
    assert main(["to-torch", f"{tmp_path}/a.keras", f"{tmp_path}/b.safetensors"]) == 0
    assert main(["to-keras", f"{tmp_path}/b.safetensors", f"{tmp_path}/c.weights.h5"]) == 0
    assert same(weights(load_keras(tmp_path / "c.weights.h5")[0]), weights(twin))


@pytest.mark.slow
def test_a_checkpoint_that_can_be_resumed_converts_too(model, config, tmp_path):
    state = Checkpoint(
        model.state_dict(), config, tuple("abcde"), {"epoch": 3}, {"step": torch.zeros(2)}
    )
    save_checkpoint(state, tmp_path / "last.safetensors")
    assert main(["to-keras", f"{tmp_path}/last.safetensors", f"{tmp_path}/a.keras"]) == 0
    assert same(weights(load_keras(tmp_path / "a.keras")[0]), weights(build_twin(model)))


def test_the_map_is_printed(checkpoint, published, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--checkpoint", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    size = sum(array.size for array in tensors(checkpoint).values())
    assert f"122 tensors, {size:,} parameters" in printed
    rows = [line.split() for line in printed.splitlines()]
    for row in (
        "encoder.layers.1.fc1.weight (20, 24) TRANSPOSE (24, 20) encoder/layers/1/fc1/kernel",
        "decoder.embed_positions.weight (18, 24) IDENTITY (18, 24) "
        "decoder/embed_positions/embeddings",
    ):
        assert row.split() in rows
    source, *options = published
    assert main(["--checkpoint", source, *options]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give --checkpoint to print its map, or an action"),
        (["to-keras"], "to-keras needs IN and OUT"),
        (["to-torch", "a.keras"], "to-torch needs IN and OUT"),
        (["to-onnx", "a", "b"], "invalid choice: 'to-onnx'"),
        (["to-keras", "/nowhere/a.safetensors", "b.keras"], "no checkpoint at /nowhere"),
        (["to-torch", "/nowhere/a.keras", "b.safetensors"], "no checkpoint at /nowhere"),
        (["to-torch", "/nowhere/a.keras", "b.pth"], "written as .safetensors"),
        (["to-torch", "CKPT", "b.safetensors"], "end in .keras or .weights.h5"),
        (["to-keras", "CKPT", "b.h5"], "end in .keras or .weights.h5"),
        (["to-keras", "PTH", "b.keras"], "give the YAML file of its run"),
        (["to-keras", "CKPT", "b.keras", "--labels", "/nowhere.json"], "/nowhere.json is no label"),
        (["--checkpoint", "/nowhere/a.pth"], "no checkpoint at /nowhere"),
        (["to-torch", "a.keras", "b.safetensors", "--config", "x.yaml"], "--config"),
        (["to-keras", "CKPT", "b.keras", "--checkpoint", "CKPT"], "--checkpoint"),
    ],
)
def test_bad_usage_exits_with_2_and_says_why(
    checkpoint, published, tmp_path, capsys, monkeypatch, arguments, text
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    names = {"CKPT": str(checkpoint), "PTH": published[0]}
    with pytest.raises(SystemExit) as exit:
        run_command(lambda: main([names.get(word, word) for word in arguments]))
    assert exit.value.code == 2
    assert text in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_two_paths_to_one_variable_are_refused(model):
    twin = KerasSignBart(model.config)
    twin.encoder.layers[1].fc1 = twin.encoder.layers[0].fc1
    with pytest.raises(WeightMapError, match=r"layers/0/fc1/\w+ and .*layers/1/fc1/\w+ are one"):
        torch_to_keras(signbart_rules(model.config), torch_arrays(model), twin)


def test_a_map_of_more_layers_than_there_are_is_said(model):
    deeper = dataclasses.replace(model.config, encoder_layers=model.config.encoder_layers + 1)
    with pytest.raises(WeightMapError, match=r"layers/2/self_attn/q_proj/kernel does not exist"):
        torch_to_keras(
            signbart_rules(deeper),
            torch_arrays(SignBart(deeper)),
            KerasSignBart(model.config),
        )


def test_k_and_v_exchanged_are_told_apart_by_name(model, config, recordings, tmp_path, reference):
    twin = build_twin(model)
    attention = twin.encoder.layers[0].self_attn
    k, v = attention.k_proj.get_weights(), attention.v_proj.get_weights()
    attention.k_proj.set_weights(v)
    attention.v_proj.set_weights(k)
    save_keras(twin, config, tuple("abcde"), tmp_path / "x.keras")
    samples = make_samples(config, clips=recordings)
    result = compare(reference, KerasRuntime(twin, config), samples, Limits(atol=1e-5, rtol=1e-5))
    assert result.verdict == WRONG
    named = diagnose(model, tmp_path / "x.keras", result, samples).reason
    assert "first diverging layer: encoder.layers.0.self_attn.k_proj" in named
