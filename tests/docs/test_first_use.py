"""The README as a script: its commands in order, run by somebody who opens no other page.

In a fresh copy of the tracked files, with an environment that stands already, and on recordings
that nothing of this project wrote: a folder a sign of .npy. `pages` says what is filled in and
shortened.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from signbart.recordings.reading import read_clips
from tests.docs.conftest import environment, run_line
from tests.docs.pages import OWN, PAGES, REPOSITORY, Block, Command, commands, id_of, steps
from tests.signbart.video import conftest as video
from tests.signbart_runtime.web import conftest as web

wheel = video.wheel
chromium, camera_file, launch, browser = web.chromium, web.camera_file, web.launch, web.browser
RUNNING = "#screen[data-state=running]"
SIGNS = ("coffee", "hello", "idle", "large", "medium", "no", "small", "tea", "thank-you", "yes")


class Newcomer:
    """A checkout, recordings beside it, and what the commands said."""

    def __init__(self, folder: Path):
        self.folder, self.said = folder, {}
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True)
        if listed.returncode:
            pytest.skip("no git checkout, which alone knows what a fresh one holds")
        for name in filter(None, listed.stdout.decode().split("\0")):
            if os.path.lexists(REPOSITORY / name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name, follow_symlinks=False)
        (folder / ".venv").symlink_to(sys.prefix)

    def follow(self, step: Command | Block) -> str:
        """Runs a command or a snippet of the README; what it printed."""
        if isinstance(step, Block):
            (self.folder / "snippet.py").write_text(step.text, encoding="utf-8")
            line = "python snippet.py"
        else:
            line = step.to_run(OWN)
        self.said[line] = run_line(line, self.folder, self.folder)
        return self.said[line]

    @contextmanager
    def page(self, line: str) -> Iterator[str]:
        """The address of the page that a command serves."""
        serving = subprocess.Popen(
            ["bash", "-c", f"exec {line} --port 0 --no-browser"],
            cwd=self.folder, env=environment(self.folder), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            told = [serving.stdout.readline(), serving.stdout.readline()]
            yield re.search(r"http://127\.0\.0\.1:\d+/", told[1])[0]
        finally:
            serving.terminate()
            serving.wait(timeout=30)


def write_own_recordings(archive: Path, root: Path) -> None:
    """``ROOT/SIGN/userNN_RN.npy`` of a packed data set, as somebody writes them who has NumPy."""
    with np.load(archive) as kept:
        points, ends = kept["kp_q"] * kept["scale"], kept["offsets"]
        for at, (sign, signer) in enumerate(zip(kept["label"], kept["signer"], strict=True)):
            folder = root / str(kept["class_names"][sign])
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"user{signer + 1:02}_R{kept['rep'][at]}.npy"
            np.save(path, points[ends[at] : ends[at + 1]].astype(np.float32))


def answers(printed: str) -> list[str]:
    """The signs that `classify` named, the surest first."""
    return re.findall(r"^(\S+) +\d+\.\d\d%$", printed, re.MULTILINE)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory) -> Newcomer:
    return Newcomer(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="module")
def recordings(newcomer, asl10_pose_hands) -> Path:
    (archive,) = asl10_pose_hands.glob("*.npz")
    write_own_recordings(archive, newcomer.folder / OWN["RECORDINGS"])
    return newcomer.folder / OWN["RECORDINGS"]


def test_the_shipped_example_names_the_sign(newcomer):
    """Of make test as well; `benchmarks.startup` tells how long it takes."""
    told = [c for c in commands("README.md") if "signs.npz" in c.text and "demo/" not in c.text]
    making, classifying = told
    newcomer.follow(making)
    first, *_ = answers(newcomer.follow(classifying))
    clips = read_clips(newcomer.folder / "signs.npz")
    assert first == clips.class_names[clips.clips[0].label]


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize("step", steps(PAGES[:1]), ids=id_of)
def test_it_runs(step, newcomer, request):
    text = step.text if isinstance(step, Block) else step.filled(OWN)
    if OWN["RECORDINGS"] in text:
        request.getfixturevalue("recordings")
    if "mediapipe-" in text:
        package = request.getfixturevalue("wheel")
        (newcomer.folder / package.name).symlink_to(package)
    if "signbart_runtime.web" not in text:
        newcomer.follow(step)
        return
    camera = request.getfixturevalue("browser")
    with newcomer.page(text) as address, camera.new_context(permissions=["camera"]) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.click("#camera")
        page.wait_for_selector(RUNNING)
        page.wait_for_selector("#seen li[data-seen=true]")
        page.wait_for_selector("#top-five .share:not(:empty)")
        seen = page.locator("#seen li[data-seen=true]").all_inner_texts()
        assert {"Body", "Face"} <= set(seen)
        assert any(sign in page.inner_text("#top-five") for sign in SIGNS)


@pytest.mark.docs
@pytest.mark.slow
def test_the_own_signs_are_told_apart(newcomer, recordings):
    """By what the commands above printed: which training fits, and which sign a recording shows."""
    assert "configs/kp75.yaml --data mine" in newcomer.said["python -m signbart.clips info mine"]
    (printed,) = (said for line, said in newcomer.said.items() if OWN["CLIP"] in line)
    named = answers(printed)
    assert len(named) == 5 and set(named) < set(SIGNS)
    assert sorted(folder.name for folder in recordings.iterdir()) == list(SIGNS)
