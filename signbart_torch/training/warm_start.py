"""A run that starts from somebody's weights: `signbart.training.warm_start` in PyTorch."""

from __future__ import annotations

import numpy as np
import torch

from signbart.configuration.schema import RunConfig
from signbart.recordings.clip import ClipSet
from signbart.training.learner import Start
from signbart.training.requirements import with_labels
from signbart.training.warm_start import Init, start_from
from signbart_torch.models import new_model
from signbart_torch.training.checkpoint import Checkpoint


def start_of(init: Init, config: RunConfig, clips: ClipSet) -> Start:
    """The model that the run's seed makes, with what fits it of a checkpoint.

    Raises:
        SignBartError: See `signbart.training.warm_start.start_from`.
    """
    config = with_labels(config, clips)
    torch.manual_seed(config.train.seed)
    fresh = {name: t.numpy() for name, t in new_model(config.model).state_dict().items()}

    def to_checkpoint(tensors: dict[str, np.ndarray]) -> Checkpoint:
        state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        return Checkpoint(state, config, clips.class_names)

    return start_from(init, config, clips.class_names, fresh, to_checkpoint)
