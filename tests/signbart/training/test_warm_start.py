"""Training that starts from somebody's weights: what is taken, what is new, what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.errors import CheckpointError, ConfigError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart.training.frameworks import FRAMEWORKS
from signbart.training.warm_start import Init, fit, frozen_of, start_from
from signbart.weights.stored import Stored, read_stored

MODEL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
         "max_position_embeddings": 12}  # fmt: skip


def run(layout="kp65", **model):
    return from_dict(
        {
            "name": "run",
            "model": {**MODEL, "num_labels": 3, **model},
            "data": {"layout": layout, "max_frames": 8, "normalization": "bbox_ignore_missing"},
            "train": {"epochs": 2, "batch_size": 4, "val_signers": 0, "lr": 0.01},
        },
        source="tests",
    )


def tensors(config, seed: int) -> dict[str, np.ndarray]:
    import torch

    from signbart_torch.models import new_model

    torch.manual_seed(seed)
    state = new_model(config.model).state_dict()
    return {name: tensor.numpy() + np.float32(0.01 * seed) for name, tensor in state.items()}


HEAD = "classification_head.out_proj"


@pytest.fixture(scope="module")
def before() -> Stored:
    config = run()
    return Stored(tensors(config, 1), "a checkpoint", config, ("bye", "hello", "thanks"))


def test_classes_are_taken_by_name_and_new_ones_begin_anew(before):
    config = run(num_labels=4)
    fresh = tensors(config, 2)
    found = fit(before, config, ("thanks", "rain", "bye", "sun"), fresh, "x")
    for part in ("weight", "bias"):
        name = f"{HEAD}.{part}"
        np.testing.assert_array_equal(found.tensors[name][0], before.tensors[name][2])
        np.testing.assert_array_equal(found.tensors[name][2], before.tensors[name][0])
        np.testing.assert_array_equal(found.tensors[name][[1, 3]], fresh[name][[1, 3]])
    body = [name for name in fresh if not name.startswith("classification_head")]
    for name in body:
        np.testing.assert_array_equal(found.tensors[name], before.tensors[name])
    report = "\n".join(found.describe("x"))
    assert "classes: 2 of 4 by name, 2 new; 1 left out" in report
    assert "starts from x: " in report


def test_a_head_without_names_is_not_taken(before):
    unnamed = dataclasses.replace(before, config=None, class_names=())
    fresh = tensors(run(), 2)
    found = fit(unnamed, run(), ("bye", "hello", "thanks"), fresh, "x")
    np.testing.assert_array_equal(found.tensors[f"{HEAD}.bias"], fresh[f"{HEAD}.bias"])
    assert "classes: all new, since there they have no names" in found.remarks


@pytest.mark.parametrize(("positions", "what"), [(6, "cut"), (40, "extended by new ones")])
def test_positions_are_cut_or_extended_and_said(before, positions, what):
    config = dataclasses.replace(run(), data=dataclasses.replace(run().data, max_frames=4))
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, max_position_embeddings=positions)
    )
    fresh = tensors(config, 2)
    found = fit(before, config, before.class_names, fresh, "x")
    name = "encoder.embed_positions.weight"
    count = min(len(fresh[name]), len(before.tensors[name]))
    np.testing.assert_array_equal(found.tensors[name][:count], before.tensors[name][:count])
    np.testing.assert_array_equal(found.tensors[name][count:], fresh[name][count:])
    assert any(what in remark and "positions: " in remark for remark in found.remarks)


def test_landmarks_are_taken_by_name(before):
    config = run("kp75")
    fresh = tensors(config, 2)
    found = fit(before, config, before.class_names, fresh, "x")
    name = "projection.proj_x1.weight"
    here, there = get_layout("kp75").names, get_layout("kp65").names
    for at, landmark in enumerate(here):
        expected = (
            before.tensors[name][:, there.index(landmark)]
            if landmark in there
            else fresh[name][:, at]
        )
        np.testing.assert_array_equal(found.tensors[name][:, at], expected)
    assert "landmarks: 65 of 75 by name" in found.remarks


def columns(config, at: int) -> list[int]:
    """Those of a landmark in ConvSignBART's first layer: x and y, and their motion twice."""
    times = 3 * config.model.motion or 1
    return [2 * (block * config.num_keypoints + at) + axis for block in range(times)
            for axis in range(2)]  # fmt: skip


@pytest.mark.parametrize("motion", [True, False])
def test_landmarks_of_several_columns_are_taken_by_name(motion):
    def conv(layout, **model):
        tree = run(layout).to_dict() | {
            "model": {"kind": "conv_signbart", "num_labels": 3, "d_model": 16, **model}
        }
        return from_dict(tree, source="tests")

    there, here = conv("kp65", motion=motion), conv("kp75", motion=motion)
    before = Stored(tensors(there, 1), "a checkpoint", there, ("a", "b", "c"))
    fresh, name = tensors(here, 2), "input_projection.weight"
    found = fit(before, here, before.class_names, fresh, "x").tensors[name]
    known = get_layout("kp65").names
    for at, landmark in enumerate(get_layout("kp75").names):
        expected = fresh[name][:, columns(here, at)]
        if landmark in known:
            expected = before.tensors[name][:, columns(there, known.index(landmark))]
        np.testing.assert_array_equal(found[:, columns(here, at)], expected)
    # Without the motion that is asked for, or the other way round, nothing has a counterpart.
    other = conv("kp65", motion=not motion)
    fresh = tensors(other, 2)
    found = fit(before, other, before.class_names, fresh, "x").tensors[name]
    np.testing.assert_array_equal(found, fresh[name])


def test_another_model_is_refused_with_both_names(before):
    config = run(d_model=32)
    with pytest.raises(CheckpointError) as error:
        fit(before, config, before.class_names, tensors(config, 2), "other.pth")
    text = str(error.value)
    assert "other.pth" in text and "almost nothing fits" in text
    assert "missing: " in text and "unexpected: " in text and "(14, 16), here (14, 32)" in text


def test_integers_are_no_weights(before):
    kept = "encoder.layers.0.fc1.bias"
    bits = {**before.tensors, kept: before.tensors[kept].view(np.int32)}
    fresh = tensors(run(), 2)
    found = fit(dataclasses.replace(before, tensors=bits), run(), before.class_names, fresh, "x")
    np.testing.assert_array_equal(found.tensors[kept], fresh[kept])
    assert found.left_out == [f"{kept} int32, here float32"]


def test_nan_is_refused_where_it_comes_from(before):
    broken = {**before.tensors, f"{HEAD}.bias": np.full(3, np.nan, np.float32)}
    given = dataclasses.replace(before, tensors=broken)
    with pytest.raises(CheckpointError, match=rf"x\.pth: {HEAD}\.bias holds NaN"):
        fit(given, run(), before.class_names, tensors(run(), 2), "x.pth")


def test_freezing_what_was_not_taken_is_warned_of(before, monkeypatch):
    init = Init("x", freeze=("classification_head",))
    monkeypatch.setattr(Init, "read", lambda self: dataclasses.replace(before, class_names=()))
    monkeypatch.setattr("signbart.training.warm_start.file_sha256", lambda path: "0")
    start = start_from(init, run(), before.class_names, tensors(run(), 2), lambda made: made)
    assert any("warning: frozen, but new" in note and HEAD in note for note in start.notes)


def test_parts_to_freeze():
    names = [*tensors(run(), 1)]
    encoder = frozen_of(run(), names, ["encoder"])
    assert encoder == {name for name in names if name.startswith("encoder.")}
    body = frozen_of(run(), names, ["body"])
    assert set(names) - body == {f"{HEAD}.weight", f"{HEAD}.bias"}
    with pytest.raises(ConfigError, match="--freeze encodr: there is no such part; choose of body"):
        frozen_of(run(), names, ["encodr"])
    with pytest.raises(ConfigError, match="nothing would be trained"):
        frozen_of(run(), names, ["body", "classification_head"])


# Whole runs, in both frameworks


def recordings(class_names, seed=0) -> ClipSet:
    rng = np.random.default_rng(seed)
    clips = tuple(
        Clip(rng.uniform(0.2, 0.8, (9, 65, 2)).astype(np.float32), at % len(class_names),
             f"S{at % 3}", at, f"[{at}]")
        for at in range(4 * len(class_names))
    )  # fmt: skip
    return ClipSet(clips, tuple(class_names))


def train(framework):
    if framework == "torch":
        from signbart_torch import train_model
    else:
        from signbart_tf import train_model
    return train_model


# Of TensorFlow and Keras, about their own eager mode.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Even though the `tf.config"),
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]


@pytest.fixture(scope="module")
def eagerly(eager_keras):
    """These runs have a handful of steps."""
    with eager_keras():
        yield


@pytest.fixture(scope="module", params=["torch", "keras"])
def trained(request, tmp_path_factory, eagerly):
    """A run of three classes: which framework, and its checkpoint."""
    folder = tmp_path_factory.mktemp(request.param)
    train(request.param)(recordings(("bye", "hello", "thanks")), run(), folder)
    return request.param, folder / FRAMEWORKS[request.param].best


@pytest.mark.slow
@pytest.mark.parametrize("other", ["torch", "keras"])
def test_a_run_starts_from_either_framework_and_says_so(trained, other, tmp_path):
    _, checkpoint = trained
    clips, said = recordings(("thanks", "rain")), []
    config = run(num_labels=None)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, lr=0.0))
    results = train(other)(clips, config, tmp_path, init=Init(checkpoint), announce=said.append)
    assert "classes: 1 of 2 by name, 1 new; 2 left out" in said[0]
    assert f"starts from {checkpoint}" in said[0]
    # Nothing was learnt at rate 0: what was taken is still there.
    old, new = read_stored(checkpoint), read_stored(tmp_path / FRAMEWORKS[other].best)
    for name, tensor in old.tensors.items():
        if not name.startswith("classification_head"):
            np.testing.assert_allclose(new.tensors[name], tensor, atol=1e-7)
    np.testing.assert_allclose(
        new.tensors[f"{HEAD}.weight"][0], old.tensors[f"{HEAD}.weight"][2], atol=1e-7
    )
    start = new.progress["start"]
    assert len(start["checkpoint"]) == 64 and start["freeze"] == []
    assert results["start"]["checkpoint"] == start["checkpoint"]
    assert json.dumps(start)


@pytest.fixture(scope="module")
def fine_tuned(trained, tmp_path_factory):
    """A run that starts from it: its folder, and a copy as a kill behind the first epoch leaves it.

    Without decay, so that what moves weights are gradients alone.
    """
    framework, checkpoint = trained
    folder = tmp_path_factory.mktemp("fine_tuned") / "run"
    stopped = folder.with_name("stopped")

    def copy(row):
        if row["epoch"] == 1:
            shutil.copytree(folder, stopped)

    train(framework)(
        recordings(("thanks", "rain")), slowed(1.0), folder, init=Init(checkpoint), report=copy
    )
    return folder, stopped


def slowed(scale: float):
    config = run(num_labels=None)
    return dataclasses.replace(
        config, train=dataclasses.replace(config.train, body_lr_scale=scale, weight_decay=0.0)
    )


@pytest.mark.slow
def test_frozen_parts_keep_their_weights_and_others_do_not(trained, tmp_path):
    framework, checkpoint = trained
    train(framework)(
        recordings(("thanks", "rain")), run(num_labels=None), tmp_path,
        init=Init(checkpoint, freeze=("encoder", "projection")),
    )  # fmt: skip
    old, new = (
        read_stored(checkpoint),
        read_stored(tmp_path / FRAMEWORKS[framework].last),
    )
    moved = {name for name, tensor in old.tensors.items()
             if not name.startswith("classification_head")
             and not np.array_equal(tensor, new.tensors[name])}  # fmt: skip
    assert moved and all(name.startswith("decoder.") for name in moved)


@pytest.mark.slow
def test_the_body_may_learn_more_slowly(trained, fine_tuned, tmp_path):
    framework, checkpoint = trained
    folders = {0.0: tmp_path / "0", 0.1: tmp_path / "0.1", 1.0: fine_tuned[0]}
    distances = {}
    for scale, folder in folders.items():
        if scale != 1:
            clips = recordings(("thanks", "rain"))
            train(framework)(clips, slowed(scale), folder, init=Init(checkpoint))
        new = read_stored(folder / FRAMEWORKS[framework].last)
        old = read_stored(checkpoint)
        name = "encoder.layers.0.fc1.weight"
        distances[scale] = np.abs(new.tensors[name] - old.tensors[name]).mean()
    assert distances[0.0] == 0 and 0 < distances[0.1] < 0.3 * distances[1.0]


@pytest.mark.slow
def test_an_interrupted_fine_tuning_goes_on_and_another_start_is_refused(
    trained, fine_tuned, tmp_path
):
    framework, checkpoint = trained
    whole, stopped = fine_tuned
    clips, config, part = recordings(("thanks", "rain")), slowed(1.0), tmp_path / "part"
    shutil.copytree(stopped, part)
    with pytest.raises(ConfigError, match="part"):
        train(framework)(clips, config, part, resume=True)
    train(framework)(clips, config, part, init=Init(checkpoint), resume=True)
    ended, resumed = (read_stored(run / FRAMEWORKS[framework].last) for run in (whole, part))
    for name, tensor in ended.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[name], tensor)


def test_a_slow_body_without_trained_weights_is_warned_of(
    tiny_clips, tiny_config, tmp_path, capsys
):
    import yaml

    from signbart.recordings.packed import write_packed
    from signbart_torch.train import main

    write_packed(tiny_clips, tmp_path / "tiny.npz")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_config.to_dict()))
    arguments = ["--config", str(tmp_path / "tiny.yaml"), "--data", str(tmp_path / "tiny.npz")]
    for scale, warned in (("0.1", True), ("1", False)):
        options = ["--output", str(tmp_path / scale), "--device", "cpu", "--set", "train.epochs=1"]
        main([*arguments, *options, "--set", f"train.body_lr_scale={scale}"])
        assert ("warning: train.body_lr_scale slows" in capsys.readouterr().err) is warned
