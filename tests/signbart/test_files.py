"""Who may write to a folder."""

import subprocess
import sys

import pytest

from signbart import files
from signbart.errors import SignBartError
from signbart.files import folder_lock, write_text

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
