"""Commands that are killed at any moment: what stands is whole, and once more brings the rest.

Each command is killed before steps that files take, and after shares of the time that it takes;
which, a seed draws. Then its folders must be true, the same command must end without a hand's help,
what it leaves must be what an undisturbed run leaves, and nothing else.
"""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from signbart.artifacts.completeness import MANIFEST, require_complete
from signbart.artifacts.metadata import read_metadata
from signbart.errors import ArtifactError
from signbart.files import UNFINISHED, file_sha256
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart_runtime.web.packages import _LOADED, PAGE
from tests.robustness.conftest import CAMPAIGN
from tests.robustness.killing import Command
from tests.signbart.video.conftest import write_video

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "exports" / "example" / "demo_litert_dynamic_int8.tflite"
SEED = int(os.environ.get("SIGNBART_CAMPAIGN_SEED", "0"))


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        command: It.
        before: A folder with what it finds; it works on a copy at `place`.
        place: Where it works.
        check: Fails where what is there is not true.
        differs: Endings of files that no two runs write alike.
        workers: Whether it has processes of its own, which end when they miss it.
    """

    command: Command
    before: Path
    place: Path
    check: Callable[[Path], None]
    differs: tuple[str, ...] = ()
    workers: bool = False

    def renew(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.before, self.place)

    def left(self) -> dict[str, str]:
        """Every file, and what is in it."""
        found = {}
        for path in self.place.rglob("*"):
            if path.is_file() and "tensorboard" not in path.parts:
                content = b"" if path.name.endswith(self.differs) else path.read_bytes()
                if path.suffix == ".safetensors":  # its tensors alone
                    content = content[8 + int.from_bytes(content[:8], "little") :]
                found[str(path.relative_to(self.place))] = hashlib.sha256(content).hexdigest()
        return found


def pack(tmp_path: Path, tiny_clips) -> Case:
    """Over an older packed file, in the very folder that is read."""
    before, place = tmp_path / "before", tmp_path / "place"
    for index in range(6):
        folder = before / "data" / ("left", "right")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{index}.npy", np.full((4, 543, 2), 0.1 + 0.1 * index, np.float32))
    write_packed(tiny_clips, before / "out.npz")
    clips = {len(tiny_clips), 6}

    def check(folder: Path) -> None:
        assert len(read_clips(folder / "out.npz")) in clips
        assert len(read_clips(folder / "data")) == 6

    arguments = ("pack", f"{place}/data", f"{place}/out.npz", "--force")
    return Case(Command("signbart.clips", arguments), before, place, check)


def unpack(tmp_path: Path, tiny_clips) -> Case:
    before, place = tmp_path / "before", tmp_path / "place"
    before.mkdir()
    write_packed(tiny_clips, before / "all.npz")

    def check(folder: Path) -> None:
        assert not (folder / "tree").exists() or len(read_clips(folder / "tree")) == 36

    arguments = ("unpack", f"{place}/all.npz", f"{place}/tree")
    return Case(Command("signbart.clips", arguments), before, place, check)


def train(tmp_path: Path, tiny_clips, with_train) -> Case:
    before, place = tmp_path / "before", tmp_path / "place"
    before.mkdir()
    write_packed(tiny_clips, before / "all.npz")
    config = with_train(epochs=2).to_dict()
    (before / "tiny.yaml").write_text(yaml.safe_dump(config))

    def check(folder: Path) -> None:
        from signbart_torch.training.checkpoint import load_checkpoint

        for name in ("last", "best"):
            path = folder / "run" / f"{name}.safetensors"
            assert not path.exists() or load_checkpoint(path).tensors

    arguments = (
        "--config", f"{place}/tiny.yaml", "--data", f"{place}/all.npz", "--output", f"{place}/run",
        "--test-signers", "dan", "--resume",
    )  # fmt: skip
    # safetensors orders a header by chance, and the last one has that file's hash.
    differs = ("results.json", "summary.csv", "evaluation.json")
    return Case(Command("signbart_torch.train", arguments), before, place, check, differs)


def true_manifest(folder: Path) -> None:
    """Each file is the one that the manifest says, or the manifest says that it may not be."""
    try:
        require_complete(folder)
    except ArtifactError:
        return
    if (folder / MANIFEST).is_file():
        manifest = json.loads((folder / MANIFEST).read_text())
        for entry in manifest["artifacts"]:
            if "file" not in entry:
                continue  # of a route that failed: the disk was full
            path = folder / entry["file"]
            assert file_sha256(path) == entry["sha256"]
            assert read_metadata(path)["checkpoint_sha256"] == manifest["checkpoint_sha256"]


def convert(tmp_path: Path, converted, checkpoint) -> Case:
    """Over another checkpoint's conversion; what converters make is ready."""
    from signbart_torch.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

    before, place = tmp_path / "before", tmp_path / "place"
    known = load_checkpoint(checkpoint)
    other = Checkpoint(known.tensors, known.config, known.class_names, {"another": 1})
    save_checkpoint(other, tmp_path / "other.safetensors")
    (tmp_path / "plain.tflite").write_bytes(converted.plain())
    ready = {"one": tmp_path / "plain.tflite"}

    def conversion(source: Path, output: Path) -> Command:
        arguments = ("--checkpoint", f"{source}", "--route", "all", "--output", f"{output}")
        options = ("--jobs", "1", "--raw-frames", "0", "--samples", "8")
        return Command("bridge.convert", (*arguments, *options), ready)

    conversion(tmp_path / "other.safetensors", before / "exports").whole(tmp_path)
    check = lambda folder: true_manifest(folder / "exports")  # noqa: E731
    command = conversion(checkpoint, place / "exports")
    return Case(command, before, place, check, (MANIFEST, "convert.log"))


def quantize(tmp_path: Path, converted) -> Case:
    """Over a file that the manifest lists."""
    before, place = tmp_path / "before", tmp_path / "place"
    shutil.copytree(converted.folder, before / "exports")
    source = f"{place}/exports/small_litert_fp32.tflite"
    options = ("--scheme", "fp16", "--output", f"{place}/exports/small_keras_fp32.tflite")
    check = lambda folder: true_manifest(folder / "exports")  # noqa: E731
    command = Command("bridge.quantize", (source, *options))
    return Case(command, before, place, check, (MANIFEST,))


def evaluate(tmp_path: Path, converted, recordings) -> Case:
    before, place = tmp_path / "before", tmp_path / "place"
    before.mkdir()
    write_packed(recordings, before / "all.npz")
    model = converted.path("litert", ".tflite")

    def check(folder: Path) -> None:
        for path in folder.glob("scores/predictions/*.npz"):
            np.load(path)["logits"]

    arguments = (str(model), "--data", f"{place}/all.npz", "--output", f"{place}/scores")
    return Case(Command("signbart_runtime.evaluate", arguments), before, place, check)


def web(tmp_path: Path) -> Case:
    """Over an older page, with packages of empty files."""
    before, place = tmp_path / "before", tmp_path / "place"
    before.mkdir()
    brought = tmp_path / "brought" / "node_modules"
    versions = json.loads((PAGE / "package.json").read_text())["dependencies"]
    for package, version in versions.items():
        for name in _LOADED[package]:
            (brought / package / name).parent.mkdir(parents=True, exist_ok=True)
            (brought / package / name).write_text(name)
        (brought / package / "package.json").write_text(json.dumps({"version": version}))

    def check(folder: Path) -> None:
        if (folder / "page").exists():
            described = json.loads((folder / "page" / "site.json").read_text())
            for name, sha256 in described["files"].items():
                assert file_sha256(folder / "page" / name) == sha256

    arguments = ("--packages", str(brought.parent), "--build", f"{place}/page")
    command = Command("signbart_runtime.web.__main__", (str(EXAMPLE), *arguments))
    return Case(command, before, place, check)


def loso(tmp_path: Path, tiny_clips, with_train) -> Case:
    """Two folds, side by side."""
    case = train(tmp_path, tiny_clips, with_train)
    arguments = list(case.command.arguments[:-3])
    command = Command(
        "signbart_torch.loso",
        (*arguments, "--signers", "dan", "cleo", "--jobs", "2", "--resume"),
    )

    def check(folder: Path) -> None:
        from signbart_torch.training.checkpoint import load_checkpoint

        for path in folder.glob("run/*/*.safetensors"):
            assert load_checkpoint(path).tensors

    return dataclasses.replace(case, command=command, check=check, workers=True)


def landmarks(tmp_path: Path, task, portrait) -> Case:
    """Of three videos, by a process that may be left behind."""
    before, place = tmp_path / "before", tmp_path / "place"
    for name in ("a", "b", "c"):
        write_video(before / "videos" / name / "x.mp4", portrait[:3])

    def check(folder: Path) -> None:
        for path in folder.glob("out/[!.]*/*.npy"):
            assert np.load(path).shape == (3, 543, 2)

    arguments = (f"{place}/videos", "--task", str(task), "--output", f"{place}/out")
    command = Command("signbart.video.__main__", arguments)
    return Case(command, before, place, check, ("out.log",), workers=True)


# How many of 20, and so of a campaign's 500, each gets; workers take long to start.
# The steps of a conversion's end are tried one by one in bridge/conversion/test_folder.py.
CASES = {pack: 5, unpack: 2, train: 4, convert: 2, quantize: 3, evaluate: 2, web: 2}
if CAMPAIGN:
    CASES |= {loso: 1, landmarks: 1}
TIMES = max(1, CAMPAIGN // 20)


@pytest.fixture
def made(request, tmp_path) -> Case:
    code = request.param.__code__
    needed = {*code.co_varnames[: code.co_argcount]} - {"tmp_path"}
    return request.param(tmp_path, **{name: request.getfixturevalue(name) for name in needed})


def require_no_harm(made: Case, whole: dict[str, str], folder: Path, moment: dict) -> None:
    """What stands is true; the same command brings what an undisturbed one does, and no more."""
    made.check(made.place)
    if (made.place / "tree").exists():  # unpacked: it is not replaced, but cleared
        made.command.start(folder).join()
    else:
        made.command.whole(folder)
    made.check(made.place)
    left = made.left()
    differing = {path for path in left | whole if left.get(path) != whole.get(path)}
    assert not differing, moment
    over = [*made.place.rglob(f"{UNFINISHED}*"), *(folder / "temporary").iterdir()]
    assert not over, moment


@pytest.mark.slow
@pytest.mark.timeout(LONG := 3600 if CAMPAIGN else 250)
@pytest.mark.parametrize("made", CASES, indirect=True, ids=lambda case: case.__name__)
def test_a_killed_command(made, request, tmp_path, tried):
    name = request.node.callspec.id
    draw = random.Random(SEED + zlib.crc32(name.encode()))
    made.renew()
    steps, seconds = made.command.whole(tmp_path)
    made.check(made.place)
    whole = made.left()
    for number in range(TIMES * next(n for case, n in CASES.items() if case.__name__ == name)):
        made.renew()
        if number % 3 == 2:
            moment = {"after": draw.random() * seconds}
        else:
            moment = {"at": draw.randrange(steps)}
        made.command.killed(tmp_path, **moment)
        time.sleep(2 * made.workers)
        require_no_harm(made, whole, tmp_path, moment)
        tried[name] += 1


# Where files cannot be written. Once of 20 each, and in a campaign as many times more.
WAYS = ("disk full", "permission denied")


@pytest.mark.slow
@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "made", CASES if CAMPAIGN else (pack, unpack), indirect=True, ids=lambda case: case.__name__
)
def test_what_cannot_be_written(made, way, request, tmp_path, tried):
    name = request.node.callspec.id
    draw = random.Random(SEED + zlib.crc32(name.encode()))
    made.renew()
    steps, _ = made.command.whole(tmp_path)
    whole = made.left()
    largest = max(path.stat().st_size for path in made.place.rglob("*") if path.is_file())
    for _ in range(TIMES):
        made.renew()
        if way == "disk full":
            how = {"longest": int(largest ** draw.random())}
        else:
            how = {"denied": draw.randrange(steps)}
        status = made.command.fails(tmp_path, **how)
        said = (tmp_path / "output").read_text(errors="replace")
        assert status in (0, 1, 2), f"{how}: {status}: {said}"
        require_no_harm(made, whole, tmp_path, how)
        tried[name] += 1
