"""The two classifiers: names and sizes of what is published, and that padding is never read."""

import pytest
import torch

from signbart.errors import ConfigError
from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart.models.sign_transformer import SignTransformerConfig
from signbart_torch.models import export_graph as for_export
from signbart_torch.models.mediapipe_gru.model import MediapipeGru, run_gru
from signbart_torch.models.sign_transformer.model import SignTransformer


def close(one, other, atol=2e-6) -> bool:
    """Whether every score agrees to `atol` of the largest."""
    return one.keys() == other.keys() and all(
        (one[name] - other[name]).abs().max() <= atol * other[name].abs().max() for name in one
    )


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def holes(clip):
    """Frames 0, 3, 4 and 8 of 11, and NaN and infinity in the others."""
    mask = torch.zeros(1, 11, dtype=torch.int32)
    mask[0, [0, 3, 4, 8]] = 1
    padded = clip.clone()
    padded[0, mask[0] == 0] = torch.tensor([float("nan"), float("inf")] * 7)
    return padded, mask


# Sizes and names


@pytest.mark.parametrize(
    ("kind", "config", "parameters"),
    [
        (SignTransformer, SignTransformerConfig(), 3_286_259),
        (SignTransformer, SignTransformerConfig(pooling="cls"), 3_286_259),
        (MediapipeGru, MediapipeGruConfig(), 497_907),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(kind, config, parameters):
    model = kind(config)
    assert model.num_parameters == parameters
    clip = torch.randn(1, 2, 178)
    scores = model.eval()(clip)
    assert {name: tuple(score.shape) for name, score in scores.items()} == {
        "gloss": (1, 105),
        "category": (1, 10),
    }


def test_the_transformers_tensors_have_the_published_names():
    layer = [
        *(f"attention.W_{x}.{kind}" for x in "qkvo" for kind in ("weight", "bias")),
        *(f"feed_forward.linear{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
        *(f"residual{i}.norm.{kind}" for i in (1, 2) for kind in ("gamma", "beta")),
    ]
    heads = [
        f"{head}_head.{i}.{kind}"
        for head in ("gloss", "category")
        for i in (0, 3)
        for kind in ("weight", "bias")
    ]
    tensors = SignTransformer(SignTransformerConfig()).state_dict()
    assert set(tensors) == {
        *("cls_token", "embedding.weight", "embedding.bias", "pos_encoder.pe"),
        *("input_norm.gamma", "input_norm.beta", *heads),
        *(f"encoder_layers.{i}.{name}" for i in range(4) for name in layer),
    }
    assert tensors["cls_token"].shape == (1, 1, 256)
    assert tensors["pos_encoder.pe"].shape == (1, 300, 256)
    assert tensors["gloss_head.0.weight"].shape == (128, 256)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_grus_tensors_have_the_published_names(bidirectional):
    config = MediapipeGruConfig(projection_dim=64, bidirectional=bidirectional)
    suffixes = ("", "_reverse") if bidirectional else ("",)
    linear = ("input_projection", "gloss_head", "category_head")
    assert set(MediapipeGru(config).state_dict()) == {
        *(f"{name}.{kind}" for name in linear for kind in ("weight", "bias")),
        *(
            f"gru{i}.{kind}_{side}_l0{suffix}"
            for i in (1, 2)
            for kind in ("weight", "bias")
            for side in ("ih", "hh")
            for suffix in suffixes
        ),
    }


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"d_model \(24\) is not divisible by .*heads \(5\)"):
        SignTransformer(SignTransformerConfig(d_model=24, attention_heads=5))
    for kind, config in (
        (SignTransformer, SignTransformerConfig),
        (MediapipeGru, MediapipeGruConfig),
    ):
        with pytest.raises(ConfigError, match="num_labels is not set"):
            kind(config(num_labels=None))


def test_a_class_token_takes_a_position():
    config = SignTransformerConfig(pooling="cls")
    assert config.longest == 299 and SignTransformerConfig().longest == 300
    assert MediapipeGruConfig().longest is None


# Padding


def test_no_mask_means_every_frame(model, clip):
    assert close(model(clip), model(clip, torch.ones(1, 11, dtype=torch.int32)), atol=0)


def test_what_padding_holds_is_never_read(model, clip):
    padded, mask = holes(clip)
    other = torch.where(mask[..., None] > 0, clip, torch.full_like(clip, -1e30))
    scores = model(padded, mask)
    assert all(torch.isfinite(score).all() for score in scores.values())
    assert close(scores, model(other, mask), atol=0)
    changed = clip.clone()
    changed[0, 8] += 1  # the last frame that counts
    assert not close(scores, model(changed, mask), atol=1e-3)


def test_padding_at_the_end_changes_nothing(model, clip):
    mask = (torch.arange(11) < 6).to(torch.int32)[None]
    padded = clip.clone()
    padded[:, 6:] = float("nan")
    assert close(model(padded, mask), model(clip[:, :6]))
    assert not close(model(clip), model(clip[:, :6]), atol=1e-3)


@pytest.mark.parametrize("model", ["gru", "gru-projected", "gru-bidirectional"], indirect=True)
def test_a_gru_reads_a_clip_with_holes_as_if_they_were_cut_out(model, clip):
    padded, mask = holes(clip)
    assert close(model(padded, mask), model(clip[:, [0, 3, 4, 8]]))
    # Read as frames that hold zeros, they would count.
    assert not close(model(padded, mask), model(clip * mask[..., None]), atol=1e-3)


def test_each_direction_ends_where_its_last_frame_is(clip):
    gru = torch.nn.GRU(14, 6, batch_first=True, bidirectional=True)
    padded, mask = holes(clip)
    zeros = torch.zeros_like(clip)
    states, last = run_gru(
        gru, torch.where(mask[..., None] > 0, padded, zeros), 1.0 - mask[..., None].float()
    )
    assert torch.equal(last, torch.cat([states[:, -1, :6], states[:, 0, 6:]], dim=1))
    assert torch.allclose(states[:, 8, :6], states[:, 10, :6], atol=1e-6)  # held to the end
    assert not torch.allclose(states[:, 4, :6], states[:, 8, :6], atol=1e-3)
    cut = gru(clip[:, [0, 3, 4, 8]])[1]
    assert torch.allclose(last, cut.transpose(0, 1).flatten(1), atol=1e-6)


@pytest.mark.parametrize("model", ["transformer-mean"], indirect=True)
def test_positions_are_those_of_the_clip_and_not_of_its_frames(model, clip):
    padded, mask = holes(clip)
    assert not close(model(padded, mask), model(clip[:, [0, 3, 4, 8]]), atol=1e-3)


def test_a_row_without_a_frame_stays_finite(model, clip):
    empty = torch.zeros(1, 11, dtype=torch.int32)
    for graph in (model, for_export(model)):
        scores = graph(torch.full_like(clip, float("nan")), empty)
        assert all(torch.isfinite(score).all() for score in scores.values())


@pytest.mark.parametrize("length", [1, 2, 11])
def test_any_length(model, clip, length):
    short = clip[:, :length]
    mask = torch.ones(1, length, dtype=torch.int32)
    assert close(for_export(model)(short, mask), model(short, mask))


def test_a_batch_scores_as_its_clips_do(model, clip):
    batch = torch.cat([clip, clip.flip(1), clip * 2])
    mask = torch.ones(3, 11, dtype=torch.int32)
    mask[1, 7:] = 0
    mask[2, [0, 5]] = 0
    together = model(batch, mask)
    for i in range(3):
        alone = model(batch[i : i + 1], mask[i : i + 1])
        assert close(alone, {name: score[i : i + 1] for name, score in together.items()})


# The graph for export


def test_the_graph_for_export_scores_the_same(model, clip):
    padded, mask = holes(clip)
    assert close(for_export(model)(padded, mask), model(padded, mask))
    with pytest.raises(ValueError, match="takes one clip, and not 2"):
        for_export(model)(torch.cat([clip, clip]), torch.cat([mask, mask]))


@pytest.mark.parametrize(("kind", "config"), [
    (SignTransformer, SignTransformerConfig(encoder_layers=1)),
    (MediapipeGru, MediapipeGruConfig()),
])  # fmt: skip
def test_three_hundred_frames(kind, config):
    torch.manual_seed(0)
    model = kind(config).eval()
    clip, mask = torch.rand(1, 300, 178), torch.ones(1, 300, dtype=torch.int32)
    assert close(for_export(model)(clip, mask), model(clip, mask), atol=1e-5)


@pytest.mark.parametrize("model", ["gru", "gru-bidirectional"], indirect=True)
def test_gates_in_another_order_are_seen(model, clip):
    before = model(clip)
    for gru in (model.gru1, model.gru2):
        for parameter in gru.parameters():
            reset, update, new = parameter.chunk(3)
            parameter.copy_(torch.cat([update, reset, new]))
    assert not close(model(clip), before, atol=1e-3)


def test_dropout_is_for_training(clip):
    config = SignTransformerConfig(num_features=14, encoder_layers=1)
    for model in (SignTransformer(config), MediapipeGru(MediapipeGruConfig(num_features=14))):
        model.train()
        assert not close(model(clip), model(clip))
        model.eval()
        assert close(model(clip), model(clip), atol=0)


def test_every_parameter_learns(model, clip):
    with torch.enable_grad():
        scores = model(*holes(clip))
        sum(score.square().sum() for score in scores.values()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    still = {name for name, grad in gradients.items() if grad is None or grad.abs().max() < 1e-6}
    # A shift of every key alike is cancelled by the softmax.
    still -= {name for name in still if name.endswith("W_k.bias")}
    unused = getattr(model.config, "pooling", "cls") != "cls"
    assert still == ({"cls_token"} if unused else set())
    assert all(torch.isfinite(grad).all() for grad in gradients.values() if grad is not None)
