"""The two frameworks that models are trained in: what each of them can, and writes into a run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Framework:
    """One framework.

    Attributes:
        name: For the command line.
        title: For people.
        package: Trains in it.
        best: File name of a run's best epoch, the checkpoint that is converted.
        last: File name of the checkpoint that training goes on from.
        precisions: Values of ``train.precision`` that it trains in.
        lacks: Keys of ``train`` that it knows the default of only.
        keeps_memory: Whether a process keeps some of every training's memory until it ends, as
            TensorFlow does the graph of a step.
    """

    name: str
    title: str
    package: str
    best: str
    last: str
    precisions: tuple[str, ...]
    lacks: tuple[str, ...]
    keeps_memory: bool

    def module(self) -> ModuleType:
        """What it trains and reads checkpoints with; both packages have the same functions."""
        return import_module(self.package)


TORCH = Framework(
    name="torch",
    title="PyTorch",
    package="signbart_torch",
    best="best.safetensors",
    last="last.safetensors",
    precisions=("float32", "bf16"),
    lacks=(),
    keeps_memory=False,
)
KERAS = Framework(
    name="keras",
    title="Keras",
    package="signbart_tf",
    best="best.keras",
    last="last.weights.h5",
    precisions=("float32",),
    lacks=("accumulate", "cuda_graphs"),
    keeps_memory=True,
)
FRAMEWORKS = {framework.name: framework for framework in (TORCH, KERAS)}


def framework_of(folder: Path) -> Framework | None:
    """The framework that a run folder belongs to, by what its training goes on from.

    The best checkpoint does not tell: through the weight map it can stand there in both forms.
    """
    for framework in FRAMEWORKS.values():
        if (folder / framework.last).is_file():
            return framework
    return None
