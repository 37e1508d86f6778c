"""The yardstick: SignBART exported as it is written, every query of the last layer included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from signbart.models.io_spec import ATTENTION_MASK, KEYPOINTS, LOGITS
from signbart_torch.models.signbart.layers import last_frame_selector
from signbart_torch.models.signbart.model import SignBart


class PlainGraph(nn.Module):
    """The model with a batch axis, spelt-out attention, and nothing fused or left out."""

    def __init__(self, model: SignBart):
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """(1, T, K, 2) and (1, T) -> logits (1, C)."""
        model = self.model
        present = attention_mask[:, :, None, None] > 0
        points = torch.where(present, keypoints, torch.zeros_like(keypoints))
        x, y = model.projection(points, attention_mask)
        encoded = model.encoder(x, attention_mask)
        decoded = model.decoder(y, encoded, attention_mask, last_frame_only=False)
        last = last_frame_selector(attention_mask, decoded.dtype) @ decoded
        return {LOGITS: model.classification_head(last.squeeze(1))}


def export_plain(model: SignBart, example: Mapping[str, Tensor], path: Path) -> None:
    """Writes it by LiteRT Torch.

    Args:
        model: In inference mode.
        example: Inputs of the shapes that the file is to have.
        path: The .tflite.

    Raises:
        ArithmeticError: It is not the same function as the model.
    """
    import litert_torch

    plain = PlainGraph(model).eval()
    with torch.inference_mode():
        difference = plain(**example)[LOGITS] - model(**example)
    if difference.abs().max() > 1e-5:
        raise ArithmeticError(f"the plain graph is off by {difference.abs().max():.2g}")
    kwargs = {name: example[name] for name in (KEYPOINTS, ATTENTION_MASK)}
    litert_torch.convert(plain, sample_kwargs=kwargs).export(str(path))
