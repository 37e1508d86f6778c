"""What stands around a model is converted once for all models of a configuration."""

import dataclasses
import sys
import types
from pathlib import Path

import pytest

from bridge.routes import Route
from signbart.models import io_spec
from signbart.models.raw_spec import RAW_FRAMES, RawSignature


@pytest.mark.slow
def test_it_is_made_again_for_what_decides_it_alone(converted, config, tmp_path, monkeypatch):
    core, around = converted.parts()
    asked = []

    def export_around(raw: RawSignature, path: Path) -> None:
        asked.append(raw)
        path.write_bytes(around)

    module = types.ModuleType("ready_made")
    module.export = lambda model, spec, paths: paths[".tflite"].write_bytes(core)
    module.export_around = export_around
    monkeypatch.setitem(sys.modules, module.__name__, module)
    route = Route("ready_made", (), "", (), module.__name__)

    def export(raw: RawSignature) -> bytes:
        path = tmp_path / "model.tflite"
        # What is asked of the model is its kind.
        route.export(
            types.SimpleNamespace(config=config.model), io_spec(config), {".tflite": path}, raw
        )
        return path.read_bytes()

    raw = RawSignature(config, RAW_FRAMES)
    first = export(raw)
    # Another run: another name, and trained otherwise.
    train = dataclasses.replace(config.train, epochs=config.train.epochs + 1)
    other = dataclasses.replace(config, name="other", train=train)
    assert export(dataclasses.replace(raw, config=other)) == first
    assert len(asked) == 1
    data = dataclasses.replace(config.data, normalization="bbox")
    for changed in (
        dataclasses.replace(raw, temperature=2.0),
        dataclasses.replace(raw, frames=RAW_FRAMES // 2),
        dataclasses.replace(raw, config=dataclasses.replace(config, data=data)),
    ):
        count = len(asked)
        export(changed)
        assert asked[count:] == [changed.alone]
