"""A file's own SHA-256: any single damaged bit is noticed, and what carries none is said to."""

import argparse
import dataclasses
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge import export_models, weight_map
from signbart.checksums import (
    ChecksumError,
    append_checksum,
    checksum_holds,
    require_checksum,
    with_checksum,
)
from signbart.console import run_command
from signbart.errors import CheckpointError, ClipError, SignBartError
from signbart.synthetic.signs import make_clips
from signbart.training.distillation import Settings
from signbart.training.options import add_init_arguments, init_of
from signbart_torch import prune, qat, train_distilled
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

EXAMPLE = Path(__file__).resolve().parents[2] / "exports/example/demo_litert_dynamic_int8.tflite"


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def checkpoint(tmp_path, tiny_config) -> Path:
    path = tmp_path / "best.safetensors"
    model = dataclasses.replace(tiny_config.model, num_labels=3)
    config = dataclasses.replace(tiny_config, model=model)
    tensors = SignBart(model).state_dict()
    save_checkpoint(Checkpoint(tensors, config, ("left", "right", "both")), path)
    return path


@pytest.fixture
def onnx_file(tmp_path) -> Path:
    import onnx

    path = tmp_path / "model.onnx"
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]))
    onnx.helper.set_model_props(model, {"metadata.json": "{}"})
    onnx.save(model, str(path))
    return path


def test_every_one_of_1000_flipped_bits_of_a_tflite_is_noticed(tmp_path):
    content, path = EXAMPLE.read_bytes(), tmp_path / "model.tflite"
    bits = 8 * len(content)
    anywhere = np.random.default_rng(0).choice(bits, 200, replace=False)
    # And each of the end, where the checksum itself stands.
    for bit in [*anywhere, *range(bits - 800, bits)]:
        path.write_bytes(flipped(content, int(bit)))
        with pytest.raises(ChecksumError):
            checksum_holds(path)


@pytest.mark.parametrize("name", ["checkpoint", "onnx_file"])
def test_flipped_bits_of_other_files_are_noticed(name, request):
    path = request.getfixturevalue(name)
    if path.suffix == ".onnx":
        append_checksum(path)
    content = path.read_bytes()
    assert checksum_holds(path)
    for bit in np.random.default_rng(1).choice(8 * len(content), 400, replace=False):
        path.write_bytes(flipped(content, int(bit)))
        with pytest.raises(ChecksumError):
            checksum_holds(path)


def test_what_is_cut_off_or_added_is_noticed(tmp_path):
    content, path = EXAMPLE.read_bytes(), tmp_path / "model.tflite"
    for changed in (content[:-1], content[:-70], content[:-80], content + b"\n"):
        path.write_bytes(changed)
        with pytest.raises(ChecksumError, match="cut off or moved"):
            checksum_holds(path)


def test_the_message_names_file_hashes_and_remedy(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(flipped(EXAMPLE.read_bytes(), 8000))
    said = EXAMPLE.read_bytes()[-64:][:12].decode()
    with pytest.raises(ChecksumError) as raised:
        require_checksum(path)
    text = str(raised.value)
    assert str(path) in text and f"says {said}…" in text and "--no-checksum" in text
    assert text.count("…") == 2
    require_checksum(path, False)


def test_what_carries_none_is_said_to(tmp_path, onnx_file, capsys):
    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(2)}, bare, metadata={"hash": "0" * 64})
    for path in (bare, onnx_file):
        assert not checksum_holds(path)
        require_checksum(path)
        assert f"{path} carries no checksum" in capsys.readouterr().err
    require_checksum(tmp_path / "absent.tflite")  # whose reader says so better


def test_an_onnx_stays_what_it_was(onnx_file):
    import onnx
    import onnxruntime

    before = onnx.load(str(onnx_file))
    append_checksum(onnx_file)
    after = onnx.load(str(onnx_file))
    onnx.checker.check_model(after)
    assert after.graph == before.graph and after.metadata_props[0] == before.metadata_props[0]
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([1, 2], np.float32)})
    assert found.tolist() == [1, 2]
    with pytest.raises(ChecksumError, match="already"):
        append_checksum(onnx_file)


def test_a_checkpoint_stays_what_it_was(checkpoint, tiny_config):
    assert load_checkpoint(checkpoint).config.data == tiny_config.data
    before = checkpoint.read_bytes()
    rewritten = checkpoint.with_name("again.safetensors")
    save_file(load_file(checkpoint), rewritten)
    assert not checksum_holds(rewritten)
    assert with_checksum(before) == before


def test_it_costs_less_than_5_ms_for_3_mb(tmp_path):
    """SHA-256 of 3 MB takes 1.5 to 3 ms where processors have instructions for it."""
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(3_000_000))
    append_checksum(path)
    taken = []
    for _ in range(10):
        begun = time.perf_counter()
        checksum_holds(path)
        taken.append(time.perf_counter() - begun)
    assert min(taken) < 0.02  # four times as much, for other machines


def test_commands_refuse_and_take_it(tmp_path, capsys):
    from signbart_runtime.describe import main

    path = tmp_path / "model.tflite"
    path.write_bytes(flipped(EXAMPLE.read_bytes(), 8 * 500_000))
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: main([str(path)]))
    assert ended.value.code == 2 and "SHA-256" in capsys.readouterr().err
    assert main([str(path), "--no-checksum"]) == 0
    assert "checksum: not looked at" in capsys.readouterr().out
    assert main([str(EXAMPLE)]) == 0
    assert "checksum: right" in capsys.readouterr().out


COMMANDS = {
    "qat": (qat, "--checkpoint", "{}", "--data", "none", "--output", "none"),
    "prune": (prune, "--checkpoint", "{}", "--data", "none", "--output", "none", "--keep", "0.5"),
    "weight-map": (weight_map, "--checkpoint", "{}"),
    "export-models": (export_models, "--transformer", "{}"),
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_that_takes_a_checkpoint_takes_a_changed_one(verb, checkpoint, monkeypatch):
    command, *arguments = COMMANDS[verb]
    arguments = [each.format(checkpoint) for each in arguments]
    monkeypatch.chdir(checkpoint.parent)
    checkpoint.write_bytes(flipped(content := checkpoint.read_bytes(), 8 * len(content) - 20))
    with pytest.raises(ChecksumError, match="give --no-checksum beside it"):
        command.main(arguments)
    # What comes next is missing.
    with suppress(ClipError, CheckpointError):
        command.main([*arguments, "--no-checksum"])


def test_what_is_started_from_and_learned_from_may_be_changed(checkpoint, tiny_config, tmp_path):
    checkpoint.write_bytes(flipped(content := checkpoint.read_bytes(), 8 * len(content) - 20))
    parser = argparse.ArgumentParser()
    add_init_arguments(parser)
    for given, error in (([], ChecksumError), (["--no-checksum"], None)):
        with pytest.raises(error) if error else nullcontext():
            init_of(parser.parse_args(["--init", str(checkpoint), *given])).read()
    clips = make_clips(num_signers=1, repetitions=1, seed=0)
    for checked, error in ((True, ChecksumError), (False, SignBartError)):
        with pytest.raises(error) as caught:
            train_distilled(
                clips, tiny_config, tmp_path / "run", teachers=[checkpoint], settings=Settings(),
                checksum=checked,
            )  # fmt: skip
    assert not isinstance(caught.value, ChecksumError)
