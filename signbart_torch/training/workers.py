"""The processes that train together: one alone, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from signbart.errors import ConfigError


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


def check_precision(precision: str, device: torch.device) -> None:
    """Raises `ConfigError` where the device lacks bf16 and `precision` asks for it."""
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(f"train.precision: {device} has no bf16; set it to float32")


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
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        return Workers(
            dist.get_rank(),
            world_size,
            torch.device(device, local_rank if device == "cuda" else None),
        )
    return Workers(0, 1, torch.device(device))
