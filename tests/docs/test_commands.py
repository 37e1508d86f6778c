"""``make docs-check``: every command and Python snippet of the pages, in reading order, for real.

Not part of ``make test``, whose tests call the same commands one by one. `pages` says what is
substituted and shortened.
"""

import sys

import numpy as np
import pytest

from bridge.quantized_parity import prepared_inputs
from bridge.runtimes import FloatView, TFLiteRuntime
from signbart.clips import read_clips
from signbart.config import load_config
from tests.docs.pages import NOT_RUN, PAGES, REPOSITORY, Command, all_blocks, all_commands

pytestmark = [pytest.mark.docs, pytest.mark.slow]

# Commands and snippets of a page as they stand, but the library-free one, which `recognize.py` is.
STEPS = sorted(
    (
        *(command for command in all_commands() if command.program not in NOT_RUN),
        *(block for block in all_blocks("python") if block.page != "docs/deployment.md"),
    ),
    key=lambda step: (PAGES.index(step.page), step.line),
)


def _id(step) -> str:
    about = step.program if isinstance(step, Command) else "snippet"
    return f"{step.page}:{step.line} {about}"


def _in_group(step):
    """Two chains of about the same length, each in one process."""
    group = "README" if step.page == "README.md" else "docs"
    return pytest.param(step, id=_id(step), marks=pytest.mark.xdist_group(group))


@pytest.mark.parametrize("step", map(_in_group, STEPS))
def test_it_runs(step, workspace):
    if not isinstance(step, Command):
        assert workspace.follow_block(step) or step.page != "README.md"
        return
    workspace.follow(step)


@pytest.mark.xdist_group("docs")
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
    keypoints, mask = prepared_inputs(clips, config)
    for name in (model, "integers.tflite"):
        path = workspace.folder / name
        runtime, program = FloatView(TFLiteRuntime(path)), recognize.Recognizer(path)
        for clip, points, valid in zip(clips.clips, keypoints, mask, strict=True):
            inputs = {"keypoints": np.nan_to_num(points[None]), "attention_mask": valid[None]}
            np.testing.assert_allclose(
                program.logits(clip.landmarks), runtime(inputs)["logits"][0], atol=1e-4
            )
        best = program.top(clips.clips[0].landmarks)
        assert len(best) == 5 and best[0][1] >= best[1][1]
    sys.modules.pop("recognize")
