"""How much of this machine's matrix-product speed a training step reaches.

``python -m benchmarks.training_step``: steps and products alternate in one run, so that both meet
the same conditions; medians. FLOPs of a step come from `torch.utils.flop_counter`, which counts
matrix products forward and backward. It cannot see into the fused attention kernel of a CPU, so the
products are counted in a step whose attention is spelt out, and timed in one that is fused.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from signbart.config import load_config
from signbart.console import print_table, run_command
from signbart_torch.memory import keep_freed_memory
from signbart_torch.model import SignBart

_PRODUCT_SIZE = 1024
_CLASSES = 30  # where the configuration leaves them to the data


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step")
    parser.add_argument("--config", default="configs/arabic_90.yaml", metavar="YAML")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")

    keep_freed_memory()  # as training does
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = load_config(options.config)
    step = _training_step(config, options.batch_size, options.frames)
    a, b = torch.randn(2, _PRODUCT_SIZE, _PRODUCT_SIZE)

    step()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    products, steps = [], []
    for _ in range(options.rounds):
        products.append(_seconds(lambda: a @ b))
        steps.append(_seconds(step))
    peak = 2 * _PRODUCT_SIZE**3 / statistics.median(products)
    reached = counter.get_total_flops() / statistics.median(steps)
    print_table(
        f"{config.name}, batch {options.batch_size}, T {options.frames}, "
        f"{options.threads} threads, medians of {options.rounds}",
        ["", "GFLOP", "ms", "GFLOP/s"],
        [
            _row(f"matrix product {_PRODUCT_SIZE}³", 2 * _PRODUCT_SIZE**3, products, peak),
            _row("training step", counter.get_total_flops(), steps, reached),
        ],
    )
    print(f"share of the product's speed: {reached / peak:.3f}")
    return 0


def _training_step(config, batch_size: int, frames: int) -> Callable[[], None]:
    """One step as the trainer does it: forward, loss, backward, clipping, AdamW."""
    num_labels = config.model.num_labels or _CLASSES
    model = SignBart(dataclasses.replace(config.model, num_labels=num_labels)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr, fused=True)
    keypoints = torch.rand(batch_size, frames, config.model.num_keypoints, 2)
    mask = torch.ones(batch_size, frames, dtype=torch.int32)
    labels = torch.randint(num_labels, (batch_size,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(keypoints, mask)
        F.cross_entropy(logits, labels, label_smoothing=config.train.label_smoothing).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip)
        optimizer.step()

    return step


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _row(name: str, flops: int, seconds: Sequence[float], speed: float) -> list[str]:
    median = statistics.median(seconds)
    return [name, f"{flops / 1e9:.2f}", f"{1e3 * median:.2f}", f"{speed / 1e9:.1f}"]


if __name__ == "__main__":
    run_command(main)
