"""Machines of a Ray cluster as nodes on loopback, which can be killed as a machine dies."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

# Not 127.0.0.1, for which Ray takes the machine's address.
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
STORE = 80_000_000  # bytes of a node's object store; Ray takes no less than 75 MB


def processes_of(session: int) -> dict[int, str]:
    """Number -> command of what runs in a session."""
    found = {}
    for number in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            # Asked often, of all that run: nothing of the others is read.
            if os.getsid(number) == session:
                folder = Path("/proc", str(number))
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found[number] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def workers_of(session: int) -> list[int]:
    """The processes of a node that run a task."""
    return [n for n, command in processes_of(session).items() if command.startswith("ray::_perf")]


def kill(session: int) -> None:
    """Ends all that runs in a session, as a machine that loses its power."""
    while found := processes_of(session):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen | None = None, seconds: float = 60.0
) -> None:
    """Waits for it, as long as the process runs.

    Raises:
        RuntimeError: It did not come to that.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}: {process.communicate()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s")
        time.sleep(0.05)


def cluster_environment(**others: str) -> dict[str, str]:
    """Of the nodes and commands of a cluster, with a token of its own."""
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",  # of what is compared to the last bit
        # A machine that says nothing for a second is gone.
        "RAY_health_check_initial_delay_ms": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "2",
        **others,
    }


class Nodes:
    """Nodes of one cluster with a core each.

    Args:
        environment: Of `cluster_environment`.
        stack: Ends them.
    """

    def __init__(self, environment: Mapping[str, str], stack: contextlib.ExitStack):
        self.environment, self.stack = environment, stack
        with socket.socket() as free:
            free.bind((HEAD, 0))
            self.address = f"{HEAD}:{free.getsockname()[1]}"

    def start_head(self, **options: object) -> int:
        """Starts the head, again where it was killed; its session."""
        host, port = self.address.split(":")

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return True
            return False

        head = self.start(
            "--head", f"--port={port}", "--include-dashboard=false", host=HEAD, **options
        )
        wait_until(answers)
        return head

    def join(self, host: str | None = OTHER, **options: object) -> int:
        """Starts a further node, of the machine's own address with `host` None; its session."""
        return self.start(f"--address={self.address}", host=host, **options)

    def start(
        self,
        *options: str,
        host: str | None,
        store: int = STORE,
        within: Sequence[str] = (),
        folder: str | None = None,
    ) -> int:
        """Starts a node; its session.

        Args:
            options: Further ones of ``ray start``.
            host: Its address.
            store: Bytes of its object store.
            within: A command that runs the one behind it.
            folder: Of Ray's own files; by default one that is removed at the end.
        """
        # Short: Ray's sockets lie there.
        folder = folder or self.stack.enter_context(
            tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True)
        )
        command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += [f"--temp-dir={folder}", "--num-cpus=1", f"--object-store-memory={store}"]
        command += [f"--node-ip-address={host}"] if host else []
        node = subprocess.Popen(
            [*command, *options],
            env=self.environment,
            cwd=folder,  # what it imports is the tasks', not this folder's
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.stack.callback(node.wait)
        self.stack.callback(kill, node.pid)
        return node.pid


@contextlib.contextmanager
def two_nodes(environment: Mapping[str, str]) -> Iterator[tuple[str, list[int]]]:
    """The address of a cluster of two nodes, and their sessions; ends both."""
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        yield nodes.address, [nodes.start_head(), nodes.join()]
