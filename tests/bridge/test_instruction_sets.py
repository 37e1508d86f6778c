"""`benchmarks.instruction_sets`: XNNPACK computes with what it was left, and says what by."""

import json
import subprocess
import sys

import pytest

from benchmarks import xnnpack_kernels
from benchmarks.xnnpack_kernels import SETS
from signbart.errors import SignBartError
from signbart.timing import instruction_sets
from tests.docs.pages import REPOSITORY

CODE = """
import json, sys
from benchmarks.xnnpack_kernels import restrict
print(json.dumps([restrict(name) for name in sys.argv[1:]]))
"""


def kernels(*names: str) -> list[dict[str, str]]:
    """In a process of its own, for XNNPACK chooses once in a process."""
    command = [sys.executable, "-c", CODE, *names]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_another_processors_kernels_are_taken():
    known = instruction_sets()
    if "AVX2" not in known:
        pytest.skip("no AVX2: the flags are those of x86-64")
    (lesser,) = kernels("AVX2")
    assert "fma3" in lesser["fp32"] and lesser["int8"].startswith("qs8_qc8w_gemm_")
    assert lesser["dynamic_int8"].endswith("avx2") and lesser["int8"].endswith("avx2")
    if known[-1] in SETS and known[-1] != "AVX2":
        (own,) = kernels(known[-1])
        assert own["int8"] != lesser["int8"]


def test_another_librarys_symbols_are_refused():
    with pytest.raises(SignBartError, match=r"no symbol xnn_nothing: another XNNPACK"):
        xnnpack_kernels._call("xnn_nothing")
