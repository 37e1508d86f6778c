"""Distillation in PyTorch: a model learns from labels and from what others make of its clips.

Legend: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.batches import Rows, make_batch
from signbart.configuration.schema import RunConfig
from signbart.files import file_sha256
from signbart.recordings.clip import ClipSet
from signbart.training.distillation import (
    Settings,
    class_order,
    identity_of,
    require_unseen,
)
from signbart.training.seen import seen_by
from signbart_torch.models import class_scores, num_parameters
from signbart_torch.training.checkpoint import build_model, load_checkpoint
from signbart_torch.training.data import Batch
from signbart_torch.training.learner import train


class Teacher(nn.Module):
    """A trained model, in inference mode.

    Args:
        model: The network.
        config: What it was trained with.
        order: (C,) where it has the student's classes.
    """

    def __init__(self, model: nn.Module, config: RunConfig, order: Sequence[int]):
        super().__init__()
        self.model, self.config = model, config
        self.register_buffer("order", torch.tensor(order))

    def forward(self, rows: Rows) -> Tensor:
        """(B, C) logits of the clips as this model sees them, in the student's order."""
        batch = make_batch(rows, self.config)
        inputs = (torch.from_numpy(a) for a in (batch.keypoints, batch.attention_mask))
        scores = class_scores(self.model(*(tensor.to(self.order.device) for tensor in inputs)))
        return scores[:, self.order].float()


class Distillation(nn.Module):
    """Blends the labels' loss with the distance from the teachers' answers.

    Args:
        teachers: Whose probabilities are averaged.
        settings: How they count.
    """

    def __init__(self, teachers: Sequence[Teacher], settings: Settings):
        super().__init__()
        self.teachers, self.settings = nn.ModuleList(teachers), settings

    def forward(self, losses: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """``(1 - weight) losses + weight temperature² KL(teachers || student)``, as sums.

        The square keeps gradients as large as without a temperature (Hinton et al., section 2).

        Args:
            losses: The labels' loss, a sum over the batch.
            logits: (B, C) the student's.
            batch: What they are of.
        """
        weight, temperature = self.settings.weight, self.settings.temperature
        with torch.no_grad():
            answers = [F.softmax(t(batch.rows) / temperature, dim=1) for t in self.teachers]
            target = torch.stack(answers).mean(dim=0)
        student = F.log_softmax(logits.float() / temperature, dim=1)
        distance = F.kl_div(student, target, reduction="sum")
        return (1 - weight) * losses + weight * temperature**2 * distance


def train_distilled(
    clips: ClipSet,
    config: RunConfig,
    output: str | Path,
    *,
    teachers: Sequence[str | Path],
    settings: Settings,
    test_signers: Sequence[str] = (),
    announce: Callable[[str], None] = lambda text: None,
    checksum: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Trains a model that also learns from others; see `learner.train` for what is not listed.

    Args:
        clips: The recordings.
        config: The student's configuration.
        output: Run folder.
        teachers: Checkpoints, of any kind of model; several are one ensemble.
        settings: How they count.
        test_signers: Whom no teacher may have been trained on, unless `settings` allow it.
        announce: Called once with what is about to be trained, and how.
        checksum: Refuse teachers that are not what their checksums were made of.
        options: `learner.train`'s.

    Raises:
        CheckpointError: A teacher cannot be read, or tells other classes apart.
        ConfigError: A teacher takes other inputs, or may have been trained on the test signers.
    """
    found, seen, lines = [], [], []
    for source in teachers:
        checkpoint = load_checkpoint(source, checksum=checksum)
        order = class_order(checkpoint, config, clips, source)
        known = seen_by(checkpoint, clips, test_signers)
        if settings.allow_seen and known:
            lines.append(
                f"warning: {source} may have been trained on {', '.join(known)}, whom this run is "
                "tested on: scores say little of strangers"
            )
        else:
            require_unseen(known, source)
        seen += known
        model = build_model(checkpoint, checkpoint.config, source)
        found.append(Teacher(model, checkpoint.config, order))
        title = f"{checkpoint.config.name}, {num_parameters(model):,} parameters"
        lines.append(f"teacher {source}: {title}")
    lines.append(
        f"distilled: weight {settings.weight:g} of the loss, temperature {settings.temperature:g}"
    )
    return train(
        clips,
        config,
        output,
        test_signers=test_signers,
        announce=lambda text: announce("\n".join([text, *lines])),
        distillation=Distillation(found, settings),
        teachers=identity_of(settings, [file_sha256(source) for source in teachers], seen),
        **options,
    )
