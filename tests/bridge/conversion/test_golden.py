"""golden.json: clips that ports are tested on, and docs/deployment.md's program as the first."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from bridge.conversion.golden import _landmarks
from signbart.landmarks.layouts import LAYOUTS
from signbart.preprocessing import preprocess
from signbart_runtime.evaluation.opened import open_model

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def golden(converted) -> dict:
    return json.loads((converted.folder / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def program() -> dict:
    page = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    names = {"__name__": "recognize"}
    exec(page.split("```python\n")[1].split("```")[0], names)
    return names


@pytest.mark.slow
def test_the_pages_program_gives_what_golden_json_says(converted, golden, program):
    files = {path.name for path in converted.folder.glob("*.tflite")}
    assert len(files) == 3
    for clip, name in itertools.product(golden["clips"], files):
        found, answer = program["Recognizer"](converted.folder / name), clip["raw_answers"][name]
        assert clip["num_frames"] == len(clip["landmarks"]) == answer["num_frames_used"]
        outputs = found.outputs(clip["landmarks"])
        for output in ("logits", "probabilities"):
            np.testing.assert_allclose(outputs[output][0], answer[output], atol=1e-5)
        assert found.top(clip["landmarks"])[0][0] == answer["label"]
        # Both signatures say the same, and NumPy's preprocessing is what is between them.
        by_keypoints = clip["answers"][name]
        np.testing.assert_allclose(answer["logits"], by_keypoints["logits"], atol=1e-5)
        # A port that goes wrong is told: the clips are not all alike to the model.
        mirrored = np.array(clip["landmarks"]) * (-1, 1) + (1, 0)
        wrong = found.outputs(mirrored)["logits"][0]
        assert np.abs(wrong - answer["logits"]).max() > 1e-3


@pytest.mark.slow
def test_its_keypoints_are_the_contracts(converted, golden):
    config = open_model(converted.artifact).config
    for clip in golden["clips"]:
        keypoints = preprocess(np.array(clip["landmarks"], np.float32), config)
        assert len(keypoints) == clip["frames"]
        np.testing.assert_allclose(keypoints, clip["keypoints"], atol=1e-6)


@pytest.mark.slow
def test_every_artifact_answers_and_the_clips_need_every_step(converted, golden):
    first, second = golden["clips"]
    artifacts = {path.name for path in converted.folder.iterdir()}
    artifacts = {name for name in artifacts if name.endswith((".tflite", ".onnx"))}
    assert {*first["answers"]} == {"pytorch", *artifacts} - {"small_landmarks.onnx"}
    assert {*first["raw_answers"]} == artifacts - {"small.onnx"}
    assert golden["raw_frames"] == 256
    assert first["answers"]["pytorch"]["logits"] != second["answers"]["pytorch"]["logits"]
    assert first["frames"] == len(first["landmarks"]) and second["frames"] < len(
        second["landmarks"]
    )
    for clip in golden["clips"]:
        assert (np.array(clip["landmarks"]) == 0).all(axis=-1).any(), "no missing landmark"


@pytest.mark.parametrize("name", LAYOUTS)
def test_clips_of_every_layout(name):
    layout = LAYOUTS[name]
    short, long = _landmarks(layout, 40, seed=1)
    assert len(short) < 40 < len(long)
    for points in (short, long):
        assert points.shape[1] == layout.num_keypoints and points.dtype == np.float32
        assert np.isfinite(points).all() and np.array_equal(points, points.round(4))
        assert (points == 0).all(axis=-1).any() == (layout.unit == "image")
    again = _landmarks(layout, 40, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip((short, long), again, strict=True))
