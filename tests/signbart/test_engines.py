"""Workers end with the process that started them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Starts a pool of one worker, says which, and waits for a result that will not come.
PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from signbart.engines import start_worker

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=start_worker) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # ended, if nobody has asked how


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_workers_end_with_their_parent(tmp_path, end):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    worker = int(parent.stdout.readline())
    assert is_running(worker)
    parent.send_signal(end)
    assert parent.wait(timeout=30) == -end
    deadline = time.monotonic() + 30
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker), "it would have slept for ten minutes"
