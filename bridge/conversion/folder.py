"""Where artifacts go: what agrees into the folder, everything else into its ``rejected/``."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bridge.artifact.metadata import read_metadata
from bridge.errors import BridgeError
from bridge.verification.verdict import Verdict
from signbart.files import folder_lock, make_folder

_STAGING = ".making-"


@contextlib.contextmanager
def staging_folder(output: Path) -> Iterator[Path]:
    """Makes `output` and gives a folder in it, which is gone when the block ends.

    So is `output`, if it is new and nothing came into it.

    What is made there can be renamed into `output`. What a killed process left there goes, too.

    Raises:
        SignBartError: The folder cannot be made, or another process writes there.
    """
    new = not output.exists()
    make_folder(output)
    try:
        with folder_lock(output):
            for left_over in output.glob(f"{_STAGING}*"):
                shutil.rmtree(left_over, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=output, prefix=_STAGING) as name:
                yield Path(name)
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty: something was made
                output.rmdir()


def move_by_verdict(beside: Path, output: Path, verdict: Verdict) -> Path | None:
    """Moves an artifact to where its verdict belongs; what an earlier run left there goes.

    Where the route made no file, an earlier run's goes to ``rejected/``: beside a manifest that
    says "failed" it would be taken for this checkpoint's.
    """
    good, bad = output / beside.name, output / "rejected" / beside.name
    if not beside.is_file():
        if good.is_file():
            bad.parent.mkdir(exist_ok=True)
            os.replace(good, bad)
        return None
    target, other = (good, bad) if verdict.passed else (bad, good)
    target.parent.mkdir(exist_ok=True)
    os.replace(beside, target)
    other.unlink(missing_ok=True)
    if verdict.passed:
        bad.with_name(f"repro_{bad.name}.npz").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: another route's artifact was rejected
        (output / "rejected").rmdir()
    return target


def set_others_aside(output: Path, listed: set[str], sha256: str, names: str = "*") -> None:
    """Moves another checkpoint's artifacts to ``rejected/``: the new manifest is not theirs.

    The pictures of an earlier comparison go, for they show other errors than the new report.

    They are files of the pattern `names` that the manifest, which is about the checkpoint of this
    `sha256`, has not `listed`.
    """
    for path in [*output.glob(f"{names}.tflite"), *output.glob(f"{names}.onnx")]:
        if path.name in listed:
            continue
        try:
            same = read_metadata(path)["checkpoint_sha256"] == sha256
        except (BridgeError, KeyError):
            continue  # not this command's
        if not same:
            (output / "rejected").mkdir(exist_ok=True)
            os.replace(path, output / "rejected" / path.name)
    for picture in output.glob(f"parity_{names}.png"):
        picture.unlink()
