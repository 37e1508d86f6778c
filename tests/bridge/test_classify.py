"""What one recording says, from every form of it, and what is refused."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from bridge import classify
from bridge.artifact.opened import open_model
from signbart.errors import ClipError
from signbart.landmarks.layouts import get_layout
from signbart.recordings.reading import read_clips, read_single_clip


@pytest.fixture
def landmarks(performances):
    return performances.clips[7].landmarks


@pytest.fixture
def npy(landmarks, tmp_path):
    np.save(tmp_path / "sign.npy", landmarks)
    return tmp_path / "sign.npy"


def test_every_form_of_a_recording_gives_the_same_answer(
    checkpoint, performances_file, performances, landmarks, npy, tmp_path
):
    pickled = tmp_path / "sign.pkl"
    pickled.write_bytes(pickle.dumps({"keypoints": landmarks}))  # a new recording has no class
    found = [
        open_model(checkpoint).classify(source)
        for source in (f"{performances_file}[7]", str(npy), str(pickled))
    ]
    assert found[0] == found[1] == found[2]
    label = found[0][0][0]
    assert label == performances.class_names[performances.clips[7].label]
    scores = [score for _, score in found[0]]
    assert sum(scores) == pytest.approx(1.0) and scores == sorted(scores, reverse=True)
    assert len(scores) == len(performances.class_names)
    other = open_model(checkpoint).classify(f"{performances_file}[8]")
    assert other != found[0]


@pytest.mark.slow
def test_a_tflite_answers_without_torch_or_tensorflow(
    converted, performances_file, npy, checkpoint
):
    code = (
        "import sys\nfrom bridge.classify import main\n"
        f"assert main([{str(converted.artifact)!r}, {str(npy)!r}, '--json']) == 0\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'onnx', 'matplotlib', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)["predictions"]
    expected = open_model(checkpoint).classify(str(npy))
    assert [entry["label"] for entry in found] == [label for label, _ in expected]
    for entry, (_, score) in zip(found, expected, strict=True):
        assert entry["score"] == pytest.approx(score, abs=1e-5)


def test_the_command_prints_the_five_likeliest(checkpoint, npy, capsys):
    assert classify.main([str(checkpoint), str(npy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.endswith("%") for line in lines)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (np.zeros((5, 63)), r"keypoints have shape \(5, 63\), expected"),
        (np.zeros((1, 63, 2)), "the clip has one frame"),
        (np.full((4, 63, 2), np.nan), "is NaN or infinite"),
        (np.array([["a"]]), "not an .npy array of numbers"),
        (np.array([None]), "not an .npy array of numbers"),
    ],
)
def test_arrays_that_are_no_recording_are_refused(tmp_path, content, complaint):
    path = tmp_path / "x.npy"
    np.save(path, content)
    with pytest.raises(ClipError, match=complaint):
        read_single_clip(str(path))


def test_files_that_are_no_recording_are_named(tmp_path, performances_file):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"landmarks": [1]}))
    for source, complaint in (
        (str(tmp_path / "x.npy"), "not an .npy array"),
        (str(tmp_path / "x.pkl"), "no field 'keypoints'"),
        (str(tmp_path / "none.npy"), "cannot be read: No such file"),
        (str(tmp_path / "x.mp4"), r"x\.mp4: expected a \.pkl"),
        (f"{performances_file}[240]", "has clips 0 to 239"),
    ):
        with pytest.raises(ClipError, match=complaint):
            read_single_clip(source)


def test_a_recording_of_another_layout_is_refused(checkpoint, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.full((9, 20, 2), 0.5))
    with pytest.raises(ClipError, match="found 20 keypoints, but layout 'kp63' has 63"):
        open_model(checkpoint).classify(str(path))


def test_a_clip_of_a_packed_file_is_that_clip(performances_file):
    (one,) = read_single_clip(f"{performances_file}[3]").clips
    np.testing.assert_array_equal(one.landmarks, read_clips(performances_file).clips[3].landmarks)


def test_a_recording_in_another_order_is_read_as_a_file_describes_it(
    checkpoint, performances_file, tmp_path
):
    landmarks = read_clips(performances_file).clips[3].landmarks
    order = np.random.default_rng(0).permutation(landmarks.shape[1])
    np.save(tmp_path / "x.npy", landmarks[:, order])
    names = [get_layout("kp63").names[place] for place in order]
    (tmp_path / "own.yaml").write_text(json.dumps({"landmarks": names}))
    model = open_model(checkpoint)
    expected = model.classify(f"{performances_file}[3]")
    described = str(tmp_path / "own.yaml")
    assert model.classify(tmp_path / "x.npy", source_layout=described) == expected
    assert model.classify(tmp_path / "x.npy") != expected
    arguments = [str(checkpoint), str(tmp_path / "x.npy"), "--source-layout", described]
    assert classify.main(arguments) == 0
