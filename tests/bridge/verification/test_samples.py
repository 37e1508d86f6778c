"""What is compared on: every length, real poses, holes, and garbage where nothing may look."""

import dataclasses
import zipfile

import numpy as np
import pytest

from bridge.errors import BridgeError
from bridge.verification.samples import describe_samples, make_samples, read_sample
from bridge.verification.sequences import make_sequences
from signbart.configuration.reading import from_dict
from signbart.errors import ArtifactError
from signbart.models import io_spec
from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS
from signbart.preprocessing import preprocess
from signbart.recordings.data_source import read_recordings
from signbart.recordings.packed import write_packed


def lengths(sample) -> int | None:
    """Frames of a prefix mask; None where the mask is none."""
    row = sample.inputs[ATTENTION_MASK][0]
    count = int(row.sum())
    return count if row[:count].all() else None


@pytest.mark.parametrize("samples", [8, 11])
def test_every_length_is_covered(config, recordings, samples):
    made = make_samples(config, clips=recordings, samples=samples)
    found = [lengths(sample) for sample in made]
    assert {length: found.count(length) for length in (1, 2, 6, 11, 12)} == dict.fromkeys(
        (1, 2, 6, 11, 12), samples
    )
    assert found.count(None) == samples
    spec = io_spec(config)
    for sample in made:
        spec.check_inputs(sample.inputs, sample.description)


def test_no_fewer_samples_than_promised(config, recordings):
    assert len(make_samples(config, clips=recordings, samples=8)) == 6 * 8
    with pytest.raises(BridgeError, match="7 inputs per length are too few; at least 8"):
        make_samples(config, clips=recordings, samples=7)


def test_it_is_said_how_many_inputs_are_recordings(config, recordings):
    made = make_samples(config, clips=recordings)
    assert describe_samples(made, "clips.npz") == "24 from recordings (clips.npz), 24 random"
    assert not any(sample.recorded for sample in made[1::2])


def test_layouts_within_the_synthetic_one_are_compared_on_poses():
    kp65 = from_dict({"model": {"num_labels": 3}, "data": {"layout": "kp65"}}, source="kp65")
    assert describe_samples(make_samples(kp65), None) == "24 from synthetic recordings, 24 random"
    kp75 = from_dict({"model": {"num_labels": 3}, "data": {"layout": "kp75"}}, source="kp75")
    assert describe_samples(make_samples(kp75), None) == "48 random"


@pytest.mark.parametrize(("frames", "distinct"), [(1, {1}), (2, {1, 2}), (3, {1, 2, 3})])
def test_short_models_are_covered_too(config, recordings, frames, distinct):
    data = dataclasses.replace(config.data, max_frames=frames)
    config = dataclasses.replace(config, data=data)
    made = make_samples(config, clips=recordings)
    assert {lengths(sample) for sample in made} - {None} == distinct
    for sample in made:
        io_spec(config).check_inputs(sample.inputs, sample.description)


def test_garbage_stands_in_padded_frames_and_nowhere_else(config, recordings):
    seen = set()
    for sample in make_samples(config, clips=recordings):
        mask = sample.inputs[ATTENTION_MASK]
        points = sample.inputs[KEYPOINTS]
        assert np.isfinite(points[mask == 1]).all() and np.abs(points[mask == 1]).max() <= 1
        behind = points[mask == 0]
        assert not behind.size or len(np.unique(behind)) == 1
        if behind.size:
            seen.add((lengths(sample), str(behind.flat[0])))
    for length in (1, 2, 6, 11, None):
        values = {value for of, value in seen if of == length}
        assert {"nan", "inf", "-inf", "1e+30"} <= values


def test_holes_are_holes(config, recordings):
    masks = [
        sample.inputs[ATTENTION_MASK][0]
        for sample in make_samples(config, clips=recordings)
        if lengths(sample) is None
    ]
    # What distinguishes the last frame from sum(mask) - 1, and the first frame from frame 0.
    assert all(np.flatnonzero(mask)[-1] != mask.sum() - 1 for mask in masks)
    assert not any(mask[0] for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_every_second_input_is_a_real_pose(config, recordings):
    poses = {
        clip.source: preprocess(clip.landmarks, config)[0].tobytes() for clip in recordings.clips
    }
    made = make_samples(config, clips=recordings)
    real = [sample for sample in made if sample.description.split(",")[0] in poses]
    assert len(real) == len(made) / 2
    assert {sample.description.split(",")[0] for sample in real} == set(poses)
    for sample in real:
        if sample.inputs[ATTENTION_MASK][0, 0]:
            first = sample.inputs[KEYPOINTS][0, 0]
            assert first.tobytes() == poses[sample.description.split(",")[0]]
    others = [sample for sample in made if sample.description.startswith("random")]
    assert len(others) == len(made) / 2


def test_samples_depend_on_the_seed_alone(config, recordings):
    def content(**options):
        return [
            (sample.description, sample.inputs[KEYPOINTS].tobytes())
            for sample in make_samples(config, clips=recordings, **options)
        ]

    assert content(seed=3) == content(seed=3)
    assert content(seed=3) != content(seed=4)


def test_synthetic_clips_stand_in_where_the_layout_has_them(config):
    assert all(sample.description.startswith("random") for sample in make_samples(config))
    data = dataclasses.replace(config.data, layout="kp90")
    made = make_samples(dataclasses.replace(config, data=data))
    assert sum(not sample.description.startswith("random") for sample in made) == len(made) / 2


def test_recordings_are_read_and_bad_ones_left_out(tmp_path, recordings):
    assert read_recordings(None) is None
    landmarks = np.full((4, 63, 2), 0.5, np.float32)
    one_frame = dataclasses.replace(recordings.clips[0], landmarks=landmarks[:1])
    clips = dataclasses.replace(recordings, clips=(*recordings.clips, one_frame))
    write_packed(clips, tmp_path / "clips.npz")
    assert len(read_recordings(str(tmp_path / "clips.npz"))) == len(recordings)


@pytest.mark.parametrize(
    ("layout", "normalization", "poses"),
    [("kp75", "bbox", "synthetic"), ("kinect20", "body_centred", "a random walk")],
)
def test_sequences_of_features_are_made_in_every_layout(layout, normalization, poses):
    features = {"kp75": 150, "kinect20": 40}[layout]
    config = from_dict(
        {
            "name": "gru",
            "model": {"kind": "mediapipe_gru", "num_labels": 7, "num_features": features},
            "data": {"layout": layout, "max_frames": 9, "normalization": normalization},
        },
        source="gru",
    )
    fixed, _ = make_sequences(config)
    assert {sample.description.startswith(("random", poses)) for sample in fixed} == {True}
    assert any(sample.description.startswith(poses) for sample in fixed)


def test_a_file_without_an_input_is_refused(tmp_path):
    np.savez(
        tmp_path / "none.npz",
        keypoints=np.ones((0, 5, 41, 2), np.float32),
        attention_mask=np.ones((0, 5), np.int32),
    )
    with pytest.raises(ArtifactError, match=r"none\.npz: its arrays are empty"):
        read_sample(tmp_path / "none.npz")
    with zipfile.ZipFile(tmp_path / "bytes.npz", "w") as archive:
        for name in ("keypoints", "attention_mask"):
            archive.writestr(f"{name}.npy", b"no array")
    with pytest.raises(ArtifactError, match=r"bytes\.npz: its arrays are empty, or none"):
        read_sample(tmp_path / "bytes.npz")
