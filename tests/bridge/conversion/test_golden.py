"""golden.json: clips that ports are tested on, and docs/deployment.md's program as the first."""

import json
from pathlib import Path

import numpy as np
import pytest

from bridge.conversion.golden import _landmarks
from signbart.landmarks.layouts import LAYOUTS

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
    spec = program["read_metadata"](converted.artifact)["preprocessing"]
    for clip in golden["clips"]:
        inputs = program["preprocess"](clip["landmarks"], spec)
        frames = clip["frames"]
        np.testing.assert_allclose(inputs["keypoints"][0, :frames], clip["keypoints"], atol=1e-6)
        assert not inputs["keypoints"][0, frames:].any()
        assert inputs["attention_mask"].sum() == frames
        for name in files:
            found = program["Recognizer"](converted.folder / name)
            answer = clip["answers"][name]
            logits = found.logits(clip["landmarks"])
            np.testing.assert_allclose(logits, answer["logits"], atol=1e-5)
            assert found.top(clip["landmarks"])[0][0] == answer["label"]
        # A port that goes wrong is told: the clips are not all alike to the model.
        mirrored = np.array(clip["landmarks"]) * (-1, 1) + (1, 0)
        wrong = program["preprocess"](mirrored, spec)["keypoints"][0, :frames]
        assert np.abs(wrong - clip["keypoints"]).max() > 1e-2


@pytest.mark.slow
def test_every_artifact_answers_and_the_clips_need_every_step(converted, golden):
    first, second = golden["clips"]
    assert {*first["answers"]} == {"pytorch", *(
        path.name for ending in ("tflite", "onnx") for path in converted.folder.glob(f"*.{ending}")
    )}  # fmt: skip
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
