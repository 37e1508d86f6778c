"""A folder of artifacts is one conversion's, wholly, or says that it is none's; whatever kills one.

Files are a few bytes here: what is tried is in which order they move.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from bridge.conversion.folder import Change, recover, staging_folder
from bridge.errors import BridgeError
from bridge.verification.verdict import FAILED, PASS, WRONG, Verdict
from signbart.artifacts.completeness import MANIFEST, RESULTS, require_complete
from signbart.errors import ArtifactError
from signbart.files import file_sha256, temporary_folder
from signbart.renames import undo_renames
from signbart_runtime.book.reading import read_run
from signbart_runtime.describe import describe
from signbart_runtime.evaluation.opened import open_model
from signbart_runtime.web.site import choose_model

# What two conversions make. The first leaves a rejected file, which the second makes well, and a
# file of a route that then fails; "page.md" stands for the other papers.
FIRST = {"a.tflite": PASS, "b.tflite": WRONG, "c.onnx": PASS}
SECOND = {"a.tflite": WRONG, "b.tflite": PASS, "c.onnx": FAILED, "d.tflite": PASS}
OWN = "the user's.txt"
STEPS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")  # and opening to write


def convert(output: Path, name: str, verdicts: dict[str, str]) -> None:
    """A conversion that takes no time."""
    with staging_folder(output) as folder:
        change = Change(output, folder)
        entries = []
        for file, verdict in verdicts.items():
            if verdict != FAILED:
                (folder / file).write_text(f"{name}: {file}")
            path = change.place(folder / file, Verdict(file, verdict))
            if path is not None:
                where = str(path.relative_to(change.made))
                entries.append({"file": where, "sha256": file_sha256(path)})
        (change.made / "page.md").write_text(name)
        manifest = {"name": name, "page": name, "artifacts": entries, "filling": "x" * 1000}
        (change.made / MANIFEST).write_text(json.dumps(manifest))
        change.commit(MANIFEST)


def state(output: Path) -> str:
    """Whose the folder wholly is; '' where it says that it is nobody's. Fails where it lies."""
    assert (output / OWN).read_text() == "kept"
    try:
        require_complete(output / "a.tflite")
    except ArtifactError as error:
        assert MANIFEST in str(error) and "convert again into this folder" in str(error)
        return ""
    manifest = json.loads((output / MANIFEST).read_text())
    for entry in manifest["artifacts"]:
        assert file_sha256(output / entry["file"]) == entry["sha256"]
    assert (output / "page.md").read_text() == manifest["name"]
    listed = {entry["file"] for entry in manifest["artifacts"]}
    others = {"rejected/c.onnx"} if manifest["name"] == "second" else set()  # of a failed route
    shown = [p for p in output.rglob("*.*") if p.is_file() and p.suffix in (".tflite", ".onnx")]
    found = {str(path.relative_to(output)) for path in shown if "/." not in str(path)}
    assert found == listed | others
    return manifest["name"]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def output(tmp_path) -> Path:
    """A folder with the first conversion, and a file of the user's."""
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / OWN).write_text("kept")
    convert(folder, "first", FIRST)
    assert state(folder) == "first"
    return folder


def convert_again(output: Path) -> None:
    convert(output, "second", SECOND)


def put_back(output: Path) -> None:
    with staging_folder(output):
        pass


@pytest.fixture(scope="module")
def killed_at():
    """`killed_at(step, output, command)`: see `_killed_at`, in a process that is small.

    A fork copies the tables of all memory: that of a process with the frameworks takes 0.1 s.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as small:
        yield lambda *given: small.submit(_killed_at, *given).result()


def _killed_at(step: int, output: Path, command: Callable[[Path], None] = convert_again) -> bool:
    """Whether a command is killed; before the step of that number that files take."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, arguments: tuple) -> None:
            nonlocal left
            if event in STEPS or (event == "open" and arguments[2] & os.O_ACCMODE != os.O_RDONLY):
                left -= 1
                if left == -1:  # to kill is an event, too
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            command(output)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_killed_before_any_step_it_tells_whose_the_folder_is(output, tmp_path, killed_at):
    kept, seen = tmp_path / "kept", Counter()
    output.rename(kept)
    step = 0
    while True:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(kept, output)
        if not killed_at(step, output):
            break
        seen[state(output)] += 1
        if not step % 3:
            convert(output, "second", SECOND)  # with no hand's help
            assert state(output) == "second" and not list(output.glob(".*")), step
        step += 1
    print(seen)
    assert seen["first"] > 20 and seen["second"] > 0 and seen[""] > 10


def test_whoever_comes_next_puts_back_what_a_killed_one_was_exchanging(output, tmp_path, killed_at):
    """Also a command that cannot make the rest again, as one that quantizes a single file."""
    before, kept, put_back = files(output), tmp_path / "kept", 0
    output.rename(kept)
    step = 0
    while True:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(kept, output)
        if not killed_at(step, output):
            break
        if state(output) == "":
            recover(output / ("a.tflite" if step % 2 else "rejected/b.tflite"))
            assert state(output) == "first" and files(output) == before, step
            put_back += 1
        step += 1
    assert put_back > 10


@pytest.mark.parametrize("former", ["first", ""])
def test_putting_back_may_be_killed_at_any_step_too(output, tmp_path, killed_at, former):
    """And whoever comes after that puts back the rest; there may have been no conversion before."""
    if not former:
        shutil.rmtree(output)
        output.mkdir()
        (output / OWN).write_text("kept")
    before, kept, killed, seen = files(output), tmp_path / "kept", [], Counter()
    output.rename(kept)
    step = 0
    while True:
        folder = tmp_path / f"killed {step}"
        shutil.copytree(kept, folder)
        if not killed_at(step, folder):
            break
        if [*folder.glob(".*/*/renames.json")]:
            killed.append(folder)
        step += 1
    assert len(killed) > 8
    for folder in (killed[0], killed[len(killed) // 2], killed[-1]):
        step = 0
        while True:
            shutil.rmtree(output, ignore_errors=True)
            shutil.copytree(folder, output)
            if not killed_at(step, output, put_back):
                break
            if former:
                seen[state(output)] += 1
            elif not (output / MANIFEST).is_file():
                seen[""] += 1
                assert not [*output.glob("*.tflite")], (folder, step)
            put_back(output)
            assert set(files(output)) - {"rejected"} == set(before) - {"rejected"}, (folder, step)
            assert not former or state(output) == former, (folder, step)
            step += 1
    print(seen)
    assert seen[""] > 10


def test_notes_of_renames_reach_no_file_elsewhere(tmp_path):
    """A folder of others may hold any; these are as those of a killed process would be."""
    outside, folder = tmp_path / "outside", tmp_path / "exports"
    outside.write_text("kept")
    folder.mkdir()
    with temporary_folder(folder) as own:
        (folder / "link").symlink_to(tmp_path)
        for was, now in (
            ("stolen", "../outside"), ("../lost", "mine"), ("stolen", str(outside)),
            ("stolen", "link/outside"), ("link/lost", "mine"),
        ):  # fmt: skip
            (folder / "mine").write_text("mine")
            (own / "renames.json").write_text(json.dumps([[was, now]]))
            assert undo_renames(own)
    assert outside.read_text() == "kept" and files(folder) == ["link", "mine"]


def test_a_failure_leaves_the_former_one_whole(output, tmp_path, monkeypatch):
    before, rename = files(output), os.replace
    for step in range(100):
        left = step

        def refuse(source, target):
            nonlocal left
            left -= 1
            if left == -1:
                raise OSError(28, "No space left on device", str(target))
            rename(source, target)

        monkeypatch.setattr(os, "replace", refuse)
        try:
            convert(output, "second", SECOND)
        except BridgeError as error:
            assert "stays as it was: " in str(error) and "No space left" in str(error)
        except OSError:
            pass  # while it was still making files
        else:
            break
        assert state(output) == "first" and files(output) == before, step
    assert step > 10 and state(output) == "second"


def test_an_interruption_leaves_the_former_one_whole(output, monkeypatch):
    rename = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: interrupt() if str(b).endswith("d.tflite") else rename(a, b)
    )

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(output, "second", SECOND)
    assert state(output) == "first"


def test_a_folder_in_an_artifacts_place_is_refused_and_nothing_moves(output):
    (output / "d.tflite").mkdir()
    with pytest.raises(BridgeError, match=r"stays as it was: .*d\.tflite"):
        convert(output, "second", SECOND)
    (output / "d.tflite").rmdir()
    assert state(output) == "first"


def test_every_reader_refuses_what_may_be_of_two_conversions(output, tmp_path, killed_at):
    (output / MANIFEST).unlink()
    fold = tmp_path / "run" / "S01" / "exports"
    fold.parent.mkdir(parents=True)
    output.rename(fold)
    step = 0
    while killed_at(step, fold) and not (fold / MANIFEST).is_file():
        step += 1
    for read in (
        lambda: open_model(fold / "a.tflite"),
        lambda: describe(fold / "rejected" / "b.tflite"),
        lambda: choose_model(fold),
        lambda: read_run(tmp_path / "run"),
    ):
        with pytest.raises(ArtifactError, match="may be of two conversions"):
            read()


@pytest.mark.parametrize("text", ["", "[]", "3", '"incomplete"', "{", "[" * 900, '{"name": "x"}'])
def test_another_programs_manifest_is_no_reason_to_refuse(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    require_complete(tmp_path / "a.tflite")
    require_complete(tmp_path)


def test_the_other_commands_list_goes_where_a_file_of_it_goes(output):
    (output / RESULTS).write_text(json.dumps({"models": {"x": {"path": "exports/a.tflite"}}}))
    convert(output, "second", SECOND)
    assert not (output / RESULTS).exists() and (output / "rejected" / RESULTS).is_file()
    (output / RESULTS).write_text(json.dumps({"models": {"x": {"path": "exports/z.tflite"}}}))
    convert(output, "first", FIRST)
    assert (output / RESULTS).is_file()
