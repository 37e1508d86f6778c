"""``signbart doctor``: what is installed, against what the package's own metadata asks for."""

import json
import tomllib
from pathlib import Path

import pytest

from signbart.doctor import EXTRAS, examine, main
from signbart.timing import INSTRUCTION_SETS, instruction_sets

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))


def pretend(folder: Path, name: str, version: str) -> None:
    """Metadata of a package, as an installation of that version would have left them."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_every_extra_that_does_something_is_told():
    extras = PYPROJECT["project"]["optional-dependencies"].keys()
    assert EXTRAS.keys() == {"", *extras} - {"all", "dev", "docs"}


def test_the_tested_set_lacks_nothing(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out
    assert "missing" not in told and told.count("ready") >= len(EXTRAS)
    found = examine()["extras"]
    assert {"torch", "torchao", "rich"} <= found["torch"]["installed"].keys()
    assert "torch" not in found["report"]["installed"] and "numpy" in found[""]["installed"]


def test_another_version_than_wanted_is_found(tmp_path, monkeypatch, capsys):
    pretend(tmp_path, "rich", "1.0")
    monkeypatch.syspath_prepend(tmp_path)
    assert main([]) == 0, "the base is whole"
    told = capsys.readouterr().out
    assert "(found 1.0)" in told and 'to add it: pip install "signbart[report]"' in told
    main(["--json"])
    extras = json.loads(capsys.readouterr().out)["extras"]
    assert [name for name, row in extras.items() if row["missing"]] == [
        "report", "torch", "litert", "onnx", "keras", "quantize",
    ]  # fmt: skip


def test_a_base_that_lacks_something_is_a_failure(tmp_path, monkeypatch, capsys):
    pretend(tmp_path, "numpy", "1.26")
    monkeypatch.syspath_prepend(tmp_path)
    assert main([]) == 1
    assert "numpy<3,>=2.2 (found 1.26)" in capsys.readouterr().out


def test_instruction_sets_are_this_machine_s():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        pytest.skip("no /proc/cpuinfo on this system")
    words = set(cpuinfo.read_text().split())
    assert instruction_sets() == [n for flag, n in INSTRUCTION_SETS.items() if flag in words]
