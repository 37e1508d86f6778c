"""Parts of sets, and several sets as one, by the command and by its functions."""

import dataclasses

import numpy as np
import pytest

from signbart.clips import main
from signbart.errors import ClipError
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips


def made(names, signers, repetitions=4, seed=0, keypoints=42) -> ClipSet:
    rng = np.random.default_rng(seed)
    clips = tuple(
        Clip(rng.uniform(0.3, 0.6, (5, keypoints, 2)).round(4).astype(np.float32), label, signer,
             repetition, "x")
        for label in range(len(names)) for signer in signers for repetition in range(repetitions)
    )  # fmt: skip
    return ClipSet(clips, tuple(names), landmark_names=tuple(map(str, range(keypoints))))


@pytest.fixture
def packed(tmp_path):
    write_packed(made(("bye", "hello", "thanks"), ("S01", "S02")), tmp_path / "a.npz")
    write_packed(made(("thanks", "rain"), ("S02", "S03"), seed=1), tmp_path / "b.npz")
    return tmp_path


def pack(folder, *options) -> ClipSet:
    out = folder / "out.npz"
    assert main(["pack", str(folder / "a.npz"), str(out), "--force", *map(str, options)]) == 0
    return read_clips(out)


def test_classes_are_numbered_in_the_order_that_they_are_named_in(packed):
    whole = read_clips(packed / "a.npz")
    part = pack(packed, "--classes", "thanks", "bye")
    assert part.class_names == ("thanks", "bye") and len(part) == 16
    for clip in part.clips:
        (same,) = (c for c in whole.clips if np.array_equal(c.landmarks, clip.landmarks))
        assert whole.class_names[same.label] == part.class_names[clip.label]
        assert (same.signer, same.repetition) == (clip.signer, clip.repetition)


def test_so_many_clips_of_each_class_by_each_signer(packed):
    part = pack(packed, "--max-clips", 2, "--seed", 1)
    counts = {(c.label, c.signer): 0 for c in part.clips}
    for clip in part.clips:
        counts[clip.label, clip.signer] += 1
    assert len(counts) == 6 and set(counts.values()) == {2}
    again, other = pack(packed, "--max-clips", 2, "--seed", 1), pack(packed, "--max-clips", 2)
    assert again.fingerprint() == part.fingerprint() != other.fingerprint()
    assert (
        pack(packed, "--max-clips", 9).fingerprint() == read_clips(packed / "a.npz").fingerprint()
    )


def test_sets_that_share_classes_become_one(packed):
    merged = pack(packed, "--merge", packed / "b.npz")
    assert merged.class_names == ("bye", "hello", "thanks", "rain") and len(merged) == 40
    assert merged.signer_names == ("S01", "S02", "S03")
    other = read_clips(packed / "b.npz")
    for clip, source in zip(merged.clips[24:], other.clips, strict=True):
        assert merged.class_names[clip.label] == other.class_names[source.label]
        np.testing.assert_array_equal(clip.landmarks, source.landmarks)
    part = pack(packed, "--merge", packed / "b.npz", "--signers", "S02", "--classes", "thanks")
    assert len(part) == 8 and part.signer_names == ("S02",)


def test_what_cannot_be_taken_is_refused(packed):
    write_packed(made(("bye", "no"), ("S01",), keypoints=21), packed / "c.npz")
    for options, message in (
        (("--classes", "rain"), r"a\.npz has no class rain; its classes are bye, hello, thanks"),
        (("--classes", "bye", "bye"), "names one twice"),
        (("--signers", "S07"), r"no clips by S07; the signers are S01, S02"),
        (("--merge", packed / "c.npz"), r"c\.npz: 21 landmarks .* but .*a\.npz has 42"),
    ):
        with pytest.raises(ClipError, match=message):
            pack(packed, *options)
    assert not (packed / "out.npz").exists()


def test_what_was_done_is_noted_and_reaches_the_run(packed, tmp_path, capsys):
    (packed / "held_out.txt").write_text("# never trained on\nS02\n\n")
    part = pack(
        packed, "--merge", packed / "b.npz", "--classes", "thanks", "rain",
        "--without-signers", f"@{packed / 'held_out.txt'}", "--max-clips", 2, "--seed", 5,
    )  # fmt: skip
    a, b = (read_clips(packed / name) for name in ("a.npz", "b.npz"))
    assert part.made_from == (
        f"a.npz: 24 clips, SHA-256 {a.fingerprint()}",
        f"b.npz: 16 clips, SHA-256 {b.fingerprint()}",
        "classes thanks, rain",
        "without signers S02",
        "at most 2 clips of a class by a signer, seed 5",
    )
    assert set(part.signers) == {"S01", "S03"}
    capsys.readouterr()
    assert main(["info", str(packed / "out.npz")]) == 0
    assert "made from  without signers S02" in capsys.readouterr().out


def test_a_file_of_signers_that_names_nobody_or_somebody_else_is_refused(packed):
    for text, message in (("# none\n", "names no signer"), ("S09\n", "no clips by S09")):
        (packed / "who.txt").write_text(text)
        with pytest.raises(ClipError, match=message):
            pack(packed, "--signers", f"@{packed / 'who.txt'}")
    with pytest.raises(ClipError, match=r"nowhere\.txt: cannot be read"):
        pack(packed, "--signers", f"@{packed / 'nowhere.txt'}")
    with pytest.raises(ClipError, match="no clips by others than S01, S02"):
        pack(packed, "--without-signers", "S01", "S02")


def test_a_clip_is_not_taken_twice(packed):
    message = r"is in .*a\.npz too, of the same class and signer"
    with pytest.raises(ClipError, match=message):
        pack(packed, "--merge", packed / "a.npz")
    # Packing rounds; what was not packed is still the same clip.
    whole = read_clips(packed / "a.npz")
    finer = tuple(
        dataclasses.replace(clip, landmarks=clip.landmarks + np.float32(4e-5))
        for clip in whole.clips
    )
    for index in (0, 23):
        points = finer[index].landmarks
        np.savez(
            packed / "one.npz",
            kp_q=points[None],
            scale=1.0,
            label=[0],
            class_names=[whole.class_names[finer[index].label]],
            signer=[0],
            signer_names=[finer[index].signer],
            landmark_names=list(whole.landmark_names),
        )
        with pytest.raises(ClipError, match=message):
            pack(packed, "--merge", packed / "one.npz")
