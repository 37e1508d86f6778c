"""The way to a Ray cluster, or to a Ray that is started on this machine for the time being."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from signbart.errors import SignBartError
from signbart.files import temporary_folder

_CONNECT = 10.0  # seconds for a cluster's address to answer
_ANSWER = 10.0  # and for its head, when it is asked which machines there are
_SET = ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")  # in the environment
# How a client begins to speak HTTP/2, as Ray's do, and how whoever serves it answers: by a frame of
# settings, whose fourth byte is its type (RFC 9113, 3.4 and 6.5).
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
_TOKEN = Path("~/.ray/auth_token")  # where Ray keeps the secret of a cluster


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what a task takes of it.

    Attributes:
        address: HOST:PORT of its head, or ``auto`` for the one that this machine belongs to; None
            starts a Ray on this machine, and ends it.
        cpus: Cores a task, of which frameworks use as many threads.
        gpus: GPUs a task, or shares of one.
    """

    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0

    def room_on(self, machine: Mapping[str, float]) -> int:
        """How many tasks a machine of these resources can run at a time."""
        needed = {"CPU": self.cpus, "GPU": self.gpus}
        return min(int(machine.get(name, 0) / each) for name, each in needed.items() if each)


@contextmanager
def connected(cluster: Cluster, jobs: int | None) -> Iterator[ModuleType]:
    """Ray, connected to a cluster, until the block ends.

    Args:
        cluster: Which one.
        jobs: Tasks at a time, for a Ray of this machine alone; None: as many as it has cores.

    Raises:
        SignBartError: It cannot be reached.
    """
    with ExitStack() as stack:
        stack.enter_context(_environment_kept())
        # Read when Ray is imported. Nothing is to leave this machine.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if cluster.address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", _secret())
            options = {
                "address": "local",
                "num_cpus": jobs and jobs * cluster.cpus,
                "include_dashboard": False,
                # A killed command's goes with the next one.
                "_temp_dir": str(stack.enter_context(temporary_folder(short=True))),
            }
        else:
            _require_head(cluster.address)
            tokens = os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
            if tokens or _TOKEN.expanduser().is_file():
                os.environ.setdefault("RAY_AUTH_MODE", "token")
            options = {"address": cluster.address}
        import ray

        # It may have been imported when the environment said nothing of tokens.
        ray._raylet.Config.initialize("")
        # No option keeps what Ray says of dead workers from stdout; `cluster._why` says it.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        try:
            with _sigterm_kept():
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except Exception as error:  # Ray raises plain ones, too, as of a start that took too long
            where = cluster.address or "on this machine"
            remedy = "see docs/scaling.md"
            if cluster.address:
                remedy = f"this machine must be one of the cluster's and have its token, {remedy}"
            raise SignBartError(
                f"Ray {where}: cannot be used: {last_line(error)}; {remedy}"
            ) from error
        stack.callback(ray.shutdown)
        yield ray


def machines(ray: ModuleType) -> list[Mapping[str, float]]:
    """What each machine of the cluster has of every resource.

    `ray.nodes` would wait a minute for a head that is gone, and then end this process.

    Raises:
        RayError: The head does not answer.
    """
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    head = ray._private.worker.global_worker.gcs_client
    found = head.get_all_node_info(timeout=_ANSWER, state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
    return [machine.resources_total for machine in found.values()]


@cache
def _secret() -> str:
    """Of every Ray that this process starts: Ray reads it once in a process."""
    return secrets.token_hex(32)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Takes from the environment what was set in the block: the secret of a Ray that has ended."""
    before = {name: os.environ.get(name) for name in _SET}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keeps who is called at SIGTERM: Ray would end the process by an exit status of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _require_head(address: str) -> None:
    """Raises SignBartError unless a Ray head may answer there; Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise SignBartError(f"--address {address}: expected HOST:PORT of a Ray head, or auto")
    encrypted = os.environ.get("RAY_USE_TLS", "0").lower() not in ("", "0", "false")
    try:
        with socket.create_connection((host, int(port)), _CONNECT) as connection:
            if encrypted:
                return
            connection.sendall(_GREETING)
            answer = connection.makefile("rb").read(len(_SETTINGS))
    except (OSError, OverflowError) as error:
        raise SignBartError(
            f"--address {address}: no Ray head answers there: {error}; start one with "
            f"'ray start --head --port {port}', or see whether a firewall is between"
        ) from None
    if answer[3:4] != _SETTINGS[3:4]:
        raise SignBartError(
            f"--address {address}: what answers there is no Ray head; 'ray start --head' prints "
            "the address of one"
        )


def last_line(error: BaseException) -> str:
    """What an error of Ray's says in the end: before it stands where."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
