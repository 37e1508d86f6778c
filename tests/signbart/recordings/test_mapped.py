"""Packed files that stay on disk: they read as the others do, and their size is not in memory."""

import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from signbart import batches
from signbart.batches import evaluation_batches, prepare_clips, training_batches
from signbart.clips import main
from signbart.configuration.reading import from_dict
from signbart.errors import ClipError, ConfigError
from signbart.landmarks.layouts import get_layout
from signbart.recordings import mapped as mapped_module
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.doctor import examine_clips
from signbart.recordings.mapped import MappedLandmarks
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips

REPOSITORY = Path(__file__).resolve().parents[3]
K = 75


def clips_of(number: int, keypoints: int = K, coordinates: int = 2) -> ClipSet:
    """Clips of 5, 6, … frames, some landmarks missing, three classes and signers, two splits."""
    rng = np.random.default_rng(number)
    clips = []
    for index in range(number):
        landmarks = rng.uniform(0, 1, (5 + index % 9, keypoints, coordinates)).astype(np.float32)
        landmarks[rng.random(landmarks.shape[:2]) < 0.1] = 0
        split = "test" if index % 5 == 0 else "train"
        clips.append(Clip(landmarks, index % 3, f"s{index % 4}", index, "made", split))
    return ClipSet(tuple(clips), ("hello", "bye", "again"))


@pytest.fixture
def both(tmp_path) -> tuple[ClipSet, ClipSet]:
    """The same recordings, loaded and mapped."""
    for name in ("loaded", "mapped"):
        (tmp_path / name).mkdir()
        write_packed(clips_of(23), tmp_path / name / "x.npz", mapped=name == "mapped")
    return read_clips(tmp_path / "loaded"), read_clips(tmp_path / "mapped")


def assert_alike(one: ClipSet, other: ClipSet) -> None:
    def about(clip: Clip) -> tuple:
        return clip.label, clip.signer, clip.repetition, clip.source, clip.split

    assert one.class_names == other.class_names and one.landmark_names == other.landmark_names
    assert [about(clip) for clip in one.clips] == [about(clip) for clip in other.clips]
    for clip, twin in zip(one.clips, other.clips, strict=True):
        assert clip.landmarks.shape == twin.landmarks.shape
        np.testing.assert_array_equal(np.asarray(clip.landmarks), np.asarray(twin.landmarks))


def test_mapped_and_loaded_sets_are_alike(both):
    loaded, mapped = both
    assert all(isinstance(clip.landmarks, np.ndarray) for clip in loaded.clips)
    assert all(isinstance(clip.landmarks, MappedLandmarks) for clip in mapped.clips)
    assert_alike(loaded, mapped)
    assert loaded.fingerprint() == mapped.fingerprint()
    assert examine_clips(loaded) == examine_clips(mapped)
    narrow = mapped.to_layout(get_layout("kp65"))
    assert_alike(loaded.to_layout(get_layout("kp65")), narrow)
    assert all(isinstance(clip.landmarks, MappedLandmarks) for clip in narrow.clips)
    # Another process maps the file itself, and is not sent the landmarks.
    sent = pickle.dumps(mapped)
    assert len(sent) < sum(clip.landmarks.nbytes for clip in loaded.clips) / 4
    assert_alike(loaded, pickle.loads(sent))


def test_nothing_that_was_let_go_of_is_missing(both, monkeypatch):
    loaded, mapped = both
    monkeypatch.setattr(mapped_module, "_RESIDENT", 1)
    for _ in range(2):
        assert_alike(loaded, mapped)


@pytest.mark.parametrize("shape", ["kinect20 in metres", "543 landmarks", "no offsets"])
def test_other_shapes(tmp_path, shape):
    keypoints, coordinates = {"k": (20, 3), "5": (543, 3), "n": (4, 2)}[shape[0]]
    if shape == "no offsets":
        numbers = np.arange(3 * 5 * 4 * 2).reshape(3, 5, 4, 2)
        arrays = {"kp_q": numbers, "scale": 0.25, "label": [0, 1, 0], "class_names": ["a", "b"]}
        np.savez(tmp_path / "mapped.npz", **arrays)
        np.savez_compressed(tmp_path / "loaded.npz", **arrays)
    else:
        clips = clips_of(5, keypoints, coordinates)
        write_packed(clips, tmp_path / "mapped.npz", mapped=True)
        write_packed(clips, tmp_path / "loaded.npz")
    found = [read_clips(tmp_path / f"{name}.npz") for name in ("mapped", "loaded")]
    assert isinstance(found[0].clips[0].landmarks, MappedLandmarks)
    for clip, twin in zip(*(clips.clips for clips in found), strict=True):
        np.testing.assert_array_equal(np.asarray(clip.landmarks), np.asarray(twin.landmarks))
    if shape == "543 landmarks":
        narrow = [clips.to_layout(get_layout("kp90")) for clips in found]
        for clip, twin in zip(*(clips.clips for clips in narrow), strict=True):
            np.testing.assert_array_equal(np.asarray(clip.landmarks), np.asarray(twin.landmarks))


def test_numbers_begin_where_processors_like_them(tmp_path):
    write_packed(clips_of(3), tmp_path / "x.npz", mapped=True)
    (clip, *_) = read_clips(tmp_path / "x.npz").clips
    assert clip.landmarks._frames._frames.ctypes.data % 64 == 0


def test_wide_values_are_mapped_too(tmp_path):
    for largest, dtype in ((400.0, np.int32), (1e6, np.float32)):
        clips = clips_of(4)
        clips.clips[2].landmarks[0, 0] = largest
        write_packed(clips, tmp_path / "loaded.npz")
        write_packed(clips, tmp_path / "mapped.npz", mapped=True)
        with np.load(tmp_path / "mapped.npz") as arrays:
            assert arrays["kp_q"].dtype == dtype
        found = [read_clips(tmp_path / f"{name}.npz") for name in ("mapped", "loaded")]
        assert found[0].fingerprint() == found[1].fingerprint()


def test_packing_keeps_one_layout_and_says_what_it_lacks(tmp_path, capsys):
    write_packed(clips_of(7, 543, 3), tmp_path / "whole.npz")
    out = tmp_path / "kp90.npz"
    assert main(["pack", str(tmp_path / "whole.npz"), str(out), "--layout", "kp90"]) == 0
    assert "keypoints  90 of 2 coordinates" in capsys.readouterr().out
    kept, whole = read_clips(out), read_clips(tmp_path / "whole.npz")
    for clip, twin in zip(kept.clips, whole.to_layout(get_layout("kp90")).clips, strict=True):
        np.testing.assert_array_equal(np.asarray(clip.landmarks), np.asarray(twin.landmarks))
    assert isinstance(kept.clips[0].landmarks, MappedLandmarks)
    with pytest.raises(ConfigError, match=r"layout 'kp91'; known: .*kp90"):
        main(["pack", str(tmp_path / "whole.npz"), str(tmp_path / "x.npz"), "--layout", "kp91"])
    # From the mapped form to the other, and to fewer landmarks.
    assert main(["pack", str(out), str(tmp_path / "again.npz")]) == 0
    again = read_clips(tmp_path / "again.npz")
    assert again.fingerprint() == kept.fingerprint()
    assert isinstance(again.clips[0].landmarks, np.ndarray)
    with pytest.raises(ClipError, match=r"whole\.npz\[0\]: found 543 keypoints.*'kinect20' has 20"):
        read_clips(tmp_path / "whole.npz", only=get_layout("kinect20"))
    names = get_layout("kp75").names[:40]
    write_packed(
        ClipSet(clips_of(3, 40).clips, ("hello", "bye", "again"), landmark_names=names),
        tmp_path / "named.npz",
    )
    few = read_clips(tmp_path / "named.npz", only=get_layout("kp75"))
    assert few.clips[0].landmarks.shape[1:] == (75, 2) and few.landmark_names is None
    assert re.search("lack 35 of the 75 landmarks of layout 'kp75'", " ".join(few.notes))


def damaged(path: Path, name: str) -> None:
    """Damages a mapped file in one way."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("kp_q.npy")
    header = content.index(b"\x93NUMPY")
    numbers = content.index(b"\n", header) + 1
    if name == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif name == "a flipped bit":
        content[numbers + 100] ^= 1
        path.write_bytes(content)
    elif name == "another shape":
        with np.load(path) as arrays:
            kept = {key: arrays[key] for key in arrays.files if key != "kp_q"}
            frames = arrays["kp_q"]
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("kp_q.npy", "w") as file:
                lie = {"descr": "<i2", "fortran_order": False, "shape": (10**12, 75, 2)}
                np.lib.format.write_array_header_1_0(file, lie)
                file.write(frames.tobytes())
            for key, array in kept.items():
                with archive.open(f"{key}.npy", "w") as file:
                    np.lib.format.write_array(file, array)
    else:  # the directory says that the member is longer than the file
        at = content.rindex(b"kp_q.npy") - 46
        assert content[at : at + 4] == b"PK\1\2"
        longer = (member.file_size + 10**9).to_bytes(4, "little")
        content[at + 20 : at + 28] = longer * 2
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["cut", "a flipped bit", "another shape", "a longer member"])
def test_damaged_files_are_errors_before_anything_is_mapped(tmp_path, name):
    path = tmp_path / "x.npz"
    write_packed(clips_of(9), path, mapped=True)
    damaged(path, name)
    with pytest.raises(ClipError, match=r"x\.npz: .*(copy|write) ") as caught:
        read_clips(path)
    if name != "cut":
        assert "kp_q" in str(caught.value)


@pytest.mark.parametrize("layout", ["kp75", "kinect20"])
def test_batches_are_the_same_whether_clips_stay_prepared_or_not(tmp_path, monkeypatch, layout):
    keypoints, coordinates = (75, 2) if layout == "kp75" else (20, 3)
    normalization = "bbox" if layout == "kp75" else "body_centred"
    write_packed(clips_of(23, keypoints, coordinates), tmp_path / "x.npz", mapped=True)
    clips = read_clips(tmp_path / "x.npz")
    config = from_dict(
        {
            "model": {"num_labels": 3},
            "data": {"layout": layout, "max_frames": 10, "normalization": normalization},
            "augment": {"probability": 0.5, "flip": 0.5, "noise": 0.01},
            "train": {"batch_size": 4},
        },
        source="test",
    )
    kept = prepare_clips(clips, config)
    assert isinstance(kept.points, np.ndarray)
    monkeypatch.setattr(batches, "_KEPT", 0)
    taken = prepare_clips(clips, config)
    assert not isinstance(taken.points, np.ndarray)
    np.testing.assert_array_equal(kept.lengths, taken.lengths)
    for make in (lambda data: training_batches(data, config, 3),
                 lambda data: evaluation_batches(data, config)):  # fmt: skip
        for one, other in zip(make(kept), make(taken), strict=True):
            for name in ("keypoints", "attention_mask", "labels", "indices"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


PEAK = """
import sys
from pathlib import Path
from signbart import batches
from signbart.batches import evaluation_batches, prepare_clips, training_batches
from signbart.configuration.reading import from_dict
from signbart.recordings.doctor import examine_clips
from signbart.recordings.reading import read_clips
clips = read_clips(sys.argv[1])
examine_clips(clips)
clips.fingerprint()
config = from_dict(
    {"model": {"num_labels": 100}, "data": {"layout": "kp75", "max_frames": 40}}, source="test"
)
batches._KEPT = 0  # as if the set were three times as large
data = prepare_clips(clips, config)
count = sum(len(batch.labels) for batch in training_batches(data, config, 0))
count += sum(len(batch.labels) for batch in evaluation_batches(data, config))
assert count == 2 * len(clips)
# Not getrusage's: that begins with what the process that started this one had.
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """8,000 clips more are 92 MiB more of file, and 183 MiB more where they are loaded."""
    peaks, sizes = [], []
    rng = np.random.default_rng(0)
    for count in (6_000, 14_000):
        path = tmp_path / f"{count}.npz"
        numbers = rng.integers(0, 10_000, (count * 40, 75, 2), dtype=np.int16)
        np.savez(
            path, kp_q=numbers, scale=np.float32(1e-4), offsets=np.arange(count + 1) * 40,
            label=np.arange(count) % 100, class_names=[f"sign{at}" for at in range(100)],
        )  # fmt: skip
        sizes.append(path.stat().st_size / 2**20)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path)], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 2**10)
    assert sizes[1] - sizes[0] > 90
    # What grows is a Clip and its name: about 1 KiB a clip.
    assert peaks[1] - peaks[0] < 30
    # Pages that stay at most, what is loaded of Python, and batches of the longest clips.
    assert peaks[1] < 400
