"""A scratch folder in which the pages' commands and snippets run, each once, in reading order."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart.video.task_file import WHEEL_COMMAND
from tests.docs.pages import REAL, REPOSITORY, Block, Command, all_blocks, all_commands

# What commands name that other commands, or `Workspace`, make.
MADE = (
    "runs/signs/", "runs/signs_keras/", "exports/signs/", "_int8.tflite", "LSA-64.pth",
    "recognize", "Transformer.pt", "DATA=few", ".task", "runs/demo/",
)  # fmt: skip
# And runs: folder, configuration and recordings.
TRAINED = (
    ("runs/fsl7/all", "kp90", "fsl7_holistic"),
    ("runs/loso/S01", "isl_kinect30", "isl_kinect30 --test-signers S01"),
    ("runs/sign_transformer", "sign_transformer", "fsl7_holistic"),
    ("runs/mediapipe_gru", "mediapipe_gru", "fsl7_holistic"),
)
# What the commands name from the repository; all else that they name, they or `Workspace` make.
LINKED = ("Makefile", "bridge", "configs", "requirements.txt", "pyproject.toml", "web")
SHIPPED = ("exports/example", "exports/asl10", "exports/isl30")


def environment(packages: Path) -> dict[str, str]:
    """Of a reader whose virtual environment is active, and whose packages lie in that folder."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "OMP_NUM_THREADS": "1",
    }


def run_line(line: str, folder: Path, packages: Path) -> str:
    """Runs a shell command line in a folder, with the packages of another; what it printed."""
    process = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment(packages),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,  # below pytest's own
    )
    assert process.returncode == 0, (
        f"{line}\nexit status {process.returncode}\n{process.stdout[-3000:]}"
    )
    return process.stdout


class Workspace:
    """The folder, and what has run in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._ran: set[str] = set()
        for name in LINKED:
            (folder / name).symlink_to(REPOSITORY / name)
        (folder / "exports").mkdir()
        for name in SHIPPED:
            (folder / name).symlink_to(REPOSITORY / name)
        (folder / ".venv").symlink_to(sys.prefix)
        data = os.environ.get("SIGNBART_DATA", REPOSITORY.parent / "shared" / "data")
        for name in REAL:
            if (Path(data) / name).is_dir():
                (folder / name).symlink_to(Path(data) / name)
        # Calibration takes 100 clips that were trained on.
        self("python -m signbart.synthetic recordings.npz --classes 5 --signers 8 --repetitions 4")
        _write_tree(folder / "tree")

    def __call__(self, line: str) -> str:
        """Runs a shell command line; returns what it printed. What ran before is not run again."""
        if line in self._ran:
            return ""
        printed = run_line(line, self.folder, REPOSITORY)
        self._ran.add(line)
        return printed

    def follow(self, step: Command | Block) -> str:
        """Runs what a page tells to, or skips with the reason why it cannot run here."""
        if isinstance(step, Block):
            self.provide(step.text)
            path = self.folder / f"snippet_{step.line}.py"
            path.write_text(step.text, encoding="utf-8")
            return self(f"python {path.name}")
        line = step.to_run()
        for name in REAL:
            wanted = name in line or "DATA=few" in line
            if wanted and not (self.folder / name).exists():
                pytest.skip(f"no {name} recordings beside the repository")
        self.provide(line)
        return self(line)

    def provide(self, line: str) -> None:
        """Makes what a reader of this command brings along, or has made on the page before."""
        folder = self.folder
        needs = {name for name in MADE if name in line}
        if "signbart_runtime.web" in line:
            needs.add("exports/signs/")
            self.follow(_first("npm ci"))
        if needs & {"exports/signs/", "LSA-64.pth", "runs/signs/"}:
            self.follow(_first("python -m signbart_torch.train"))
        if "runs/signs_keras/" in needs:
            self.follow(_first("python -m signbart_tf.train"))
        if "signbart.calibrate runs/signs_loso" in line:
            self.follow(_first("python -m signbart_torch.loso", "runs/NAME_loso"))
        if "exports/signs/" in needs:
            self.follow(_first("python bridge/convert.py", "--route litert"))
        if "LSA-64.pth" in needs and not (folder / "LSA-64.pth").exists():
            _publish(folder / "runs/signs/best.safetensors", folder)
        if "runs/demo/" in needs:
            self.follow(_first("make demo"))
        if "_int8.tflite" in needs and "--scheme" not in line and "exports/example" not in line:
            self.follow(_first("python -m bridge.quantize"))
        for run, config, data in TRAINED:
            if f"{run}/" in line and not (folder / run / "best.safetensors").exists():
                self(
                    f"python -m signbart_torch.train --config configs/{config}.yaml --data {data} "
                    f"--output {run} --set train.epochs=1"
                )
        if "DATA=few" in needs:
            _write_few(folder)
        if "Transformer.pt" in needs:
            _save_other_models(folder)
        if ".task" in needs:
            _write_videos(folder)
            if "--assemble-task" not in line:
                self.follow(_first("python -m signbart.video", "--assemble-task"))
        if "landmarks" in line and "videos" not in line:
            self.follow(_first("python -m signbart.video", "videos"))
        if "recognize" in needs:
            snippet = next(b for b in all_blocks("python") if b.page == "docs/deployment.md")
            (folder / "recognize.py").write_text(snippet.text, encoding="utf-8")
            clip = read_clips(folder / "recordings.npz").clips[0]
            np.save(folder / "clip.npy", clip.landmarks)


def _write_videos(folder: Path) -> None:
    """Two videos of a portrait, and the wheel whose parts make the model file."""
    if (folder / "videos").exists():
        return
    from tests.signbart.video.conftest import portrait_frames, write_video

    frames = portrait_frames()
    for place in ("videos/hello/user01_R1.mp4", "videos/bye/user01_R1.mp4", "clip.mp4"):
        write_video(folder / place, frames[: 4 + len(place) % 5])
    download = [sys.executable, "-m", *WHEEL_COMMAND.split(), "--quiet"]
    if subprocess.run(download, cwd=folder, capture_output=True).returncode:
        pytest.skip(f"{WHEEL_COMMAND}: cannot be had")


def _write_few(folder: Path) -> None:
    """Folders of the real data sets' names; the larger one cut to three signers.

    With fewer clips of each, two that a quantized file takes for others would be beyond its limit.
    """
    few = folder / "few"
    if few.exists():
        return
    larger, smaller = REAL
    clips = read_clips(folder / larger)
    chosen = [at for at, c in enumerate(clips.clips) if c.signer in clips.signer_names[:3]]
    (few / larger).mkdir(parents=True)
    write_packed(clips.select(chosen), few / larger / "clips.npz")
    (few / smaller).symlink_to(folder / smaller)


def _first(program: str, part: str = "") -> Command:
    """The first command of the pages that runs `program`, with `part` in it."""
    return next(c for c in all_commands() if c.program == program and part in c.text)


def _write_tree(root: Path) -> None:
    """Six clips of noise in the 90-keypoint layout."""
    rng = np.random.default_rng(0)
    for sign in ("hello", "thanks"):
        folder = root / "all" / sign
        folder.mkdir(parents=True)
        for take in range(3):
            clip = {"keypoints": rng.random((9, 90, 2), np.float32), "class": sign}
            (folder / f"user0{take}_R{take}.pkl").write_bytes(pickle.dumps(clip))
    (root / "label2id.json").write_text(json.dumps({"hello": 0, "thanks": 1}), "utf-8")


def _publish(checkpoint: Path, folder: Path) -> None:
    """A checkpoint in the published form: a .pth of weights, a flat YAML, label2id.json."""
    import torch
    import yaml

    from signbart_torch.training.checkpoint import load_checkpoint

    known = load_checkpoint(checkpoint)
    torch.save({"model": dict(known.tensors), "epoch": 1}, folder / "LSA-64.pth")
    flat = known.config.to_dict()["model"] | {"encoder_layerdrop": 0.0}
    (folder / "LSA-64.yaml").write_text(yaml.safe_dump(flat), "utf-8")
    labels = {name: label for label, name in enumerate(known.class_names)}
    (folder / "label2id.json").write_text(json.dumps(labels), "utf-8")


def _save_other_models(folder: Path) -> None:
    """Transformer.pt and GRU.pt of the published sizes, with random weights."""
    import torch

    from signbart.models.mediapipe_gru import MediapipeGruConfig
    from signbart.models.sign_transformer import SignTransformerConfig
    from signbart_torch.models.mediapipe_gru.model import MediapipeGru
    from signbart_torch.models.sign_transformer.model import SignTransformer

    torch.manual_seed(0)
    torch.save(SignTransformer(SignTransformerConfig()).state_dict(), folder / "Transformer.pt")
    torch.save(MediapipeGru(MediapipeGruConfig()).state_dict(), folder / "GRU.pt")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("pages"))
