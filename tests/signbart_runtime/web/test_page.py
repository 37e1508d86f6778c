"""The page in Chromium: its numbers against Python's, its words, and that it talks to nobody."""

import dataclasses
import json
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from bridge.artifact.raw_signature import split_raw_signature
from bridge.verification.limits import load_limits
from signbart.artifacts.metadata import embed_metadata, read_metadata
from signbart.clips import main as clips_main
from signbart.landmarks.layouts import LAYOUTS
from signbart.preprocessing import frame_indices
from signbart.recordings.reading import read_clips
from signbart.streaming.rule import StreamRule
from signbart.streaming.vectors import stream_vector
from signbart.synthetic.signs import make_clips
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.web.packages import PAGE
from signbart_runtime.web.site import choose_model, make_site
from tests.docs.pages import all_blocks
from tests.signbart_runtime.web.conftest import (
    ASL10,
    EXAMPLE,
    REPOSITORY,
    RUNNING,
    WELCOME,
    problem_of,
    served,
)

pytestmark = pytest.mark.slow

HOLISTIC = LAYOUTS["holistic543"]
WIDTHS = {390: 844, 820: 1180, 1440: 900}


@pytest.fixture(scope="session")
def selfie() -> Path:
    folder = Path(os.environ.get("SIGNBART_DATA", REPOSITORY.parent / "shared" / "data"))
    path = folder / "videos" / "selfie_portrait.mp4"
    if not path.is_file():
        pytest.skip(f"no {path}; SIGNBART_DATA names the folder of the data sets")
    return path


# Numbers


def logits_in_browser(page, model: str, clips) -> np.ndarray:
    """What LiteRT.js says of clips, (N, C), through the page's own module."""
    return np.array(
        page.evaluate(
            """async ([url, clips]) => {
              const {Recogniser} = await import('./modules/recogniser.js');
              const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
              const recogniser = await Recogniser.open(bytes);
              const answers = [];
              for (const points of clips) {
                const {logits} = await recogniser.classify(recogniser.framesOf(points));
                answers.push([...logits]);
              }
              return answers;
            }""",
            [model, [clip.landmarks.astype(float).tolist() for clip in clips]],
        )
    )


def logits_in_python(model: Path, clips) -> np.ndarray:
    """What LiteRT says of the same landmarks, by the same signature; many are thinned."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(model)).get_signature_runner("landmarks")
    shape = run.get_input_details()["landmarks"]["shape"]
    answers = []
    for clip in clips:
        kept = clip.landmarks[frame_indices(len(clip.landmarks), shape[1])]
        landmarks = np.zeros(shape, np.float32)
        landmarks[0, : len(kept)] = kept
        outputs = run(landmarks=landmarks, num_frames=np.array([len(kept)], np.int32))
        answers.append(outputs["logits"][0])
    return np.array(answers)


def test_float_logits_are_pythons(context, converted, packages, recordings):
    model = converted.artifact
    first = recordings.clips[0]
    long = np.resize(recordings.clips[-1].landmarks, (300, *first.landmarks.shape[1:]))
    clips = [*recordings.clips, dataclasses.replace(first, landmarks=long)]
    with served(make_site(model, packages)) as url:
        page = context.new_page()
        page.goto(url)
        (name,) = (key for key in make_site(model, packages).files if key.endswith(".tflite"))
        found = logits_in_browser(page, name, clips)
    expected = logits_in_python(model, clips)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_int8_logits_are_pythons_within_the_schemes_limits(shared_page):
    clips = make_clips(num_signers=1, repetitions=1, seed=0).clips
    found = logits_in_browser(shared_page, shared_page.evaluate(MODEL_URL), clips)
    expected = logits_in_python(EXAMPLE, clips)
    limits = load_limits(read_metadata(EXAMPLE)["scheme"])
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert error <= limits.scaled_rmse
    agreement = 100 * np.mean(found.argmax(axis=1) == expected.argmax(axis=1))
    assert agreement >= limits.agreement


# The shipped model of American Sign Language


@pytest.fixture(scope="module")
def asl10_page(browser, packages):
    """The page as ``make web`` shows it, without a task file."""
    with (
        served(make_site(choose_model(ASL10.parent), packages)) as url,
        browser.new_context() as made,
    ):
        opened = made.new_page()
        opened.goto(url)
        opened.wait_for_selector(WELCOME)
        yield opened


def test_the_shipped_model_classifies_its_example_and_says_how_far_to_trust_it(asl10_page):
    page, metadata = asl10_page, read_metadata(ASL10)
    page.click("#start")  # without a task file the one button plays the example
    page.locator("#whole", has_text="Example 2").wait_for()
    clips = json.loads((ASL10.parent / "golden.json").read_text(encoding="utf-8"))["clips"]
    assert whole(page)[0] == clips[1]["raw_answers"][ASL10.name]["label"]
    facts = page.inner_text("#facts")
    assert "of 720 clips that it may have trained on" in facts
    assert f"A sign from\n{100 * metadata['threshold']:.0f}%" in facts
    assert "S03" not in facts and "says nothing of strangers" in page.inner_text("#recognition")
    rule = page.evaluate(
        """async (url) => {
          const {Recogniser} = await import('./modules/recogniser.js');
          const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
          return (await Recogniser.open(bytes)).rule.threshold;
        }""",
        page.evaluate(MODEL_URL),
    )
    assert rule == open_model(ASL10).threshold == metadata["threshold"]


def test_the_shipped_model_reads_real_clips_as_python_does(asl10_page, asl10_pose_hands):
    clips = read_clips(asl10_pose_hands)
    chosen = np.random.default_rng(0).choice(len(clips), 12, replace=False)
    taken = [clips.clips[at] for at in chosen]
    found = logits_in_browser(asl10_page, asl10_page.evaluate(MODEL_URL), taken)
    expected = logits_in_python(ASL10, taken)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert error <= load_limits(read_metadata(ASL10)["scheme"]).scaled_rmse
    said = [read_metadata(ASL10)["labels"][at] for at in found.argmax(axis=1)]
    assert (
        np.mean(
            [
                label == clips.class_names[clip.label]
                for label, clip in zip(said, taken, strict=True)
            ]
        )
        >= 0.9
    )


@pytest.mark.parametrize("threshold", ["0.5", 0, 1.5, None])
def test_a_threshold_that_nothing_reaches_is_refused(shared_page, threshold):
    rule = shared_page.evaluate(
        "async (t) => (await import('./modules/spotting.js')).ruleOf({threshold: t}) ?? null",
        threshold,
    )
    assert rule is None


MODEL_URL = "async () => (await (await fetch('site.json')).json()).model"


# Sources


def whole(page) -> tuple[str, str]:
    """Sign and share that the page gives a recording as a whole."""
    text = page.inner_text("#whole-text")
    return re.search(r", as a whole: (.+), (\d+%)$", text).groups()


def test_the_example_gets_pythons_label(page):
    page.click("#example")
    page.locator("#whole", has_text="Example 2").wait_for()
    clips = json.loads((EXAMPLE.parent / "golden.json").read_text(encoding="utf-8"))["clips"]
    assert whole(page)[0] == clips[1]["answers"][EXAMPLE.name]["label"]
    # It is 73 frames long: the running label was there, too.
    assert page.inner_text("#top-five li:first-child .name").startswith("sign_")
    assert page.inner_text("#spoken")
    assert re.search(r"\d+ frames/s · model [\d.]+ ms", page.inner_text("#meter"))


def download(page, path: Path) -> Path:
    with page.expect_download() as event:
        page.click("#save")
    assert re.fullmatch(r"P07_\d{4}-\d\d-\d\d\.json", event.value.suggested_filename)
    event.value.save_as(path)
    return path


def test_a_video_gets_the_label_that_python_gives_its_landmarks(
    context, served_example, selfie, tmp_path, capsys
):
    page = context.new_page()
    page.goto(f"{served_example}?rate=8")  # few frames: each takes a third of a second here
    page.wait_for_selector(WELCOME)
    page.set_input_files("#video-file", str(selfie))
    page.wait_for_selector("#whole-text")
    label, share = whole(page)
    assert "landmarks" in page.inner_text("#meter")
    page.fill("#sign", "naïve")
    page.fill("#signer", "P07")
    page.click("#keep")
    assert label in page.inner_text("#takes .detail")
    path = download(page, tmp_path / "take.json")
    assert clips_main(["info", str(path)]) == 0
    assert "holistic543" in capsys.readouterr().out
    clips = read_clips(path)
    assert clips.class_names == ("naïve",) and clips.signer_names == ("P07",)
    landmarks = clips.clips[0].landmarks
    assert len(landmarks) == 15  # 1.9 s
    # She waves with her right hand, which is on the picture's left, and nothing is mirrored.
    left, right = (list(HOLISTIC.groups[f"{side}_hand"]) for side in ("left", "right"))
    assert not landmarks[:, left].any()
    assert landmarks[:, right].any(axis=(1, 2)).sum() >= 4
    shoulders = [HOLISTIC.index(f"{side}_shoulder") for side in ("left", "right")]
    assert (landmarks[:, shoulders[0], 0] > landmarks[:, shoulders[1], 0]).all()
    found = open_model(EXAMPLE).classify(path)[0]
    # Int8 kernels round differently in WebAssembly.
    assert found[0] == label and abs(found[1] - int(share.rstrip("%")) / 100) < 0.05


def test_a_camera_gets_a_label_and_a_take_that_training_reads(page, tmp_path):
    page.click("#start")
    page.wait_for_selector(RUNNING)
    page.fill("#sign", "hello")
    page.fill("#signer", "P07")
    page.click("#record")
    page.wait_for_selector("#top-five .share:not(:empty)")  # 2 s and more
    page.wait_for_selector("#record[data-recording=true]")
    page.wait_for_timeout(1500)
    page.click("#record")
    page.wait_for_selector("#takes li")
    seen = page.locator("#seen li[data-seen=true]").all_inner_texts()
    assert {"Body", "Face"} <= set(seen) and "Left hand" not in seen
    read_as = re.search(r"read as (\S+),", page.inner_text("#takes .detail"))[1]
    path = download(page, tmp_path / "take.json")
    assert open_model(EXAMPLE).classify(path)[0][0] == read_as
    (clip,) = read_clips(path).clips
    assert clip.landmarks.shape[1] == 543 and clip.repetition == 1
    # Played again, it is what it was.
    page.set_input_files("#clip-file", str(path))
    page.wait_for_selector("#whole-text")
    assert whole(page)[0] == read_as and "hello, P07, take 1" in page.inner_text("#whole")


# To nobody


def test_nothing_leaves_this_machine(context, served_example):
    asked = []
    context.on("request", lambda request: asked.append(urlsplit(request.url)))
    page = context.new_page()
    page.goto(served_example)
    page.wait_for_selector(WELCOME)
    page.click("#camera")
    page.wait_for_selector(RUNNING)
    page.wait_for_selector("#seen li[data-seen=true]")
    hosts = {url.hostname for url in asked if url.scheme != "blob"}
    assert hosts == {"127.0.0.1"} and len(asked) > 15
    assert {url.path.rpartition(".")[2] for url in asked} >= {"wasm", "tflite", "task", "mjs"}
    # And what would, the policy forbids.
    refused = page.evaluate(
        """() => new Promise((resolve) => {
          addEventListener('securitypolicyviolation', ({effectiveDirective: name, blockedURI}) =>
            resolve([name, blockedURI]));
          fetch('https://signbart.invalid/').catch(() => setTimeout(resolve, 500));
        })"""
    )
    assert refused == ["connect-src", "https://signbart.invalid/"]


def test_it_runs_without_a_network_after_the_first_load(context, packages, task, still):
    with served(make_site(EXAMPLE, packages, task)) as url:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(WELCOME)
        page.set_input_files("#video-file", str(still))
        page.wait_for_selector("#whole-text")
    # The server is gone.
    page.reload()
    page.wait_for_selector(WELCOME)
    page.set_input_files("#video-file", str(still))
    page.locator("#whole", has_text="portrait.webm, as a whole: sign_").wait_for()
    page.click("#example")
    page.locator("#whole", has_text="Example 1").wait_for()


# What goes wrong


def test_a_camera_that_is_not_allowed(browser, served_example):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(served_example)
        page.click("#start")
        assert "The camera is not allowed here" in problem_of(page)
        page.click("#example")  # the page goes on
        page.wait_for_selector(RUNNING)


def test_no_camera_and_no_webgl(launch, served_example, still):
    with launch("--disable-gpu", "--disable-software-rasterizer") as browser:
        page = browser.new_context(permissions=["camera"]).new_page()
        page.goto(served_example)
        page.click("#start")
        assert "No camera was found" in problem_of(page)
        page.set_input_files("#video-file", str(still))
        page.locator("#problem", has_text="WebGL").wait_for()
        page.set_input_files("#video-file", str(EXAMPLE))
        page.locator("#problem", has_text="cannot be played").wait_for()


def test_files_that_are_no_clips(page, tmp_path):
    unread = "holds no clips that this page reads"
    for name, text, message in (
        ("text.json", "hello", unread),
        ("other.json", '{"frames": [[[1, 2]]]}', "1 landmarks a frame, but the model takes the 90"),
        ("numbers.json", "[1, 2]", unread),
        ("nan.json", '[{"frames": [{"pose": [["a", "b"]]}, {"pose": null}]}]', unread),
        ("pixels.json", json.dumps({"frames": [[[300, 200]] * 90] * 3}), "look like pixels"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        page.set_input_files("#clip-file", str(tmp_path / name))
        page.locator("#problem", has_text=message).wait_for()
        assert message in problem_of(page)


@pytest.mark.parametrize("key", ["model", "clips"])
def test_a_file_that_changed_on_its_way_is_named(context, packages, tmp_path, key):
    """One digit of a clip, one bit of a weight: either would give another answer, and no error."""
    site = make_site(EXAMPLE, packages)
    name = site.description[key]
    content = bytearray(site.files[name].read_bytes())
    content[len(content) // 2] ^= 1
    site.files[name] = tmp_path / "changed"
    site.files[name].write_bytes(content)
    with served(site) as url:
        page = context.new_page()
        page.goto(url)
        if key == "clips":
            page.wait_for_selector(WELCOME)
            page.click("#start")
        title = {"model": "The model is damaged", "clips": "The example is damaged"}[key]
        assert title in problem_of(page)


def test_sites_that_lack_something(context, packages, converted, tmp_path):
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(converted.plain())
    old = tmp_path / "old.tflite"
    split_raw_signature(converted.artifact, old, tmp_path / "around.tflite")
    embed_metadata(old, read_metadata(converted.artifact))
    gone = make_site(converted.artifact, packages)
    del gone.files[gone.description["model"]]
    for site, title in (
        (gone, "The model cannot be loaded"),
        (make_site(plain, packages), "carries no SignBART metadata"),
        (make_site(old, packages), "takes no raw landmarks"),
    ):
        with served(site) as url:
            page = context.new_page()
            page.goto(url)
            assert title in problem_of(page)
    with served(make_site(converted.artifact, packages)) as url:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(WELCOME)
        assert "without holistic_landmarker.task" in page.inner_text("#welcome")
        assert page.is_disabled("#camera") and page.is_disabled("#open-video")
        assert page.inner_text("#start") == "Play the example"


# How it looks and is used


def test_it_fits_three_widths_in_light_and_dark(browser, served_example, tmp_path):
    """The pictures are kept, to be looked at."""
    for theme in ("light", "dark"):
        with browser.new_context(color_scheme=theme) as context:
            page = context.new_page()
            page.goto(served_example)
            page.wait_for_selector(WELCOME)
            page.click("#example")
            page.wait_for_selector("#top-five .share:not(:empty)")
            page.keyboard.press("Space")
            for width, height in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": height})
                page.screenshot(path=tmp_path / f"{theme}-{width}.png", full_page=True)
                beyond = page.evaluate(
                    """() => [...document.querySelectorAll('body *:not(.unseen, .skip)')]
                      .filter((one) => one.checkVisibility() &&
                        one.getBoundingClientRect().right > innerWidth + 1)
                      .map((one) => one.id || one.className || one.tagName)"""
                )
                assert not beyond, f"{width} px"
    assert len([*tmp_path.glob("*.png")]) == 6


def test_keys_and_words(page):
    page.keyboard.press("e")
    page.wait_for_selector(RUNNING)
    assert page.get_attribute("#example", "aria-pressed") == "true"
    page.keyboard.press("Space")
    page.locator("#pause", has_text="Go on").wait_for()
    page.keyboard.press("Space")
    page.fill("#signer", "e o")  # letters in a field are no commands
    assert page.input_value("#signer") == "e o"
    names = page.evaluate(
        """() => [...document.querySelectorAll('button, input:not([type=file])')].map((one) =>
          one.ariaLabel || one.textContent.trim() || one.labels[0].textContent.trim())"""
    )
    assert all(names)
    assert page.get_attribute("#problem", "role") == "alert"
    assert page.get_attribute("#spoken", "aria-live") == "polite"
    for theme, background in (("light", "rgb(246, 244, 239)"), ("dark", "rgb(19, 21, 19)")):
        page.click("#theme")
        assert page.inner_text("#theme") == f"Theme: {theme}"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background


def test_the_models_facts_are_the_metadatas(shared_page):
    metadata = read_metadata(EXAMPLE)
    facts = shared_page.inner_text("#facts")
    for text in (metadata["name"], metadata["scheme"], "kp90", "100.0% of 100 clips"):
        assert text in facts
    assert shared_page.locator("#all-signs li").all_text_contents() == metadata["labels"]


# What stands in two places


def test_the_skeletons_are_the_layouts(shared_page):
    for name, layout in (("HOLISTIC", "holistic543"), ("KINECT", "kinect20")):
        found = shared_page.evaluate(f"async () => (await import('./modules/skeletons.js')).{name}")
        expected = LAYOUTS[layout]
        assert found["names"] == list(expected.names) and found["unit"] == expected.unit
        assert sorted(map(tuple, found["edges"])) == sorted(expected.edges)
        if layout == "holistic543":
            parts = {group: list(members) for group, members in expected.groups.items()}
            assert found["parts"] == parts


def test_bodies_in_images_and_in_metres_are_drawn(shared_page):
    painted = shared_page.evaluate(
        """async () => {
          const {drawFrame} = await import('./modules/drawing.js');
          const {HOLISTIC, KINECT} = await import('./modules/skeletons.js');
          const canvas = document.getElementById('canvas');
          return [HOLISTIC, KINECT].map((skeleton) => {
            const frame = Float32Array.from(
              {length: 3 * skeleton.names.length}, (_, at) => 0.2 + ((7 * at) % 10) / 20);
            drawFrame(canvas, frame, skeleton);
            const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, at) => at % 4 === 3 && value).length;
          });
        }"""
    )
    assert all(count > 500 for count in painted)


def test_signs_are_spotted_by_pythons_rule(shared_page):
    vector = json.loads(json.dumps(stream_vector(StreamRule())))
    rule, found = shared_page.evaluate(
        """async ({rule, frames, class_names: labels, steps}) => {
          const {RULE, Spotter, Windows} = await import('./modules/spotting.js');
          const [windows, spotter] = [new Windows(rule), new Spotter(labels, rule)];
          const cut = frames.map((seconds, at) => windows.add(seconds, at)).filter(Boolean);
          const answers = steps.map(({time, probabilities}) => {
            const ended = spotter.add(time, probabilities) ?? null;
            return {averaged: spotter.averaged, ended};
          });
          return [RULE, {
            windows: cut.map(({now, frames: own}) =>
              ({time: now, first: own.at(0), last: own.at(-1)})),
            answers, last: spotter.finish() ?? null,
          }];
        }""",
        vector,
    )
    assert rule == vector["rule"]
    assert found["windows"] == [pytest.approx(window) for window in vector["windows"]]
    assert len(found["answers"]) == len(vector["steps"]) and vector["last"]
    for ours, theirs in zip(found["answers"], vector["steps"], strict=True):
        np.testing.assert_allclose(ours["averaged"], theirs["averaged"], atol=1e-9)
        assert ours["ended"] == pytest.approx(theirs["ended"])
    assert found["last"] == pytest.approx(vector["last"])


def test_the_documented_snippet_recognises(context, packages, tmp_path):
    """The JavaScript of docs/deployment.md, as it stands there."""
    (block,) = all_blocks("javascript")
    # LiteRT.js may be loaded once: a page without the project's own modules, and with its policy.
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    empty = re.sub(r"<script type=.module.*?</script>", "", index)
    assert "app.js" not in empty and "importmap" in empty
    site = make_site(EXAMPLE, packages)
    for name, text in {
        "snippet.js": block.text,
        "snippet.html": empty,
        "metadata.json": json.dumps(read_metadata(EXAMPLE)),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        site.files[name] = tmp_path / name
    (clip,) = make_clips(num_classes=1, num_signers=1, repetitions=1, seed=0).clips
    with served(site) as url:
        page = context.new_page()
        page.goto(f"{url}snippet.html")
        found = page.evaluate(
            """async ([model, points, frames]) => {
              const {createRecognizer} = await import('./snippet.js');
              const wasm = 'vendor/litertjs-core-2.5.3/wasm/';
              const recognize = await createRecognizer(model, 'metadata.json', wasm);
              const refused = await recognize(new Float32Array(points), frames + 1)
                .catch((error) => error.message);
              if (!/numbers in \\d+ frames; the model takes 1 to 256 of 180/.test(refused)) {
                throw new Error(`not refused: ${refused}`);
              }
              return recognize(new Float32Array(points), frames);
            }""",
            [
                site.description["model"],
                clip.landmarks[..., :2].ravel().tolist(),
                len(clip.landmarks),
            ],
        )
    expected = open_model(EXAMPLE).classify(clip)[:5]
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose(
        [share for _, share in found], [share for _, share in expected], atol=0.02
    )
