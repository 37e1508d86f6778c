"""What is in a folder is read or named: splits, stray files, label files, names that look alike."""

import json
import os
import pickle
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from signbart.clips import main
from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.names import get_signer_pattern, read_name, split_named
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips, read_single_clip

POINTS = np.full((4, 75, 2), 0.5, np.float32)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, POINTS)
    return path


def note_of(root: Path, *parts: str, **options) -> str:
    """The one note that has all the parts."""
    notes = [note for note in read_clips(root, **options).notes if all(p in note for p in parts)]
    assert len(notes) == 1, (parts, read_clips(root, **options).notes)
    return notes[0]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "validation", "testing"), ("trn", "dev", "tst"),
     ("TRAIN", "valid", "Test"), ("training", "development", "testing")],
)  # fmt: skip
def test_splits_go_by_their_usual_names(tmp_path, train, val, test):
    for folder in (train, val, test):
        write(tmp_path / folder / "hello" / f"{folder}.npy")
    found = {clip.split: Path(clip.source).stem for clip in read_clips(tmp_path).clips}
    assert found == {"train": train, "val": val, "test": test}
    assert [clip.split for clip in read_clips(tmp_path, split="val").clips] == ["val"]


def test_split_names_that_mean_nothing_else():
    assert {split_named(name) for name in ("hello", "trains", "tests", "", "holdout")} == {None}


def test_folders_that_are_no_split_are_named(tmp_path):
    write(tmp_path / "train" / "hello" / "a.npy")
    write(tmp_path / "holdout" / "hello" / "b.npy")
    assert "holdout" in note_of(tmp_path, "folders not read", "those of no split")
    assert len(read_clips(tmp_path)) == 1


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path / "train" / "a.npy")
    write(tmp_path / "bus" / "b.npy")
    assert read_clips(tmp_path).class_names == ("bus", "train")


def test_that_all_stands_for_every_split_is_said(tmp_path):
    write(tmp_path / "all" / "hello" / "a.npy")
    write(tmp_path / "test" / "hello" / "b.npy")
    assert "test" in note_of(tmp_path, "folder 'all' has every clip")


def test_what_stands_beside_clips_is_named(tmp_path):
    write(tmp_path / "train" / "hello" / "a.npy")
    write(tmp_path / "train" / "b.npy")
    write(tmp_path / "train" / "hello" / "deeper" / "c.npy")
    (tmp_path / "train" / "empty").mkdir()
    assert "b.npy" in note_of(tmp_path, "1 files not read", "in no class's folder")
    assert "deeper" in note_of(tmp_path, "folders in it not read")
    assert "empty" in note_of(tmp_path, "1 classes without a clip")
    assert "hello" not in note_of(tmp_path, "1 classes without a clip")


def test_operating_systems_files_are_no_clips_and_are_counted(tmp_path):
    write(tmp_path / "train" / "hello" / "a.npy")
    for name in (".DS_Store", "train/Thumbs.db", "train/hello/desktop.ini", "train/hello/._a.npy",
                 "train/hello/ehthumbs.db", "__MACOSX/train/hello/a.npy",
                 "train/hello/.ipynb_checkpoints/a.npy", "@eaDir/x"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(read_clips(tmp_path)) == 1
    assert "8 files or folders" in note_of(tmp_path, "operating systems", "Thumbs.db")
    (tmp_path / "train" / "hello" / "readme.md").write_text("x")
    with pytest.raises(ClipError, match=r"readme\.md: is no \.pkl file, nor"):
        read_clips(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_label_files_read_as_every_editor_writes_them(tmp_path, encoding, newline):
    labels = {"später": 0, "早い": 1}
    text = json.dumps(labels, ensure_ascii=False, indent=1).replace("\n", newline)
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    (tmp_path / "label2id.json").write_bytes(mark + text.encode(encoding))
    write(tmp_path / "all" / "早い" / "a.npy")
    clips = read_clips(tmp_path)
    assert clips.class_names == ("später", "早い") and list(clips.labels) == [1]


def test_a_label_file_in_another_encoding_is_refused(tmp_path):
    write(tmp_path / "all" / "früh" / "a.npy")
    (tmp_path / "label2id.json").write_bytes('{"früh": 0}'.encode("latin-1"))
    with pytest.raises(ClipError, match=r"label2id\.json: byte 4 is no UTF-8; save it as UTF-8"):
        read_clips(tmp_path)


@pytest.mark.parametrize(("label", "folder"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_look_the_same_are_the_same(tmp_path, label, folder):
    name = "más tarde"
    labels = {unicodedata.normalize(label, name): 0, "ya": 1}
    (tmp_path / "label2id.json").write_text(json.dumps(labels), "utf-8")
    write(tmp_path / "all" / unicodedata.normalize(folder, name) / "a.npy")
    write(tmp_path / "all" / "más\N{NO-BREAK SPACE}tarde" / "b.npy")
    clips = read_clips(tmp_path)
    assert list(clips.labels) == [0, 0]
    assert clips.class_names[0] == unicodedata.normalize(label, name)
    both = {unicodedata.normalize("NFC", name): 0, unicodedata.normalize("NFD", name): 1}
    (tmp_path / "label2id.json").write_text(json.dumps(both), "utf-8")
    with pytest.raises(ClipError, match="classes 0 and 1 look the same, 'más tarde'"):
        read_clips(tmp_path)


def test_labels_come_from_folders_where_no_file_says_them(tmp_path):
    for split, name in (("train", "b"), ("test", "a"), ("test", "c")):
        write(tmp_path / split / name / "x.npy")
    # The same labels whichever part is read.
    assert read_clips(tmp_path, split="train").class_names == ("a", "b", "c")
    assert "the 3 folders' names" in note_of(tmp_path, "no label2id.json")
    (tmp_path / "id2label.json").write_text('{"0": "c", "1": "b", "2": "a"}')
    assert read_clips(tmp_path).class_names == ("c", "b", "a")


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    for at in range(30):
        write(tmp_path / "all" / f"class{at % 3}" / f"user{at:02d}_R1.npy")
    listed: Counter[str] = Counter()
    scandir = os.scandir

    def counting(path):
        listed[os.fspath(path)] += 1
        return scandir(path)

    def not_listed(self, *_):
        raise AssertionError(f"{self} is listed by other means")

    monkeypatch.setattr(os, "scandir", counting)
    monkeypatch.setattr(Path, "iterdir", not_listed)
    monkeypatch.setattr(Path, "glob", not_listed)
    assert len(read_clips(tmp_path)) == 30
    assert set(listed.values()) == {1} and len(listed) == 5


PATTERNS = {
    "user12_G10_R10": ("user12", 10),
    "signer12_sample345_color": ("signer12", 345),
    "001_003_002": ("003", 2),
    "2020_11_25": (None, 0),
    "signer_3": (None, 0),
    "user7b_G12": (None, 0),
}


@pytest.mark.parametrize("stem", PATTERNS)
def test_names_say_who_signs(stem):
    assert read_name(stem) == PATTERNS[stem]


def test_a_pattern_of_ones_own(tmp_path):
    write(tmp_path / "hello" / "take3-by-Anna.npy")
    pattern = r"take(?P<repetition>\d+)-by-(?P<signer>\w+)"
    (clip,) = read_clips(tmp_path, signer_pattern=pattern).clips
    assert (clip.signer, clip.repetition) == ("Anna", 3)
    assert read_clips(tmp_path).signers == ("unknown",)
    (clip,) = read_clips(tmp_path, signer_pattern="lsa64").clips
    assert clip.signer == "unknown"
    for bad, complaint in (("(", "no regular expression"), (r"\d+", "needs a group"), ("x", "lsa")):
        with pytest.raises(Exception, match=complaint):
            get_signer_pattern(bad)


def test_info_says_what_was_not_read_and_who_is_not_known(tmp_path, capsys):
    write(tmp_path / "train" / "hello" / "user01_a.npy")
    write(tmp_path / "train" / "hello" / "b.npy")
    write(tmp_path / "pictures" / "hello" / "c.npy")
    assert main(["info", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "signers    2, one of them 'unknown': 1 clips name none" in printed.out
    assert "note: " in printed.err and "pictures" in printed.err


@pytest.mark.parametrize(("terminal", "short"), [(True, -1.0), (False, -1.0), (True, 60.0)])
def test_progress_is_shown_on_a_terminal_only(tmp_path, monkeypatch, terminal, short):
    from io import StringIO

    from rich.console import Console
    from rich.progress import Progress

    for at in range(5):
        write(tmp_path / "hello" / f"{at}.npy")
    shown = StringIO()
    console = Console(file=shown, force_terminal=terminal, width=80)
    monkeypatch.setattr("signbart.waiting.console", lambda: console)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setattr("signbart.waiting.SHORT", short)
    assert len(read_clips(tmp_path)) == 5
    expected = terminal and short < 0  # what is done at once needs no bar
    assert ("reading" in shown.getvalue()) == expected
    assert "100%" in shown.getvalue() or not expected
    shown.truncate(0)
    with Progress(console=console):  # two bars at once would write over each other
        read_clips(tmp_path)
    assert "reading" not in shown.getvalue()


def write_json_zeros(path: Path, points: np.ndarray) -> None:
    path.with_suffix(".json").write_text(json.dumps(points.tolist()))


def write_npz_zeros(path: Path, points: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), keypoints=points)


def write_pickle_zeros(path: Path, points: np.ndarray) -> None:
    content = {"keypoints": points, "class": path.parent.name}
    path.with_suffix(".pkl").write_bytes(pickle.dumps(content))


def write_rows(path: Path, points: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), points.reshape(len(points), -1))


@pytest.mark.parametrize("write_clip", [write_json_zeros, write_npz_zeros, write_pickle_zeros,
                                        write_rows])  # fmt: skip
@pytest.mark.parametrize("missing", [(0, 0), (0, 0, 0), (0, 0, 0.3)])
def test_a_clip_of_zeros_has_not_a_single_landmark(tmp_path, write_clip, missing):
    points = np.full((4, 75, len(missing)), 0.5, np.float32)
    (tmp_path / "hello").mkdir()
    write_clip(tmp_path / "hello" / "good", points)
    write_clip(tmp_path / "hello" / "bad", np.full_like(points, 0) + np.float32(missing))
    with pytest.raises(ClipError, match=r"bad\.\w+: no landmark of any frame is there.*skip-bad"):
        read_clips(tmp_path)
    clips = read_clips(tmp_path, skip_bad=True)
    assert len(clips) == 1 and len(clips.skipped) == 1
    (bad,) = (tmp_path / "hello").glob("bad.*")
    with pytest.raises(ClipError, match="no landmark of any frame is there"):
        read_single_clip(str(bad))


@pytest.mark.parametrize("mapped", [False, True])
def test_a_packed_clip_of_zeros_has_not_a_single_landmark(tmp_path, mapped):
    clips = tuple(Clip(POINTS * at, 0, "anna", at, f"[{at}]", "all") for at in range(2))
    write_packed(ClipSet(clips, ("hello",)), tmp_path / "x.npz", mapped=mapped)
    with pytest.raises(ClipError, match=r"x\.npz\[0\]: no landmark of any frame is there"):
        read_clips(tmp_path)
    assert len(read_clips(tmp_path, skip_bad=True)) == 1
