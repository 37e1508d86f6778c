"""Training on a GPU: clips a second, FLOP/s, and the share of what the card can do.

``python -m benchmarks.gpu_training``: whole epochs as `signbart_torch` trains them, augmentation
and all, and the steps alone on batches that are made already, for each configuration, batch size
and variant. A variant is a precision (float32, tf32, bf16), with ``+graphs`` for
``train.cuda_graphs`` or ``+compile`` for `torch.compile`. FLOPs are those of matrix products and
convolutions, forward and backward, of the batches as they are padded (`benchmarks.training_step`).
On a processor it measures that.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.training_step import count_operations
from signbart.batches import PreparedClips, prepare_clips
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import at_least, not_negative, print_table, run_command
from signbart.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from signbart_torch.training.data import Batch
    from signbart_torch.training.learner import TorchLearner

_CLASSES = 30
_WARM_EPOCHS = 2  # every usual shape of a batch is seen twice, as capturing needs
_ON_CPU = ("float32", "bf16")
_ON_GPU = ("float32", "tf32", "bf16", "float32+graphs", "bf16+graphs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_training")
    add = parser.add_argument
    shipped = ["configs/isl_kinect30.yaml", "configs/conv_signbart.yaml"]
    add("--configs", nargs="+", default=shipped, metavar="YAML")
    add("--data", metavar="PATH", help="recordings; by default made ones of the same shape")
    add("--clips", type=at_least(2), default=4096, metavar="N", help="of made recordings")
    add("--batch-sizes", type=at_least(1), nargs="+", default=[64, 256], metavar="N")
    add(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        help="see above; by default float32 and bf16, and on a GPU tf32 and graphs",
    )
    add("--seconds", type=not_negative, default=0.3, help="each figure takes at least this long")
    add("--peak", type=float, default=989.0, help="TFLOP/s of the card, bf16 without sparsity")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args(arguments)

    import torch

    from signbart_torch.training.memory import keep_freed_memory
    from signbart_torch.training.workers import start_workers

    keep_freed_memory()  # as training does
    device = start_workers(options.device).device
    variants = options.variants or (_ON_GPU if device.type == "cuda" else _ON_CPU)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "the processor"
    rows = []
    for path in options.configs:
        operations = functools.cache(functools.partial(_operations_of_a_clip, load_config(path)))
        for size in options.batch_sizes:
            base = load_config(path, [f"train.batch_size={size}"])
            data, classes = _data(base, options)
            base = replace(base, model=replace(base.model, num_labels=classes))
            made = len(data) / _seconds_of(lambda data=data, base=base: _make(data, base))
            print(f"{base.name}, {size} a batch: {made:,.0f} clips/s are made by one thread")
            for variant in variants:
                found = _measure(base, variant, data, operations, device, options.seconds)
                rows.append([base.kind, size, variant, *_cells(*found, options.peak)])
    columns = ["", "batch", "", "training, clips/s", "steps, clips/s", "ms a step", "TFLOP/s"]
    print_table(
        f"{where}, PyTorch {torch.__version__}, {options.peak:g} TFLOP/s at best",
        [*columns, "of the best, %", f"loss of epoch {_WARM_EPOCHS}"],
        rows,
    )
    return 0


def _data(config: RunConfig, options: argparse.Namespace) -> tuple[PreparedClips, int]:
    """The clips, prepared, and how many classes they have."""
    if options.data:
        from signbart.recordings.reading import read_clips

        clips = read_clips(options.data)
        return prepare_clips(clips, config), len(clips.class_names)
    rng = np.random.default_rng(0)
    count, frames = options.clips, config.data.max_frames
    shape = (frames, config.num_keypoints, config.augmented_coordinates)
    labels = rng.integers(_CLASSES, size=count)
    # A pose a class, and noise about it: something to learn.
    points = rng.normal(size=(_CLASSES, 1, *shape[1:]))[labels]
    points = points + rng.normal(scale=0.5, size=(count, *shape))
    return PreparedClips(points.astype(np.float32), np.full(count, frames), labels), _CLASSES


def _make(data: PreparedClips, config: RunConfig) -> list[list[Batch]]:
    from signbart_torch.training.data import training_steps

    return list(training_steps(data, config, 0))


def _measure(
    base: RunConfig,
    variant: str,
    data: PreparedClips,
    operations: Callable[[int], float],
    device: torch.device,
    seconds: float,
) -> tuple[float, float, float, float, float]:
    """Seconds of a clip in training, of one in a step, of a step, FLOP/s of it, and a loss."""
    import torch

    if variant.endswith("+compile"):
        torch._dynamo.reset()
    learner = _learner(base, variant, device)
    rate = base.train.lr
    with _matmul_precision("high" if variant.startswith("tf32") else "highest"):
        for epoch in range(_WARM_EPOCHS):
            loss, _ = learner.train_epoch(data, epoch, lambda _: rate)
        epochs = iter(range(_WARM_EPOCHS, 10**9))
        whole = _median(
            lambda: learner.train_epoch(data, next(epochs), lambda _: rate), seconds, device
        )
        steps = [
            [part.with_each(lambda t: t.pin_memory() if device.type == "cuda" else t)]
            for (part,) in _make(data, learner.config)
        ]

        def all_steps() -> None:
            for step in steps:
                learner.step(step, rate)

        all_steps()
        alone = _median(all_steps, seconds, device)
    flops = sum(len(p.labels) * operations(p.attention_mask.shape[1]) for (p,) in steps)
    return whole / len(data), alone / len(data), alone / len(steps), flops / alone, loss


def _learner(base: RunConfig, variant: str, device: torch.device) -> TorchLearner:
    import torch

    from signbart_torch.training.learner import TorchLearner
    from signbart_torch.training.workers import Workers

    precision, _, how = variant.partition("+")
    if precision not in ("float32", "tf32", "bf16") or how not in ("", "graphs", "compile"):
        raise ConfigError(f"--variants {variant}: not float32, tf32 or bf16, +graphs or +compile")
    train = replace(
        base.train,
        precision="bf16" if precision == "bf16" else "float32",
        cuda_graphs=how == "graphs",
    )
    names = [str(at) for at in range(base.model.num_labels)]
    learner = TorchLearner(Workers(0, 1, device), replace(base, train=train), names, None)
    if how == "compile":
        learner.step.module = torch.compile(learner.model, dynamic=True)
    return learner


def _operations_of_a_clip(config: RunConfig, frames: int) -> float:
    """FLOPs of a training step, a clip of it, where all have so many frames."""
    import torch

    from signbart_torch.training.data import Batch

    config = replace(config, model=replace(config.model, num_labels=_CLASSES))
    learner = _learner(config, "float32", torch.device("cpu"))
    count, size = 2, config.num_keypoints * config.coordinates
    shape = (size,) if config.takes_features else (config.num_keypoints, config.coordinates)
    batch = Batch(
        torch.rand(count, frames, *shape),
        torch.ones(count, frames, dtype=torch.int32),
        torch.zeros(count, dtype=torch.int64),
        np.arange(count),
    )
    learner.module.train()
    return count_operations(lambda: learner.step([batch], 0.0)) / count


class _matmul_precision:
    """Within it float32 products are as exact as PyTorch's name of a precision says."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        import torch

        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.name)

    def __exit__(self, *error):
        import torch

        torch.set_float32_matmul_precision(self.before)


def _seconds_of(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _median(function: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Median seconds of a call, of at least three, and of as many as take `seconds`."""
    return float(np.median(list(_until(function, seconds, device))))


def _until(function: Callable[[], object], seconds: float, device: torch.device) -> Iterator[float]:
    import torch

    total, calls = 0.0, 0
    while total < seconds or calls < 3:
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found = time.perf_counter() - started
        yield found
        total, calls = total + found, calls + 1


def _cells(
    whole: float, alone: float, step: float, speed: float, loss: float, peak: float
) -> list[str]:
    return [
        f"{1 / whole:,.0f}",
        f"{1 / alone:,.0f}",
        f"{1e3 * step:.3f}",
        f"{speed / 1e12:.3f}",
        f"{speed / 1e12 / peak * 100:.2f}",
        f"{loss:.4f}",
    ]


if __name__ == "__main__":
    run_command(main)
