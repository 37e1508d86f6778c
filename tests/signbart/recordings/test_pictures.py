"""Pictures of long clips."""

import numpy as np
from PIL import Image

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


def test_a_long_clip_is_drawn_in_the_memory_of_500_pictures(tmp_path, monkeypatch):
    drawn = []
    draw = pictures._draw
    monkeypatch.setattr(pictures, "_draw", lambda *given: drawn.append(1) or draw(*given))
    for frames, expected, shown in ((500, 500, 80), (501, 251, 160)):
        drawn.clear()
        draw_clip(clip_of(moving(frames)), 0, tmp_path / "x")
        assert len(drawn) == expected + 8  # and the strip's
        with Image.open(tmp_path / "x.gif") as found:
            assert found.info["duration"] % shown == 0


def test_a_picture_may_stand_still_for_longer_than_a_gif_can_say(tmp_path, monkeypatch):
    blank = Image.new("RGB", (8, 8), "white")
    monkeypatch.setattr(pictures, "_draw", lambda *_: blank)
    draw_clip(clip_of(still(9000)), 0, tmp_path / "x")
    with Image.open(tmp_path / "x.gif") as found:
        assert 650_000 < found.info["duration"] <= 655_350
