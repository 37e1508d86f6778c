"""The doctor: a fault made on purpose is found and named with its remedy, sound sets have none."""

import dataclasses
import importlib

import numpy as np
import pytest

from signbart.clips import main
from signbart.errors import ClipError
from signbart.landmarks.layouts import LAYOUTS
from signbart.landmarks.source_layouts import get_source_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.data_source import DataSource, read_recordings
from signbart.recordings.doctor import examine_clips
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.recordings.recording import Changes
from tests.signbart.recordings.faults import FAULTS, changed, swapped

SETS = ("isl_kinect30", "asl10_pose_hands", "asl16_pose_hands", "fsl7_holistic")
IMAGES = ("asl10_pose_hands", "fsl7_holistic")


def sound(request, name: str) -> ClipSet:
    clips = read_clips(request.getfixturevalue(name))
    return clips.select(range(0, len(clips), 3 if name == "fsl7_holistic" else 7))


def kinds(clips: ClipSet) -> list[str]:
    return [finding.kind for finding in examine_clips(clips).findings]


@pytest.mark.parametrize("name", SETS)
def test_sound_recordings_have_no_finding(request, name):
    whole = read_clips(request.getfixturevalue(name))
    assert [str(finding) for finding in examine_clips(whole).findings] == []


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_its_remedy_mends_it(request, tmp_path, name, fault):
    clips = sound(request, name)
    change, remedy, option = FAULTS[fault]
    broken = changed(clips, change)
    found = examine_clips(broken).findings
    assert [f.kind for f in found] == [fault.partition(",")[0]]
    assert option in found[0].remedy
    write_packed(broken, tmp_path / "x.npz")
    if isinstance(remedy, str):
        mended = read_clips(tmp_path / "x.npz", image_size=remedy)
    else:
        mended = read_clips(tmp_path / "x.npz", changes=Changes(**remedy))
    assert kinds(mended) == []
    for one, other in zip(mended.clips, clips.clips, strict=True):
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=3e-4)
    assert kinds(read_clips(tmp_path / "x.npz")) == kinds(broken)


ORDERS = [
    ("asl10_pose_hands", "left-pose-right"), ("asl10_pose_hands", "left-right-pose"),
    ("fsl7_holistic", "face-left-pose-right"), ("fsl7_holistic", "pose-face-left-right"),
    ("isl_kinect30", "kinect-v1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_another_order_is_found_and_named(request, tmp_path, name, order):
    clips = sound(request, name)
    count = clips.clips[0].landmarks.shape[1]
    names = next(layout.names for layout in LAYOUTS.values() if layout.num_keypoints == count)
    places = [names.index(landmark) for landmark in get_source_layout(order).names]
    broken = changed(clips, lambda points: points[:, places])
    (finding,) = examine_clips(broken).findings
    assert finding.kind == "order" and finding.remedy == f"pass --source-layout {order}"
    write_packed(broken, tmp_path / "x.npz")
    mended = read_clips(tmp_path / "x.npz", source_layout=order)
    assert kinds(mended) == []
    for one, other in zip(mended.clips, clips.clips, strict=True):
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=6e-5)


def test_an_order_that_nobody_knows_is_told_as_such(request):
    clips = sound(request, "asl10_pose_hands")
    shuffled = np.random.default_rng(0).permutation(75)
    (finding,) = examine_clips(changed(clips, lambda points: points[:, shuffled])).findings
    assert finding.kind == "order" and "no known order" in finding.text


@pytest.mark.parametrize(("kind", "factor"), [("y up", (1, -1, 1)), ("mirrored", (-1, 1, 1))])
def test_metres_that_point_the_other_way(request, tmp_path, kind, factor):
    clips = sound(request, "isl_kinect30")
    broken = changed(clips, lambda points: points * factor)
    assert kinds(broken) == [kind]
    write_packed(broken, tmp_path / "x.npz")
    changes = Changes(flip_y=kind == "y up", mirror=kind == "mirrored")
    mended = read_clips(tmp_path / "x.npz", changes=changes)
    assert kinds(mended) == []
    np.testing.assert_allclose(mended.clips[3].landmarks, clips.clips[3].landmarks, atol=6e-5)


def made(splits=("train", "train", "test"), signers=("a", "b", "c"), labels=(0, 1, 0)) -> ClipSet:
    rng = np.random.default_rng(0)
    clips = [
        Clip(rng.random((5, 42, 2), np.float32), label, signer, 0, f"[{at}]", split)
        for at, (split, signer, label) in enumerate(zip(splits, signers, labels, strict=True))
    ]
    names = tuple(name for name in get_source_layout("hands42").names)
    return ClipSet(tuple(clips), ("hello", "bye"), landmark_names=names)


def test_a_sound_division_has_no_finding():
    assert kinds(made()) == []


def test_a_part_to_test_on_need_not_have_every_class():
    assert "empty classes" in kinds(made(("train",) * 3, labels=(0, 0, 0)))
    assert "empty classes" not in kinds(made(("test",) * 3, labels=(0, 0, 0)))


SET_FAULTS = {
    "one class": (made(labels=(0, 0, 0)), "one level too deep"),
    "empty classes": (made(labels=(0, 0, 0)), "have no clip: bye"),
    "untrained classes": (made(labels=(0, 0, 1)), "no training clip: bye"),
    "signers in both": (made(signers=("a", "b", "a")), "in train and in test: a"),
}


@pytest.mark.parametrize("kind", SET_FAULTS)
def test_faults_of_a_set_are_found(kind):
    clips, text = SET_FAULTS[kind]
    (finding,) = [f for f in examine_clips(clips).findings if f.kind == kind]
    assert text in str(finding)


def test_the_same_recording_in_two_splits_or_classes_is_found():
    clips = made()
    copy = dataclasses.replace(clips.clips[2], landmarks=clips.clips[0].landmarks)
    both = dataclasses.replace(clips, clips=(*clips.clips[:2], copy))
    report = examine_clips(both)
    assert [f.kind for f in report.findings] == ["duplicates"]
    assert "[0] and [2]" in report.findings[0].text
    other = dataclasses.replace(clips.clips[0], label=1)
    assert kinds(dataclasses.replace(clips, clips=(*clips.clips, other))) == ["two labels"]


def test_a_wild_value_is_found_and_its_clip_named(request):
    clips = sound(request, "isl_kinect30")
    landmarks = clips.clips[5].landmarks.copy()
    landmarks[3, 4, 1] = 1500
    wild = dataclasses.replace(clips.clips[5], landmarks=landmarks)
    clips = dataclasses.replace(clips, clips=(*clips.clips[:5], wild, *clips.clips[6:]))
    (finding,) = examine_clips(clips).findings
    assert finding.kind == "wild values"
    assert "1 clips have values of up to 1500" in finding.text and wild.source in finding.text
    assert kinds(clips.select([at for at in range(len(clips)) if at != 5])) == []


def test_landmarks_that_nothing_names_are_told_as_such():
    clip = Clip(np.full((4, 7, 2), 0.5, np.float32), 0, "a", 0, "a")
    clips = ClipSet((clip, dataclasses.replace(clip, label=1, source="b")), ("x", "y"))
    assert "layout" in kinds(clips)


def test_info_prints_what_the_doctor_saw_and_strict_ends_there(request, tmp_path, capsys):
    clips = changed(sound(request, "asl10_pose_hands"), swapped)
    write_packed(clips, tmp_path / "x.npz")
    assert main(["info", str(tmp_path / "x.npz")]) == 0
    printed = capsys.readouterr()
    assert "body 100%, left hand " in printed.out
    assert "warning: hands are at the other arm's wrist" in printed.err
    assert "--swap-hands" in printed.err
    with pytest.raises(ClipError, match=r"x\.npz: 1 things look wrong: 1\. hands are at"):
        main(["info", str(tmp_path / "x.npz"), "--strict"])
    assert main(["info", str(tmp_path / "x.npz"), "--strict", "--swap-hands"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", SETS)
def test_a_clip_is_drawn_as_a_strip_and_moving(request, tmp_path, name, capsys):
    from PIL import Image

    folder = request.getfixturevalue(name)
    assert main(["show", f"{folder}[7]", "--output", str(tmp_path / "x")]) == 0
    assert "x.png" in capsys.readouterr().out
    with Image.open(tmp_path / "x.png") as strip:
        assert strip.size == (8 * 240, 240)
        pixels = np.asarray(strip)
    # Bones, and at least one hand where the set has hands.
    assert (pixels == (40, 40, 40)).all(axis=-1).sum() > 1000
    hands = [(pixels == colour).all(axis=-1).sum() for colour in ((31, 119, 180), (214, 39, 40))]
    assert max(hands) > 500 or name == "isl_kinect30"
    with Image.open(tmp_path / "x.gif") as moving:
        assert 2 <= moving.n_frames <= len(read_clips(folder).clips[7].landmarks)
    with pytest.raises(ClipError, match=r"there are clips 0 to"):
        main(["show", f"{folder}[99999]", "--output", str(tmp_path / "y")])


def test_swapped_hands_are_drawn_in_the_other_colour(request, tmp_path):
    from PIL import Image

    source = f"{request.getfixturevalue('fsl7_holistic')}[3]"
    counts = []
    for options in ([], ["--swap-hands"]):
        assert main(["show", source, "--output", str(tmp_path / "x"), *options]) == 0
        with Image.open(tmp_path / "x.png") as strip:
            pixels = np.asarray(strip)
        counts.append([(pixels == c).all(axis=-1).sum() for c in ((31, 119, 180), (214, 39, 40))])
    assert counts[0] == counts[1][::-1] and counts[0][0] != counts[0][1]


def test_what_is_handed_on_is_understood_alike_wherever_it_is_read(request, tmp_path, capsys):
    clips = sound(request, "asl10_pose_hands")
    write_packed(clips, tmp_path / "sound.npz")
    write_packed(changed(clips, swapped), tmp_path / "x.npz")
    right = read_recordings(str(tmp_path / "sound.npz"))
    assert capsys.readouterr() == ("", "")
    plain = DataSource(str(tmp_path / "x.npz"))
    assert read_recordings(plain).fingerprint() != right.fingerprint()
    assert "warning: hands are at" in capsys.readouterr().err
    swap = dataclasses.replace(plain, changes=Changes(swap_hands=True), source_layout="kp75")
    assert str(swap) == plain.path
    for read, expected in zip(read_recordings(swap).clips, right.clips, strict=True):
        assert np.array_equal(read.landmarks, expected.landmarks)
    assert "warning" not in capsys.readouterr().err
    with pytest.raises(ClipError, match="--swap-hands"):
        read_recordings(dataclasses.replace(plain, strict=True))


@pytest.mark.parametrize(
    "command",
    "bridge.convert bridge.parity bridge.quantize bridge.export_models "
    "signbart_runtime.tensor_errors signbart_runtime.loso signbart_runtime.evaluate "
    "signbart_runtime.classify signbart_torch.train signbart_torch.loso "
    "signbart_torch.qat signbart_tf.train signbart_tf.loso signbart_tf.qat".split(),
)
def test_every_command_that_reads_recordings_takes_the_remedies(command, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(command).main(["--help"])
    text = capsys.readouterr().out
    for remedy in ("--source-layout", "--swap-hands", "--flip-y", "--mirror", "--image-size"):
        assert remedy in text
