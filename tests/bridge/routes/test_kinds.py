"""The table of models: what a row promises, and that a further one needs no more than a row."""

import dataclasses
import sys
import types
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from bridge.artifact.runtimes import open_runtime
from bridge.errors import BridgeError
from bridge.routes import ROUTES, routes_of
from signbart.configuration.reading import from_dict
from signbart.errors import ConfigError
from signbart.models import MODEL_KINDS, io_spec, kind_of
from signbart.models.io_spec import classifier_spec
from signbart.models.kind import FEATURES, ModelKind, check_features


def test_what_can_be_configured_can_be_trained_and_carried():
    for name, row in MODEL_KINDS.items():
        assert row.name == name and kind_of(row.config()) is row
        assert row.default_route in routes_of(row)
        assert {"Network", "for_export"} <= vars(
            import_module(f"signbart_torch.models.{name}")
        ).keys()


@pytest.mark.parametrize("kind", ["sign_transformer", "mediapipe_gru"])
def test_features_go_in_and_two_named_outputs_come_out(kind):
    config = from_dict(
        {"model": {"kind": kind, "num_labels": 7}, "data": {"layout": "kp89", "max_frames": 30}},
        source="tests",
    )
    spec = io_spec(config)
    assert [tensor.describe() for tensor in spec.inputs] == [
        "keypoints float32 (1, 30, 178)", "attention_mask int32 (1, 30)"
    ]  # fmt: skip
    assert [tensor.describe() for tensor in spec.outputs] == [
        "gloss float32 (1, 7)", "category float32 (1, 10)"
    ]  # fmt: skip
    assert io_spec(config, batch=None, frames=None).inputs[0].shape == (None, None, 178)
    assert spec.longest == (300 if kind == "sign_transformer" else None)


def test_a_configuration_of_nothing_known_is_refused():
    with pytest.raises(
        ConfigError, match=r"no model is configured by dict; known: SignBartConfig, "
    ):
        kind_of({})


# A further model: its network here, and one row.


@dataclass(frozen=True)
class PoolConfig:
    num_features: int = 6
    num_labels: int = 5
    num_categories: int = 3
    longest: int = 11


class Pool(nn.Module):
    """Its dict is in another order than the specification's."""

    def __init__(self, config: PoolConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(config.num_features, 8)
        self.category_head = nn.Linear(8, config.num_categories)
        self.gloss_head = nn.Linear(8, config.num_labels)

    def forward(self, keypoints, attention_mask):
        present = attention_mask[:, :, None] > 0
        keypoints = torch.where(present, keypoints, torch.zeros_like(keypoints))
        states = torch.relu(self.embedding(keypoints)) * present.to(keypoints.dtype)
        pooled = states.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True).to(keypoints.dtype)
        return {"category": self.category_head(pooled), "gloss": self.gloss_head(pooled)}


def unchanged(model: Pool) -> Pool:
    return model


@pytest.fixture
def pool(monkeypatch) -> Pool:
    module = types.SimpleNamespace(Network=Pool, for_export=unchanged)
    monkeypatch.setitem(sys.modules, "signbart_torch.models.pool", module)
    row = ModelKind(
        "pool", "mean of frames", PoolConfig, classifier_spec, check_features, frame=FEATURES
    )
    monkeypatch.setitem(MODEL_KINDS, "pool", row)
    torch.manual_seed(3)
    return Pool(PoolConfig()).eval()


def test_a_model_without_a_twin_has_no_route_through_keras(pool, tmp_path):
    row = kind_of(pool.config)
    assert routes_of(row) == ("litert", "onnx") and routes_of(MODEL_KINDS["signbart"]) == tuple(
        ROUTES
    )
    spec = classifier_spec(pool.config, 1, 11)
    with pytest.raises(BridgeError, match=r"mean of frames has no Keras twin.*litert, onnx"):
        ROUTES["keras"].export(pool, spec, {".tflite": tmp_path / "a.tflite"})


@pytest.mark.slow
@pytest.mark.parametrize("route", ["litert", "onnx"])
def test_a_further_model_is_one_row(pool, tmp_path, route):
    spec = classifier_spec(pool.config, 1, 11)
    paths = {ending: tmp_path / f"pool{ending}" for ending in ROUTES[route].produces}
    ROUTES[route].export(pool, spec, paths)
    rng = np.random.default_rng(4)
    inputs = {
        "keypoints": rng.normal(size=(1, 11, 6)).astype(np.float32),
        "attention_mask": np.array([[1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0]], np.int32),
    }
    inputs["keypoints"][inputs["attention_mask"] == 0] = np.nan
    with torch.inference_mode():
        expected = pool(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    for path in paths.values():
        runtime = open_runtime(path)
        open_sizes = classifier_spec(pool.config, None, None)
        assert runtime.spec.keeps(open_sizes if path.suffix == ".onnx" else spec)
        found = runtime(inputs)
        for name, wanted in expected.items():
            np.testing.assert_allclose(found[name], wanted.numpy(), rtol=1e-5, atol=1e-6)
        # The comparison above tells the outputs apart.
        assert dataclasses.asdict(pool.config)["num_labels"] == found["gloss"].shape[1]


@pytest.mark.slow
def test_the_onnx_route_can_leave_the_tflite_out(pool, tmp_path):
    path = tmp_path / "pool.onnx"
    ROUTES["onnx"].export(pool, classifier_spec(pool.config, 1, 11), {".onnx": path})
    assert [file.name for file in tmp_path.iterdir()] == ["pool.onnx"]
