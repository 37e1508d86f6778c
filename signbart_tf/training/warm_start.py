"""A run that starts from somebody's weights: `signbart.training.warm_start` in Keras."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from signbart.configuration.schema import RunConfig
from signbart.recordings.clip import ClipSet
from signbart.training.learner import Start
from signbart.training.requirements import with_labels
from signbart.training.warm_start import Init, body_of, frozen_of, start_from
from signbart.weights.port import keras_variables, torch_to_keras
from signbart.weights.rules import ABSENT, rules_of
from signbart_tf.models import new_model
from signbart_tf.training.checkpoint import Checkpoint


def start_of(init: Init, config: RunConfig, clips: ClipSet) -> Start:
    """The model that the run's seed makes, with what fits it of a checkpoint.

    Raises:
        SignBartError: See `signbart.training.warm_start.start_from`.
    """
    config = with_labels(config, clips)
    keras.utils.set_random_seed(config.train.seed)
    model = new_model(config.model)

    def to_checkpoint(tensors: dict[str, np.ndarray]) -> Checkpoint:
        torch_to_keras(rules_of(config.model), tensors, model)
        return Checkpoint(model, config, clips.class_names)

    rules = {rule.keras_path: rule for rule in rules_of(config.model)}
    fresh = {
        name: rules[path].to_torch(variable.numpy())
        for name, (path, variable) in _by_name(model, config).items()
    }
    return start_from(init, config, clips.class_names, fresh, to_checkpoint)


def freeze_parts(model: keras.Model, config: RunConfig, freeze: Sequence[str]) -> None:
    """Marks parts as not to be trained; see `frozen_of`."""
    variables = _by_name(model, config)
    for name in frozen_of(config, list(variables), freeze):
        variables[name][1].trainable = False


def stored_variables(model: keras.Model, config: RunConfig) -> list[keras.Variable]:
    """What a checkpoint holds of a model, frozen or not: of all models of a run in one order.

    Running statistics are among them, and the ranges of fake quantization are not.
    """
    return [variable for _, variable in _by_name(model, config).values()]


def body_variables(model: keras.Model, config: RunConfig) -> list[keras.Variable]:
    """The variables that belong to no head."""
    variables = _by_name(model, config)
    return [variables[name][1] for name in body_of(config, list(variables))]


def _by_name(model: keras.Model, config: RunConfig) -> dict[str, tuple[str, keras.Variable]]:
    """A model's variables by PyTorch's names, each with its path."""
    rules = rules_of(config.model)
    variables = keras_variables(model, rules)
    return {
        rule.torch_key: (rule.keras_path, variables[rule.keras_path])
        for rule in rules
        if rule.transform != ABSENT
    }
