"""One small SignBART of random weights, its recordings, and one conversion a route for all tests.

What takes time is made once for all processes of a run (`shared`), and so is the checkpoint:
artifacts carry its hash. Every test that names `converted` or `artifact` is slow.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge.artifact.raw_signature import split_raw_signature
from bridge.artifact.runtimes import TorchRuntime
from bridge.quantization.quantizer import quantize
from bridge.quantization.schemes import SCHEMES
from bridge.routes import ROUTES
from bridge.verification.clips import JudgedClips, judged_clips, predict
from signbart.landmarks.layouts import get_layout
from signbart.preprocessing import model_inputs
from signbart.recordings.clip import Clip, ClipSet
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.training.calibration import Calibration, calibrate_on
from signbart.training.progress import identify_recordings
from signbart.training.splits import split_clips
from signbart_torch.models.signbart.model import SignBart
from signbart_torch.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
)

REPOSITORY = Path(__file__).resolve().parents[2]
LABELS = ("hello", "thank you", "naïve", "نعم", "no")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two threads on two shared cores wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def recordings() -> ClipSet:
    """Six clips of 3 to 20 frames in image coordinates; some landmarks are missing."""
    rng = np.random.default_rng(5)
    clips = []
    for index, frames in enumerate((3, 5, 9, 12, 13, 20)):
        shape = (frames, get_layout("kp63").num_keypoints, 2)
        landmarks = 0.5 + 0.1 * rng.normal(size=shape).cumsum(axis=0)
        landmarks[rng.random(shape[:2]) < 0.1] = 0.0
        clips.append(Clip(landmarks.astype(np.float32), index % 5, "a", index, f"clip {index}"))
    return ClipSet(tuple(clips), LABELS)


@pytest.fixture(scope="session")
def checkpoint(shared, config) -> Path:
    """A checkpoint file; no bias and no norm is left as it was made, which would hide mistakes."""

    def make(folder: Path) -> None:
        torch.manual_seed(1)
        model = SignBart(config.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        save_checkpoint(Checkpoint(model.state_dict(), config, LABELS), folder / name)

    name = "best.safetensors"
    return shared("checkpoint", make) / name


@pytest.fixture
def model(checkpoint) -> SignBart:
    """A fresh copy, to be altered at will."""
    return load_model(checkpoint)[0]


@pytest.fixture
def reference(model, config) -> TorchRuntime:
    return TorchRuntime(model, config)


@dataclass(frozen=True)
class Command:
    """A command that has ended: its exit status and all that it wrote."""

    status: int
    output: str
    errors: str


@pytest.fixture(scope="session")
def command() -> Callable[..., Command]:
    """`command(main, *arguments)`: run here, with the file descriptors of a process of its own.

    What C++ writes to them is in the output too, and converters' output goes where it would.
    """

    def run(main: Callable[[list[str]], int], *arguments: object) -> Command:
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            kept = os.dup(1), os.dup(2)
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                with (
                    open(1, "w", encoding="utf-8", closefd=False) as stdout,
                    open(2, "w", encoding="utf-8", closefd=False) as stderr,
                    redirect_stdout(stdout),
                    redirect_stderr(stderr),
                ):
                    status = main([str(argument) for argument in arguments])
            finally:
                for number, saved in zip((1, 2), kept, strict=True):
                    os.dup2(saved, number)
                    os.close(saved)
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode("utf-8"))
        return Command(status, *texts)

    return run


@dataclass(frozen=True)
class Converted:
    """What ``python bridge/convert.py --route all`` left behind."""

    folder: Path
    output: str

    @property
    def artifact(self) -> Path:
        """That of the default route."""
        return self.path("litert", ".tflite")

    def path(self, route: str, ending: str) -> Path:
        """What a route made."""
        return self.folder / ("small.onnx" if ending == ".onnx" else f"small_{route}_fp32{ending}")

    def plain(self) -> bytes:
        """The artifact before metadata was appended to it."""
        with zipfile.ZipFile(self.artifact) as archive:
            start = min(info.header_offset for info in archive.infolist())
        return self.artifact.read_bytes()[:start]

    def parts(self) -> tuple[bytes, bytes]:
        """That before its second signature was added, and what was added."""
        with tempfile.TemporaryDirectory() as folder:
            parts = Path(folder) / "core.tflite", Path(folder) / "around.tflite"
            assert split_raw_signature(self.artifact, *parts)
            return tuple(part.read_bytes() for part in parts)


@pytest.fixture(scope="session")
def converted(shared, checkpoint, recordings) -> Converted:
    """One real conversion by each route, by the command, on recordings."""

    def make(folder: Path) -> None:
        data = folder / "recordings.npz"
        write_packed(recordings, data)
        process = subprocess.run(
            [
                sys.executable, "bridge/convert.py", "--checkpoint", str(checkpoint),
                "--route", "all", "--output", str(folder / "small"), "--data", str(data),
                # One after the other: tests run side by side already.
                "--jobs", "1",
            ],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        (folder / "output.txt").write_text(process.stdout, encoding="utf-8")

    folder = shared("converted", make)
    return Converted(folder / "small", (folder / "output.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def twin_file(shared, checkpoint) -> Path:
    """The checkpoint as a .keras file, made by the weight map's command."""
    from bridge.weight_map import main

    def make(folder: Path) -> None:
        assert main(["to-keras", str(checkpoint), str(folder / name)]) == 0

    name = "small.keras"
    return shared("twin", make) / name


PRODUCTS = [(route.name, ending) for route in ROUTES.values() for ending in route.produces]


@pytest.fixture(params=PRODUCTS, ids="".join)
def artifact(request, converted) -> Path:
    """Each file that a route makes."""
    return converted.path(*request.param)


# For quantization: recordings that are more, and that the model of random weights "recognises".


@pytest.fixture(scope="session")
def performances_file(shared, checkpoint, config) -> Path:
    """240 clips by four signers, each labelled with the class that the model sees in it.

    Clips between two classes are left out: of those any rounding makes something else.
    """

    def make(folder: Path) -> None:
        rng = np.random.default_rng(6)
        clips = []
        for index in range(900):
            shape = (int(rng.integers(3, 21)), get_layout("kp63").num_keypoints, 2)
            landmarks = rng.uniform(0.2, 0.8, shape[1:])
            landmarks = landmarks + 0.1 * rng.normal(size=shape).cumsum(axis=0)
            landmarks[rng.random(shape[:2]) < 0.1] = 0.0
            clips.append(Clip(landmarks.astype(np.float32), 0, "", index, ""))
        model = TorchRuntime(load_model(checkpoint)[0], config)
        logits = predict(model, *model_inputs(ClipSet(tuple(clips), LABELS), config))
        ordered = np.sort(logits, axis=1)
        clear = np.flatnonzero(ordered[:, -1] - ordered[:, -2] > 0.4)[:240]
        assert len(clear) == 240
        kept = tuple(
            Clip(clips[index].landmarks, int(logits[index].argmax()), "abcd"[at % 4], at, "")
            for at, index in enumerate(clear)
        )
        write_packed(ClipSet(kept, LABELS), folder / name)

    name = "performances.npz"
    return shared("performances", make) / name


@pytest.fixture(scope="session")
def performances(performances_file) -> ClipSet:
    """Those clips as they are read: 60 by each of a, b, c and d."""
    return read_clips(performances_file)


@pytest.fixture(scope="session")
def trained(shared, checkpoint, performances) -> Path:
    """The same weights in a checkpoint that says: trained on the performances, tested on d.

    Then a validates, and b and c were trained on.
    """

    def make(folder: Path) -> None:
        known = load_checkpoint(checkpoint)
        progress = {"recordings": identify_recordings(performances, ["d"])}
        save_checkpoint(Checkpoint(known.tensors, known.config, LABELS, progress), folder / name)

    name = "best.safetensors"
    return shared("trained", make) / name


@pytest.fixture(scope="session")
def calibration(config, performances) -> Calibration:
    """Of 40 clips by b and c: fewer than any user may take, to save time."""
    split = split_clips(performances, config.train, ["d"])
    whole = calibrate_on(
        performances.select(split.train), config, count=100, seed=0, source="performances"
    )
    return Calibration(whole.keypoints[:40], whole.attention_mask[:40], whole.record)


@pytest.fixture(scope="session")
def judged(checkpoint, config, performances) -> JudgedClips:
    """The clips by d, with what PyTorch says of them."""
    clips = performances.select([i for i, who in enumerate(performances.signers) if who == "d"])
    reference = TorchRuntime(load_model(checkpoint)[0], config)
    return judged_clips(clips, config, reference, labelled=True, source="60 clips by d")


@pytest.fixture(scope="session")
def quantized(shared, converted, calibration) -> Callable[..., Path]:
    """`quantized(route, scheme, int8_io=False)`: that file, made once; it has no metadata."""

    def made(route: str, scheme: str, int8_io: bool = False) -> Path:
        def make(folder: Path) -> None:
            shown = calibration if SCHEMES[scheme].calibrated else None
            source = converted.path(route, ".tflite")
            quantize(source, SCHEMES[scheme], folder / f"{name}.tflite", shown, int8_io=int8_io)

        name = f"small_{route}_{scheme}{'_io' * int8_io}"
        return shared(name, make) / f"{name}.tflite"

    return made
