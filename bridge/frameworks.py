"""The two frameworks that models are trained in: what their run folders hold, and who trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError


@dataclass(frozen=True)
class Framework:
    """One framework. What trains is imported where it is asked for.

    Attributes:
        name: For the command line.
        title: For people.
        package: Whose modules ``trainer``, ``qat``, ``loso`` and ``checkpoint`` are alike.
        best: File name of a run's best epoch, the checkpoint that is converted.
        last: Of the one that training goes on from.
    """

    name: str
    title: str
    package: str
    best: str
    last: str

    @property
    def train_fold(self) -> Callable[..., dict[str, Any]]:
        """Trains a model."""
        return import_module(f"{self.package}.loso").train_fold

    @property
    def train_quantized(self) -> Callable[..., dict[str, Any]]:
        """Trains a checkpoint on, fake-quantized."""
        return import_module(f"{self.package}.qat").train_quantized

    @property
    def load_checkpoint(self) -> Callable[[Path], Any]:
        """Reads a checkpoint with all that it holds."""
        return import_module(f"{self.package}.checkpoint").load_checkpoint

    @property
    def start_worker(self) -> Callable[[], None]:
        """Called first in each process of several side by side."""
        return import_module(f"{self.package}.loso").start_worker


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("torch", "PyTorch", "signbart_torch", "best.safetensors", "last.safetensors"),
        Framework("keras", "Keras", "signbart_tf", "best.keras", "last.weights.h5"),
    )
}


def framework_of(folder: Path) -> Framework:
    """The framework that a run folder was trained in.

    Raises:
        BridgeError: It holds no best checkpoint.
    """
    for framework in FRAMEWORKS.values():
        if (folder / framework.best).is_file():
            return framework
    files = " or ".join(framework.best for framework in FRAMEWORKS.values())
    raise BridgeError(f"{folder} holds no {files}, so it is no run folder; train again")
