"""The processes that train together: one alone, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from signbart.errors import ConfigError, SignBartError

# How long a process waits for the others: they differ by what the main one writes, and by what else
# their machines do. gloo's own 30 minutes would hide a machine that is gone.
_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Workers:
    """This process's place among those that train together (torchrun's environment)."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each of these numbers, added up over all processes."""
        if self.world_size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(found)
        return found.tolist()

    def require_alike(self, about: Mapping[str, Any], path: Path | None = None) -> None:
        """Refuses processes that would train something else together.

        Args:
            about: What has to be the same in all of them, by what to call it.
            path: What the main process has written, and all have to see.

        Raises:
            ConfigError: In every process, of the first that differs.
        """
        if self.world_size == 1:
            return
        found: list[Any] = [None] * self.world_size
        dist.barrier()
        dist.all_gather_object(found, (dict(about), path is None or path.is_file()))
        require_same(found, path)


def require_same(found: Sequence[tuple[Mapping[str, Any], bool]], path: Path | None) -> None:
    """See `Workers.require_alike`.

    Args:
        found: Of each process, the main one first: what is compared, and whether it sees `path`.
        path: For the message.
    """
    for rank, (theirs, sees) in enumerate(found):
        if not sees:
            raise ConfigError(
                f"process {rank} of those that train together does not see {path}, which the main "
                "one has written: --output must be the same folder on every machine"
            )
        for what, value in found[0][0].items():
            if theirs.get(what) != value:
                raise ConfigError(
                    f"process {rank} of those that train together has another {what} than the main "
                    "one: start all of them with the same recordings, configuration and options"
                )


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turns what communication fails with into an error that says what to do.

    Raises:
        SignBartError: A process that trained along is gone, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo's are plain ones, which name its sources.
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise SignBartError(
            f"a process that trained along is gone, or does not answer ({_last_of(error)}); start "
            "all of them again with --resume: training goes on from its last whole epoch"
        ) from error


def _last_of(error: Exception) -> str:
    """The end of a message's first line, behind the sources that it names."""
    return str(error).strip().partition("\n")[0].rpartition("] ")[2]


def check_precision(precision: str, device: torch.device) -> None:
    """Raises `ConfigError` where the device lacks bf16 and `precision` asks for it."""
    if precision != "bf16" or device.type != "cuda":
        return
    # An older GPU emulates it, slower than float32.
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(f"train.precision: {device} has no bf16; set it to float32")


@contextmanager
def training_workers(device: str) -> Iterator[Workers]:
    """`start_workers` until the block ends."""
    try:
        yield start_workers(device)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def start_workers(device: str) -> Workers:
    """Joins the processes that torchrun started; alone without it."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this PyTorch sees no CUDA device; use --device cpu")
    if world_size > 1:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if device == "cuda":
            torch.cuda.set_device(local_rank)
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
        return Workers(
            dist.get_rank(),
            world_size,
            torch.device(device, local_rank if device == "cuda" else None),
        )
    return Workers(0, 1, torch.device(device))
