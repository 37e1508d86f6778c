"""The models that the bridge carries, as one table.

Routes, runtimes, the weight map and the commands all read `MODELS`; none of them names a model. A
further one is a file with its network and a row here: without a Keras twin it is offered by the
routes that need none. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError
from bridge.spec import IOSpec, classifier_spec, signbart_spec
from signbart.config import MODEL_CONFIGS

if TYPE_CHECKING:
    import keras
    from torch import nn

    from bridge.weight_map import Rule


@dataclass(frozen=True)
class Twin:
    """A model's Keras form; each text is ``module:name``, imported when it is asked for.

    Attributes:
        build: Class; takes the model's configuration.
        for_export: Function; Keras model -> the graph that is exported.
        rules: Function; configuration -> the weight map's rules.
    """

    build: str
    for_export: str
    rules: str


@dataclass(frozen=True)
class Published:
    """Other people's checkpoints of a model, which `bridge/export_models.py` takes.

    Attributes:
        option: Of that command.
        file: What it looks for where the option is not given.
        load: ``module:function``; path and keywords -> the PyTorch model.
        asks: Those keywords that tensors may not tell; ``trust_pickle`` is always one.
    """

    option: str
    file: str
    load: str
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """One kind of model.

    Attributes:
        name: Key in `MODELS`, and ``model.kind`` in configurations.
        title: What people call it.
        config: Its configuration's class; a model's ``config`` is one of these.
        io_spec: (configuration, batch, frames) -> inputs and outputs; None stands for any size.
        for_export: ``module:function``; model -> the module that is exported for one clip of fixed
            length. Called with the inputs by name, it gives the one output, or a dict of them.
        for_onnx: ``module:function``; model -> what is exported to ONNX where that is not the model
            itself, nor what `for_export` gives. Need not be callable outside of an export.
        twin: Its Keras form; None where there is none.
        published: Other people's checkpoints of it, where there are any.
        default_route: The one of `bridge/export_models.py`; docs/zoo.md has the measurements.
    """

    name: str
    title: str
    config: type
    io_spec: Callable[[Any, int | None, int | None], IOSpec]
    for_export: str
    for_onnx: str | None = None
    twin: Twin | None = None
    published: Published | None = None
    default_route: str = "litert"

    def export_graph(self, model: nn.Module) -> nn.Module:
        """The graph that goes into a .tflite."""
        return _load(self.for_export)(model)

    def onnx_graph(self, model: nn.Module, *, dynamic: bool) -> nn.Module:
        """The graph that goes into an .onnx, of any batch and length or of one clip's."""
        if self.for_onnx is not None:
            return _load(self.for_onnx)(model)
        return model if dynamic else self.export_graph(model)

    def build_keras(self, config: Any) -> keras.Model:
        """The Keras twin with fresh weights."""
        return _load(self._twin.build)(config)

    def keras_export_graph(self, twin: keras.Model) -> keras.Model:
        """The graph of a Keras twin that goes into a .tflite."""
        return _load(self._twin.for_export)(twin)

    def load_published(self, path: Path, **given: Any) -> nn.Module:
        """Somebody else's checkpoint; `given` holds what the user said, and None for the rest."""
        refused = [name for name in given if name not in (*self.published.asks, "trust_pickle")]
        said = {name: value for name, value in given.items() if value is not None}
        return _load(self.published.load)(
            path, **{name: value for name, value in said.items() if name not in refused}
        )

    def rules(self, config: Any) -> list[Rule]:
        """The weight map between the two."""
        return _load(self._twin.rules)(config)

    @property
    def routes(self) -> tuple[str, ...]:
        """Names of the routes that carry it."""
        from bridge.routes import ROUTES

        return tuple(r.name for r in ROUTES.values() if self.twin or not r.needs_twin)

    @property
    def _twin(self) -> Twin:
        if self.twin is None:
            raise BridgeError(
                f"{self.title} has no Keras twin; routes that carry it: {', '.join(self.routes)}"
            )
        return self.twin


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="signbart",
            title="SignBART",
            config=MODEL_CONFIGS["signbart"],
            io_spec=signbart_spec,
            for_export="signbart_torch.export_graph:for_export",
            twin=Twin(
                build="signbart_tf.model:SignBart",
                for_export="signbart_tf.export_graph:for_export",
                rules="bridge.weight_map:signbart_rules",
            ),
        ),
        Model(
            name="sign_transformer",
            title="sign Transformer",
            config=MODEL_CONFIGS["sign_transformer"],
            io_spec=classifier_spec,
            for_export="signbart_torch.zoo.sign_transformer:for_export",
            twin=Twin(
                build="signbart_tf.zoo.sign_transformer:SignTransformer",
                for_export="signbart_tf.zoo.sign_transformer:for_export",
                rules="bridge.zoo_rules:sign_transformer_rules",
            ),
            published=Published(
                option="transformer",
                file="Transformer.pt",
                load="signbart_torch.zoo.published:load_sign_transformer",
                asks=("attention_heads", "pooling", "max_frames"),
            ),
        ),
        Model(
            name="mediapipe_gru",
            title="MediaPipe GRU",
            config=MODEL_CONFIGS["mediapipe_gru"],
            io_spec=classifier_spec,
            for_export="signbart_torch.zoo.gru_export:for_export",
            for_onnx="signbart_torch.zoo.gru_export:for_onnx",
            twin=Twin(
                build="signbart_tf.zoo.mediapipe_gru:MediapipeGru",
                for_export="signbart_tf.zoo.mediapipe_gru:for_export",
                rules="bridge.zoo_rules:mediapipe_gru_rules",
            ),
            published=Published(
                option="gru",
                file="GRU.pt",
                load="signbart_torch.zoo.published:load_mediapipe_gru",
            ),
            default_route="keras",
        ),
    )
}


def model_of(config: Any) -> Model:
    """The row whose configuration this is; raises `BridgeError` where there is none."""
    for model in MODELS.values():
        if type(config) is model.config:
            return model
    known = ", ".join(model.config.__name__ for model in MODELS.values())
    raise BridgeError(f"no model is configured by {type(config).__name__}; known: {known}")
