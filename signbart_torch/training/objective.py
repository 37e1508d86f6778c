"""What training makes smaller: cross entropy of the classes, and of their categories where known.

Legend: B batch, C classes, G categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signbart.configuration.schema import RunConfig
from signbart_torch.models import class_scores
from signbart_torch.training.data import Batch

# (B,) labels of what each clip was mixed with, and (B,) the clip's own share, from 1/2 to 1.
Mixed = tuple[Tensor, Tensor]


class Distillation(Protocol):
    """Lets a model learn from what others make of the same clips."""

    def to(self, device: torch.device) -> Any:
        """Moves the others there."""

    def __call__(self, losses: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """The sum over a batch, of the sum of ordinary losses and the model's logits (B, C)."""


class Objective:
    """The loss of a run.

    Args:
        config: The run's configuration.
        class_names: C labels, each with a category where the configuration has any.
        device: Of the model.
    """

    def __init__(self, config: RunConfig, class_names: Sequence[str], device: torch.device):
        self._smoothing = config.train.label_smoothing
        names = config.data.category_names
        # (C,): the category of each class.
        self._category_of = torch.tensor(
            [names.index(config.data.categories[name]) for name in class_names] if names else [],
            dtype=torch.int64,
            device=device,
        )

    @property
    def has_categories(self) -> bool:
        """Whether categories are learned."""
        return len(self._category_of) > 0

    def __call__(
        self, outputs: Tensor | dict[str, Tensor], labels: Tensor, mixed: Mixed | None = None
    ) -> Tensor:
        """The sum over a batch.

        Args:
            outputs: The model's.
            labels: (B,) classes.
            mixed: What else the clips are of; their loss is the two labels', by their shares.
        """
        loss = self._cross_entropy(class_scores(outputs), labels, mixed)
        if self.has_categories:
            if mixed is not None:
                mixed = self.categories(mixed[0].to(labels.device)), mixed[1]
            categories = self.categories(labels)
            loss = loss + self._cross_entropy(outputs["category"], categories, mixed)
        return loss

    def categories(self, labels: Tensor) -> Tensor:
        """(B,) classes -> (B,) categories."""
        return self._category_of[labels]

    def _cross_entropy(self, logits: Tensor, labels: Tensor, mixed: Mixed | None) -> Tensor:
        loss = partial(F.cross_entropy, logits.float(), label_smoothing=self._smoothing)
        if mixed is None:
            return loss(labels, reduction="sum")
        partners, shares = (tensor.to(logits.device) for tensor in mixed)
        own, other = loss(labels, reduction="none"), loss(partners, reduction="none")
        return (shares * own + (1 - shares) * other).sum()


def leave_out_unused(model: nn.Module, objective: Objective, example: Tensor) -> list[str]:
    """Marks parameters that the loss does not depend on as not to be trained; their names.

    Such are the category head without categories, and a token that the chosen pooling does not
    read. Weight decay would shrink them, and processes that train together would wait for their
    gradients.

    Args:
        model: Any network.
        objective: The run's loss.
        example: Keypoints of one clip, as the model takes them.
    """
    mask = torch.ones(example.shape[:2], dtype=torch.int32, device=example.device)
    model.eval()  # draws no random numbers
    # cuDNN's recurrent layers go back in training mode alone.
    with torch.backends.cudnn.flags(enabled=False):
        objective(model(example, mask), mask.new_zeros(1, dtype=torch.int64)).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in unused)
    model.zero_grad(set_to_none=True)
    return unused
