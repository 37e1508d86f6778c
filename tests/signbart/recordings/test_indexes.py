"""Index files beside recordings, what is read where there are several ways, and what is said."""

import json

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.recordings.tree_writing import write_tree

CLIP = np.full((5, 75, 2), 0.5, np.float32)


def signs(path, **options) -> dict[str, str]:
    """Clip -> its sign, and where it has one its split."""
    clips = read_clips(path, **options)
    return {
        clip.source.rpartition("/")[2]: clips.class_names[clip.label]
        + ("" if clip.split == "all" else f", {clip.split}")
        for clip in clips.clips
    }


def save(path, clip=CLIP):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, clip)


def index(path, *rows):
    path.write_text("\n".join(("file,sign,signer", *rows)) + "\n", encoding="utf-8")


def test_autsl_names_clips_without_color_and_ending(tmp_path):
    for split, clip in (("train", "signer0_sample1"), ("test", "signer1_sample2")):
        save(tmp_path / split / f"{clip}_color.npy")
        (tmp_path / f"{split}_labels.csv").write_text(f"{clip},{len(split)}\n")
    assert signs(tmp_path) == {
        "signer0_sample1_color.npy": "5, train", "signer1_sample2_color.npy": "4, test"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.mp4", "clips/a.mp4", "clips\\a.npy", "./clips/a.npy", "a"])
def test_an_index_may_name_videos_and_folders(tmp_path, name):
    for clip in "ab":
        save(tmp_path / "clips" / f"{clip}.npy")
    index(tmp_path / "index.csv", f"{name},hello,s0", "b.npy,bye,s1")
    assert signs(tmp_path) == {"a.npy": "hello", "b.npy": "bye"}


def test_a_video_beside_its_landmarks_is_not_taken_for_them(tmp_path):
    save(tmp_path / "clips" / "a.npy")
    (tmp_path / "clips" / "a.mp4").write_bytes(b"\0\0\0\x18ftyp")
    index(tmp_path / "index.csv", "a.mp4,hello,s0")
    assert signs(tmp_path) == {"a.npy": "hello"}


def test_an_index_comes_before_folders_of_splits(tmp_path):
    save(tmp_path / "train" / "s0" / "a.npy")
    save(tmp_path / "test" / "s1" / "b.npy")
    index(tmp_path / "index.csv", "a,hello,s0", "b,bye,s1")
    assert signs(tmp_path) == {"a.npy": "hello, train", "b.npy": "bye, test"}
    assert signs(tmp_path, split="test") == {"b.npy": "bye, test"}


def test_folders_that_are_the_signs_decide_where_an_index_says_something_else(tmp_path):
    for at, clip in enumerate(("hello/0", "hello/1", "thanks/2")):
        save(tmp_path / "tree" / f"{clip}.npy")
        save(tmp_path / "divided" / ("train", "test")[at == 1] / f"{clip}.npy")
    folders = {"0.npy": "hello", "1.npy": "hello", "2.npy": "thanks"}
    divided = {"0.npy": "hello, train", "1.npy": "hello, test", "2.npy": "thanks, train"}
    for name, text, said in (
        ("classes.csv", "id,label\n0,hello\n1,thanks\n", "says 'thanks' of"),
        ("bad.csv", "file,label\n0.npy,hello\n", "does not name"),
        ("other.csv", "file,label\nx.npy,thanks\n", "does not name"),
    ):
        for root, expected in (("tree", folders), ("divided", divided)):
            (tmp_path / root / name).write_text(text)
            assert signs(tmp_path / root) == expected
            assert any(
                f"{name} is not read, as it {said}" in n for n in read_clips(tmp_path / root).notes
            )
            (tmp_path / root / name).unlink()
    # One that agrees adds who signs.
    index(tmp_path / "tree" / "index.csv", "0,hello,anna", "1,hello,ben", "2,thanks,anna")
    assert read_clips(tmp_path / "tree").signers == ("anna", "ben", "anna")


def test_what_describes_a_clip_is_no_second_one(tmp_path):
    for clip in "12":
        save(tmp_path / "clips" / f"{clip}.npy")
        (tmp_path / "clips" / f"{clip}.txt").write_text("seen from the side")
        (tmp_path / "clips" / f"{clip}.json").write_text('{"keypoints": [[[1, 2]]]}')
    index(tmp_path / "index.csv", "1,hello,s0", "2,bye,s0")
    assert signs(tmp_path) == {"1.npy": "hello", "2.npy": "bye"}


def test_an_index_may_say_where_clips_stood_elsewhere(tmp_path):
    save(tmp_path / "clips" / "a.npy")
    save(tmp_path / "clips" / "b.npy")
    index(tmp_path / "index.csv", "/data/clips/a.npy,hello,s0", "C:\\data\\clips\\b.npy,bye,s0")
    assert signs(tmp_path) == {"a.npy": "hello", "b.npy": "bye"}
    # Of another folder it is another clip.
    index(tmp_path / "index.csv", "/data/other/a.npy,hello,s0")
    with pytest.raises(ClipError, match="names none of the files here"):
        read_clips(tmp_path)


def test_a_label_file_beside_an_index_or_a_set_orders_the_classes(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.json").write_text(
        json.dumps([{"label": sign, "keypoints": CLIP.tolist()} for sign in ("bye", "hello")])
    )
    for clip in "ab":
        save(tmp_path / "indexed" / "clips" / f"{clip}.npy")
    index(tmp_path / "indexed" / "index.csv", "a,hello,s0", "b,bye,s1")
    for root in (tmp_path / "set", tmp_path / "indexed"):
        (root / "label2id.json").write_text('{"hello": 0, "bye": 1}')
        clips = read_clips(root)
        assert clips.class_names == ("hello", "bye") and len(clips) == 2


def test_an_index_that_names_nothing_is_no_reason_to_take_folders_for_signs(tmp_path):
    save(tmp_path / "clips" / "a.npy")
    index(tmp_path / "index.csv", "x,hello,s0")
    with pytest.raises(ClipError, match=r"index\.csv names none .*'x'.*'clips/a\.npy'; correct"):
        read_clips(tmp_path)
    (tmp_path / "index.csv").write_bytes("file,sign\na,été\n".encode("cp1252"))
    notes = read_clips(tmp_path).notes
    assert any("index.csv" in note and "is no UTF-8; save it as UTF-8" in note for note in notes)


def test_a_name_that_several_clips_have_is_not_guessed(tmp_path):
    for folder in "xy":
        save(tmp_path / folder / "a.npy")
    index(tmp_path / "index.csv", "a,hello,s0")
    with pytest.raises(ClipError, match=r"'a' in index\.csv may be any of x/a\.npy, y/a\.npy"):
        read_clips(tmp_path)
    index(tmp_path / "index.csv", "x/a.npy,hello,s0", "y/a.npy,bye,s0")
    assert sorted(read_clips(tmp_path).labels) == [0, 1]


def test_rows_of_another_length_are_counted(tmp_path):
    for clip in "abc":
        save(tmp_path / "clips" / f"{clip}.npy")
    index(tmp_path / "index.csv", "a,hello,s0,", "b,bye", "", "c,bye,s1,,")
    assert signs(tmp_path) == {"a.npy": "hello", "c.npy": "bye"}
    (note,) = [note for note in read_clips(tmp_path).notes if "rows not read" in note]
    assert "1 rows" in note and note.endswith("rows 3")


def test_what_stands_beside_a_packed_file_is_named(tmp_path):
    write_packed(ClipSet((Clip(CLIP, 0, "s0", 0, ""),), ("hello",)), tmp_path / "packed.npz")
    assert not read_clips(tmp_path).notes
    save(tmp_path / "bye" / "a.npy")
    save(tmp_path / "b.npy")
    (note,) = read_clips(tmp_path).notes
    assert "packed.npz is read, and nothing beside it: bye, b.npy" in note


@pytest.mark.parametrize("labels", [None, '{"all": 0, "hello": 1}'])
def test_a_sign_may_be_called_as_a_split_is(tmp_path, labels):
    for sign in ("all", "hello"):
        for frame in range(4):
            save(tmp_path / sign / "0" / f"{frame}.npy", CLIP[0].ravel())
    if labels:
        (tmp_path / "label2id.json").write_text(labels)
    clips = read_clips(tmp_path)
    assert clips.class_names == ("all", "hello") and len(clips) == 2


def test_a_tree_is_not_written_where_clips_would_be_lost(tmp_path):
    clips = tuple(Clip(CLIP, 0, "s0", 0, "", split) for split in ("train", "all", "all"))
    with pytest.raises(ClipError, match=r"2 of 3 clips are in no split.*write a packed file"):
        write_tree(ClipSet(clips, ("hello",)), tmp_path / "tree")
    for name in (".net", "Thumbs.db"):
        with pytest.raises(ClipError, match="cannot be a folder's name"):
            write_tree(ClipSet(clips[:1], (name,)), tmp_path / "tree")
    assert not list(tmp_path.iterdir())
