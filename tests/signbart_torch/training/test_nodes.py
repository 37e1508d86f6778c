"""Several machines train one model: two nodes on loopback, each a torchrun and its process."""

import csv
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml

from signbart.errors import ConfigError, SignBartError
from signbart.recordings.packed import write_packed
from signbart.recordings.reading import read_clips
from signbart_torch.training.checkpoint import load_checkpoint
from signbart_torch.training.learner import train
from signbart_torch.training.workers import Workers, naming_lost_workers, require_same

REPOSITORY = Path(__file__).resolve().parents[3]
EPOCHS = 20


@pytest.fixture(scope="module")
def together(tiny_clips, tiny_config, tmp_path_factory):
    """A folder with recordings, and what is trained: nothing random but the batches."""
    folder = tmp_path_factory.mktemp("together")
    write_packed(tiny_clips, folder / "tiny.npz")
    still = {
        name: 0.0
        for name in ("dropout", "activation_dropout", "attention_dropout", "classifier_dropout")
    }
    config = dataclasses.replace(
        tiny_config,
        model=dataclasses.replace(tiny_config.model, **still),
        # 18 clips in batches of 17: shares of 9 and 8, each in two parts, then a batch that leaves
        # one process without.
        train=dataclasses.replace(
            tiny_config.train, epochs=EPOCHS, batch_size=17, mixup=0.4, ema=0.5, accumulate=2
        ),
    )
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return folder, config


def start_node(folder: Path, rank: int, port: int, *options: str) -> subprocess.Popen:
    """What a user starts on each of two machines."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank),
        "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port),
        "-m", "signbart_torch.train", "--config", "tiny.yaml", "--data", "tiny.npz",
        "--output", "two", "--test-signers", "dan", "--device", "cpu", *options,
    ]  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"
    }  # fmt: skip
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def switch_off(node: subprocess.Popen) -> None:
    """Ends the processes of a node at once, those that torchrun started too."""
    started = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    for process in (node.pid, *map(int, started)):
        os.kill(process, signal.SIGKILL)


def losses(run: Path) -> dict[str, list[float]]:
    with open(run / "summary.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in ("lr", "train_loss", "val_loss")}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes as Linux does")
@pytest.mark.timeout(150)
def test_two_nodes_train_as_one_process_does_and_go_on_after_one_died(together):
    folder, config = together
    port = free_port()
    first, second = (start_node(folder, rank, port) for rank in (0, 1))
    try:
        lines = []
        for line in first.stdout:
            lines.append(line)
            if line.startswith(f"epoch 1/{EPOCHS} "):
                switch_off(second)
                break
        lines += first.communicate(timeout=100)[0].splitlines(keepends=True)
    finally:
        for node in (first, second):
            node.kill()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert first.returncode != 0, "it went on alone"
    assert "a process that trained along is gone" in error and "--resume" in error
    assert 1 <= load_checkpoint(folder / "two" / "last.safetensors").progress["epoch"] < EPOCHS

    port = free_port()
    nodes = [start_node(folder, rank, port, "--resume") for rank in (0, 1)]
    try:
        outputs = [node.communicate(timeout=100)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert f"epoch {EPOCHS}/{EPOCHS} " in outputs[0] and "epoch " not in outputs[1], "one reports"
    assert f"epoch 1/{EPOCHS} " not in outputs[0], "a finished epoch was repeated"

    whole = dataclasses.replace(config, train=dataclasses.replace(config.train, accumulate=1))
    clips = read_clips(folder / "tiny.npz")
    train(clips, whole, folder / "one", test_signers=["dan"], device="cpu")
    one, two = losses(folder / "one"), losses(folder / "two")
    assert len(one["lr"]) == EPOCHS
    for key, wanted in one.items():
        # Without dropout only the order of sums differs. A clip lost, counted twice or weighted by
        # its process moves the loss by 1e-3 and more. Measured: 3e-7.
        assert two[key] == pytest.approx(wanted, abs=1e-5)


def test_processes_that_differ_are_refused(tmp_path):
    about, path = {"epoch": 3, "recordings": {"clips": 9}}, tmp_path / "config.yaml"
    require_same([(about, True), (dict(about), True)], path)
    with pytest.raises(ConfigError, match=r"process 1 .* another epoch than the main one"):
        require_same([(about, True), ({**about, "epoch": 0}, True)], path)
    with pytest.raises(ConfigError, match=r"process 2 .* another recordings"):
        require_same([(about, True), (about, True), ({"epoch": 3}, True)], path)
    with pytest.raises(ConfigError, match=r"process 1 .*does not see .*config\.yaml.*same folder"):
        require_same([(about, True), (about, False)], path)
    # Alone there is nobody to differ from.
    Workers(0, 1, torch.device("cpu")).require_alike(about, path)


def test_only_what_communication_fails_with_is_called_a_loss():
    text = "[/x/third_party/gloo/gloo/transport/tcp/pair.cc:5] Connection closed by peer [::1]:7"
    said = r"\(Connection closed by peer \[::1\]:7\); start all"
    with pytest.raises(SignBartError, match=said), naming_lost_workers():
        raise RuntimeError(text)
    with pytest.raises(SignBartError, match="or does not answer"), naming_lost_workers():
        raise dist.DistBackendError("NCCL error")
    with pytest.raises(RuntimeError, match="shape"), naming_lost_workers():
        raise RuntimeError("shape mismatch")
