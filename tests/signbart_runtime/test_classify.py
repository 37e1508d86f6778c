"""What one recording says, from every form of it, and what is refused."""

import dataclasses
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from signbart.artifacts.metadata import embed_metadata, read_metadata
from signbart.errors import ClipError, SignBartError
from signbart.landmarks.layouts import get_layout
from signbart.recordings import reading
from signbart.recordings.clip import Clip
from signbart.recordings.forms import read_file
from signbart.recordings.reading import read_clips, read_single_clip
from signbart.streaming.rule import StreamRule
from signbart.synthetic.signs import make_clips
from signbart_runtime import classify
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.evaluation.stream import window_probabilities
from signbart_torch.training.checkpoint import load_checkpoint, save_checkpoint

EXAMPLE = (
    Path(__file__).resolve().parents[2] / "exports" / "example" / "demo_litert_dynamic_int8.tflite"
)


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
        "import sys\nfrom signbart_runtime.classify import main\n"
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


def test_several_recordings_are_a_line_each_in_one_process(
    checkpoint, performances_file, npy, capsys, monkeypatch
):
    reads = []
    monkeypatch.setattr(reading, "read_file", lambda path: reads.append(path) or read_file(path))
    clips = [f"{performances_file}[7]", f"{performances_file}[8]", str(npy)]
    model = open_model(checkpoint)
    expected = [model.classify(clip)[0] for clip in clips]
    reads.clear()
    assert classify.main([str(checkpoint), *clips]) == 0
    lines = [f"{c}: {label} {score:.2%}" for c, (label, score) in zip(clips, expected, strict=True)]
    assert capsys.readouterr().out.splitlines() == lines
    assert reads == [performances_file, npy], "a file with several is read once"
    assert classify.main([str(checkpoint), *clips, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["clip"] for one in found] == clips
    assert [one["predictions"][0]["label"] for one in found] == [label for label, _ in expected]
    with pytest.raises(SignBartError, match="--stream: of one CLIP at a time, and not of 3"):
        classify.main([str(checkpoint), *clips, "--stream"])
    with pytest.raises(ClipError, match=r"\[99999\]: .* has clips 0 to"):
        classify.main([str(checkpoint), clips[0], f"{performances_file}[99999]"])


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
        (str(tmp_path / "x.mp4"), r"x\.mp4: no such file; expected a \.pkl"),
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


# Streams


@pytest.fixture
def long(performances, tmp_path):
    """Two people who stand still, a second each at 12 frames a second, and nobody between them."""
    nobody = np.zeros((24, 63, 2), np.float32)
    still = [np.repeat(performances.clips[at].landmarks[:1], 24, axis=0) for at in (7, 20)]
    np.save(tmp_path / "long.npy", np.concatenate([still[0], nobody, still[1], nobody]))
    return tmp_path / "long.npy"


RULE = ("--fps", "12", "--window", "1", "--stride", "0.25", "--smoothing", "1", "--pause", "0.5")


def test_a_long_recording_gives_events_with_times(checkpoint, long, capsys):
    model = open_model(checkpoint)
    landmarks = np.load(long)
    arguments = [str(checkpoint), str(long), "--stream", *RULE]
    own = [model.classify(Clip(landmarks[at : at + 12], 0, "a", 0, "x"))[0] for at in (0, 48)]
    least = min(score for _, score in own)
    assert classify.main([*arguments, "--threshold", str(least - 0.01), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    first, second = record["events"][0], record["events"][-1]
    for event, (label, score) in zip((first, second), own, strict=True):
        assert event["label"] == label and event["score"] >= score - 1e-5
    # A window speaks for its middle, and begins to when it is full.
    assert (first["start"], first["decided"]) == (0.5, 1.0) and first["end"] < 3.0
    assert second["start"] > 3.5 and second["end"] < 7.0
    assert record["rule"]["window"] == 1.0 and record["rule"]["idle"] == "idle"
    assert classify.main([*arguments, "--threshold", str(least - 0.01)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(record["events"]) and lines[0].startswith("    0.5 –")
    assert classify.main([*arguments, "--threshold", "1"]) == 0
    assert "no sign is seen in 8.0 s" in capsys.readouterr().out
    # Whoever is the idle class is no sign.
    idle = [*arguments, "--threshold", str(least - 0.01), "--idle", own[0][0], "--json"]
    assert classify.main(idle) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert own[0][0] not in {event["label"] for event in events}


def test_a_stream_takes_the_threshold_that_the_model_carries(tmp_path, capsys):
    with zipfile.ZipFile(EXAMPLE) as archive:
        start = min(info.header_offset for info in archive.infolist())
    model, clip = tmp_path / "model.tflite", tmp_path / "clip.npy"
    model.write_bytes(EXAMPLE.read_bytes()[:start])
    embed_metadata(model, read_metadata(EXAMPLE) | {"threshold": 0.999})
    (made,) = make_clips(num_classes=1, num_signers=1, repetitions=1, seed=0).clips
    np.save(clip, np.tile(made.landmarks, (3, 1, 1)))
    arguments = [str(clip), "--stream", "--fps", "30", "--json"]
    found = {}
    for path, more, said in (
        (model, [], "threshold 0.999 (the model's own; --threshold sets another)"),
        (EXAMPLE, [], "threshold 0.6 (the usual one; the model carries none)"),
        (model, ["--threshold", "0.6"], "threshold 0.6 (--threshold)"),
    ):
        assert classify.main([str(path), *arguments, *more]) == 0
        printed = capsys.readouterr()
        assert said in printed.err
        record = json.loads(printed.out)
        assert f"threshold {record['rule']['threshold']:g} " in said
        found[said] = record["events"]
    own, usual, given = found.values()
    assert usual == given != own and len(usual) >= 1


def test_windows_say_what_the_same_clips_say(checkpoint, long):
    model = dataclasses.replace(open_model(checkpoint), temperature=2.0)
    landmarks = np.load(long)
    frames = [(at / 12, frame) for at, frame in enumerate(landmarks)]
    rule = StreamRule(window=1.0, stride=0.25)
    times, found = window_probabilities(model, frames, rule, source="here")
    assert times == pytest.approx([1 + 0.25 * at for at in range(len(times))])
    for now, row in zip(times, found, strict=True):
        last = round(now * 12)
        window = landmarks[last - 11 : last + 1]
        if not window.any():
            assert not row.any()
            continue
        scores = dict(model.classify(Clip(window, 0, "a", 0, "x")))
        expected = [scores[name] for name in model.class_names]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert not found.any(axis=1).all()


def test_what_is_no_stream_is_said(checkpoint, long, npy, capsys):
    for arguments, complaint in (
        ([str(npy), "--stream", "--window", "9"], r"no window of 9 s; leave --stream out"),
        ([str(long), "--stream", "--fps", "0"], "--fps 0"),
        ([str(long), "--stream", "--threshold", "7"], "threshold 7"),
        (["--camera", "0", "--window", "-1"], "window -1"),
        ([str(long), "--threshold", "0.9"], "--threshold is of streams: add --stream"),
        ([str(long), "--fps", "12"], "--fps is of streams: add --stream"),
        (["--camera", "0", "--json"], "--json is of recordings, not of a camera"),
        (["--camera", "0", "--fps", "30"], "--fps is of recordings, not of a camera"),
        ([str(long), "--stream", "--idle", "rest"], "--idle rest: the model has no such class"),
    ):
        with pytest.raises(SignBartError, match=complaint):
            classify.main([str(checkpoint), *arguments])
    assert classify.main([str(checkpoint), str(long), "--stream"]) == 0
    assert "30 frames a second are supposed; --fps" in capsys.readouterr().err


def test_a_graph_of_other_inputs_than_its_metadata_says_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    embed_metadata(tmp_path / "a.onnx", read_metadata(EXAMPLE))
    with pytest.raises(SignBartError, match=r"a\.onnx: signature landmarks takes and gives x fl"):
        open_model(tmp_path / "a.onnx")


def test_answers_that_are_none_are_refused(checkpoint, npy, tmp_path):
    stored = load_checkpoint(checkpoint)
    stored.tensors["classification_head.out_proj.bias"][2] = float("nan")
    save_checkpoint(stored, tmp_path / "nan.safetensors")
    with pytest.raises(SignBartError, match=r"nan\.safetensors gives NaN or infinity"):
        open_model(tmp_path / "nan.safetensors").classify(str(npy))
