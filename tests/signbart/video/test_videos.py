"""From videos to landmarks and labels: real models, real decoding, real processes."""

import itertools
import json
import signal
import subprocess
import sys
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from signbart.engines import CRASHED, Engine
from signbart.errors import ClipError, ConfigError, SignBartError
from signbart.files import file_sha256
from signbart.recordings.reading import read_clips, read_single_clip
from signbart.recordings.recording import Changes
from signbart.streaming.rule import Spotter, StreamRule
from signbart.video import running
from signbart.video.__main__ import main
from signbart.video.drawing import draw
from signbart.video.extraction import extract_folder, landmarks_of_video
from signbart.video.frames import Video, is_video, read_camera
from signbart.video.holistic import LAYOUT, Landmarker, describe_found, native_noise, shares_found
from signbart.video.running import running_events
from signbart.video.task_file import assemble_task, check_task
from tests.signbart.video.conftest import write_timed_video, write_video

pytest.importorskip("mediapipe", reason="the extra 'video' is not installed")
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "exports" / "example" / "demo_litert_dynamic_int8.tflite"


@pytest.fixture(scope="module")
def still(portrait, tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("still") / "portrait.mp4", portrait)


# One video


def test_a_signing_video_becomes_a_label_in_one_command(selfie, task, capfd):
    from signbart_runtime.classify import main as classify

    assert classify([str(EXAMPLE), str(selfie), "--task", str(task)]) == 0
    printed = capfd.readouterr()
    assert printed.out.split()[0].startswith("sign_") and len(printed.out.splitlines()) == 5
    (found,) = [line for line in printed.err.splitlines() if line.startswith("58 frames: ")]
    assert "body in all, left hand in no frame, right hand in " in found
    # Where tracking starts and stops depends a little on the processor: 20 to 23 were seen.
    assert int(found.split("right hand in ")[1].split(",")[0]) >= 18


def test_landmarks_of_a_video_are_a_recording_as_any_other(selfie, task, tmp_path, capfd):
    from signbart.recordings.recording import Changes
    from signbart.video.clips import as_clip
    from signbart_runtime.evaluation.opened import open_model

    assert main([str(selfie), "--task", str(task), "--output", str(tmp_path / "x.npy")]) == 0
    printed = capfd.readouterr()
    assert "58 frames: body in all" in printed.out and printed.err == ""
    assert "Feedback manager" in (tmp_path / "x.log").read_text(encoding="utf-8")
    read = read_single_clip(str(tmp_path / "x.npy")).clips[0].landmarks
    saved = np.load(tmp_path / "x.npy")
    assert saved.shape == (58, 543, 2) and saved.dtype == np.float32
    np.testing.assert_array_equal(read, saved)
    # The shoulder of the picture's right half is the left one: nothing is mirrored.
    left, right = (LAYOUT.index(f"{side}_shoulder") for side in ("left", "right"))
    assert (saved[:, left, 0] > saved[:, right, 0]).all()
    model = open_model(EXAMPLE)
    direct = model.classify(as_clip(saved, "x", Changes()))
    assert direct == model.classify(tmp_path / "x.npy")
    mirrored = model.classify(as_clip(saved, "x", Changes(mirror=True)))
    assert mirrored == model.classify(tmp_path / "x.npy", changes=Changes(mirror=True))
    assert mirrored != direct


def test_what_is_not_there_is_missing_and_said(still, task):
    landmarks = landmarks_of_video(still, task)
    assert shares_found(landmarks) == {"body": 12, "left_hand": 0, "right_hand": 0, "face": 12}
    assert describe_found(landmarks) == (
        "12 frames: body in all, left hand in no frame, right hand in no frame, face in all"
    )
    nose = landmarks[:, LAYOUT.index("nose")]
    # The picture moves 4 of its 384 columns a frame.
    np.testing.assert_allclose(np.diff(nose[:, 0]).mean(), 4 / 384, rtol=0.25)
    again = landmarks_of_video(still, task)
    np.testing.assert_array_equal(again, landmarks)


def test_landmarks_are_drawn_over_the_video(still, task, portrait, tmp_path):
    landmarks = landmarks_of_video(still, task, drawn=tmp_path / "over" / "x.mp4")
    drawn, plain = ([*Video(path)] for path in (tmp_path / "over" / "x.mp4", still))
    assert len(drawn) == len(plain) == 12 and drawn[3].milliseconds == plain[3].milliseconds
    changed = np.abs(drawn[3].pixels.astype(int) - plain[3].pixels).max(axis=-1) > 60
    x, y = (landmarks[3, :33] * (384, 450)).round().astype(int)[LAYOUT.index("nose")]
    assert 0.005 < changed.mean() < 0.3 and changed[y - 4 : y + 5, x - 4 : x + 5].any()
    nothing = draw(portrait[0], np.zeros((543, 2), np.float32))
    np.testing.assert_array_equal(nothing, portrait[0])
    assert [path.name for path in (tmp_path / "over").iterdir()] == ["x.mp4"]


def test_events_are_of_the_last_seconds(still, task):
    asked = []

    def probabilities(landmarks):
        asked.append(len(landmarks))
        return np.array([1.0, 0.0])

    spotter = Spotter(StreamRule(window=0.2, stride=0.1, smoothing=1), ("hello", "idle"))
    with native_noise(None), Landmarker(task) as landmarker:
        found = [*running_events(Video(still), landmarker, probabilities, spotter)]
    # 25 frames a second: 5 are 0.2 s; frame 5 stands at 0.2 s, and 12 frames end at 0.44 s.
    assert [round(now, 2) for now, _ in found] == [0.2, 0.32, 0.44]
    assert asked == [5, 5, 5] and all(event is None for _, event in found)
    event = spotter.finish()
    assert (event.label, event.decided) == ("hello", found[0][0])


def test_signs_before_a_camera_are_printed_until_ctrl_c(still, task, monkeypatch, capsys):
    def frames(number):
        yield from Video(still)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "read_camera", frames)
    rule = StreamRule(window=0.2, stride=0.1, smoothing=1)
    running.follow_camera(
        0, str(task), lambda clip: np.array([0.9, 0.1]), ("hello", "idle"),
        changes=Changes(), rule=rule,
    )  # fmt: skip
    # A window of 0.2 s speaks for its middle; the sign that goes on is not lost.
    assert capsys.readouterr().out.split() == ["0.1", "–", "0.3", "s", "hello", "90%"]


def test_a_video_gives_events_with_its_own_times(still, task, capsys):
    from signbart_runtime.classify import main as classify

    arguments = [str(EXAMPLE), str(still), "--stream", "--task", str(task), "--json"]
    rule = ["--window", "0.2", "--stride", "0.1", "--smoothing", "1", "--threshold", "0.01"]
    assert classify([*arguments, *rule]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert events[0]["start"] == 0.1 and events[0]["decided"] == 0.2
    assert events[-1]["end"] == pytest.approx(0.34)
    with pytest.raises(SignBartError, match="--fps: a video has its own"):
        classify([*arguments, *rule, "--fps", "30"])


def test_a_video_of_uneven_frames_gives_events_at_their_times(task, portrait, tmp_path, capsys):
    from signbart_runtime.classify import main as classify

    # 30 frames a second, then 10: the last one is at 0.9 s, and by their number at 0.37 s.
    video = write_timed_video(tmp_path / "x.webm", portrait, [*range(6), *range(9, 28, 3), 27][:12])
    arguments = [str(EXAMPLE), str(video), "--stream", "--task", str(task), "--json"]
    rule = ["--window", "0.2", "--stride", "0.1", "--smoothing", "1", "--threshold", "0.01"]
    assert classify([*arguments, *rule]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert events[0]["start"] == pytest.approx(0.2) and events[-1]["end"] == pytest.approx(0.7)
    with pytest.raises(SignBartError, match=r"12 frames .*no window of 9 s.*give --window$"):
        classify([*arguments, "--window", "9"])


# Folders


def folder_of(tmp_path: Path, still: Path, portrait) -> Path:
    root = tmp_path / "videos"
    for place in ("train/hello/user01_R1.mp4", "train/bye/user01_R2.mp4", "test/bye/user02_R1.mp4"):
        write_video(root / place, portrait[: 3 + len(place) % 5])
    content = still.read_bytes()
    (root / "test" / "hello").mkdir()
    (root / "test" / "hello" / "user02_R2.mp4").write_bytes(content[: len(content) // 3])
    (root / "train" / "hello" / "notes.txt").write_text("x")
    (root / "train" / ".DS_Store").write_text("x")
    (root / "label2id.json").write_text('{"hello": 0, "bye": 1}')
    return root


def test_a_folder_becomes_a_data_set_and_failures_are_listed(
    tmp_path, still, portrait, task, capfd
):
    root, out = folder_of(tmp_path, still, portrait), tmp_path / "out"
    arguments = [str(root), "--task", str(task), "--output", str(out), "--jobs", "2"]
    assert main(arguments) == 1
    printed = capfd.readouterr().out
    assert "1 files are no videos" in printed and "notes.txt" in printed
    assert "1 files or folders of operating systems left out" in printed
    (failure,) = Path(f"{out}.failed.txt").read_text(encoding="utf-8").splitlines()
    assert failure.startswith(str(root / "test" / "hello" / "user02_R2.mp4"))
    assert failure in printed and " of 4  " in printed
    clips = read_clips(out)
    assert clips.class_names == ("hello", "bye") and clips.signer_names == ("user01", "user02")
    assert sorted(clip.split for clip in clips.clips) == ["test", "train", "train"]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    # Mended, it goes on where it ended.
    (root / "test" / "hello" / "user02_R2.mp4").write_bytes(still.read_bytes())
    assert main(arguments) == 0
    assert "3 of 4 videos are done already" in capfd.readouterr().out
    assert not Path(f"{out}.failed.txt").exists() and len(read_clips(out)) == 4
    assert all(path.stat().st_mtime_ns == made for path, made in times.items())


def test_killed_it_goes_on_and_ends_as_if_nothing_had_been(tmp_path, portrait, task):
    root = tmp_path / "videos"
    for at in range(8):
        write_video(root / "hello" / f"user01_R{at}.mp4", portrait)
    extract_folder(root, task, tmp_path / "whole")
    command = [sys.executable, "-m", "signbart.video", str(root), "--task", str(task),
               "--output", str(tmp_path / "out"), "--jobs", "2"]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while not [*(tmp_path / "out").rglob("[!.]*.npy")]:
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [*(tmp_path / "out").rglob("[!.]*.npy")]
    assert len(done) < 8, "nothing was left to do"
    assert extract_folder(root, task, tmp_path / "out") == []
    assert not [*(tmp_path / "out").rglob(".*")]
    for path in (tmp_path / "whole").rglob("*.npy"):
        same = tmp_path / "out" / path.relative_to(tmp_path / "whole")
        assert same.read_bytes() == path.read_bytes()


def test_processes_killed_before_they_began_blame_no_video(tmp_path, portrait):
    write_video(tmp_path / "videos" / "hello" / "a.mp4", portrait[:3])
    (tmp_path / "x.task").touch()
    (tmp_path / "out.log").write_text("== worker 0, video 0\n")  # an earlier run's
    engine = Engine(
        "deadly", "", lambda batch: ((at, CRASHED) for at, _ in enumerate(batch.tasks)), True
    )
    with pytest.raises(SignBartError, match=r"a\.mp4: processes were killed before they began"):
        extract_folder(tmp_path / "videos", tmp_path / "x.task", tmp_path / "out", engine=engine)


def test_landmarks_of_two_makers_are_not_mixed(tmp_path, still, portrait, task, capsys):
    root = folder_of(tmp_path, still, portrait)
    record = tmp_path / "out.json"
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "made.npy").touch()
    record.write_text(json.dumps({"task_sha256": "0" * 64, "mediapipe": "0.10.33"}))
    with pytest.raises(SignBartError, match=r"out\.json: .*another task file.*another --output"):
        extract_folder(root, task, tmp_path / "out")
    record.unlink()
    with pytest.raises(SignBartError, match=r"out\.json"):
        extract_folder(root, task, tmp_path / "out")
    assert len([*(tmp_path / "out").rglob("*.npy")]) == 1
    # Made when frames were stamped by their number, and else the same: it goes on, and says so.
    maker = {"task_sha256": file_sha256(task), "mediapipe": version("mediapipe")}
    record.write_text(json.dumps(maker))
    extract_folder(root, task, tmp_path / "out")
    assert "counted frames" in capsys.readouterr().out
    assert json.loads(record.read_text())["times"] == "of the video"


def test_videos_are_not_written_over(tmp_path, still, portrait, task):
    root = folder_of(tmp_path, still, portrait)
    (tmp_path / "x.mp4").write_bytes(still.read_bytes())
    with pytest.raises(ConfigError, match=r"--draw .*is the video itself"):
        main([str(tmp_path / "x.mp4"), "--task", str(task), "--output", str(tmp_path / "x.npy"),
              "--draw", str(tmp_path / "x.mp4")])  # fmt: skip
    for options in (("--output", root), ("--output", tmp_path / "out", "--draw", root)):
        with pytest.raises(ClipError, match="is the folder of the videos"):
            main([str(root), "--task", str(task), *map(str, options)])
    assert (tmp_path / "x.mp4").read_bytes() == still.read_bytes()


def test_what_was_found_before_is_drawn_when_that_is_asked_for_later(tmp_path, portrait, task):
    write_video(tmp_path / "videos" / "hello" / "a.mp4", portrait[:3])
    arguments = [str(tmp_path / "videos"), "--task", str(task), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert main([*arguments, "--draw", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "hello" / "a.mp4").is_file()


def test_folders_that_cannot_be_done(tmp_path, task):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.txt").write_text("x")
    with pytest.raises(ClipError, match="none: holds no video"):
        extract_folder(tmp_path / "none", task, tmp_path / "out")
    for ending in (".mp4", ".mov"):
        (tmp_path / "none" / f"x{ending}").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(8))
    with pytest.raises(ClipError, match=r"two videos would both become .*x\.npy; rename one"):
        extract_folder(tmp_path / "none", task, tmp_path / "out")


# Bad input


def test_videos_that_cannot_be_read(tmp_path, still, task):
    content = still.read_bytes()
    cases = {
        "text.mp4": (b"hello", "cannot be decoded as a video"),
        "head.mp4": (b"\0\0\0\x18ftypmp42" + bytes(64), "cannot be decoded as a video"),
        "cut.mp4": (content[: len(content) // 2], "cannot be decoded|breaks off after"),
        "empty.mp4": (b"", "cannot be decoded as a video"),
    }
    for name, (head, message) in cases.items():
        (tmp_path / name).write_bytes(head)
        with pytest.raises(ClipError, match=rf"{name}: ({message})"):
            landmarks_of_video(tmp_path / name, task)
    assert not is_video(tmp_path / "text.mp4") and not is_video(tmp_path / "nowhere")
    assert is_video(tmp_path / "head.mp4")


def test_bad_options_are_refused(tmp_path, still, task, capsys):
    from signbart_runtime.classify import main as classify

    for arguments, message in (
        ([str(tmp_path / "none.mp4"), "--output", "x.npy"], "no such video, folder or camera"),
        ([str(still)], "--output where to write"),
        ([str(still), "--output", str(tmp_path / "x.txt")], r"must end in \.npy"),
    ):
        with pytest.raises(ConfigError, match=message):
            main([*arguments, "--task", str(task)])
    for arguments, message in (
        ([str(still)], r"a video; pass --task"),
        ([], "name a CLIP, or with --camera"),
        ([str(still), "--camera", "0"], "name a CLIP, or with --camera"),
        (["--camera", "0"], "--camera needs --task"),
        (["--camera", "0", "--task", str(task), "--window", "0"], "window 0: seconds, above 0"),
        ([str(still), "--task", str(task), "--source-layout", "kp75"], "landmarks are known"),
    ):
        with pytest.raises(SignBartError, match=message):
            classify([str(EXAMPLE), *arguments])
    with native_noise(None), pytest.raises(ClipError, match="camera 93: cannot be opened"):
        next(iter(read_camera(93)))


def test_nobody_is_no_sign(tmp_path, task):
    from signbart_runtime.classify import main as classify

    empty = write_video(tmp_path / "wall.mp4", [np.full((120, 160, 3), 127, np.uint8)] * 3)
    with pytest.raises(ClipError, match="nobody was found in its 3 frames"):
        classify([str(EXAMPLE), str(empty), "--task", str(task)])


# The task file


def test_a_task_file_is_assembled_the_same_each_time(wheel, task, tmp_path):
    assemble_task(wheel, tmp_path / "again.task")
    assert (tmp_path / "again.task").read_bytes() == task.read_bytes()
    with zipfile.ZipFile(task) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert len(archive.namelist()) == 7


def test_task_files_that_are_none(tmp_path, task):
    with pytest.raises(SignBartError, match=r"no such task file; download.*--assemble-task WHEEL"):
        check_task(tmp_path / "none.task")
    (tmp_path / "x.task").write_bytes(task.read_bytes()[:100_000])
    with pytest.raises(SignBartError, match=r"x\.task: no task file, or a truncated one"):
        check_task(tmp_path / "x.task")
    with zipfile.ZipFile(tmp_path / "hand.task", "w") as archive:
        archive.writestr("hand_detector.tflite", b"x")
    with pytest.raises(SignBartError, match=r"hand\.task: not a Holistic.*lacks .*face_detector"):
        check_task(tmp_path / "hand.task")
    with zipfile.ZipFile(task) as whole, zipfile.ZipFile(tmp_path / "bad.task", "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name) if "pose" not in name else b"nothing")
    with native_noise(None), pytest.raises(SignBartError, match="MediaPipe does not take it"):
        Landmarker(tmp_path / "bad.task")


def test_wheels_that_are_none(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"x")
    with pytest.raises(SignBartError, match=r"x\.whl: cannot be read as a wheel"):
        assemble_task(tmp_path / "x.whl", tmp_path / "x.task")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("mediapipe/modules/none", b"")
    with pytest.raises(SignBartError, match=r"holds no mediapipe/modules/.*0\.10\.21 does: pip"):
        assemble_task(tmp_path / "other.whl", tmp_path / "x.task")
    assert not list(tmp_path.glob("*.task"))


def test_frames_are_upright_and_timed(still, portrait):
    frames = [*itertools.islice(Video(still), 4)]
    assert [frame.milliseconds for frame in frames] == [0, 40, 80, 120]
    assert frames[0].pixels.shape == (450, 384, 3)
    # Compressed, but red is still red.
    assert np.abs(frames[0].pixels.astype(int) - portrait[0]).mean() < 8
