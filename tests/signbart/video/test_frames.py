"""When the frames of a video are shown, and whether they are all there."""

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.video.frames import Video
from tests.signbart.video.conftest import index_first, write_timed_video, write_video

pytest.importorskip("cv2", reason="the extra 'video' is not installed")

# Of 60 frames in 2 s a recorder left out five, as browsers do on a busy machine.
LEFT_OUT = [tick for tick in range(60) if tick not in (9, 21, 33, 44, 52)]
# 30 frames a second, then 10, then 30 again, as cameras do in the dark.
UNEVEN = [*range(30), *range(30, 90, 3), *range(90, 120)]


def pictures(count: int) -> list[np.ndarray]:
    """Noise, so that a file is as long as its frames are many."""
    generator = np.random.default_rng(0)
    return [*generator.integers(0, 256, (count, 48, 64, 3), np.uint8)]


def stamps(path) -> list[int]:
    return [frame.milliseconds for frame in Video(path)]


@pytest.mark.parametrize("ending", ["webm", "mkv", "mp4"])
@pytest.mark.parametrize("ticks", [LEFT_OUT, UNEVEN], ids=["left out", "uneven"])
def test_frames_are_stamped_with_the_files_own_times(tmp_path, ending, ticks):
    path = write_timed_video(tmp_path / f"x.{ending}", pictures(len(ticks)), ticks)
    found = stamps(path)
    np.testing.assert_allclose(found, [tick * 1000 / 30 for tick in ticks], atol=1)
    assert (np.diff(found) > 0).all()


def test_stamps_of_an_even_video_are_those_of_its_rate(selfie, tmp_path):
    fps = Video(selfie).fps
    assert stamps(selfie) == [int(at * 1000 / fps) for at in range(58)]
    for name, rate in (("a.mp4", 25), ("b.mp4", 30), ("c.avi", 30), ("d.mp4", 29.97)):
        path = write_video(tmp_path / name, pictures(20), rate)
        assert stamps(path) == [int(at * 1000 / rate) for at in range(20)], name


class Clock:
    """A capture of given times, in the place of a file whose decoder gives them."""

    def __init__(self, times):
        self._times, self._at = times, -1

    def isOpened(self):
        return True

    def read(self):
        self._at += 1
        there = self._at < len(self._times)
        return there, np.zeros((4, 4, 3), np.uint8) if there else None

    def get(self, what):
        import cv2

        if what == cv2.CAP_PROP_FPS:
            return 25.0
        return self._times[self._at] if what == cv2.CAP_PROP_POS_MSEC else 0.0

    def release(self):
        pass


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # OpenCV gives 0 for what has no time: the last frames of .mpg, all of a bare stream.
        ([0, 40, 80, 0, 0], [0, 40, 80, 120, 160]),
        ([0, 0, 0, 0], [0, 40, 80, 120]),
        # MediaPipe takes only what grows.
        ([0, 40, 40, 39, 120], [0, 40, 41, 42, 120]),
        ([0, 0.2, 0.9, 1.1], [0, 1, 2, 3]),
        ([33.4, 66.8, 100.2], [0, 33, 66]),
    ],
)
def test_stamps_grow_from_0_whatever_the_decoder_gives(tmp_path, monkeypatch, times, expected):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Clock(times))
    assert stamps(tmp_path / "x.mp4") == expected


# Whole or not


@pytest.mark.parametrize("ending", ["webm", "mkv"])
def test_a_picture_that_lasts_to_the_end_is_no_break(tmp_path, ending):
    """Sound goes on, or the camera stood still, as before: what a recorder leaves out is whole."""
    late = [*range(30), *range(30, 72, 6), 79]
    path = write_timed_video(tmp_path / f"x.{ending}", pictures(len(late)), late)
    assert len(stamps(path)) == len(late) < Video(path).frames - 30


@pytest.mark.parametrize("ending", ["webm", "mkv", "mp4"])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("ticks", [range(60), LEFT_OUT], ids=["even", "left out"])
def test_a_copy_that_was_cut_breaks_off(tmp_path, ending, share, ticks):
    content = write_timed_video(tmp_path / f"x.{ending}", pictures(len(ticks)), ticks).read_bytes()
    if ending == "mp4":
        content = index_first(content)
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(content)
    assert len(stamps(path)) == len(ticks)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        ClipError, match=rf"cut\.{ending}: breaks off after \d+ of \d+ frames; copy or record it"
    ):
        stamps(path)


def test_a_file_that_says_no_size_breaks_off_where_time_is_missing(tmp_path):
    """As recorders write that do not go back to the beginning: then only the length tells."""
    content = bytearray(
        write_timed_video(tmp_path / "x.webm", pictures(60), range(60)).read_bytes()
    )
    at = content.index(b"\x18S\x80g") + 4
    content[at : at + 8] = b"\x01" + b"\xff" * 7
    path = tmp_path / "streamed.webm"
    path.write_bytes(content)
    assert len(stamps(path)) == 60
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ClipError, match=r"streamed\.webm: breaks off after"):
        stamps(path)


def test_a_cut_avi_breaks_off(tmp_path):
    content = write_video(tmp_path / "x.avi", pictures(60), 30).read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) * 4 // 5])
    with pytest.raises(ClipError, match=r"cut\.avi: breaks off after"):
        stamps(tmp_path / "cut.avi")
