"""A reference comes from any kind of checkpoint, with the weights that were trained."""

import dataclasses

import numpy as np
import pytest
import torch

from bridge.weight_map import main
from bridge.weights.port import build_twin
from bridge.weights.source import load_reference, read_source, read_temperature
from signbart.errors import CheckpointError, SignBartError
from signbart.recordings.clip import Clip
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.weights.stored import read_progress
from signbart_runtime.evaluation.opened import open_model
from signbart_tf.training.checkpoint import save_checkpoint as save_keras
from signbart_tf.training.optimizer import AdamW
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import Checkpoint, save_checkpoint

LABELS = ("hello", "thank you", "naïve", "نعم", "no")
RECORDINGS = {"fingerprint": "ab12", "clips": 9, "test_signers": ["dan"]}
PROGRESS = {"epoch": 3, "recordings": RECORDINGS, "temperature": 1.75}


@pytest.fixture(scope="module")
def trained(config) -> SignBart:
    torch.manual_seed(5)
    return SignBart(config.model).eval()


@pytest.fixture(params=["a.safetensors", "a.keras", "a.weights.h5"])
def path(request, trained, config, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".safetensors":
        save_checkpoint(Checkpoint(trained.state_dict(), config, LABELS, PROGRESS), path)
        return path
    options = {"progress": PROGRESS}
    twin = build_twin(trained)
    if path.suffix == ".h5":  # as training leaves it
        options["optimizer"] = AdamW(config.train)
        options["optimizer"].build(twin.trainable_variables)
    save_keras(twin, config, LABELS, path, **options)
    return path


def test_the_weights_come_as_they_are(path, trained, config):
    model, found, labels = load_reference(str(path))
    assert (found, labels) == (config, LABELS)
    assert not model.training
    assert model.state_dict().keys() == trained.state_dict().keys()
    for name, tensor in trained.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), tensor.numpy())


def test_what_training_noted_comes_along(path):
    assert read_progress(path)["recordings"] == PROGRESS["recordings"]


def test_it_survives_the_weight_map_too(path, tmp_path, capsys):
    to_torch = path.suffix != ".safetensors"
    target = tmp_path / ("back.safetensors" if to_torch else "there.keras")
    assert main(["to-torch" if to_torch else "to-keras", str(path), str(target)]) == 0
    assert read_progress(target) == PROGRESS


def test_a_fitted_temperature_comes_along_and_divides_the_logits(path, trained, config, tmp_path):
    assert read_source(path).temperature == 1.75
    model = open_model(path)
    assert model.temperature == 1.75
    clip = Clip(np.full((5, 63, 2), 0.5, np.float32), 0, "a", 0, "here")
    labels, scores = zip(*model.classify(clip), strict=True)
    plain = dict(dataclasses.replace(model, temperature=1.0).classify(clip))
    powers = np.array([plain[label] for label in labels]) ** (1 / 1.75)
    np.testing.assert_allclose(scores, powers / powers.sum(), rtol=1e-5)
    # Checkpoints from before have none, and other programs' say nothing.
    save_checkpoint(Checkpoint(trained.state_dict(), config, LABELS), tmp_path / "old.safetensors")
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    for name in ("old.safetensors", "a.pth"):
        assert read_temperature(tmp_path / name) == 1.0
    progress = {"temperature": "hot"}
    checkpoint = Checkpoint(trained.state_dict(), config, LABELS, progress)
    save_checkpoint(checkpoint, tmp_path / "bad.safetensors")
    with pytest.raises(SignBartError, match=r"bad\.safetensors.*'hot'"):
        read_source(tmp_path / "bad.safetensors")


def test_a_second_configuration_is_refused(path, config):
    for second in ({"config": config}, {"class_names": LABELS}):
        with pytest.raises(CheckpointError, match="carries its own"):
            load_reference(path, **second)


def test_a_published_file_still_takes_its_configuration(trained, config, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="--config"):
        load_reference(tmp_path / "a.pth")
    model, _, labels = load_reference(tmp_path / "a.pth", config, LABELS)
    assert labels == LABELS and not model.training


@pytest.mark.parametrize("name", ["absent.keras", "absent.weights.h5", "absent.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    for read in (load_reference, read_progress):
        with pytest.raises(CheckpointError, match=f"no checkpoint at .*{name}"):
            read(tmp_path / name)


def test_a_damaged_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=path.name):
        load_reference(path)


@pytest.mark.slow
def test_what_keras_trained_leaves_by_a_route(made_clips, with_train, tmp_path, eager_keras):
    """By the default one: to a route all that was read is a PyTorch model."""
    from bridge.conversion.pipeline import convert
    from signbart_runtime.evaluation.files import evaluate_files
    from signbart_tf.training.learner import train

    run = tmp_path / "run"
    with eager_keras():
        train(made_clips, with_train(epochs=4), run, test_signers=["dan"])
    packed = tmp_path / "clips.npz"
    write_packed(made_clips, packed)
    best = run / "best.keras"
    (made,) = convert(best, tmp_path / "out", routes=["litert"], data=str(packed), raw_frames=0)
    assert made.parity.passed, made.parity.reason
    # The same answers as the Keras model itself, in its own runtime.
    found = evaluate_files([best, made.path], read_clips(packed), "clips")
    for evaluation in found.values():
        np.testing.assert_allclose(evaluation.logits, found[best].logits, atol=2e-5, rtol=2e-5)
    assert found[best].scores.accuracy > 0.5  # of three classes: it has learnt something
