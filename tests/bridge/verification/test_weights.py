"""Stored weights are held to what they were made of: sound files pass, and damage is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.verification.verdict import FAILED, PASS, WRONG, Verdict
from bridge.verification.weights import (
    _find,
    _problems,
    judge_weights,
    model_rows,
    stored_rows,
    wrong_rows,
)
from signbart.artifacts.compaction import read_model, write_model

QUANTIZED = [name for name in SCHEMES if name != FLOAT]
pytestmark = pytest.mark.slow


def passed(path: Path, scheme: str) -> Verdict:
    return Verdict(path.name, PASS, scheme=scheme)


def scale(path: Path, name: str, factor: float, target: Path) -> Path:
    """The file with one tensor's scales multiplied."""
    model = read_model(path)
    for tensor in (t for graph in model.subgraphs for t in graph.tensors):
        if tensor.name.decode() == name and tensor.quantization is not None:
            tensor.quantization.scale = np.asarray(tensor.quantization.scale) * np.float32(factor)
    write_model(model, target)
    return target


@pytest.mark.parametrize("scheme", QUANTIZED)
@pytest.mark.parametrize("route", ["litert", "onnx", "keras"])
def test_sound_files_are_what_they_were_made_of(quantized, converted, model, route, scheme):
    path = quantized(route, scheme)
    assert wrong_rows(path, list(model_rows(model))) == []
    verdict = passed(path, scheme)
    parent = converted.path(route, ".tflite")
    assert judge_weights(verdict, path, model=model, parent=parent) is verdict
    known = list(model_rows(model))
    for rows in stored_rows(path):  # and none is passed over
        fit = [k for k in known if k.numbers.shape[1] == rows.numbers.shape[1]]
        assert _find(rows, fit) is not None


@pytest.mark.parametrize("scheme", ["dynamic_int8", "int8"])
@pytest.mark.parametrize("factor", [1.05, 0.95, 1.5])
def test_every_tensors_scales_are_told_and_named(quantized, model, scheme, factor, tmp_path):
    """As the file has them, but for one tensor; a file is written for one of them only."""
    known = list(model_rows(model))
    path = quantized("litert", scheme)
    stored = [rows for rows in stored_rows(path) if rows.errors.any()]
    assert len(stored) == 35
    for rows in stored:
        fit = [k for k in known if k.numbers.shape[1] == rows.numbers.shape[1]]
        assert _problems(rows, fit) == []
        changed = type(rows)(rows.name, rows.numbers * factor, rows.errors * factor)
        (problem,) = _problems(changed, fit)
        assert rows.name in problem and problem.split(":")[0] in dict(model.named_modules())
    damaged = scale(path, stored[5].name, factor, tmp_path / "damaged.tflite")
    told = judge_weights(passed(damaged, scheme), damaged, model=model)
    assert told.verdict == WRONG and f"(tensor {stored[5].name})" in told.reason


def test_layers_are_named_by_what_stands_in_them(quantized, model):
    path = quantized("litert", "dynamic_int8")
    with torch.no_grad():
        model.decoder.layers[1].encoder_attn.v_proj.weight[3] *= 1.2
    (problem,) = wrong_rows(path, list(model_rows(model)))
    assert problem.startswith("decoder.layers.1.encoder_attn.v_proj: weights of 1 of 48 outputs")
    with torch.no_grad():
        model.decoder.layers[1].encoder_attn.v_proj.weight[3] = torch.randn(24)
    (problem,) = wrong_rows(path, list(model_rows(model)))
    assert "other numbers in row" in problem


@pytest.mark.parametrize("scheme", ["dynamic_int8", "int8", "int16x8"])
def test_biases_are_told(quantized, model, scheme):
    path = quantized("litert", scheme)
    with torch.no_grad():
        model.encoder.layers[1].fc1.bias[2] += 0.2
    (problem,) = wrong_rows(path, list(model_rows(model)))
    assert problem.startswith("encoder.layers.1.fc1: the bias of output 2")


def test_the_float_parent_alone_is_enough(quantized, converted, tmp_path):
    path, parent = quantized("onnx", "weight_only_int8"), converted.path("onnx", ".tflite")
    verdict = passed(path, "weight_only_int8")
    assert judge_weights(verdict, path, parent=parent) is verdict
    name = [rows.name for rows in stored_rows(path) if rows.errors.any()][7]
    damaged = scale(path, name, 1.05, tmp_path / "damaged.tflite")
    assert name in judge_weights(verdict, damaged, parent=parent).reason
    # What failed already, and what is no quantized file, is left as it is.
    for left in (Verdict("x", FAILED, "why", "int8"), Verdict("x", PASS)):
        assert judge_weights(left, damaged, parent=parent) is left


def test_flipped_bits_of_weights_are_told(quantized, model):
    """Under a checksum that was made anew: a bit of an int8 number is a step or more."""
    tried = 1000
    known, rng = list(model_rows(model)), np.random.default_rng(0)
    stored = [
        rows for rows in stored_rows(quantized("litert", "dynamic_int8")) if rows.errors.any()
    ]
    missed = 0
    for _ in range(tried):
        rows = stored[rng.integers(len(stored))]
        numbers, steps = rows.numbers.copy(), 2 * rows.errors
        at = tuple(rng.integers(numbers.shape))
        as_int8 = np.int8(round(numbers[at] / steps[at])).view(np.uint8) ^ np.uint8(
            1 << rng.integers(8)
        )
        numbers[at] = np.int8(as_int8.view(np.int8)) * steps[at]
        fit = [k for k in known if k.numbers.shape[1] == numbers.shape[1]]
        missed += not _problems(type(rows)(rows.name, numbers, rows.errors), fit)
    # A number that was rounded by all but half a step may be within one on the other side, too.
    assert missed <= tried // 500
