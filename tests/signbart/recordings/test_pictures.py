"""Pictures of clips: the same whatever their length, in the memory of a few."""

import gc
import io
import weakref

import numpy as np
import pytest

from signbart.recordings import pictures
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.names import UNKNOWN_SIGNER
from signbart.recordings.pictures import draw_clip


def clip_of(landmarks: np.ndarray) -> ClipSet:
    return ClipSet((Clip(landmarks, 0, UNKNOWN_SIGNER, 0, "x"),), ("",))


def moving(frames: int) -> np.ndarray:
    """(T, 75, 2) landmarks that wander, and now and then stand still."""
    generator = np.random.default_rng(frames)
    steps = generator.normal(0, 0.01, (frames, 75, 2))
    steps[generator.random(frames) < 0.2] = 0
    return (generator.uniform(0.2, 0.8, (75, 2)) + steps.cumsum(axis=0)).astype(np.float32)


def still(frames: int) -> np.ndarray:
    return np.repeat(moving(1), frames, axis=0)


def at_once(clips: ClipSet) -> bytes:
    """The GIF, as Pillow writes it with all pictures in memory."""
    points, names, edges = pictures._drawable(clips, 0)
    first, *rest = [pictures._draw(frame, names, edges) for frame in points]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=80, loop=0)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "landmarks",
    [
        moving(2), moving(31), moving(32), moving(33), moving(150), still(1), still(70),
        np.concatenate([still(70), moving(40), still(70), still(2)]),
        np.concatenate([moving(40), still(70)]),
    ],
    ids=["2", "31", "32", "33", "150", "one", "still", "mixed", "still at the end"],
)  # fmt: skip
def test_a_moving_picture_is_the_one_that_is_written_at_once(tmp_path, landmarks):
    clips = clip_of(landmarks)
    draw_clip(clips, 0, tmp_path / "x")
    assert (tmp_path / "x.gif").read_bytes() == at_once(clips)


def test_few_pictures_are_in_memory_at_once(tmp_path, monkeypatch):
    drawn, most, draw = [], 0, pictures._draw

    def counted(*arguments):
        nonlocal most
        picture = draw(*arguments)
        drawn.append(weakref.ref(picture))
        most = max(most, sum(one() is not None for one in drawn))
        return picture

    monkeypatch.setattr(pictures, "_draw", counted)
    gc.collect()
    draw_clip(clip_of(moving(200)), 0, tmp_path / "x")
    assert most < 100


def test_a_picture_may_stand_still_for_longer_than_a_gif_can_say(tmp_path, monkeypatch):
    from PIL import Image

    blank = Image.new("RGB", (8, 8), "white")
    monkeypatch.setattr(pictures, "_draw", lambda *_: blank)
    draw_clip(clip_of(still(9000)), 0, tmp_path / "x")
    with Image.open(tmp_path / "x.gif") as found:
        assert found.info["duration"] == 655_350
