"""The bridge as a library: what ``from bridge import …`` gives."""

import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from bridge.conversion.pipeline import convert
from bridge.errors import BridgeError
from signbart.checksums import ChecksumError
from signbart_runtime.evaluation.opened import open_model

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = "exports/example/demo_litert_dynamic_int8.tflite"
IS_THE_FUNCTION = "assert convert.__module__ == 'bridge.conversion.pipeline', convert"


def run(code: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_package_offers_two_functions():
    assert bridge.convert is convert and bridge.open_model is open_model
    assert set(bridge.__all__) == {"convert", "open_model"}


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
    loaded = run("import sys\nfrom bridge import convert, open_model\nprint(*sys.modules)").split()
    assert "bridge.conversion.pipeline" in loaded
    assert not {"torch", "tensorflow", "keras", "ai_edge_litert"} & {*loaded}


@pytest.fixture
def flipped(checkpoint, tmp_path) -> Path:
    """A checkpoint with one bit of one weight changed."""
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 64
    (tmp_path / "flipped.safetensors").write_bytes(content)
    return tmp_path / "flipped.safetensors"


def test_damage_is_noticed_by_every_function_that_reads_a_checkpoint(flipped, tmp_path):
    from bridge.weights.source import read_source
    from signbart.weights.stored import read_stored
    from signbart_torch.training.checkpoint import load_checkpoint

    unnoticed = {
        "convert": lambda: convert(flipped, tmp_path / "exports"),
        "open_model": lambda: open_model(flipped),
        "read_source": lambda: read_source(flipped),
        "load_checkpoint": lambda: load_checkpoint(flipped),
        "read_stored": lambda: read_stored(flipped),
    }
    for function in unnoticed.values():
        with pytest.raises(ChecksumError, match=r"flipped\.safetensors: damaged, or changed"):
            function()
    assert not (tmp_path / "exports").exists()
    assert open_model(flipped, checksum=False).class_names
    assert read_source(flipped, checksum=False).class_names


def test_damage_is_noticed_before_a_file_is_quantized(tmp_path):
    from bridge.conversion.quantized import QuantizationOptions
    from bridge.conversion.single_file import quantize_artifact
    from bridge.quantization.schemes import SCHEMES

    path = tmp_path / "model.tflite"
    content = bytearray((REPOSITORY / EXAMPLE).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    given = path, SCHEMES["fp16"], tmp_path / "out.tflite", QuantizationOptions()
    with pytest.raises(ChecksumError, match=r"model\.tflite: damaged, or changed"):
        quantize_artifact(*given)
    with pytest.raises(BridgeError, match="is quantized already"):
        quantize_artifact(*given, checksum=False)
