"""Fixtures that every package's tests share."""

import dataclasses
import fcntl
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from signbart.configuration.reading import from_dict
from signbart.configuration.schema import RunConfig
from signbart.files import UNFINISHED
from signbart.landmarks.layouts import get_layout
from signbart.recordings.clip import Clip, ClipSet
from signbart_tf.models.framework import import_triton

REPOSITORY = Path(__file__).resolve().parents[1]
# Before any framework is imported, and for every process that a test starts. Two workers share two
# cores: threads of one would wait for each other's, and spend the core that they wait for.
for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(threads, "1")
# Test files import TensorFlow in whatever order, and PyTorch loads Triton later.
import_triton()
# pytest-xdist tells its workers that a line has 80 columns, and tables would be folded to that.
os.environ.pop("COLUMNS", None)

# Files that take longest, begun first: a long one begun last would keep one core busy alone. And
# `test_convert.py` makes what many others wait for, beside one that does not need it.
BEGUN_FIRST = [
    f"tests/{name}.py"
    for name in (
        "bridge/test_convert", "bridge/test_contract", "signbart_runtime/test_loso",
        "bridge/conversion/test_real_clips", "bridge/test_export_models", "bridge/test_quantize",
        "bridge/verification/test_divergence", "signbart_runtime/web/test_page",
    )
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders whole files; within a file, and among the others, the order stays."""

    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return BEGUN_FIRST.index(file) if file in BEGUN_FIRST else len(BEGUN_FIRST)

    items.sort(key=place)


# The garbage collector is kept off what lives as long as the process, and is made rarer. Frameworks
# and collected tests are millions of objects, exporters and tracing make many more in a short time,
# and TensorFlow's converter asks for a whole collection at every conversion: a tenth of the suite's
# seconds would go into looking for cycles.
gc.disable()


def _keep() -> None:
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _keep()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """What took long may have imported another framework."""
    begun = time.monotonic()
    done = yield
    if time.monotonic() - begun > 1:
        _keep()
    return done


def pytest_sessionfinish() -> None:
    """Pytest and Python each look for cycles again at their end."""
    gc.freeze()


@contextmanager
def _eagerly() -> Iterator[None]:
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def eager_keras() -> Callable[[], AbstractContextManager[None]]:
    """`with eager_keras():` TensorFlow traces no function: of few steps that takes the time."""
    return _eagerly


def _data_set(name: str) -> Path:
    """The folder of a real data set; they are not part of the project."""
    root = Path(os.environ.get("SIGNBART_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"no {name} recordings at {folder}; set SIGNBART_DATA to the folder above them")
    return folder


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """`TimeoutError` in the main thread once that time is over; pytest-timeout has SIGALRM."""

    def expire(*_):
        raise TimeoutError(f"not made within {seconds:g} s")

    main = threading.main_thread().ident
    previous = signal.signal(signal.SIGUSR1, expire)
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, previous)


Maker = Callable[[Path], object]


@pytest.fixture(scope="session")
def shared(tmp_path_factory, pytestconfig) -> Callable[[str, Maker], Path]:
    """`shared(name, make)`: a folder that `make(folder)` fills once for all processes of the run.

    Who comes meanwhile waits. Where making fails, or takes so long that pytest would break it off,
    every test that asks for the folder fails with why. The tests that share it only read it.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    seconds = 0.8 * float(pytestconfig.getini("timeout"))

    def made_once(name: str, make: Maker) -> Path:
        folder, done, failed = (root / f"{name}{ending}" for ending in ("", ".done", ".failed"))
        with open(root / f"{name}.lock", "w") as lock:
            # Of the kernel: it ends with the process that holds it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if failed.exists():
                pytest.fail(f"{name} could not be made:\n{failed.read_text()}", pytrace=False)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
                folder.mkdir()
                try:
                    with at_most(seconds):
                        make(folder)
                except pytest.skip.Exception:
                    raise
                except BaseException:
                    failed.write_text(traceback.format_exc())
                    raise
                done.touch()
        return folder

    return made_once


KILLED = """
import os, signal, sys
from pathlib import Path
from signbart.files import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / sys.argv[2]).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left_over() -> Callable[[Path, str], Path]:
    """`left_over(folder, name)`: the file that a killed process was writing to a folder."""

    def leave(folder: Path, name: str) -> Path:
        process = subprocess.run([sys.executable, "-c", KILLED, folder, name], cwd=REPOSITORY)
        assert process.returncode == -signal.SIGKILL
        (left,) = folder.glob(f"{UNFINISHED}*/*/{name}")
        return left

    return leave


@pytest.fixture(scope="session")
def isl_kinect30() -> Path:
    return _data_set("isl_kinect30")


@pytest.fixture(scope="session")
def fsl7_holistic() -> Path:
    return _data_set("fsl7_holistic")


@pytest.fixture(scope="session")
def asl10_pose_hands() -> Path:
    return _data_set("asl10_pose_hands")


@pytest.fixture(scope="session")
def asl16_pose_hands() -> Path:
    return _data_set("asl16_pose_hands")


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    """A whole run on `tiny_clips` in a second; batches of 8 leave a smaller last one."""
    return from_dict(
        {
            "name": "tiny",
            "model": {
                "joint_idx": [4, 5, 6, 7, 8, 9],
                "d_model": 16,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 24,
                "decoder_ffn_dim": 20,
                "max_position_embeddings": 20,
            },
            "data": {"layout": "kinect20", "max_frames": 14, "normalization": "body_centred"},
            "train": {
                "epochs": 6,
                "batch_size": 8,
                "lr": 0.01,
                "warmup_epochs": 1,
                "val_signers": 1,
                "patience": 0,
            },
        },
        source="tests",
    )


@pytest.fixture
def with_train(tiny_config):
    """`with_train(epochs=2)`: `tiny_config` with other values of its train section."""

    def changed(**values) -> RunConfig:
        train = dataclasses.replace(tiny_config.train, **values)
        return dataclasses.replace(tiny_config, train=train)

    return changed


@pytest.fixture(scope="session")
def tiny_clips(made_clips) -> ClipSet:
    """Recordings; a module may read its own."""
    return made_clips


@pytest.fixture(scope="session")
def made_clips() -> ClipSet:
    """Three classes by four signers, three times each: which hand moves, or both, and which way."""
    layout = get_layout("kinect20")
    rng = np.random.default_rng(7)
    rest = rng.normal(size=(20, 3)) * 0.1
    for name, place in {
        "Neck": (0, 0.5, 0), "SpineBase": (0, 0, 0),
        "ShoulderLeft": (-0.2, 0.45, 0), "ShoulderRight": (0.2, 0.45, 0),
    }.items():  # fmt: skip
        rest[layout.index(name)] = place
    clips = []
    for signer in ("anna", "ben", "cleo", "dan"):
        build = rng.uniform(0.9, 1.1)
        for label in range(3):
            for repetition in range(3):
                time = np.linspace(0, 1, rng.integers(5, 18))[:, None]
                landmarks = np.repeat(rest[None], len(time), axis=0)
                for side, moves in (("Left", label != 0), ("Right", label != 1)):
                    for joint in (f"Hand{side}", f"Wrist{side}"):
                        landmarks[:, layout.index(joint)] += moves * time * [0.2, 0.6, 0.0]
                landmarks = build * landmarks + rng.normal(scale=0.01, size=landmarks.shape)
                clips.append(
                    Clip(landmarks.astype(np.float32), label, signer, repetition, f"[{len(clips)}]")
                )
    return ClipSet(tuple(clips), ("left", "right", "both"))


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """T 12, K 41, d_model 24, 4 and 6 heads, 2 + 3 layers, 5 classes: no two of a kind alike."""
    return from_dict(
        {
            "name": "small",
            "model": {
                "joint_idx": list(range(5, 46)),
                "num_labels": 5,
                "d_model": 24,
                "encoder_layers": 2,
                "decoder_layers": 3,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 6,
                "encoder_ffn_dim": 20,
                "decoder_ffn_dim": 28,
                "max_position_embeddings": 16,
            },
            "data": {"layout": "kp63", "max_frames": 12, "normalization": "bbox_ignore_missing"},
        },
        source="tests",
    )
