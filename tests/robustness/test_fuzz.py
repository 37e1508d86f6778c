"""Every border against damaged files: each is read, or refused by one error that names it.

A campaign tries 16 times as many, and others by another seed.
"""

import functools
import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml

from bridge.artifact.runtimes import open_runtime
from bridge.verification.samples import read_sample
from signbart.artifacts.contents import multiply_accumulates, operators
from signbart.artifacts.metadata import embed_metadata, read_metadata
from signbart.configuration.reading import load_config
from signbart.errors import SignBartError
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.labels import read_label_file
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.synthetic.signs import make_clips
from signbart.weights.stored import has_header, read_progress, read_stored
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.integrity.promises import check_folder
from tests.robustness.conftest import CAMPAIGN
from tests.robustness.fuzzing import Border, damaged_bytes, damaged_json, damaged_tree, try_border
from tests.robustness.test_kills import EXAMPLE, REPOSITORY, SEED
from tests.signbart.recordings import forms

POINTS = (0.5 + np.random.default_rng(3).normal(scale=0.1, size=(4, 75, 2))).astype(np.float32)
CLIPS = [
    ("yes", "user1_0000_R0", POINTS),
    ("no", "user2_0001_R1", POINTS + np.float32(0.01)),
    ("yes", "user2_0002_R0", POINTS[:3]),
]


def damaged_members(content: bytes, draw: Random) -> bytes:
    """A zip archive of which one member was damaged, or is there twice or not; its CRCs fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    at = draw.randrange(len(members))
    name, own = members[at]
    way = draw.choice(("damage", "damage", "damage", "twice", "remove", "empty", "elsewhere"))
    if way == "damage":
        members[at] = name, damaged_bytes(own, draw)
    elif way == "twice":
        members.append((name, draw.choice(members)[1]))
    elif way == "remove":
        del members[at]
    elif way == "empty":
        members[at] = name, b""
    else:
        members[at] = f"../../{name}", own
    made = io.BytesIO()
    packing = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(made, "w", packing) as archive:
        for each, inside in members:
            archive.writestr(each, inside)
    return made.getvalue()


def damaged_header(content: bytes, draw: Random) -> bytes:
    """A .safetensors whose header was damaged as JSON, the texts in it as JSON, too."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    if draw.random() < 0.5:
        key = draw.choice(("config", "class_names", "progress"))
        inside = header["__metadata__"][key].encode()
        header["__metadata__"][key] = damaged_json(inside, draw).decode("utf-8", "replace")
        text = json.dumps(header).encode()
    else:
        text = damaged_json(json.dumps(header).encode(), draw)
    return len(text).to_bytes(8, "little") + text + data


def damaged_metadata(content: bytes, draw: Random) -> bytes:
    """A .tflite with damaged metadata, which no checksum covers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = min(member.header_offset for member in archive.infolist())
        text = damaged_json(archive.read("metadata.json"), draw)
    made = io.BytesIO(content[:start])
    made.seek(start)
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("metadata.json", text)
    return made.getvalue()


def damaged_yaml(content: bytes, draw: Random) -> bytes:
    """A configuration damaged as text, or as the tree that it is."""
    if draw.random() < 0.4:
        return damaged_bytes(content, draw)
    return yaml.safe_dump(damaged_tree(yaml.safe_load(content), draw)).encode()


def read_data(path: Path) -> None:
    """A data set, and what of it would be learned from."""
    for clip in read_clips(path).clips:
        assert np.isfinite(np.asarray(clip.landmarks)).all()


def read_checkpoint(path: Path) -> None:
    has_header(path)
    read_progress(path)
    read_stored(path, checksum=False)


def read_artifact(path: Path) -> None:
    """What commands ask of an artifact, and its answer to a clip."""
    read_metadata(path)
    operators(path)
    multiply_accumulates(path)
    opened = open_model(path, checksum=False)
    opened.classify(synthetic_clip())


@functools.cache
def synthetic_clip() -> Clip:
    return make_clips(num_signers=1, repetitions=1, seed=0).clips[0]


def read_onnx(path: Path) -> None:
    read_metadata(path)
    operators(path)
    open_runtime(path)({"x": np.ones((1, 2), np.float32)})


def packed(folder: Path) -> Path:
    clips = tuple(
        Clip(points, at % 2, name.split("_")[0], at, f"[{at}]")
        for at, (_, name, points) in enumerate(CLIPS)
    )
    write_packed(ClipSet(clips, ("yes", "no")), folder / "packed.npz")
    return folder / "packed.npz"


def sample(folder: Path) -> Path:
    np.savez(folder / "sample.npz", keypoints=POINTS[None], attention_mask=np.ones((1, 4), "i4"))
    return folder / "sample.npz"


def one_npy(folder: Path) -> Path:
    (folder / "set" / "yes").mkdir(parents=True)
    np.save(folder / "set" / "yes" / "user1_R0.npy", POINTS)
    return folder / "set"


def labels(folder: Path) -> Path:
    (folder / "label2id.json").write_text(json.dumps({"yes": 0, "no": 1, "maybe": 2}))
    return folder / "label2id.json"


def state_dict(folder: Path) -> Path:
    import torch

    torch.save({"encoder.weight": torch.ones(3, 4), "head.bias": torch.ones(4)}, folder / "a.pth")
    return folder / "a.pth"


def keras_weights(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.weights.h5", "w") as file:
        for name in ("encoder/layers/0/fc1", "projection/proj_x1"):
            file.create_dataset(f"{name}/vars/0", data=np.ones((3, 4), np.float32))
    return folder / "a.weights.h5"


def onnx_file(folder: Path) -> Path:
    """The smallest one that carries metadata."""
    import onnx
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "a.onnx")
    embed_metadata(folder / "a.onnx", read_metadata(EXAMPLE))
    return folder / "a.onnx"


@dataclass(frozen=True)
class Kind:
    """A border: what makes the sound file, and how often the suite damages it.

    The other fields are as in `Border`.
    """

    make: Callable[[Path], Path]
    damage: Callable[[bytes, Random], bytes]
    read: Callable[[Path], object]
    times: int
    files: str = "*"


def form(write: Callable, suffix: str = "") -> Callable[[Path], Path]:
    """Recordings as another program writes them: a set, or a file a clip with that ending."""
    write = forms.tree(write, suffix) if suffix else write
    return lambda folder: write(folder / "set", CLIPS)


KINDS = {
    "pickle": Kind(form(forms.write_masked_pickle, ".pkl"), damaged_bytes, read_data, 20),
    "pickle of a set": Kind(form(forms.write_pyskl), damaged_bytes, read_data, 8),
    "npy": Kind(one_npy, damaged_bytes, read_data, 20),
    "npz": Kind(form(forms.write_masked_npz, ".npz"), damaged_members, read_data, 20),
    "packed npz": Kind(packed, damaged_members, read_data, 25),
    "samples npz": Kind(sample, damaged_members, read_sample, 10),
    "csv": Kind(form(forms.write_long_csv), damaged_bytes, read_data, 12),
    "parquet": Kind(form(forms.write_wide_parquet), damaged_bytes, read_data, 12),
    "json": Kind(form(forms.write_json_list), damaged_json, read_data, 20),
    "index": Kind(form(forms.write_wlasl), damaged_json, read_data, 8, "*.json"),
    ".pose": Kind(form(forms.write_pose, ".pose"), damaged_bytes, read_data, 15),
    "hdf5": Kind(form(forms.write_hdf5), damaged_bytes, read_data, 20),
    "labels": Kind(labels, damaged_json, read_label_file, 20),
    "pth": Kind(state_dict, damaged_members, read_checkpoint, 15),
    "keras": Kind(keras_weights, damaged_bytes, read_checkpoint, 15),
    "yaml": Kind(lambda _: REPOSITORY / "configs/demo.yaml", damaged_yaml, load_config, 25),
    "tflite": Kind(lambda _: EXAMPLE, damaged_bytes, read_artifact, 8),
    "metadata": Kind(lambda _: EXAMPLE, damaged_metadata, read_artifact, 10),
    "onnx": Kind(onnx_file, damaged_bytes, read_onnx, 15),
    "exports": Kind(lambda _: EXAMPLE.parent, damaged_json, check_folder, 3, "*.json"),
}
LONG = pytest.mark.timeout(3600 if CAMPAIGN else 250)


def try_kind(kind: Kind, name: str, folder: Path, tried: Counter) -> None:
    (folder / "damaged").mkdir()
    sound = kind.make(folder)
    kind.read(sound)  # what is made for the first time, in this process and not in each child
    count = kind.times * max(1, CAMPAIGN // 30)
    border = Border(name, sound, kind.damage, kind.read, kind.files)
    faults = try_border(border, folder / "damaged", SEED, count)
    tried[f"damaged {name}"] += count - len(faults)
    assert not faults, "\n".join(faults)


@LONG
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused(name, tmp_path, tried):
    try_kind(KINDS[name], name, tmp_path, tried)


@LONG
def test_a_damaged_checkpoint_is_read_or_refused(checkpoint, tmp_path, tried):
    kind = Kind(lambda _: checkpoint, damaged_header, read_checkpoint, 25)
    try_kind(kind, "safetensors", tmp_path, tried)


def ends(path: Path) -> None:
    os.abort()


def runs(path: Path) -> None:
    os.system("true")


def writes(path: Path) -> None:
    (path.parents[1] / "elsewhere").write_text("")


def fails(path: Path) -> None:
    raise KeyError(path.name)


def says_nothing(path: Path) -> None:
    raise SignBartError("something is wrong")


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (ends, "ends the process: -6"),
        (runs, r"os\.system"),
        (writes, "writes .*elsewhere"),
        (fails, "KeyError"),
        (says_nothing, "names no file"),
    ],
)
def test_what_is_no_clean_refusal_is_found(read, fault, tmp_path):
    (tmp_path / "damaged").mkdir()
    border = Border("any", labels(tmp_path), damaged_json, read)
    faults = try_border(border, tmp_path / "damaged", SEED, 2)
    assert len(faults) == 2
    assert all(re.search(fault, each) for each in faults)
