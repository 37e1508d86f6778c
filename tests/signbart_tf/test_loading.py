"""Triton, which PyTorch's builds for CUDA bring, is loaded before TensorFlow, never behind it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Stand-ins: what is looked at is their order, which no build for the CPU could show.
TENSORFLOW = """
print("tensorflow")
class config:
    list_physical_devices = staticmethod(lambda kind: [])
"""


@pytest.mark.parametrize("installed", [True, False])
def test_triton_comes_before_tensorflow(tmp_path, installed):
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW, encoding="utf-8")
    if installed:
        (tmp_path / "triton.py").write_text("print('triton')\n", encoding="utf-8")
    code = "from signbart_tf import import_tensorflow\n"
    if not installed:
        code = "import sys\nsys.modules['triton'] = None\n" + code
    process = subprocess.run(
        [sys.executable, "-c", code + "import_tensorflow()"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["triton"] * installed + ["tensorflow"]
