"""`open_model` as a program uses it, and the README's program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from signbart.recordings.reading import read_single_clip
from signbart_runtime.evaluation.opened import open_model
from tests.docs.pages import blocks

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_clip_is_classified_by_path_or_itself(checkpoint, performances_file):
    model = open_model(checkpoint)
    source = f"{performances_file}[3]"
    clips = read_single_clip(source)
    assert model.classify(source) == model.classify(clips) == model.classify(clips.clips[0])
    with pytest.raises(BridgeError, match="source_layout: only for a path"):
        model.classify(clips, source_layout="kp63")
    with pytest.raises(BridgeError, match="found a set of 2"):
        model.classify(clips.select([0, 0]))


@pytest.mark.slow
def test_the_readmes_program(checkpoint, performances_file, tmp_path):
    """Five lines: from a checkpoint to a verified artifact, and from that to a label."""
    (program,) = (block for block in blocks("README.md") if block.language == "python")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    shutil.copy(checkpoint, tmp_path / "runs" / "demo" / "best.safetensors")
    shutil.copy(performances_file, tmp_path / "runs" / "demo" / "signs.npz")
    process = subprocess.run(
        [sys.executable, "-c", program.text],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    label, _, score = process.stdout.strip().rpartition(": ")
    assert label == open_model(checkpoint).classify(f"{performances_file}[0]")[0][0]
    assert score.endswith("%")
    assert (tmp_path / "exports" / "demo" / "manifest.json").is_file()
    assert len([line for line in program.text.splitlines() if line]) == 5
