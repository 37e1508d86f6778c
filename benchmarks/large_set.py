"""``python -m benchmarks.large_set FOLDER``: a set of 100,000 clips, read, packed and trained on.

Makes clips of 40 frames and 75 landmarks, a pose a sign and noise about it, in a large set and in a
small one; then runs the project's own commands on both. A command's memory is its peak resident set
as the system counts it: pages of mapped files that are resident belong to it.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signbart.console import at_least, print_table, run_command
from signbart.files import make_folder
from signbart.waiting import track

_FRAMES, _LANDMARKS, _SIGNS = 40, 75, 100
SIGNERS = 50
_BLOCK = 1000  # clips that are made together
_TRAINING = (
    "--config", "configs/demo.yaml", "--device", "cpu", "--set", "data.layout=kp75",
    "--set", f"data.max_frames={_FRAMES}", "--set", "model.d_model=48",
)  # fmt: skip


def make_set(path: Path, count: int) -> None:
    """Writes `count` clips as a packed file that is mapped when it is read; a block in memory."""
    rng = np.random.default_rng(0)
    poses = rng.integers(1000, 9000, (_SIGNS, 1, _LANDMARKS, 2))
    labels = rng.permutation(np.arange(count) % _SIGNS).astype(np.int16)
    columns = {
        "scale": np.float32(1e-4),
        "offsets": np.arange(count + 1) * _FRAMES,
        "label": labels,
        "signer": (np.arange(count) % SIGNERS).astype(np.int16),
        "class_names": np.array([f"sign{at}" for at in range(_SIGNS)]),
        "signer_names": np.array([f"s{at}" for at in range(SIGNERS)]),
    }
    shape = (count * _FRAMES, _LANDMARKS, 2)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("kp_q.npy", "w", force_zip64=True) as file:
            header = {"descr": "<i2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in track(range(0, count, _BLOCK), "making"):
                chosen = poses[labels[start : start + _BLOCK]]
                noise = rng.integers(-400, 400, (len(chosen), _FRAMES, _LANDMARKS, 2))
                file.write((chosen + noise).astype("<i2").tobytes())
        for name, array in columns.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asanyarray(array))


def run_measured(*arguments: str) -> tuple[float, float]:
    """Runs a module of the project; its seconds, and its peak resident memory in GB.

    Raises:
        CalledProcessError: It failed.
    """
    command = [sys.executable, "-m", *arguments]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - begun, usage.ru_maxrss * 1024 / 1e9  # Linux counts in KiB


def epochs_of(run: Path) -> list[float]:
    """Seconds of each epoch of a run, training and validation."""
    with open(run / "summary.csv", encoding="utf-8") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def main(argv: Sequence[str] | None = None) -> int:
    """Makes both sets and prints what reading, packing and training took."""
    parser = argparse.ArgumentParser(description=main.__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", help="receives the sets and runs; 3 GB")
    parser.add_argument("--clips", type=at_least(200), default=100_000, metavar="N")
    parser.add_argument("--small", type=at_least(200), default=2_000, metavar="N")
    options = parser.parse_args(argv)
    folder = Path(options.folder)
    make_folder(folder)
    rows = []
    for name, count, epochs in (("small", options.small, 6), ("large", options.clips, 1)):
        data, narrow = folder / f"{name}.npz", folder / f"{name}_kp65.npz"
        make_set(data, count)
        size = data.stat().st_size / 1e9
        seconds, peak = run_measured("signbart.clips", "info", str(data))
        rows.append((f"info, {name}", count, f"{size:.2f}", f"{seconds:.1f}", f"{peak:.2f}", ""))
        seconds, peak = run_measured(
            "signbart.clips", "pack", str(data), str(narrow), "--layout", "kp65", "--force",
        )  # fmt: skip
        size = narrow.stat().st_size / 1e9
        rows.append((f"pack, {name}", count, f"{size:.2f}", f"{seconds:.1f}", f"{peak:.2f}", ""))
        run = folder / f"run_{name}_{time.time_ns()}"
        seconds, peak = run_measured(
            "signbart_torch.train", "--data", str(data), "--output", str(run), *_TRAINING,
            "--set", f"train.epochs={epochs}",
        )  # fmt: skip
        per_clip = f"{1000 * np.median(epochs_of(run)) / count:.3f}"
        size = data.stat().st_size / 1e9
        row = (f"train, {name}", count, f"{size:.2f}", f"{seconds:.1f}", f"{peak:.2f}", per_clip)
        rows.append(row)
    columns = ("", "clips", "GB on disk", "seconds", "peak GB", "ms a clip of an epoch")
    print_table("", columns, rows)
    return 0


if __name__ == "__main__":
    run_command(main)
