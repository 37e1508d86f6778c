"""One step of training: forward, loss, backward, update. On a GPU, if asked for, as one graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import nn

from signbart.configuration.schema import RunConfig, TrainConfig
from signbart.errors import ConfigError
from signbart_torch.models import class_scores
from signbart_torch.training.data import Batch
from signbart_torch.training.objective import Distillation, Objective
from signbart_torch.training.workers import Workers

# Frames of a graph's batches are a multiple of this, as PyTorch's fused attention has them, too.
_FRAMES = 8


class Step:
    """Steps of the optimizer, one a call.

    Args:
        module: What is trained, in training mode when it is called.
        objective: The run's loss.
        optimizer: Of the module's parameters; each group has its ``scale`` of the rate.
        config: The run's.
        workers: Those that train together.
        distillation: Changes the loss.

    Attributes:
        totals: (2,) float64, of this process since `restart`: the losses' sum and how many clips
            were classified correctly. On the device, so that no step waits for it.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        config: RunConfig,
        workers: Workers,
        distillation: Distillation | None = None,
    ):
        self.module, self.objective, self.optimizer = module, objective, optimizer
        self.config, self.workers, self.distillation = config, workers, distillation
        self.totals = torch.zeros(2, dtype=torch.float64, device=workers.device)
        self._size = torch.zeros((), device=workers.device)  # clips of all processes

    def restart(self) -> None:
        """Begins the totals anew."""
        self.totals.zero_()

    def __call__(self, parts: Sequence[Batch], rate: float) -> None:
        """Changes the weights once, by the gradient of the mean over a whole batch.

        Args:
            parts: The batch, or this process's share of it, in memory of the processor's. They are
                worked on one after the other, and their gradients add up.
            rate: The learning rate.
        """
        self._set_rate(rate)
        self._size.fill_(sum(len(part.labels) for part in parts))
        if self.workers.world_size > 1:
            dist.all_reduce(self._size)
        self._work(parts)

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]

    def _work(self, parts: Sequence[Batch]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(parts, 1):
            # Processes exchange gradients once a step, with the last part's.
            waits = self.workers.world_size > 1 and number < len(parts)
            with self.module.no_sync() if waits else nullcontext():
                self._learn(part)
        if self.config.train.grad_clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.train.grad_clip)
        self.optimizer.step()

    def _learn(self, part: Batch) -> None:
        device = self.workers.device
        part = part.with_each(lambda tensor: tensor.to(device, non_blocking=True))
        bf16 = self.config.train.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = self.module(part.keypoints, part.attention_mask)
        losses = self.objective(outputs, part.labels, part.mixed)
        if self.distillation is not None:
            losses = self.distillation(losses, class_scores(outputs), part)
        # DDP averages gradients over processes; this makes the average the whole batch's mean
        # however many clips each process was given.
        (losses * self.workers.world_size / self._size).backward()
        with torch.no_grad():
            hits = (class_scores(outputs).argmax(dim=1) == part.labels).sum()
            self.totals += torch.stack([losses.double(), hits.double()])


class GraphedStep(Step):
    """The same as CUDA graphs: all kernels of a step are started by one call.

    A graph is of batches of one shape, so frames are filled up to a multiple of 8. The first batch
    of a shape is worked on as by `Step`, which also makes what must be there before anything is
    captured; the second one is captured.

    Args:
        arguments: As of `Step`; the optimizer is ``capturable`` and its rates are tensors.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Batch] | None] = {}
        # Only one graph runs at a time, so all of them may use the same memory.
        self._pool = torch.cuda.graph_pool_handle()

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate * group["scale"])

    def _work(self, parts: Sequence[Batch]) -> None:
        (batch,) = parts
        clips, frames = batch.attention_mask.shape
        shape = clips, min(-(-frames // _FRAMES) * _FRAMES, self.config.data.max_frames)
        if shape not in self._graphs:
            self._graphs[shape] = None
            self._work_aside(batch)
            return
        if self._graphs[shape] is None:
            self._graphs[shape] = self._capture(batch, shape)
        graph, inputs = self._graphs[shape]
        fill(inputs, batch)
        graph.replay()

    def _work_aside(self, batch: Batch) -> None:
        """Outside the default stream, whose gradients a capture could not go on with."""
        usual, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(usual)
        with torch.cuda.stream(aside):
            super()._work([batch])
        usual.wait_stream(aside)

    def _capture(self, batch: Batch, shape: tuple[int, int]) -> tuple[torch.cuda.CUDAGraph, Batch]:
        # A graph would keep what its first batch was made of.
        inputs = replace(batch, rows=None).with_each(
            lambda tensor: tensor.new_zeros(
                (*shape, *tensor.shape[2:])[: tensor.ndim], device=self.totals.device
            )
        )
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)  # the graph has gradients of its own
        # Of this thread alone: another one makes the next batches, and pins their memory.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            super()._work([inputs])
        return graph, inputs


def fill(inputs: Batch, batch: Batch) -> None:
    """Copies a batch into the longer one that a graph reads; the frames behind it are padding."""
    frames = batch.attention_mask.shape[1]
    for tensor, value in zip(inputs.tensors, batch.tensors, strict=True):
        if value.ndim == 1:
            tensor.copy_(value, non_blocking=True)
        else:
            tensor[:, :frames].copy_(value, non_blocking=True)
            tensor[:, frames:].zero_()


def step_of(
    config: TrainConfig, workers: Workers, *, distilled: bool, prepared: bool
) -> type[Step]:
    """The kind of `Step` that a run's configuration asks for.

    Args:
        config: The run's.
        workers: Those that train together.
        distilled: Whether teachers change the loss.
        prepared: Whether the model computes something else while it trains.

    Raises:
        ConfigError: ``train.cuda_graphs`` is on where there are none.
    """
    if not config.cuda_graphs:
        return Step
    obstacles = {
        f"there are none on {workers.device}": workers.device.type != "cuda",
        "several processes wait for each other in a step": workers.world_size > 1,
        f"train.accumulate is {config.accumulate}": config.accumulate > 1,
        "teachers make inputs of their own in a step": distilled,
        "fake quantization was never captured": prepared,
    }
    if found := [text for text, holds in obstacles.items() if holds]:
        raise ConfigError(f"train.cuda_graphs: {'; '.join(found)}; set it to false")
    return GraphedStep
