"""MediaPipe GRUs that other projects published."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from signbart.models.mediapipe_gru import MediapipeGruConfig
from signbart_torch.models.mediapipe_gru.model import MediapipeGru
from signbart_torch.models.published import PublishedCheckpoint, build, read_sizes_of


def read_published(checkpoint: PublishedCheckpoint) -> MediapipeGru:
    """Reads a published MediaPipe GRU, in inference mode; its tensors tell every size.

    Args:
        checkpoint: What the file holds.

    Raises:
        CheckpointError: It is no MediaPipe GRU.
    """

    def read_sizes(tensors: Mapping[str, Tensor]) -> MediapipeGruConfig:
        projection = tensors.get("input_projection.weight")
        first = tensors["gru1.weight_ih_l0"] if projection is None else projection
        return MediapipeGruConfig(
            num_features=first.shape[1],
            num_labels=len(tensors["gloss_head.weight"]),
            num_categories=len(tensors["category_head.weight"]),
            projection_dim=None if projection is None else len(projection),
            hidden1=tensors["gru1.weight_hh_l0"].shape[1],
            hidden2=tensors["gru2.weight_hh_l0"].shape[1],
            bidirectional="gru1.weight_ih_l0_reverse" in tensors,
        )

    config = read_sizes_of(checkpoint, read_sizes, MediapipeGruConfig(), MediapipeGru)
    return build(MediapipeGru, config, checkpoint.tensors, checkpoint.source)
