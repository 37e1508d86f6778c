"""The twin is the reference: same names, same numbers, dropout and masks alike."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

from bridge.weights.port import build_original
from signbart.configuration.reading import load_config
from signbart.errors import ConfigError
from signbart.models.signbart import SignBartConfig
from signbart_tf.models.signbart.layers import last_frame_selector, padding_bias
from signbart_tf.models.signbart.model import SignBart
from signbart_torch.models.signbart.model import SignBart as TorchSignBart

REPOSITORY = Path(__file__).resolve().parents[4]
RUNS = sorted(
    path
    for path in (REPOSITORY / "configs").glob("*.yaml")
    if path.stem != "parity" and load_config(path).kind == "signbart"
)


def torch_logits(model, inputs) -> np.ndarray:
    with torch.no_grad():
        return model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()


def keras_logits(model, inputs, **options) -> np.ndarray:
    return model(inputs, **options)["logits"].numpy()


def difference(original, twin, inputs) -> float:
    return float(np.abs(keras_logits(twin, inputs) - torch_logits(original, inputs)).max())


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # one frame is allowed
@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 7), (2, 2), (2, 16), (3, 1), (3, 7)])
def test_both_compute_the_same(original, twin, make_inputs, batch, frames):
    inputs = make_inputs(batch, frames)
    logits = keras_logits(twin, inputs)
    assert logits.shape == (batch, 7) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, torch_logits(original, inputs), rtol=1e-5, atol=1e-5)


def exchange_heads(twin, _):
    attention = twin.decoder.layers[0].self_attn
    attention.num_heads, attention.head_dim = attention.head_dim, attention.num_heads


def keras_epsilon(twin, _):
    for layer in twin._flatten_layers():
        if isinstance(layer, keras.layers.LayerNormalization):
            layer.epsilon = 1e-3


def tanh_gelu(_, monkeypatch):
    gelu = keras.ops.gelu
    monkeypatch.setattr(keras.ops, "gelu", lambda x, approximate: gelu(x, approximate=True))


def no_offset(_, monkeypatch):
    monkeypatch.setattr("signbart_tf.models.signbart.layers.POSITION_OFFSET", 0)


def no_padding(_, monkeypatch):
    for module in ("encoder", "decoder"):
        monkeypatch.setattr(
            f"signbart_tf.models.signbart.{module}.padding_bias",
            lambda *given: 0 * padding_bias(*given),
        )


def not_causal(_, monkeypatch):
    monkeypatch.setattr("signbart_tf.models.signbart.decoder.causal_bias", lambda *given: 0.0)


def count_of_frames(_, monkeypatch):
    # sum(mask) - 1 is the last frame of prefixes alone.
    monkeypatch.setattr(
        "signbart_tf.models.signbart.decoder.last_frame_selector",
        lambda mask, dtype: last_frame_selector(
            keras.ops.cast(
                keras.ops.arange(mask.shape[1])[None] < keras.ops.sum(mask, axis=1, keepdims=True),
                "int32",
            ),
            dtype,
        ),
    )


@pytest.mark.parametrize(
    "mistake",
    [
        exchange_heads, keras_epsilon, tanh_gelu, no_offset, no_padding, not_causal,
        count_of_frames,
    ],
    ids=lambda mistake: mistake.__name__,
)  # fmt: skip
def test_the_comparison_notices_mistakes(original, twin, make_inputs, monkeypatch, mistake):
    inputs = make_inputs()
    assert difference(original, twin, inputs) <= 1e-5
    mistake(twin, monkeypatch)
    assert difference(original, twin, inputs) > 1e-4


@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_padded_frames_hold_changes_no_bit(twin, make_inputs, training):
    def logits():
        keras.utils.set_random_seed(0)
        return keras_logits(build_same(twin), inputs, training=training)

    inputs = make_inputs()
    wanted = logits()  # with NaN behind
    assert np.isfinite(wanted).all()
    for garbage in (np.inf, -1e30):
        inputs["keypoints"][inputs["attention_mask"] == 0] = garbage
        np.testing.assert_array_equal(logits(), wanted)
    inputs["keypoints"][inputs["attention_mask"] == 1] += 0.1
    assert not np.array_equal(logits(), wanted)


def build_same(twin) -> SignBart:
    """A copy, whose dropout starts from the global seed."""
    copy = SignBart(twin.config)
    copy.set_weights(twin.get_weights())
    return copy


@pytest.mark.slow
def test_a_row_without_a_frame_gives_finite_logits_and_disturbs_no_other(
    original, twin, make_inputs
):
    inputs = make_inputs()
    wanted = keras_logits(twin, inputs)
    inputs["attention_mask"][1] = 0
    found = keras_logits(twin, inputs)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.delete(found, 1, 0), np.delete(wanted, 1, 0))
    assert difference(original, twin, inputs) <= 1e-5


def test_one_query_gives_what_all_queries_give(twin, make_inputs):
    inputs = make_inputs()
    mask = inputs["attention_mask"]
    keypoints = np.where(mask[..., None, None] == 1, inputs["keypoints"], 0)
    x_embed, y_embed = twin.projection(keypoints, mask)
    encoded = twin.encoder(x_embed, mask)
    everything = twin.decoder(y_embed, encoded, mask, last_frame_only=False).numpy()
    last = [int(np.flatnonzero(row)[-1]) for row in mask]
    one = twin.decoder(y_embed, encoded, mask).numpy()
    assert everything.shape == (6, 11, 12) and one.shape == (6, 1, 12)
    np.testing.assert_allclose(one[:, 0], everything[np.arange(6), last], atol=1e-6)
    assert np.abs(one[:, 0] - everything[:, -1]).max() > 1e-3


# Names


def torch_children(module) -> dict[str, object]:
    return {
        name: list(child) if isinstance(child, nn.ModuleList) else child
        for name, child in module.named_children()
    }


# What each framework's own layers are called in the other.
OWN = {"Linear": "Dense", "LayerNorm": "LayerNormalization"}


def check_names(ours, theirs, path):
    """Each child of a PyTorch module is there under its name, of the same class, and no more."""
    expected, name = type(ours).__name__, type(theirs).__name__
    assert name == OWN.get(expected, expected), path
    children = torch_children(ours)
    layers = {
        key: value for key, value in vars(theirs).items()
        if isinstance(value, keras.layers.Layer)
        or (isinstance(value, list) and key == "layers")
    } if name not in OWN.values() else {}  # fmt: skip
    # nn.functional dropout has no module in PyTorch, and Keras no functional one.
    layers = {key: value for key, value in layers.items() if "dropout" not in key}
    assert layers.keys() == children.keys() - {"dropout"}, path
    for key in layers:
        ours_too, theirs_too = children[key], layers[key]
        if key == "layers":
            assert len(ours_too) == len(theirs_too)
            for index, pair in enumerate(zip(ours_too, theirs_too, strict=True)):
                check_names(*pair, f"{path}.{key}.{index}")
        else:
            check_names(ours_too, theirs_too, f"{path}.{key}")


def test_classes_and_attributes_are_called_the_same(original, twin):
    check_names(original, twin, "model")
    assert {type(m).__module__.rpartition(".")[2] for m in original.modules()} >= {"model"}
    for torch_class in {type(m) for m in original.modules() if "signbart" in type(m).__module__}:
        package, _, file = torch_class.__module__.partition(".")
        module = __import__(f"signbart_tf.{file}", fromlist=["x"])
        assert package == "signbart_torch" and hasattr(module, torch_class.__name__)


def test_a_layer_of_another_name_is_noticed(original, twin):
    twin.encoder.layers[0].fc3 = twin.encoder.layers[0].fc2
    with pytest.raises(AssertionError, match=r"model\.encoder\.layers\.0"):
        check_names(original, twin, "model")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem != "lsa64"))
        for path in RUNS
    ],
)
def test_parameter_counts_are_the_reference_s(path):
    model = load_config(path).model
    model = dataclasses.replace(model, num_labels=model.num_labels or 10)
    assert SignBart(model).count_params() == TorchSignBart(model).num_parameters


@pytest.mark.slow
def test_the_published_configuration_has_its_parameters():
    assert SignBart(load_config(REPOSITORY / "configs/arabic_90.yaml").model).count_params() == (
        773_578
    )


@pytest.mark.slow
def test_new_weights_are_drawn_as_in_the_reference(config):
    wide = dataclasses.replace(config.model, d_model=96, joint_idx=tuple(range(60)))
    spreads = [
        {key: float(np.std(array)) for key, array in arrays.items() if array.size > 500}
        for arrays in (
            {key: t.numpy() for key, t in TorchSignBart(wide).state_dict().items()},
            torch_keys(SignBart(wide)),
        )
    ]
    assert spreads[0].keys() == spreads[1].keys() and len(spreads[0]) > 30
    for key, spread in spreads[0].items():
        assert spreads[1][key] == pytest.approx(spread, rel=0.15), key


def torch_keys(twin) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in build_original(twin).state_dict().items()}


def test_a_model_needs_to_know_how_many_classes():
    with pytest.raises(ConfigError, match="num_labels"):
        SignBart(SignBartConfig(joint_idx=(0, 1)))
    with pytest.raises(ConfigError, match="joint_idx"):
        SignBart(SignBartConfig(num_labels=2))


# Dropout


def test_dropout_is_active_in_training_only(twin, make_inputs):
    inputs = make_inputs()
    still = keras_logits(twin, inputs)
    np.testing.assert_array_equal(keras_logits(twin, inputs, training=False), still)
    one, other = (keras_logits(twin, inputs, training=True) for _ in range(2))
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - still).max() > 1e-3


def test_each_dropout_has_its_own_rate(twin):
    # Embeddings of both sides, once each; attention, residual and activation in each layer; head.
    rates = [x.rate for x in twin._flatten_layers() if isinstance(x, keras.layers.Dropout)]
    assert sorted(rates) == sorted(
        [0.25] * (2 + 3 + 2) + [0.5] * (3 + 2) + [0.2] * (3 + 2 * 2) + [0.4]
    )
    assert twin.classification_head.dropout.rate == 0.4
    assert twin.decoder.layers[1].encoder_attn.dropout.rate == 0.2


def calls(monkeypatch, run) -> list[tuple[float, tuple[int, ...]]]:
    """Rate and shape of each active dropout, in the order of computation."""
    seen = []
    scaled = nn.functional.scaled_dot_product_attention

    def attention(query, key, value, *, dropout_p, **options):
        seen.append((dropout_p, (*query.shape[:3], key.shape[2])))
        return scaled(query, key, value, **options)

    def layer(self, inputs, training=False):
        return functional(inputs, self.rate, training)

    def functional(x, p=0.5, training=True, inplace=False):
        if training:
            seen.append((p, tuple(x.shape)))
        return x

    with monkeypatch.context() as patch:
        patch.setattr(keras.layers.Dropout, "call", layer)
        patch.setattr(nn.functional, "scaled_dot_product_attention", attention)
        for module in ("layers", "encoder", "decoder"):
            patch.setattr(f"signbart_torch.models.signbart.{module}.dropout", functional)
        run()
    return seen


def test_dropout_acts_at_the_same_places_on_the_same_tensors(
    original, twin, make_inputs, monkeypatch
):
    inputs = make_inputs(3, 9)
    ours = calls(monkeypatch, lambda: twin(inputs, training=True))
    original.train()
    theirs = calls(monkeypatch, lambda: torch_logits(original, inputs))
    original.eval()
    assert ours == theirs and len(ours) == 2 + 3 * 4 + 2 * 6 + 1
    assert calls(monkeypatch, lambda: twin(inputs)) == []


# Files that Keras itself writes


@pytest.mark.slow
def test_a_process_that_knows_only_the_model_reads_what_keras_wrote(twin, make_inputs, tmp_path):
    inputs = make_inputs()
    twin.save(tmp_path / "tiny.keras")
    twin.save_weights(tmp_path / "tiny.weights.h5")
    np.savez(tmp_path / "inputs.npz", **inputs)
    script = """
import sys
import keras, numpy as np
from signbart_tf.models.signbart.model import SignBart
model = keras.saving.load_model("tiny.keras")
assert type(model) is SignBart and not {"torch", "bridge"} & set(sys.modules)
other = SignBart(model.config)
other.load_weights("tiny.weights.h5")
inputs = dict(np.load("inputs.npz"))
np.save("logits.npy", [m(inputs)["logits"] for m in (model, other)])
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    for logits in np.load(tmp_path / "logits.npy"):
        np.testing.assert_array_equal(logits, keras_logits(twin, inputs))
