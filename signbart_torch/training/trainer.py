"""The training loop: resumable at any moment, in one process or several.

All randomness of an epoch derives from (seed, epoch), so a resumed run needs no generator state and
ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.batches import PreparedClips, prepare_clips
from signbart.configuration.schema import RunConfig
from signbart.errors import CheckpointError, ConfigError
from signbart.files import write_text
from signbart.preprocessing import as_model_input
from signbart.recordings.clip import ClipSet
from signbart.training.frameworks import TORCH
from signbart.training.lifecycle import (
    describe_run,
    identify_recordings,
    mixed_seed,
    new_progress,
    percentages,
    record_epoch,
    with_labels,
)
from signbart.training.metrics import score
from signbart.training.run_folder import RESULTS, csv_text, find_run, possession
from signbart.training.schedule import learning_rate
from signbart.training.splits import Split, split_clips
from signbart_torch.models import class_scores, new_model, num_parameters
from signbart_torch.training.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    save_checkpoint,
)
from signbart_torch.training.data import evaluation_batches, training_batches
from signbart_torch.training.memory import keep_freed_memory
from signbart_torch.training.objective import Objective, leave_out_unused
from signbart_torch.training.workers import Workers, check_precision, start_workers

LAST, BEST = TORCH.last, TORCH.best


class Preparation(Protocol):
    """Changes what a model computes while it trains, but not what its checkpoints hold."""

    def prepare(self, model: nn.Module) -> None:
        """Changes `model` in place; its parameters stay the same objects under the same names."""

    def refresh(self, model: nn.Module) -> None:
        """Brings what was prepared up to date with the weights, after each epoch."""


@dataclass(frozen=True)
class Start:
    """A trained model to go on from; the model as it starts is a candidate for the best epoch.

    Attributes:
        checkpoint: The model.
        identity: What tells this start from others, in JSON containers: a run is resumed only from
            the same one, and its checkpoints carry it.
        preparation: Applied to the model that trains, validates and is tested.
    """

    checkpoint: Checkpoint
    identity: Mapping[str, Any]
    preparation: Preparation


def train(
    clips: ClipSet,
    config: RunConfig,
    output: str | Path,
    *,
    test_signers: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
    report: Callable[[Mapping[str, Any]], None] = lambda row: None,
    announce: Callable[[str], None] = lambda text: None,
    data_name: str = "",
    start: Start | None = None,
) -> dict[str, Any]:
    """Trains one model, picks its best epoch on held-out clips, and tests that one.

    From then on the process keeps memory that is freed; see `keep_freed_memory`.

    Args:
        clips: The recordings.
        config: The run's configuration; `model.num_labels` may be left to the data.
        output: Run folder.
        test_signers: Signers that take no part in training or in choosing the best epoch.
        resume: Go on from the folder's last checkpoint, if there is one.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: Called in the main process with each epoch's row.
        announce: Called once in the main process with what is about to be trained, and on what.
        data_name: How the results name the data.
        start: What to go on from; by default training begins with random weights.

    Returns:
        What ``results.json`` holds: split, best epoch, scores in percent.

    Raises:
        ConfigError: The folder holds another run, or the configuration does not fit the data.
        ClipError: The recordings do not fit the configuration.
        SignBartError: Another process trains in that folder.
    """
    output = Path(output)
    config = with_labels(config, clips)
    keep_freed_memory()
    workers = start_workers(device)
    try:
        check_precision(config.train.precision, workers.device)
        split = split_clips(clips, config.train, test_signers)
        identity: dict[str, Any] = {"recordings": identify_recordings(clips, split.test_signers)}
        if start is not None:
            identity["start"] = dict(start.identity)
        state = find_run(
            output, config, clips.class_names, identity, resume,
            framework=TORCH, load=load_checkpoint,
        ) or Checkpoint({})  # fmt: skip
        if state.progress.get("finished") and (output / RESULTS).is_file():
            return json.loads((output / RESULTS).read_text(encoding="utf-8"))
        run = _Run(clips, config, output, split, workers, state, start)
        run.progress |= identity
        with possession(output, config) if workers.is_main else nullcontext():
            if workers.is_main:
                announce(run.describe())
            run.fit(report)
            results = {"data": data_name, **run.results()}
            if workers.is_main:
                text = json.dumps(results, indent=2, ensure_ascii=False)
                write_text(output / RESULTS, text + "\n")
        return results
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class _Run:
    """One training in progress."""

    def __init__(
        self,
        clips: ClipSet,
        config: RunConfig,
        output: Path,
        split: Split,
        workers: Workers,
        state: Checkpoint,
        start: Start | None,
    ):
        self.config, self.output, self.split, self.workers = config, output, split, workers
        self.start = start
        self.class_names = clips.class_names
        self.data = {
            name: prepare_clips(clips.select(getattr(split, name)), config)
            for name in ("train", "val", "test")
        }
        torch.manual_seed(config.train.seed)
        # On its device before the optimizer is made or loaded, whose state follows the parameters.
        self.model = new_model(config.model).to(workers.device)
        self.objective = Objective(config, clips.class_names, workers.device)
        example = as_model_input(np.zeros((1, 1, config.num_keypoints, 2), np.float32), config)
        self.unused = leave_out_unused(
            self.model, self.objective, torch.from_numpy(example).to(workers.device)
        )
        self.optimizer = torch.optim.AdamW(
            [parameter for _, parameter in self._trained()],
            lr=config.train.lr,
            weight_decay=config.train.weight_decay,
            fused=True,
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            factor=config.train.plateau_factor,
            patience=config.train.plateau_patience,
        )
        self.progress = dict(state.progress) or new_progress()
        if state.tensors:
            self.model.load_state_dict(build_model(state, config, output / LAST).state_dict())
            self._load_optimizer(state.optimizer)
        elif start is not None:
            self.model.load_state_dict(start.checkpoint.tensors)
        if start is not None:
            start.preparation.prepare(self.model)
            start.preparation.refresh(self.model)
        self.module: nn.Module = self.model
        if workers.world_size > 1:
            self.module = nn.parallel.DistributedDataParallel(self.model)
        self.steps_per_epoch = math.ceil(len(self.data["train"]) / config.train.batch_size)

    def describe(self) -> str:
        """What is trained, on which clips, and what the others are for."""
        text = describe_run(
            self.config,
            self.split,
            {name: len(data) for name, data in self.data.items()},
            parameters=num_parameters(self.model),
            where=f"{self.workers.world_size} x {self.workers.device}",
        )
        if any(name.startswith("category_head") for name in self.unused):
            text += (
                "\ncategory_head is not trained: data.categories does not say which class is of "
                "which category"
            )
        return text

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that are trained, by name."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def fit(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Trains until the last epoch or until nothing has improved for `patience` epochs."""
        board = self._tensorboard() if self.workers.is_main else None
        if self.start is not None and self.progress["best"] is None:
            row = {"epoch": 0, **self._validate()}
            self._record(row)
            if self.workers.is_main:
                save_checkpoint(self._checkpoint(resumable=False), self.output / BEST)
                report(row)
        while not self.progress["finished"]:
            epoch = self.progress["epoch"]
            started = time.perf_counter()
            row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
            if self.start is not None:
                self.start.preparation.refresh(self.model)
            row |= self._validate()
            row["seconds"] = round(time.perf_counter() - started, 3)
            improved = self._record(row)
            if self.workers.is_main:
                # Best before last: a kill between the two repeats this epoch, bit by bit.
                if improved:
                    save_checkpoint(self._checkpoint(resumable=False), self.output / BEST)
                save_checkpoint(self._checkpoint(resumable=True), self.output / LAST)
                write_text(self.output / "summary.csv", csv_text(self.progress["history"]))
                for key, value in row.items():
                    if key != "epoch" and board is not None:
                        board.add_scalar(key, value, epoch + 1)
                report(row)
        if board is not None:
            board.close()

    def results(self) -> dict[str, Any]:
        """Scores of the best checkpoint, and who was trained, validated and tested on.

        With a start also those of the model it started from: ``prepared`` as trained, ``plain``
        as it came.
        """
        if self.workers.world_size > 1:
            dist.barrier()  # the main process may still be writing
        best = load_checkpoint(self.output / BEST)
        outcome: dict[str, Any] = {
            "clips": {name: len(data) for name, data in self.data.items()},
            "val_signers": list(self.split.val_signers),
            "test_signers": list(self.split.test_signers),
            "epochs": self.progress["epoch"],
            "best_epoch": self.progress["best"]["epoch"],
            "parameters": num_parameters(self.model),
            **self._scores(best),
        }
        if self.start is not None:
            outcome["start"] = {
                **self.start.identity,
                "plain": self._scores(self.start.checkpoint, prepared=False),
                "prepared": self._scores(self.start.checkpoint),
            }
        return outcome

    def _scores(self, checkpoint: Checkpoint, *, prepared: bool = True) -> dict[str, Any]:
        """Percentages on the validation and test clips, where there are any."""
        model = build_model(checkpoint, self.config, self.output / BEST).to(self.workers.device)
        if prepared and self.start is not None:
            self.start.preparation.prepare(model)
            self.start.preparation.refresh(model)
        found = {}
        for name in ("val", "test"):
            if len(self.data[name]):
                outputs = predict(model, self.data[name], self.config, self.workers.device)
                scores = score(class_scores(outputs), self.data[name].labels)
                found[name] = percentages(scores)
                if self.objective.has_categories:
                    accuracy = self._category_accuracy(outputs, self.data[name].labels)
                    found[name]["category_accuracy"] = round(accuracy, 3)
        return found

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training clips; their mean loss, accuracy and final learning rate."""
        config, workers = self.config.train, self.workers
        # Dropout differs between processes, and between epochs.
        torch.manual_seed(mixed_seed(config.seed, epoch, workers.rank))
        self.module.train()
        totals = torch.zeros(3, dtype=torch.float64, device=workers.device)
        batches = training_batches(
            self.data["train"],
            self.config,
            epoch,
            rank=workers.rank,
            world_size=workers.world_size,
        )
        sizes = torch.zeros((), device=workers.device)
        for step, batch in enumerate(batches, start=epoch * self.steps_per_epoch):
            self._set_learning_rate(step)
            labels = batch.labels.to(workers.device)
            sizes.fill_(len(labels))
            if workers.world_size > 1:
                dist.all_reduce(sizes)
            self.optimizer.zero_grad(set_to_none=True)
            outputs = self._forward(batch.keypoints, batch.attention_mask)
            losses = self.objective(outputs, labels)
            # DDP averages gradients over processes; this makes the average the whole batch's mean
            # however many clips each process was given.
            (losses * workers.world_size / sizes).backward()
            if config.grad_clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
            self.optimizer.step()
            with torch.no_grad():
                hits = (class_scores(outputs).argmax(dim=1) == labels).sum()
                totals += torch.stack(
                    [losses.double(), hits.double(), totals.new_tensor(len(labels))]
                )
        if workers.world_size > 1:
            dist.all_reduce(totals)
        loss, hits, count = totals.tolist()
        if not math.isfinite(loss):
            raise ConfigError(
                f"the training loss is {loss} in epoch {epoch + 1}; lower train.lr "
                f"(now {config.lr:g}) or set train.grad_clip. {self.output / LAST} is untouched"
            )
        return {
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": loss / count,
            "train_accuracy": 100 * hits / count,
        }

    def _forward(self, keypoints: Tensor, attention_mask: Tensor) -> Tensor | dict[str, Tensor]:
        device = self.workers.device
        with torch.autocast(
            device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16"
        ):
            return self.module(keypoints.to(device), attention_mask.to(device))

    def _validate(self) -> dict[str, float]:
        """Loss and scores on the validation clips; empty where there are none."""
        data = self.data["val"]
        if not len(data):
            return {}
        outputs = predict(self.model, data, self.config, self.workers.device)
        logits = class_scores(outputs)
        scores = score(logits, data.labels)
        loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(data.labels))
        return {
            "val_loss": float(loss),
            "val_accuracy": 100 * scores.accuracy,
            "val_top5": 100 * scores.top5,
            **(
                {"val_category_accuracy": self._category_accuracy(outputs, data.labels)}
                if self.objective.has_categories
                else {}
            ),
        }

    def _category_accuracy(self, outputs: dict[str, np.ndarray], labels: np.ndarray) -> float:
        """Percent of clips whose category is the highest."""
        right = self.objective.categories(torch.from_numpy(labels).to(self.workers.device))
        return 100 * float((outputs["category"].argmax(axis=1) == right.cpu().numpy()).mean())

    def _record(self, row: dict[str, Any]) -> bool:
        """Adds an epoch to the progress; True where it is the best so far."""
        config, progress = self.config.train, self.progress
        improved = record_epoch(progress, row, config)
        if row["epoch"] == 0:
            return improved
        if config.scheduler == "plateau" and row["epoch"] >= config.warmup_epochs:
            self.plateau.step(row.get("val_loss", row["train_loss"]))
        progress["plateau"] = self.plateau.state_dict()
        progress["lr"] = self.optimizer.param_groups[0]["lr"]
        return improved

    def _set_learning_rate(self, step: int) -> None:
        rate = learning_rate(self.config.train, step, self.steps_per_epoch)
        if rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def _checkpoint(self, *, resumable: bool) -> Checkpoint:
        optimizer = {}
        progress = {
            key: self.progress[key]
            for key in ("epoch", "best", "recordings", "start")
            if key in self.progress
        }
        if resumable:
            progress = self.progress
            names = [name for name, _ in self._trained()]
            optimizer = {
                f"{names[index]}/{key}": value
                for index, values in self.optimizer.state_dict()["state"].items()
                for key, value in values.items()
            }
        return Checkpoint(
            self.model.state_dict(), self.config, self.class_names, progress, optimizer
        )

    def _load_optimizer(self, flat: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for index, (name, _) in enumerate(self._trained()):
            keys = ("step", "exp_avg", "exp_avg_sq")
            try:
                state[index] = {key: flat[f"{name}/{key}"] for key in keys}
            except KeyError as error:
                raise CheckpointError(
                    f"{self.output / LAST} lacks the optimizer's {error}: it cannot be resumed"
                ) from None
        groups = self.optimizer.state_dict()["param_groups"]
        groups[0]["lr"] = self.progress["lr"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.plateau.load_state_dict(self.progress["plateau"])

    def _tensorboard(self):
        from signbart_torch.training.tensorboard_log import summary_writer

        return summary_writer(self.output / "tensorboard", purge_step=self.progress["epoch"] + 1)


@torch.no_grad()
def predict(
    model: nn.Module, data: PreparedClips, config: RunConfig, device: torch.device
) -> np.ndarray | dict[str, np.ndarray]:
    """The model's outputs on every prepared clip, in their order, in inference mode.

    Returns:
        Logits (N, C) float32, or of a model with several outputs a dict of such.
    """
    model.eval()
    found: dict[str, np.ndarray] = {}
    for batch in evaluation_batches(data, config):
        outputs = model(batch.keypoints.to(device), batch.attention_mask.to(device))
        lone = isinstance(outputs, Tensor)
        for name, scored in ({"": outputs} if lone else outputs).items():
            rows = found.setdefault(name, np.empty((len(data), scored.shape[1]), np.float32))
            rows[batch.indices] = scored.cpu().numpy()
    return found[""] if lone else found
