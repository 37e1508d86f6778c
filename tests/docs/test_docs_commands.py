"""``make docs-check``: the commands and snippets of docs/, after what they need of the README's.

The README's own are `test_first_use`'s, which runs beside this.
"""

import sys

import numpy as np
import pytest

from bridge.artifact.runtimes import FloatView, TFLiteRuntime
from signbart.configuration.reading import load_config
from signbart.preprocessing import model_inputs
from signbart.recordings.reading import read_clips
from tests.docs.pages import PAGES, REPOSITORY, id_of, steps

pytestmark = [pytest.mark.docs, pytest.mark.slow]


@pytest.mark.parametrize("step", steps(PAGES[1:]), ids=id_of)
def test_it_runs(step, workspace):
    workspace.follow(step)


def test_the_snippet_without_libraries_computes_what_the_project_does(workspace, monkeypatch):
    """With float32 and with integer inputs and outputs, and loads none of the frameworks."""
    model = "exports/signs/kp90_litert_fp32.tflite"
    workspace.provide(f"python recognize.py {model}")
    workspace(
        f"python -m bridge.quantize {model} --scheme int8 --calibration-data recordings.npz "
        "--int8-io --output integers.tflite"
    )
    loaded = workspace(
        "python -c \"import sys, recognize; print([name for name in ('torch', 'tensorflow', "
        "'keras', 'signbart', 'bridge') if name in sys.modules])\""
    )
    assert loaded.strip().splitlines()[-1] == "[]"

    monkeypatch.syspath_prepend(str(workspace.folder))
    import recognize

    config = load_config(REPOSITORY / "configs" / "kp90.yaml")
    clips = read_clips(workspace.folder / "recordings.npz").select(range(0, 160, 16))
    keypoints, mask = model_inputs(clips, config)
    for name in (model, "integers.tflite"):
        path = workspace.folder / name
        runtime, program = FloatView(TFLiteRuntime(path)), recognize.Recognizer(path)
        for clip, points, valid in zip(clips.clips, keypoints, mask, strict=True):
            inputs = {"keypoints": np.nan_to_num(points[None]), "attention_mask": valid[None]}
            np.testing.assert_allclose(
                program.outputs(clip.landmarks)["logits"], runtime(inputs)["logits"], atol=1e-4
            )
        best = program.top(clips.clips[0].landmarks)
        assert len(best) == 5 and best[0][1] >= best[1][1]
    sys.modules.pop("recognize")
