"""Training in PyTorch, in one process or several: what `signbart.training.lifecycle` asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from signbart.batches import PreparedClips
from signbart.configuration.schema import RunConfig
from signbart.preprocessing import as_model_input
from signbart.recordings.clip import ClipSet
from signbart.training import lifecycle
from signbart.training.frameworks import TORCH
from signbart.training.learner import Evaluation, Learner, mixed_seed
from signbart.training.warm_start import Init, frozen_of
from signbart_torch.models import class_scores, new_model, num_parameters
from signbart_torch.training.averaging import WeightAverage
from signbart_torch.training.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    save_checkpoint,
)
from signbart_torch.training.data import pinned_ahead, training_steps
from signbart_torch.training.memory import keep_freed_memory
from signbart_torch.training.objective import Distillation, Objective, leave_out_unused
from signbart_torch.training.optimizer import (
    make_optimizer,
    restore_state,
    state_of,
    trained_parameters,
)
from signbart_torch.training.prediction import predict
from signbart_torch.training.step import step_of
from signbart_torch.training.tensorboard_log import EventWriter
from signbart_torch.training.warm_start import start_of
from signbart_torch.training.workers import (
    Workers,
    check_precision,
    naming_lost_workers,
    training_workers,
)


class Preparation(Protocol):
    """Changes what a model computes while it trains, but not what its checkpoints hold."""

    def prepare(self, model: nn.Module) -> None:
        """Changes `model` in place; its parameters stay the same objects under the same names."""

    def refresh(self, model: nn.Module) -> None:
        """Brings what was prepared up to date with the weights, after each epoch."""


def train(
    clips: ClipSet,
    config: RunConfig,
    output: str | Path,
    *,
    device: str = "auto",
    init: Init | None = None,
    distillation: Distillation | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`lifecycle.train` in PyTorch; see there for what is not listed.

    From then on the process keeps memory that is freed; see `keep_freed_memory`.

    Args:
        clips: The recordings.
        config: The run's configuration.
        output: Run folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        init: The weights that training starts from; by default random ones.
        distillation: Changes the loss; `lifecycle.train`'s ``teachers`` identify it.
        options: `lifecycle.train`'s.

    Raises:
        ConfigError: There is no such device, or it lacks the precision.
        CheckpointError: See `warm_start.fit`.
        SignBartError: A process that trains along is gone.
    """
    keep_freed_memory()
    with naming_lost_workers(), training_workers(device) as workers:
        check_precision(config.train.precision, workers.device)
        if init is not None:
            options["start"] = start_of(init, config, clips)
        # Before models are made, which have to be alike.
        workers.require_alike({"configuration": config, "classes": clips.class_names})
        return lifecycle.train(
            clips,
            config,
            output,
            framework=TORCH,
            load=load_checkpoint,
            make_learner=partial(
                TorchLearner,
                workers,
                freeze=init.freeze if init else (),
                distillation=distillation,
            ),
            **options,
        )


class TorchLearner(Learner):
    """See `Learner`.

    Args:
        workers: This process and those that train along.
        config: The run's configuration.
        class_names: C labels.
        preparation: Applied to the model that trains, validates and is tested.
        freeze: Parts that are not trained; see `warm_start.frozen_of`.
        distillation: Changes the loss.
    """

    def __init__(
        self,
        workers: Workers,
        config: RunConfig,
        class_names: Sequence[str],
        preparation: Preparation | None,
        freeze: Sequence[str] = (),
        distillation: Distillation | None = None,
    ):
        self.config, self.class_names, self.workers = config, tuple(class_names), workers
        self.preparation, self.distillation = preparation, distillation
        if distillation is not None:
            distillation.to(workers.device)
        torch.manual_seed(config.train.seed)
        # On its device before the optimizer is made or loaded, whose state follows the parameters.
        self.model = new_model(config.model).to(workers.device)
        self.objective = Objective(config, class_names, workers.device)
        points = np.zeros((1, 1, config.num_keypoints, config.coordinates), np.float32)
        example = as_model_input(points, config)
        unused = leave_out_unused(
            self.model, self.objective, torch.from_numpy(example).to(workers.device)
        )
        trained = trained_parameters(self.model, config)
        frozen = frozen_of(config, list(trained), freeze)
        for name, parameter in trained.items():
            parameter.requires_grad_(name not in frozen)
        self.optimizer = make_optimizer(self.model, config)
        if preparation is not None:
            preparation.prepare(self.model)
        self.average = None
        if config.train.ema:
            trained = trained_parameters(self.model, config)
            self.average = WeightAverage(list(trained.values()), config.train)
        self.module: nn.Module = self.model
        if workers.world_size > 1:
            self.module = nn.parallel.DistributedDataParallel(self.model)
        kind = step_of(
            config.train,
            workers,
            distilled=distillation is not None,
            prepared=preparation is not None,
        )
        self.step = kind(self.module, self.objective, self.optimizer, config, workers, distillation)
        self.is_main = workers.is_main
        self.parameters = num_parameters(self.model)
        self.where = f"{workers.world_size} x {workers.device}"
        if any(name.startswith("category_head") for name in unused):
            self.notes = [
                "category_head is not trained: data.categories does not say which class is of "
                "which category"
            ]

    def load(self, checkpoint: Checkpoint, source: str | Path) -> None:
        """See `Learner.load`."""
        self.model.load_state_dict(build_model(checkpoint, self.config, source).state_dict())
        if self.average is not None:
            self.average.restart()

    def restore(self, checkpoint: Checkpoint, source: str | Path) -> None:
        """See `Learner.restore`."""
        self.load(checkpoint, source)
        trained = trained_parameters(self.model, self.config)
        restore_state(self.optimizer, self.average, trained, checkpoint.optimizer, source)

    def refresh(self) -> None:
        """See `Learner.refresh`."""
        if self.preparation is not None:
            self.preparation.refresh(self.model)

    def train_epoch(
        self, data: PreparedClips, epoch: int, rate_of: Callable[[int], float]
    ) -> tuple[float, float]:
        """See `Learner.train_epoch`."""
        config, workers = self.config.train, self.workers
        # Dropout differs between processes, and between epochs.
        torch.manual_seed(mixed_seed(config.seed, epoch, workers.rank))
        self.module.train()
        self.step.restart()
        steps = training_steps(
            data, self.config, epoch, rank=workers.rank, world_size=workers.world_size
        )
        if workers.device.type == "cuda":
            steps = pinned_ahead(steps)
        first, count = epoch * math.ceil(len(data) / config.batch_size), 0
        for number, parts in enumerate(steps):
            self.step(parts, rate_of(number))
            if self.average is not None:
                self.average.update(first + number)
            count += sum(len(part.labels) for part in parts)
        loss, hits, count = workers.sums([*self.step.totals.tolist(), count])
        return loss / count, 100 * hits / count

    def evaluate(self, data: PreparedClips) -> Evaluation:
        """See `Learner.evaluate`."""
        with self._averaged():
            return self._evaluate(self.model, data)

    def evaluate_plain(self, data: PreparedClips) -> Evaluation:
        """See `Learner.evaluate_plain`."""
        return self._evaluate(self.model, data)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it the model has the averaged weights, where there are any."""
        if self.average is None:
            yield
            return
        self.average.exchange()
        self.refresh()
        try:
            yield
        finally:
            self.average.exchange()
            self.refresh()

    def evaluator_of(
        self, checkpoint: Checkpoint, source: str | Path
    ) -> Callable[[PreparedClips], Evaluation]:
        """See `Learner.evaluator_of`."""
        model = build_model(checkpoint, self.config, source).to(self.workers.device)
        return partial(self._evaluate, model)

    def _evaluate(self, model: nn.Module, data: PreparedClips) -> Evaluation:
        outputs = predict(model, data, self.config, self.workers.device)
        logits, labels = class_scores(outputs), torch.from_numpy(data.labels)
        percentages = {}
        if self.objective.has_categories:
            right = self.objective.categories(labels.to(self.workers.device)).cpu().numpy()
            hits = outputs["category"].argmax(axis=1) == right
            percentages["category_accuracy"] = 100 * float(hits.mean())
        loss = F.cross_entropy(torch.from_numpy(logits), labels)
        return Evaluation(logits, float(loss), percentages)

    def save(self, path: Path, progress: Mapping[str, Any], *, resumable: bool) -> None:
        """See `Learner.save`."""
        with self._averaged():
            trained = trained_parameters(self.model, self.config)
            optimizer = state_of(self.optimizer, self.average, trained) if resumable else {}
            state = self.model.state_dict()
            found = Checkpoint(state, self.config, self.class_names, progress, optimizer)
            save_checkpoint(found, path)

    def open_event_writer(self, folder: Path, purge_step: int) -> EventWriter:
        """See `Learner.open_event_writer`."""
        return EventWriter(folder, purge_step)

    def require_alike(self, about: Mapping[str, Any], path: Path) -> None:
        """See `Learner.require_alike`."""
        self.workers.require_alike(about, path)

    def wait_for_others(self) -> None:
        """See `Learner.wait_for_others`."""
        if self.workers.world_size > 1:
            dist.barrier()
