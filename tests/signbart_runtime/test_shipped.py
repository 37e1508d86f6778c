"""The shipped models: they open, carry both signatures, and the real ones know real signs."""

from pathlib import Path

import numpy as np
import pytest

from bridge import open_model
from signbart.artifacts.metadata import read_metadata
from signbart.recordings.reading import read_clips

EXPORTS = Path(__file__).resolve().parents[2] / "exports"


@pytest.mark.parametrize("name", ["example/demo", "asl10/asl10", "isl30/isl30"])
def test_a_shipped_model_is_whole(name):
    path = EXPORTS / f"{name}_litert_dynamic_int8.tflite"
    metadata = read_metadata(path)
    assert metadata["raw"]["signature"] == "landmarks"
    card = (path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\n") and ", ".join(metadata["labels"]) in card
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("name", "recordings"), [("asl10", "asl10_pose_hands"), ("isl30", "isl_kinect30")]
)
def test_a_real_model_recognises_what_it_was_trained_on(name, recordings, request):
    """A control of the file alone: accuracy on strangers is in its card."""
    clips = read_clips(request.getfixturevalue(recordings))
    model = open_model(EXPORTS / name / f"{name}_litert_dynamic_int8.tflite")
    chosen = np.random.default_rng(0).choice(len(clips), 40, replace=False)
    right = [
        model.classify(clips.clips[at])[0][0] == clips.class_names[clips.clips[at].label]
        for at in chosen
    ]
    assert np.mean(right) >= 0.9
