"""Pruning: whole units go, and what is left is an ordinary, smaller model."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

from signbart.batches import prepare_clips
from signbart.configuration.reading import from_dict
from signbart.console import run_command
from signbart.errors import CheckpointError, ConfigError
from signbart.files import file_sha256
from signbart.models.conv_signbart import ConvSignBartConfig
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.training.pruning import Target, narrowed
from signbart.training.requirements import require_prunable
from signbart.training.splits import split_clips
from signbart_torch import prune
from signbart_torch.compression.pruning import (
    best_units,
    importance,
    train_pruned,
    without_others,
)
from signbart_torch.models import new_model, num_parameters, prunable_units
from signbart_torch.training.checkpoint import load_checkpoint, load_model
from signbart_torch.training.data import training_batches
from signbart_torch.training.learner import train
from signbart_torch.training.objective import Objective
from tests.signbart_torch.conftest import SMALL

# K ≠ D ≠ W ≠ F, blocks ≠ heads.
CONV = ConvSignBartConfig(
    joint_idx=(0, 2, 3, 5, 8), num_labels=7, coordinates=2, d_model=12, blocks_before=2,
    blocks_after=1, kernel_size=3, attention_heads=4, ffn_dim=10, max_position_embeddings=16,
)  # fmt: skip
# A model and a smaller one of the same form.
PAIRS = {
    "signbart": [
        dataclasses.replace(
            SMALL, d_model=d_model, encoder_ffn_dim=inner, decoder_ffn_dim=inner + 4
        )
        for d_model, inner in ((36, 10), (24, 7))
    ],
    "conv_signbart": [CONV, dataclasses.replace(CONV, d_model=8, ffn_dim=7)],
}


def count(model) -> int:
    return num_parameters(new_model(model))


@pytest.fixture(params=PAIRS)
def pair(request):
    """A model of random weights, in double precision, and the smaller one's configuration."""
    whole, small = PAIRS[request.param]
    torch.manual_seed(3)
    model = new_model(whole).double().eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.4 * torch.rand_like(tensor))  # variances stay positive
    return model, small


def choose(model, small, seed=5) -> list[torch.Tensor]:
    """Units that stay, at random."""
    torch.manual_seed(seed)
    units = zip(prunable_units(model.config), prunable_units(small), strict=True)
    return [best_units(torch.rand(of.count), of.groups, fewer.count) for of, fewer in units]


def pruned(model, small, kept) -> nn.Module:
    found = new_model(small).double().eval()
    tensors = without_others(model.state_dict(), prunable_units(model.config), kept)
    found.load_state_dict(tensors, strict=True)
    return found


class NormOfKept(nn.Module):
    """LayerNorm that does not see channels that are gone."""

    def __init__(self, norm: nn.LayerNorm, kept: torch.Tensor):
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, states):
        seen = states[..., self.kept]
        mean, variance = seen.mean(-1, keepdim=True), seen.var(-1, unbiased=False, keepdim=True)
        normed = (states - mean) / (variance + self.norm.eps).sqrt()
        return normed * self.norm.weight + self.norm.bias


def zeroed(model, kept, *, norms=True) -> nn.Module:
    """The whole model with everything of the other units 0."""
    found = copy.deepcopy(model)
    tensors = found.state_dict()
    for group, indices in zip(prunable_units(model.config), kept, strict=True):
        gone = torch.ones(group.count, dtype=bool)
        gone[indices] = False
        for name, axis in group.places:
            everywhere = gone.repeat(tensors[name].shape[axis] // group.count)
            tensors[name].movedim(axis, 0)[everywhere] = 0
            layer = name.rpartition(".")[0]
            parent, _, part = layer.rpartition(".")
            norm = found.get_submodule(layer)
            if norms and isinstance(norm, nn.LayerNorm):
                found.get_submodule(parent).register_module(part, NormOfKept(norm, ~everywhere))
    return found


def outputs(model, keypoints, mask):
    with torch.no_grad():
        return model(keypoints.double(), mask)


def test_it_is_the_whole_model_with_those_units_zeroed(pair, keypoints, mask):
    """But for LayerNorm, whose mean and variance are of the channels that are left."""
    model, small = pair
    kept = choose(model, small)
    found, wanted = pruned(model, small, kept), zeroed(model, kept)
    assert num_parameters(found) == count(small) < 0.8 * num_parameters(model)
    outcome = outputs(found, keypoints, mask)
    torch.testing.assert_close(outcome, outputs(wanted, keypoints, mask), rtol=1e-9, atol=1e-10)
    whole = outputs(model, keypoints, mask)
    others = outputs(zeroed(model, choose(model, small, seed=6)), keypoints, mask)
    for other in (whole, others, outputs(zeroed(model, kept, norms=False), keypoints, mask)):
        assert (other - outcome).abs().max() > 0.01


def test_scores_are_divided_by_the_root_of_the_former_head(pair, keypoints, mask):
    """Without it a head that got narrower would look more sharply."""
    model, small = pair
    kept = choose(model, small)
    found = pruned(model, small, kept)
    right = outputs(found, keypoints, mask)
    for group, indices in zip(prunable_units(model.config), kept, strict=True):
        for name in group.rescaled:
            found.state_dict()[name].mul_((group.count / len(indices)) ** 0.5)
    assert (outputs(found, keypoints, mask) - right).abs().max() > 1e-4


def test_of_each_head_equally_many_stay():
    scores = torch.tensor([9.0, 1, 8, 7, 0, 3, 2, 1])
    assert best_units(scores, 2, 4).tolist() == [0, 2, 5, 6]
    assert best_units(scores, 1, 4).tolist() == [0, 2, 3, 5]


@pytest.fixture(scope="module")
def clips_of(tmp_path_factory, made_clips) -> ClipSet:
    """As read back: packing rounds landmarks, and other landmarks are other recordings."""
    path = tmp_path_factory.mktemp("recordings") / "tiny.npz"
    write_packed(made_clips, path)
    return read_clips(path)


def test_importance_is_the_squared_slope_of_the_loss(made_clips, tiny_config):
    """By what all of a unit's values are multiplied with, of each batch apart."""
    config = dataclasses.replace(
        tiny_config, model=dataclasses.replace(tiny_config.model, num_labels=3)
    )
    torch.manual_seed(1)
    model = new_model(config.model).eval()
    units = prunable_units(config.model)
    found = importance(model, units, made_clips, config)
    objective = Objective(config, made_clips.class_names, torch.device("cpu"))
    batches = list(training_batches(prepare_clips(made_clips, config), config, 0))
    assert len(batches) > 1
    for group, scores in zip(units, found, strict=True):
        unit = int(scores.argmax())
        squares = []
        for batch in batches:
            factor = torch.ones((), requires_grad=True)
            tensors = {name: t.detach().clone() for name, t in model.state_dict().items()}
            for name, axis in group.places:
                scale = torch.ones(group.count).index_put((torch.tensor(unit),), factor)
                shape = [1] * tensors[name].dim()
                shape[axis] = group.count
                tensors[name] = tensors[name] * scale.view(shape)
            logits = functional_call(model, tensors, (batch.keypoints, batch.attention_mask))
            loss = objective(logits, batch.labels, batch.mixed) / len(batch.labels)
            squares.append(float(torch.autograd.grad(loss, factor)[0]) ** 2)
        mean = sum(squares) / len(squares)
        assert mean > 0 and float(scores[unit]) == pytest.approx(mean, rel=1e-3)


# How small


def test_the_widest_that_keeps_to_the_target(tiny_config):
    config = dataclasses.replace(
        tiny_config, model=dataclasses.replace(tiny_config.model, num_labels=3)
    )
    sizes = {}
    for d_model in (12, 8, 4):
        # 24 and 20 inner units to 16 channels.
        inner = {"encoder_ffn_dim": d_model * 3 // 2, "decoder_ffn_dim": d_model * 5 // 4}
        sizes[d_model] = dataclasses.replace(config.model, d_model=d_model, **inner)
    for d_model, model in sizes.items():
        assert narrowed(config, Target(parameters=count(model)), count).model == model
        if d_model != 4:
            fewer = narrowed(config, Target(parameters=count(model) - 1), count)
            assert fewer.model == sizes[d_model - 4]
    half = narrowed(config, Target(keep=0.5), count)
    assert count(half.model) <= count(config.model) / 2
    assert (half.data, half.augment, half.train) == (config.data, config.augment, config.train)
    with pytest.raises(ConfigError, match=r"narrowest model of this form has"):
        narrowed(config, Target(parameters=10), count)
    with pytest.raises(ConfigError, match=r"has [\d,]+ parameters, no more than the [\d,]+"):
        narrowed(config, Target(parameters=count(config.model)), count)


@pytest.mark.parametrize(
    ("values", "says"),
    [({}, "--parameters N or --keep"), ({"parameters": 9, "keep": 0.5}, "or --keep SHARE"),
     ({"keep": 1.0}, "--keep 1:"), ({"keep": float("nan")}, "--keep nan"),
     ({"parameters": 0}, "--parameters 0")],
)  # fmt: skip
def test_impossible_targets(values, says):
    with pytest.raises(ConfigError, match=says):
        Target(**values)


def test_a_kind_whose_units_are_not_known_is_refused():
    config = from_dict(
        {"model": {"kind": "sign_transformer"}, "data": {"layout": "kp89"}}, source="tests"
    )
    with pytest.raises(ConfigError, match=r"pruning is for SignBART, ConvSignBART only"):
        require_prunable(config)


# What comes out


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clips_of, tiny_config) -> Path:
    """The checkpoint of a run: anna chose the epoch, dan was tested."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(clips_of, tiny_config, folder, test_signers=["dan"], device="cpu")
    return folder / "best.safetensors"


def fit(trained, clips, folder, *, keep=0.6, **options):
    checkpoint = load_checkpoint(trained)
    options = {"source": trained, "device": "cpu", "target": Target(keep=keep), **options}
    return train_pruned(clips, checkpoint, checkpoint.config, folder, **options)


def test_the_result_is_an_ordinary_run(trained, clips_of, tmp_path):
    said = []
    results = fit(trained, clips_of, tmp_path / "run", announce=said.append)
    before = load_checkpoint(trained)
    after = load_checkpoint(tmp_path / "run" / "best.safetensors")
    model, config, labels = load_model(tmp_path / "run" / "best.safetensors")
    whole = count(before.config.model)
    assert num_parameters(model) == results["parameters"] <= 0.6 * whole
    assert (config.data, config.train) == (before.config.data, before.config.train)
    assert labels == before.class_names
    # Whom the whole model was not trained on, the smaller one is not either.
    assert after.progress["recordings"] == before.progress["recordings"]
    assert results["test_signers"] == ["dan"] and results["val_signers"] == ["anna"]
    identity = {"pruned_from": whole, "checkpoint": file_sha256(trained)}
    assert after.progress["start"] == identity
    assert results["start"].items() >= identity.items() and "test" in results["start"]["plain"]
    assert f"{whole:,} parameters to {results['parameters']:,}, d_model 16 to" in said[0]
    # Nothing but training clips decides which units go.
    split = split_clips(clips_of, config.train, ["dan"])
    changed = [
        clip if at in split.train else dataclasses.replace(clip, landmarks=clip.landmarks[::-1])
        for at, clip in enumerate(clips_of.clips)
    ]
    other = ClipSet(tuple(changed), clips_of.class_names)
    options = {"test_signers": ["dan"], "keep": 0.6}
    fit(trained, other, tmp_path / "other", **options)
    for name, tensor in load_checkpoint(tmp_path / "other" / "last.safetensors").tensors.items():
        assert torch.equal(tensor, load_checkpoint(tmp_path / "run/last.safetensors").tensors[name])


def test_what_is_refused(trained, clips_of, tmp_path):
    with pytest.raises(ConfigError, match=r"--test-signers ben: .* was tested on dan"):
        fit(trained, clips_of, tmp_path / "run", test_signers=["ben"])
    other = ClipSet(clips_of.clips, ("left", "right", "neither"))
    with pytest.raises(CheckpointError, match="other classes"):
        fit(trained, other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command(trained, clips_of, tmp_path, capsys):
    write_packed(clips_of, tmp_path / "tiny.npz")
    arguments = [
        "--checkpoint", trained, "--data", tmp_path / "tiny.npz", "--output", tmp_path / "run",
        "--set", "train.epochs=1", "--device", "cpu",
    ]  # fmt: skip
    arguments = list(map(str, arguments))
    assert prune.main([*arguments, "--keep", "0.6"]) == 0
    printed = capsys.readouterr().out
    assert "pruned, before training: val " in printed and "d_model 16 to 8" in printed
    assert json.loads((tmp_path / "run/results.json").read_text())["epochs"] == 1

    def refusal(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            run_command(lambda: prune.main([*arguments, *more]))
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "model.d_model is 8 there and 4 now" in refusal("--keep", "0.3", "--resume")
    assert "has to stay" in refusal("--keep", "0.6", "--set", "model.d_model=8")
    assert "--parameters N or --keep SHARE" in refusal()
    bare = tmp_path / "bare.pth"
    torch.save(dict(load_checkpoint(trained).tensors), bare)
    arguments[1] = str(bare)
    assert "carries no configuration" in refusal("--keep", "0.5")
