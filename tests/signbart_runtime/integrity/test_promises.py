"""`signbart verify`: a sound folder holds, and whatever is changed in one is found and named."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import BridgeError
from signbart.artifacts.compaction import read_model, write_model
from signbart.artifacts.metadata import embed_metadata, read_metadata
from signbart.errors import ArtifactError
from signbart.files import file_sha256
from signbart_runtime.integrity.__main__ import main
from signbart_runtime.integrity.promises import check_folder

EXPORTS = Path(__file__).resolve().parents[3] / "exports"
NAME = "demo_litert_dynamic_int8.tflite"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(EXPORTS / "example", tmp_path / "example"))


def problems(folder: Path) -> dict[tuple[str, str], str]:
    return {(f.file, f.promise): f.problem for f in check_folder(folder) if f.problem}


def edit(path: Path, change) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")


def rehash(folder: Path) -> None:
    """The manifest made to fit, as somebody would who means harm."""

    def change(manifest):
        path = folder / NAME
        manifest["artifacts"][0] |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        manifest["files"] = {name: file_sha256(folder / name) for name in manifest["files"]}

    edit(folder / "manifest.json", change)


def rewrite(path: Path, metadata: dict) -> None:
    with zipfile.ZipFile(path) as archive:
        start = min(info.header_offset for info in archive.infolist())
    path.write_bytes(path.read_bytes()[:start])
    embed_metadata(path, metadata)


@pytest.mark.parametrize("name", ["example", "asl10", "isl30"])
def test_the_shipped_folders_hold(name, capsys):
    assert main([str(EXPORTS / name)]) == 0
    assert "11 of 11 hold" in capsys.readouterr().out


def test_a_flipped_bit_is_found(folder, capsys):
    content = bytearray((folder / NAME).read_bytes())
    content[400_000] ^= 1
    (folder / NAME).write_bytes(content)
    assert problems(folder).keys() >= {(NAME, "bytes and SHA-256"), (NAME, "checksum inside")}
    assert main([str(folder), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert any("SHA-256" in one["problem"] for one in told)


def test_other_weights_under_right_hashes_are_found(folder):
    metadata = read_metadata(folder / NAME)
    model = read_model(folder / NAME)
    names = {tensor.name.decode(): tensor for graph in model.subgraphs for tensor in graph.tensors}
    weights = max(
        (t for t in names.values() if t.quantization is not None and len(t.shape) == 2),
        key=lambda t: int(np.prod(t.shape)),
    )
    weights.quantization.scale = np.asarray(weights.quantization.scale) * np.float32(2)
    write_model(model, folder / NAME)
    embed_metadata(folder / NAME, metadata)
    assert (NAME, "bytes and SHA-256") in problems(folder)
    rehash(folder)
    assert problems(folder).keys() == {(NAME, "answers of golden.json")}


def test_other_labels_are_found(folder):
    metadata = read_metadata(folder / NAME)
    rewrite(folder / NAME, metadata | {"labels": metadata["labels"][::-1]})
    rehash(folder)
    assert problems(folder).keys() == {(NAME, "answers of golden.json")}
    rewrite(folder / NAME, metadata | {"labels": metadata["labels"][:-1]})
    assert "10 classes, 9 labels" in problems(folder)[NAME, "inputs and outputs"]


@pytest.mark.parametrize(
    ("key", "value", "promise"),
    [
        ("checkpoint_sha256", "0" * 64, "metadata"),
        ("scheme", "fp32", "metadata"),
        ("inputs", [{"name": "keypoints", "shape": [1, 2], "dtype": "float32"}], "inputs and"),
    ],
)
def test_other_metadata_are_found(folder, key, value, promise):
    rewrite(folder / NAME, read_metadata(folder / NAME) | {key: value})
    rehash(folder)
    assert any(found.startswith(promise) for _, found in problems(folder))


def test_other_papers_are_found(folder):
    def lie(golden):
        golden["clips"][0]["answers"][NAME]["logits"][0] += 1

    edit(folder / "golden.json", lie)
    assert ("golden.json", "SHA-256") in problems(folder)
    rehash(folder)
    assert problems(folder).keys() == {(NAME, "answers of golden.json")}


def test_other_figures_are_found(folder):
    card = folder / "MODEL_CARD.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("0.0042", "0.0024"), encoding="utf-8")
    assert problems(folder).keys() == {("MODEL_CARD.md", "figures and origin")}

    def flatter(manifest):
        manifest["artifacts"][0]["parity"]["rmse"] = 0.0

    edit(folder / "manifest.json", flatter)
    assert ("parity.json", "figures") in problems(folder)

    def hide(manifest):
        manifest["artifacts"][0]["operators"] = {"ADD": 1}

    edit(folder / "manifest.json", hide)
    assert (NAME, "operators") in problems(folder)


def test_missing_and_further_files_are_found(folder):
    (folder / NAME).rename(folder / "other.tflite")
    found = {(f.file, f.promise): f for f in check_folder(folder)}
    assert found[NAME, "bytes and SHA-256"].problem == "is not there"
    assert "no manifest" in found["other.tflite", "listed"].note
    assert not found["other.tflite", "metadata"].problem


def test_what_is_older_has_less_to_promise(folder):
    edit(folder / "manifest.json", lambda manifest: manifest.pop("files"))
    assert not problems(folder)
    assert any("made before" in finding.note for finding in check_folder(folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"artifacts": [1]}', "[" * 100_000])
def test_no_manifest_is_an_error(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BridgeError, match=r"manifest\.json"):
        check_folder(folder)


def test_a_manifest_names_nothing_outside(folder):
    edit(folder / "manifest.json", lambda m: m["artifacts"][0].update(file="../../etc/passwd"))
    with pytest.raises(ArtifactError, match="lies elsewhere"):
        check_folder(folder)


def test_a_file_that_is_a_link_to_itself_is_named(folder):
    (folder / "golden.json").unlink()
    (folder / "golden.json").symlink_to("golden.json")
    assert "golden.json" in problems(folder)["golden.json", "SHA-256"]


def test_what_prints_a_table_asks_for_it_before_it_works(monkeypatch, tmp_path):
    from signbart.clips import main as clips
    from signbart_runtime.bench.__main__ import main as bench
    from signbart_runtime.integrity.__main__ import main as verify

    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    nowhere = str(tmp_path / "nowhere")
    for command in (
        lambda: verify([nowhere]),
        lambda: bench([nowhere]),
        lambda: clips(["info", nowhere]),
    ):
        with pytest.raises(ModuleNotFoundError, match="rich"):
            command()


def test_other_raw_landmarks_in_the_manifest_are_found(folder):
    edit(folder / "manifest.json", lambda manifest: manifest["raw"]["holistic"].reverse())
    assert "takes other raw landmarks" in " ".join(problems(folder).values())
