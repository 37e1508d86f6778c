"""Who may write to a folder."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from signbart import files
from signbart.errors import SignBartError
from signbart.files import (
    UNFINISHED,
    atomic_write,
    folder_lock,
    remove_left_overs,
    temporary_folder,
    write_text,
)
from signbart.recordings.reading import read_clips

# Holds a folder, says so, and waits until its input ends.
HOLDER = """
import sys
from pathlib import Path
from signbart.files import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("end", ["close its input", "kill"])
def test_a_folder_is_held_by_one_process_and_free_when_that_ends(holder, tmp_path, end):
    with (
        pytest.raises(SignBartError, match="another process is writing there"),
        folder_lock(tmp_path),
    ):
        pytest.fail("two processes hold it")
    assert list(tmp_path.iterdir()) == []
    holder.kill() if end == "kill" else holder.stdin.close()
    holder.wait(timeout=30)
    with folder_lock(tmp_path):
        pass


def test_an_error_frees_it(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path):
        1 / 0  # noqa: B018
    with folder_lock(tmp_path):
        pass


def test_what_is_no_folder_cannot_be_held(tmp_path):
    with (
        pytest.raises(SignBartError, match="absent: cannot be opened"),
        folder_lock(tmp_path / "absent"),
    ):
        pass


def test_where_the_system_has_no_locks_nobody_is_kept_out(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with folder_lock(tmp_path):
        write_text(tmp_path / "note.txt", "written")
    assert (tmp_path / "note.txt").read_text() == "written"
    with (
        pytest.raises(SignBartError, match="absent: cannot be opened"),
        folder_lock(tmp_path / "absent"),
    ):
        pass
    # Nor is it a reason not to start.
    program = "import sys; sys.modules['fcntl'] = None; from signbart.files import folder_lock"
    subprocess.run([sys.executable, "-c", program], check=True)


# What is not finished


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path, left_over):
    left = left_over(tmp_path, "clip.npy")
    write_text(tmp_path / "note.txt", "written")
    assert not left.exists() and [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_what_belongs_to_a_living_process_stays(tmp_path):
    with temporary_folder(tmp_path) as folder:
        subprocess.run(
            [sys.executable, "-c", "from signbart.files import *; import sys;"
             "write_text(Path(sys.argv[1]) / 'note.txt', 'written')", tmp_path],
            check=True,
        )  # fmt: skip
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_folder_that_another_process_takes_away_is_made_again(tmp_path, monkeypatch):
    """It was there when it was to be made, and is gone when it is looked at."""
    mkdir, taken = os.mkdir, []

    def there_and_gone(path, *arguments, **options):
        if UNFINISHED in str(path) and not taken:
            taken.append(path)
            raise FileExistsError(errno.EEXIST, "File exists")
        return mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", there_and_gone)
    write_text(tmp_path / "note.txt", "written")
    assert taken and (tmp_path / "note.txt").read_text() == "written"


def test_processes_that_write_to_one_folder_take_nothing_from_each_other(tmp_path, left_over):
    left = left_over(tmp_path, "clip.npy")
    program = (
        "from signbart.files import *; import sys\n"
        "for number in range(60): write_text(Path(sys.argv[1]) / sys.argv[2], str(number))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path, f"{name}.txt"])
        for name in "abcd"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0] and not left.exists()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(
        ("a.txt", "b.txt", "c.txt", "d.txt"), "59"
    )


def test_what_another_machine_left_goes_after_a_day(tmp_path, left_over):
    here = left_over(tmp_path, "clip.npy").parent
    other = here.rename(here.with_name("0000" + here.name[4:]))
    remove_left_overs(tmp_path)
    assert other.is_dir()  # its lock may not reach here
    for path in (other / "clip.npy", other):
        os.utime(path, (0, 0))
    remove_left_overs(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_without_locks_all_left_overs_are_as_another_machines(tmp_path, left_over, monkeypatch):
    left = left_over(tmp_path, "clip.npy")
    monkeypatch.setattr(files, "fcntl", None)
    remove_left_overs(tmp_path)
    assert left.is_file()


def test_nothing_is_removed_through_a_link_or_under_another_name(tmp_path, left_over):
    mine = tmp_path / "mine"
    place = left_over(tmp_path, "clip.npy").parents[1]
    kept = place.rename(mine)
    place.symlink_to(mine)
    with pytest.raises(SignBartError, match="not of this program"):
        write_text(tmp_path / "note.txt", "written")
    place.unlink()
    (tmp_path / place.name).mkdir()
    (tmp_path / place.name / "letters").mkdir()
    (tmp_path / place.name / "0000-abcdefgh").symlink_to(mine)
    write_text(tmp_path / "note.txt", "written")
    assert len([*kept.rglob("clip.npy")]) == 1 and (tmp_path / place.name / "letters").is_dir()


def test_no_reader_sees_what_is_not_finished(tmp_path, left_over):
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "clip.npy", rng.random((4, 543, 2), dtype=np.float32))
        left_over(tmp_path / name, "other.npy")
    left_over(tmp_path, "other.npy")
    clips = read_clips(tmp_path)
    assert len(clips) == 2 and list(clips.class_names) == ["a", "b"]
    assert not any("left out" in note for note in clips.notes)


@pytest.mark.skipif(not Path("/tmp").is_dir(), reason="there is no /tmp")
def test_a_short_one_lies_at_the_top_whatever_is_set(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder(short=True) as folder:
        assert folder.is_dir() and len(str(folder)) < 40  # 67 bytes are left for Ray's sockets
    assert not folder.exists()


def test_the_systems_folder_is_cleared_and_of_this_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.is_relative_to(tmp_path)
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(PermissionError, match="not of this program"), temporary_folder():
        pytest.fail("another user could exchange what is in it")


NOTES = json.dumps([["stolen", "secret"]])  # of a killed process that made one of the other


@pytest.mark.parametrize("parent", ["the system's", "another"])
def test_notes_that_another_user_left_are_not_obeyed(tmp_path, monkeypatch, parent):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    given = tmp_path if parent == "another" else None
    folder = files._place_in(given) / f"{files._machine()}-abcdefgh"
    folder.mkdir(parents=True)
    (folder / "renames.json").write_text(NOTES)
    (tmp_path / "secret").write_text("kept")
    tmp_path.chmod(0o1777)  # as /tmp
    with pytest.raises(PermissionError, match="not of this program"), temporary_folder(given):
        pytest.fail("another user could exchange what is in it")
    assert (tmp_path / "secret").read_text() == "kept" and (folder / "renames.json").is_file()


def test_in_the_systems_folder_no_notes_are_obeyed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "secret").write_text("kept")
    left = files._place_in(None) / f"{files._machine()}-abcdefgh"
    left.mkdir(parents=True)
    (left / "renames.json").write_text(NOTES)
    with temporary_folder() as folder:
        assert not left.exists()
        (folder / "renames.json").write_text(NOTES)
    assert [*tmp_path.iterdir()] == [tmp_path / "secret"]


def test_notes_behind_a_link_are_not_obeyed(tmp_path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "notes").write_text(NOTES)
    with temporary_folder(tmp_path) as folder:
        (folder / "renames.json").symlink_to(tmp_path / "notes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "secret"]


def test_notes_that_lead_to_a_link_to_itself_are_kept_with_their_files(tmp_path, left_over):
    left = left_over(tmp_path, "clip.npy")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    name = str(left.relative_to(tmp_path))
    (left.parent / "renames.json").write_text(json.dumps([["loop/clip.npy", name]]))
    write_text(tmp_path / "note.txt", "written")
    assert left.is_file()
    loop.unlink()
    remove_left_overs(tmp_path)
    assert (tmp_path / "loop" / "clip.npy").is_file() and not left.parent.exists()


def test_a_left_over_that_cannot_be_looked_into_is_not_held(tmp_path, left_over, monkeypatch):
    here = left_over(tmp_path, "clip.npy").parent
    other = here.rename(here.with_name("0000" + here.name[4:]))

    def fail(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(files, "_idle_seconds", fail)
    remove_left_overs(tmp_path)
    with folder_lock(other):
        pass


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "before")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as beside:
        beside.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "before" and [*tmp_path.iterdir()] == [path]
