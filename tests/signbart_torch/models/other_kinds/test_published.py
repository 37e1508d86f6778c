"""Other people's checkpoint files: every form they come in, and what is wrong with the others."""

import os

import pytest
import torch
from torch import nn

from signbart.errors import CheckpointError
from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart_torch.models.mediapipe_gru.model import MediapipeGru
from signbart_torch.models.mediapipe_gru.published import read_published as gru_of
from signbart_torch.models.published import read_state_dict
from signbart_torch.models.sign_transformer.published import read_published as transformer_of

FORMS = {
    "bare": lambda state: state,
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state},
    "state_dict": lambda state: {"state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state},
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "both": lambda state: {"model": {f"module.{n}": t for n, t in state.items()}},
}


def load_mediapipe_gru(path, **options):
    return gru_of(read_state_dict(path), **options)


def load_sign_transformer(path, **options):
    return transformer_of(read_state_dict(path), **options)


def load(path, model, **options):
    """Reads `path` as a model of the kind of `model`, told what its tensors do not say."""
    if isinstance(model, MediapipeGru):
        return load_mediapipe_gru(path, **options)
    told = {"attention_heads": model.config.attention_heads, "pooling": model.config.pooling}
    return load_sign_transformer(path, **(told | options))


def scores(model, clip):
    with torch.no_grad():
        return torch.cat(list(model(clip).values()), dim=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


# What loads


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_state_dict_loads(model, clip, path, form):
    torch.save(FORMS[form](model.state_dict()), path)
    loaded = load(path, model)
    assert not loaded.training
    sizes = vars(model.config) | {"dropout": loaded.config.dropout}
    if isinstance(model, MediapipeGru):
        sizes["max_frames"] = 300  # not in the file, and nothing depends on it
    assert vars(loaded.config) == sizes
    assert torch.equal(scores(loaded, clip), scores(model, clip))


def test_default_sizes_are_the_published_ones(path):
    for config, kind, loader in (
        (SignTransformerConfig(), "SignTransformer", load_sign_transformer),
        (MediapipeGruConfig(), "MediapipeGru", load_mediapipe_gru),
    ):
        from signbart_torch.models.mediapipe_gru import model as mediapipe_gru
        from signbart_torch.models.sign_transformer import model as sign_transformer

        made = getattr(mediapipe_gru if "Gru" in kind else sign_transformer, kind)(config)
        torch.save(made.state_dict(), path)
        assert loader(path).config == config


@pytest.mark.parametrize("model", ["transformer-mean"], indirect=True)
def test_positions_that_are_not_stored_are_computed(model, clip, path):
    state = model.state_dict()
    del state["pos_encoder.pe"]
    torch.save(state, path)
    loaded = load(path, model, max_frames=12)
    assert torch.equal(scores(loaded, clip), scores(model, clip))
    assert load(path, model).config.max_frames == 300


@pytest.mark.parametrize("model", ["transformer-mean"], indirect=True)
def test_heads_and_pooling_are_taken_from_whoever_asks(model, clip, path):
    torch.save(model.state_dict(), path)
    same = scores(load(path, model), clip)
    for options in ({"attention_heads": 4}, {"pooling": "max"}):
        assert not torch.allclose(scores(load(path, model, **options), clip), same, atol=1e-3)


def test_half_precision_is_widened(model, path):
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, path)
    assert all(tensor.dtype == torch.float32 for tensor in load(path, model).state_dict().values())


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, lambda m: {"model": m}])
def test_a_whole_module_loads_without_its_class(model, clip, path, wrap):
    torch.save(wrap(model), path)
    assert torch.equal(scores(load(path, model), clip), scores(model, clip))


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, lambda m: {"model": m}])
@pytest.mark.parametrize("model", ["transformer-max"], indirect=True)
def test_a_published_module_tells_its_heads_and_pooling(model, clip, path, wrap):
    for pooling_method in ("max", None):  # its own name for it, or the configuration's
        if pooling_method:
            model.pooling_method = pooling_method
        else:
            del model.pooling_method
        torch.save(wrap(model), path)
        loaded = load_sign_transformer(path)
        assert loaded.config.attention_heads == 3 and loaded.config.pooling == "max"
        assert torch.equal(scores(loaded, clip), scores(model, clip))


# What does not


class Malicious:
    """What it asks for is done by whoever unpickles it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["beside", "inside"])
def test_nothing_is_executed(model, clip, path, tmp_path, form):
    evil, state = Malicious(tmp_path / "done"), model.state_dict()
    torch.save({"model": state, "note": evil} if form == "beside" else state | {"x": evil}, path)
    assert torch.equal(scores(load(path, model), clip), scores(model, clip))
    assert not (tmp_path / "done").exists()
    # The control: this is what did not happen.
    torch.load(path, weights_only=False)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no checkpoint at"),
        (b"", "is no checkpoint: neither PyTorch's, nor a .safetensors, nor Keras's"),
        (b"hello world", "is no checkpoint: neither PyTorch's"),
        (b"\x80\x02garbage", "is cut or damaged"),
    ],
)
def test_files_that_are_missing_or_damaged(path, content, text):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    assert text in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_file(model, path):
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="is cut") as error:
        load(path, model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "found list"),
        ({}, "found a dict of nothing"),
        ({"epoch": 3, "weights": {}}, "found a dict of epoch, weights"),
        ({"model": {"layer": 3}}, "found a dict of model"),
        (torch.zeros(3), "found one tensor alone"),
        ({"a": torch.zeros(3, dtype=torch.int64)}, "tensor a is int64, expected floats"),
    ],
)
def test_files_without_a_state_dict(path, content, found):
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=found):
        read_state_dict(path)


def test_another_architecture_is_told_by_its_keys(model, path):
    torch.save(model.state_dict(), path)
    is_gru = isinstance(model, MediapipeGru)
    with pytest.raises(CheckpointError) as error:
        (load_sign_transformer if is_gru else load_mediapipe_gru)(path)
    text = str(error.value)
    assert "\n" not in text and str(path) in text
    if is_gru:
        assert "not a SignTransformer checkpoint: missing: cls_token" in text
        assert "unexpected: g" in text or "unexpected: input_projection" in text
    else:
        assert "not a MediapipeGru checkpoint: missing: gru1.weight_ih_l0" in text
        assert "unexpected: cls_token" in text


@pytest.mark.parametrize("model", ["transformer-mean", "gru"], indirect=True)
def test_one_tensor_that_does_not_fit_is_named(model, path):
    name = "gru1.bias_hh_l0" if isinstance(model, MediapipeGru) else (
        "encoder_layers.1.attention.W_v.bias"
    )  # fmt: skip
    state = model.state_dict()
    shape = tuple(state[name].shape)
    for change, message in (
        ({name: torch.zeros(2)}, rf"shape of {name}: \(2,\), expected \({shape[0]},\)"),
        ({"extra": torch.zeros(2)}, r"checkpoint: unexpected: extra\. Give one whose tensors"),
    ):
        torch.save(state | change, path)
        with pytest.raises(CheckpointError, match=message):
            load(path, model)
    del state[name]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=rf"checkpoint: missing: {name}\. Give one whose"):
        load(path, model)


@pytest.mark.parametrize("model", ["transformer-mean"], indirect=True)
def test_impossible_answers_name_what_was_asked(model, path):
    torch.save(model.state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"5 attention heads do not divide the width 24.*tten"
    ):
        load(path, model, attention_heads=5)
    with pytest.raises(CheckpointError, match=r"pooling is 'sum'; give one of: mean, max, cls"):
        load(path, model, pooling="sum")
