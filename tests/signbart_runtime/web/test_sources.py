"""What becomes of a source while it runs: actions that fail, cameras that go, phones that turn."""

import json
from pathlib import Path

import pytest

from tests.signbart_runtime.web.conftest import EXAMPLE, RUNNING, WELCOME, problem_of

pytestmark = pytest.mark.slow

# A camera that the test has in hand: `picture` is its canvas, `cameras` those that there are.
CAMERA = """
  window.picture = Object.assign(document.createElement('canvas'), {width: 320, height: 240});
  const context = picture.getContext('2d');
  let at = 0;
  setInterval(() => {
    context.fillStyle = ['#345', '#543'][at++ % 2];
    context.fillRect(0, 0, picture.width, picture.height);
  }, 50);
  window.cameras = ['one'];
  window.asked = [];
  const {mediaDevices} = navigator;
  mediaDevices.enumerateDevices = async () =>
    cameras.map((deviceId) => ({kind: 'videoinput', deviceId}));
  mediaDevices.getUserMedia = async ({video}) => {
    asked.push(video);
    const stream = picture.captureStream(20);
    const [track] = stream.getVideoTracks();
    const deviceId = video.deviceId ?? cameras[0];
    const facingMode = window.facing && (video.facingMode ?? facing);
    track.getSettings = () => ({deviceId, facingMode});
    return stream;
  };
"""


@pytest.fixture
def held(context, served_example):
    """The page with such a camera."""
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.add_init_script(CAMERA)
    page.goto(served_example)
    page.wait_for_selector(WELCOME)
    return page


def record(page) -> None:
    page.click("#start")
    page.wait_for_selector(RUNNING)
    page.fill("#sign", "hello")
    page.fill("#signer", "P07")
    page.click("#record")
    page.wait_for_selector("#screen[data-recording=true]")
    page.wait_for_timeout(800)


def runs(page) -> dict[str, object]:
    """What the page says of what it does."""
    return {
        "state": page.get_attribute("#screen", "data-state"),
        "recording": page.get_attribute("#screen", "data-recording"),
        "pressed": page.locator("[aria-pressed=true]").all_inner_texts(),
        "pause": page.is_enabled("#pause"),
        "camera": page.evaluate("Boolean(document.getElementById('video').srcObject)"),
    }


STOPPED = {
    "state": "problem",
    "recording": "false",
    "pressed": [],
    "pause": False,
    "camera": False,
}


def test_an_action_that_fails_ends_what_runs_and_keeps_what_was_recorded(held, tmp_path):
    record(held)
    held.set_input_files("#clip-file", str(written(tmp_path / "bad.json", "hello")))
    assert "holds no clips" in problem_of(held)
    assert runs(held) == STOPPED
    held.locator("#takes .detail", has_text="read as").or_(
        held.locator("#takes .detail", has_text="no hand seen")
    ).wait_for()
    held.click("#camera")  # the page goes on
    held.wait_for_selector(RUNNING)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_message_stays_where_clips_would_have_gone_on(held, tmp_path):
    """A file of two clips, and a message during the first, and between them."""
    (clip, *_) = json.loads((EXAMPLE.parent / "golden.json").read_text(encoding="utf-8"))["clips"]
    clip["landmarks"] = clip["landmarks"][:10]
    text = json.dumps({"clips": [clip, clip]})
    two, bad = written(tmp_path / "two.json", text), written(tmp_path / "bad.json", "hello")
    for between in (False, True):
        held.set_input_files("#clip-file", str(two))
        held.wait_for_selector("#whole-text" if between else RUNNING)
        held.set_input_files("#clip-file", str(bad))
        problem_of(held)
        held.wait_for_timeout(2500)
        assert runs(held) == STOPPED
        assert held.inner_text("#label") == "Nothing yet"


def test_a_camera_that_goes_is_told(held):
    record(held)
    held.evaluate(
        """() => document.getElementById('video').srcObject.getVideoTracks()[0]
          .dispatchEvent(new Event('ended'))"""
    )
    assert "The camera has stopped" in problem_of(held)
    assert runs(held) == STOPPED


def test_a_browser_that_gives_no_picture_by_picture_is_told(held):
    held.evaluate("HTMLVideoElement.prototype.requestVideoFrameCallback = undefined")
    held.click("#start")
    assert "lacks requestVideoFrameCallback" in problem_of(held)


def test_a_phone_that_is_turned_changes_the_picture_and_the_takes(held):
    held.click("#start")
    held.wait_for_selector(RUNNING)
    held.fill("#sign", "hello")
    held.fill("#signer", "P07")
    held.click("#record")  # and turned while it counts down
    held.evaluate("Object.assign(picture, {width: 240, height: 320})")
    held.wait_for_selector("#screen[data-recording=true]")
    held.wait_for_timeout(800)
    assert held.evaluate(ASPECT) == pytest.approx(0.75)
    held.click("#record")
    held.wait_for_selector("#takes li")
    with held.expect_download() as event:
        held.click("#save")
    (take,) = json.loads(Path(event.value.path()).read_text(encoding="utf-8"))
    assert take["aspect"] == 0.75


ASPECT = "Number(document.getElementById('screen').style.getPropertyValue('--aspect'))"


@pytest.mark.parametrize(
    ("facing", "wanted"),
    [
        (None, [{"facingMode": "user"}, {"deviceId": "two"}, {"deviceId": "one"}]),
        ("user", [{"facingMode": name} for name in ("user", "environment", "user")]),
    ],
)
def test_the_other_camera_is_another(held, facing, wanted):
    """Also where cameras do not say what they face."""
    held.evaluate("(facing) => Object.assign(window, {cameras: ['one', 'two'], facing})", facing)
    held.click("#start")
    for _ in wanted[1:]:
        held.click("#turn")
        held.wait_for_selector(RUNNING)
    held.wait_for_selector("#turn")
    assert held.evaluate("asked") == wanted


# Made by the browser itself: what of it can be played is then no question.
RECORDED = """async (sound) => {
  const audio = new AudioContext();
  const [tone, to] = [audio.createOscillator(), audio.createMediaStreamDestination()];
  tone.connect(to);
  tone.start();
  const stream = sound ? to.stream : picture.captureStream(25);
  const recorder = new MediaRecorder(stream, {mimeType: `${sound ? 'audio' : 'video'}/webm`});
  const parts = [];
  recorder.ondataavailable = ({data}) => parts.push(data);
  const ended = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  recorder.stop();
  await ended;
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}"""


def test_a_file_without_pictures_is_told(held, tmp_path):
    path = tmp_path / "sound.webm"
    path.write_bytes(bytes(held.evaluate(RECORDED, True)))
    held.set_input_files("#video-file", str(path))
    found = problem_of(held)
    assert "sound.webm cannot be played" in found and "no pictures" in found


def test_a_video_that_breaks_off_is_told(held, tmp_path):
    path = tmp_path / "broken.webm"
    path.write_bytes(bytes(held.evaluate(RECORDED, False)))
    held.set_input_files("#video-file", str(path))
    held.wait_for_selector(RUNNING)
    held.evaluate("document.getElementById('video').dispatchEvent(new Event('error'))")
    assert "broken.webm cannot be played on from" in problem_of(held)
    assert runs(held) == STOPPED
