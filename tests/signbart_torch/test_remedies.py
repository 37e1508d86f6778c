"""What a fault in recordings costs a trained model, and that its remedy gives all of it back."""

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.errors import ClipError
from signbart.landmarks.source_layouts import get_source_layout
from signbart.recordings.clip import ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.recordings.recording import Changes
from signbart_runtime.evaluation.opened import OpenedModel, open_model
from signbart_runtime.evaluation.predict import evaluate
from signbart_torch import train_model
from tests.signbart.recordings.faults import FAULTS, changed

pytestmark = pytest.mark.slow

UNSEEN = "S03"


@pytest.fixture(scope="module")
def clips(asl10_pose_hands) -> ClipSet:
    return read_clips(asl10_pose_hands)


@pytest.fixture(scope="module")
def model(clips, tmp_path_factory) -> OpenedModel:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 48, "encoder_ffn_dim": 96,
             "decoder_ffn_dim": 96, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
             "max_position_embeddings": 16}  # fmt: skip
    config = from_dict(
        {
            "name": "small",
            "model": sizes,
            "data": {"layout": "kp75", "max_frames": 12, "normalization": "bbox_ignore_missing"},
            "train": {"epochs": 8, "batch_size": 32, "lr": 0.002, "val_signers": 0},
        },
        source="tests",
    )
    folder = tmp_path_factory.mktemp("run")
    train_model(clips, config, folder, test_signers=(UNSEEN,))
    return open_model(folder / "best.safetensors")


@pytest.fixture(scope="module")
def unseen(clips) -> ClipSet:
    return clips.select([at for at, clip in enumerate(clips.clips) if clip.signer == UNSEEN])


def accuracy(model: OpenedModel, clips: ClipSet) -> float:
    found = evaluate(model, clips, "x")
    return 100 * float((found.logits.argmax(axis=1) == found.labels).mean())


@pytest.fixture(scope="module")
def sound(model, unseen) -> float:
    found = accuracy(model, unseen)
    assert found > 30  # ten classes: it has learnt something that can be lost
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_accuracy_and_its_remedy_costs_none(model, unseen, sound, tmp_path, fault):
    change, remedy, _ = FAULTS[fault]
    write_packed(changed(unseen, change), tmp_path / "x.npz")
    if fault == "pixels":
        with pytest.raises(ClipError, match="--image-size"):
            accuracy(model, read_clips(tmp_path / "x.npz"))
        mended = read_clips(tmp_path / "x.npz", image_size=remedy)
    else:
        assert accuracy(model, read_clips(tmp_path / "x.npz")) < sound - 5
        mended = read_clips(tmp_path / "x.npz", changes=Changes(**remedy))
    # Rounded when it was packed: at most one clip in a hundred lies on a border between classes.
    assert abs(accuracy(model, mended) - sound) <= 1


def test_another_order_too(model, unseen, sound, tmp_path):
    order = get_source_layout("left-pose-right")
    names = get_source_layout("kp75").names
    places = [names.index(name) for name in order.names]
    write_packed(changed(unseen, lambda points: points[:, places]), tmp_path / "x.npz")
    assert accuracy(model, read_clips(tmp_path / "x.npz")) < sound - 5
    mended = read_clips(tmp_path / "x.npz", source_layout=order.name)
    np.testing.assert_allclose(accuracy(model, mended), sound, atol=1)
