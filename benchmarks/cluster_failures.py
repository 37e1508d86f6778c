"""``python -m benchmarks.cluster_failures``: what comes of a cluster's failures, each really made.

Folds of a small training on synthetic signs, by ``signbart_torch.loso --engine ray``, on nodes on
loopback. After each failure the same command goes on with ``--resume``, and its models are compared
with those of a serial run. ``disk`` and ``store`` mount small file systems, which takes root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.loopback import Nodes, cluster_environment, kill, wait_until, workers_of
from signbart.console import at_least, run_command

_OVERRIDES = ("train.epochs=40", "model.d_model=32", "data.max_frames=16")
_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
_SIGNERS = ("P01", "P02", "P03", "P04")


class Folds:
    """Folds of one training, whose files lie in a folder.

    Args:
        folder: The folder.
        environment: Of the commands.
        repetitions: Of each sign by each signer.
    """

    def __init__(self, folder: Path, environment: dict[str, str], repetitions: int = 2):
        from signbart.recordings.packed import write_packed
        from signbart.synthetic.signs import make_clips

        self.environment, self.output = environment, folder / "folds"
        self.data, self.serial = folder / "signs.npz", folder / "serial"
        folder.mkdir(parents=True, exist_ok=True)
        write_packed(
            make_clips(num_classes=4, num_signers=4, repetitions=repetitions, seed=0), self.data
        )

    def start(self, *options: str, output: Path | None = None) -> subprocess.Popen:
        """Starts the command, which goes on with what is there."""
        command = [sys.executable, "-m", "signbart_torch.loso", "--config", str(_CONFIG)]
        command += ["--data", str(self.data), "--output", str(output or self.output)]
        command += ["--device", "cpu", "--resume", *options]
        for override in _OVERRIDES:
            command += ["--set", override]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def on(self, nodes: Nodes) -> subprocess.Popen:
        """Starts it on a cluster."""
        return self.start("--engine", "ray", "--address", nodes.address)

    def begun(self) -> int:
        """How many folds have something to lose."""
        return len([*self.output.glob("*/last.safetensors")])

    def equal(self) -> int:
        """How many folds have the serial run's model, to the last bit; makes that run."""
        from signbart_torch.training.checkpoint import load_checkpoint

        tell("serial", self.start(output=self.serial))
        count = 0
        for signer in _SIGNERS:
            one, other = (
                load_checkpoint(folder / signer / "best.safetensors").tensors
                for folder in (self.output, self.serial)
            )
            count += all(one[name].equal(other[name]) for name in one)
        return count


def tell(what: str, process: subprocess.Popen, timeout: float = 300.0) -> str:
    """Waits for a command; says how it ended."""
    began = time.monotonic()
    try:
        printed, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    said = [line for line in printed.splitlines() if line.startswith("error")]
    print(
        f"{what}: status {process.returncode} after {time.monotonic() - began:.1f} s"
        + "".join(f"\n    {line}" for line in said),
        flush=True,
    )
    return printed


def kills(folder: Path, count: int) -> None:
    """Kills a process that trains, again and again; where a fold is given up, starts anew."""
    environment = cluster_environment()
    folds = Folds(folder, environment)
    killed, given_up, last = 0, 0, 0
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        head = nodes.start_head()
        process = folds.on(nodes)
        while process.poll() is None or killed < count:
            if process.poll() is not None:
                if process.returncode == 0:
                    break
                given_up += 1
                print(tell("given up", process).splitlines()[-1], flush=True)
                process = folds.on(nodes)
            time.sleep(0.2)
            newest = max(
                (path.stat().st_mtime_ns for path in folds.output.glob("*/last.safetensors")),
                default=0,
            )
            if killed < count and newest > last:  # it got somewhere
                last = newest
                for worker in workers_of(head):
                    os.kill(worker, signal.SIGKILL)
                    killed += 1
                wait_until(lambda: not workers_of(head))
        tell("folds", process)
    print(f"{killed} processes killed, {given_up} times the same command started anew")
    print(f"{folds.equal()} of {len(_SIGNERS)} folds equal to a serial run")


def head(folder: Path, count: int) -> None:
    """Kills the head while the command lives, on another node, and starts it again at once."""
    environment = cluster_environment()
    folds = Folds(folder, environment)
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        first = nodes.start_head()
        other = nodes.join(host=None)
        process = folds.on(nodes)
        wait_until(folds.begun, process)
        kill(first)
        nodes.start_head()
        tell("the head killed and started again", process)
        kill(other)
        nodes.join(host=None)
        tell("the same command", folds.on(nodes))
    print(f"{folds.equal()} of {len(_SIGNERS)} folds equal to a serial run")


def disk(folder: Path, count: int) -> None:
    """A node that does not see the run folder, and has a disk of 300 kB for what it makes."""
    environment = cluster_environment()
    folds = Folds(folder, environment)
    folds.output.parent.joinpath("small").mkdir()
    # Over the run folder an empty one, in this node's eyes alone.
    folds.output.mkdir()
    mounts = (
        f"mount -t tmpfs -o size=1m none {folds.output} && "
        f"mount -t tmpfs -o size=300k none {folder}/small && "
        f'TMPDIR={folder}/small exec "$@"'
    )
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        nodes.start_head()
        small = nodes.join(within=["unshare", "--mount", "sh", "-c", mounts, "sh"])
        process = folds.on(nodes)
        tell("a full disk on one node", process)
        kill(small)
        nodes.join()
        tell("the same command, with a node that has room", folds.on(nodes))
    print(f"{folds.equal()} of {len(_SIGNERS)} folds equal to a serial run")


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[str]:
    """A folder on a disk of so many bytes."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def store(folder: Path, count: int) -> None:
    """An object store of 80 MB for more of recordings, and a disk that cannot take the rest."""
    environment = cluster_environment()
    folds = Folds(folder, environment, repetitions=300)
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        nodes.start_head(folder=stack.enter_context(small_disk("60m")))
        tell("an object store of 80 MB and a disk of 60 MB, the head's", folds.on(nodes))
    with contextlib.ExitStack() as stack:
        nodes = Nodes(environment, stack)
        nodes.start_head(store=600_000_000)
        nodes.join(folder=stack.enter_context(small_disk("60m")))
        tell("the same, another node's", folds.on(nodes))


FAILURES: dict[str, Callable[[Path, int], None]] = {
    function.__name__: function for function in (kills, head, disk, store)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster_failures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("failures", nargs="*", choices=[*FAILURES, []], metavar="FAILURE")
    parser.add_argument("--kills", type=at_least(1), default=20, help="default: %(default)s")
    options = parser.parse_args(arguments)
    for name in options.failures or FAILURES:
        print(f"== {name}: {FAILURES[name].__doc__}", flush=True)
        with tempfile.TemporaryDirectory(prefix="failures-") as folder:
            FAILURES[name](Path(folder), options.kills)
    return 0


if __name__ == "__main__":
    run_command(main)
