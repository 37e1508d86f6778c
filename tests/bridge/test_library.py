"""The bridge as a library: what ``from bridge import …`` gives."""

import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from bridge.conversion.pipeline import convert

REPOSITORY = Path(__file__).resolve().parents[2]
IS_THE_FUNCTION = "assert convert.__module__ == 'bridge.conversion.pipeline', convert"


def run(code: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_package_offers_one_function():
    assert bridge.convert is convert
    assert set(bridge.__all__) == {"convert"}


@pytest.mark.parametrize(
    "lines",
    [
        ["from bridge import convert"],
        ["import bridge.convert", "from bridge import convert"],
        ["from bridge.convert import main", "from bridge import convert"],
        ["from bridge import convert", "import bridge.convert", "from bridge import convert"],
        ["from bridge import convert", "from bridge.convert import main"],
        ["import bridge", "import bridge.convert", "convert = bridge.convert"],
    ],
)
def test_convert_is_the_function_whatever_was_imported_before(lines):
    run("\n".join([*lines, IS_THE_FUNCTION]))


def test_the_command_of_that_name_is_still_there():
    run("from bridge import convert\nfrom bridge.convert import main\n"
        "assert main.__module__ == 'bridge.convert'")  # fmt: skip


def test_nothing_is_loaded_before_it_is_asked_for():
    loaded = run("import sys, bridge\nprint(*sorted(sys.modules))").split()
    assert "bridge" in loaded
    assert not {"numpy", "torch", "tensorflow", "bridge.conversion", "bridge.artifact"} & {*loaded}
    loaded = run("import sys\nfrom bridge import convert\nprint(*sys.modules)").split()
    assert "bridge.conversion.pipeline" in loaded
    assert not {"torch", "tensorflow", "keras", "ai_edge_litert"} & {*loaded}
