"""How much of this machine's matrix-product speed training reaches, and what making batches takes.

``python -m benchmarks.training_step``: a large product, a step, the same in bf16 as by
`train.precision`, and the making of a batch alternate in one run, so that all meet the same
conditions; medians. FLOPs of a step come from `torch.utils.flop_counter`, which counts matrix
products and convolutions forward and backward. It cannot see into the fused attention kernel of a
CPU, so the products are counted in a step whose attention is spelt out, and timed in one that is
fused.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from signbart.batches import CHUNK_BATCHES, Batch, PreparedClips, training_batches
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import at_least, print_table, run_command
from signbart.errors import ConfigError

_PRODUCT_SIZE = 1024
_CLASSES = 30  # where the configuration leaves them to the data
_WARM_UP = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    number = at_least(1)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step")
    parser.add_argument("--config", default="configs/arabic_90.yaml", metavar="YAML")
    parser.add_argument("--batch-size", type=number, default=64)
    parser.add_argument("--frames", type=number, default=64)
    parser.add_argument("--threads", type=number, default=2)
    parser.add_argument("--rounds", type=number, default=20)
    options = parser.parse_args(arguments)
    config = load_config(
        options.config,
        [f"data.max_frames={options.frames}", f"train.batch_size={options.batch_size}"],
    )
    if config.takes_features:
        raise ConfigError(f"{options.config}: this benchmark is of models that take landmarks")

    import torch

    from signbart_torch.training.memory import keep_freed_memory

    keep_freed_memory()  # as training does
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    step = _training_step(config)
    batches = _batches(config)
    a, b = torch.randn(2, _PRODUCT_SIZE, _PRODUCT_SIZE)

    for _ in range(_WARM_UP):
        batch = next(batches)
        step(batch)
        step(batch, bf16=True)
    whole = _full(config)
    flops = {"product": 2 * _PRODUCT_SIZE**3, "step": count_operations(lambda: step(whole))}
    seconds: dict[str, list[float]] = {name: [] for name in ("product", "step", "bf16", "batch")}
    for _ in range(options.rounds):
        seconds["product"].append(_seconds(lambda: a @ b))
        seconds["step"].append(_seconds(lambda: step(whole)))
        seconds["bf16"].append(_seconds(lambda: step(whole, bf16=True)))
        # Batches are augmented by the chunk.
        chunk = _seconds(lambda: [next(batches) for _ in range(CHUNK_BATCHES)])
        seconds["batch"].append(chunk / CHUNK_BATCHES)
    rows = [
        [f"matrix product {_PRODUCT_SIZE}³", *_cells(seconds["product"], flops["product"])],
        ["training step", *_cells(seconds["step"], flops["step"])],
        ["the same in bf16", *_cells(seconds["bf16"], flops["step"])],
        ["making its batch", "", *_cells(seconds["batch"], 0)[1:3], ""],
    ]
    print_table(
        f"{config.name}, batch {options.batch_size}, T {options.frames}, "
        f"{options.threads} threads, medians of {options.rounds}",
        ["", "GFLOP", "ms", "10 to 90 %", "GFLOP/s"],
        rows,
    )
    speeds = {name: count / np.median(seconds[name]) for name, count in flops.items()}
    print(f"share of the product's speed: {speeds['step'] / speeds['product']:.3f}")
    # Of each round, whose parts met the same conditions.
    shares = {name: np.median(np.divide(seconds[name], seconds["step"])) for name in seconds}
    print(f"making a batch, augmentation and all, to a step: {shares['batch']:.3f}")
    print(f"a step in bf16 to one in float32: {shares['bf16']:.3f}")
    return 0


def _training_step(config: RunConfig) -> Callable[..., None]:
    """One step as the trainer does it: forward, loss, backward, clipping, AdamW."""
    import torch
    from torch.nn import functional as F

    from signbart_torch.models import new_model

    num_labels = config.model.num_labels or _CLASSES
    model = new_model(dataclasses.replace(config.model, num_labels=num_labels)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr, fused=True)

    def step(batch: Batch, *, bf16: bool = False) -> None:
        keypoints, mask, labels = map(
            torch.from_numpy, (batch.keypoints, batch.attention_mask, batch.labels)
        )
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(keypoints, mask)
        F.cross_entropy(logits, labels, label_smoothing=config.train.label_smoothing).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        optimizer.step()

    return step


def count_operations(work: Callable[[], object]) -> int:
    """FLOPs of matrix products and convolutions, forward and backward, of what runs on a CPU."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    backward = {torch.ops.aten.convolution_backward: _convolution_backward}
    counter = FlopCounterMode(display=False, custom_mapping=backward)
    with counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


def _convolution_backward(
    gradient: Sequence[int], inputs: Sequence[int], weight: Sequence[int], *rest: Any, **named: Any
) -> int:
    """FLOPs by shapes: the gradients of inputs and weights, as many each as the forward pass.

    PyTorch's own counts a convolution of each channel by itself as one over all channels.
    """
    return 2 * 2 * math.prod(gradient) * math.prod(weight[1:])


def _full(config: RunConfig) -> Batch:
    """A batch without padding, whose products are known."""
    rng = np.random.default_rng(0)
    shape = (config.train.batch_size, config.data.max_frames)
    return Batch(
        keypoints=rng.random((*shape, config.num_keypoints, config.coordinates), np.float32),
        attention_mask=np.ones(shape, np.int32),
        labels=rng.integers(config.model.num_labels or _CLASSES, size=shape[0]),
        indices=np.arange(shape[0]),
    )


def _batches(config: RunConfig) -> Iterator[Batch]:
    """Epochs without end over one chunk of clips of one length, as the trainer makes them."""
    size, frames = CHUNK_BATCHES * config.train.batch_size, config.data.max_frames
    rng = np.random.default_rng(0)
    clips = PreparedClips(
        points=rng.random(
            (size, frames, config.num_keypoints, config.augmented_coordinates), np.float32
        ),
        lengths=np.full(size, frames),
        labels=rng.integers(config.model.num_labels or _CLASSES, size=size),
    )
    epoch = 0
    while True:
        yield from training_batches(clips, config, epoch)
        epoch += 1


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _cells(seconds: Sequence[float], flops: int) -> list[str]:
    low, median, high = np.percentile(seconds, [10, 50, 90])
    return [
        f"{flops / 1e9:.2f}",
        f"{1e3 * median:.2f}",
        f"{1e3 * low:.2f} to {1e3 * high:.2f}",
        f"{flops / median / 1e9:.1f}",
    ]


if __name__ == "__main__":
    run_command(main)
