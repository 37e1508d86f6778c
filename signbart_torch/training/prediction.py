"""What a network says of clips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from signbart.batches import PreparedClips
from signbart.configuration.schema import RunConfig
from signbart_torch.training.data import evaluation_batches


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
