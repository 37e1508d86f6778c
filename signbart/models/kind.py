"""What a kind of model says of itself, and the checks that kinds share.

Legend: K landmarks, F features a frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from signbart.errors import ConfigError
from signbart.landmarks.layouts import LAYOUTS, Layout
from signbart.models.io_spec import IOSpec

# What a frame is: its landmarks, (K, coordinates), or one vector of them, interleaved.
POINTS, FEATURES = "points", "features"


@dataclass(frozen=True)
class Published:
    """Checkpoints that other projects published of a kind.

    Attributes:
        option: That names one, of ``bridge/export_models.py``.
        file: What is looked for where the option is not given.
        asks: Keywords of the kind's ``read_published`` that tensors may not tell.
    """

    option: str
    file: str
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axes:
    """Tensors of a network, by PyTorch's names, with an axis whose length the data decide.

    Attributes:
        classes: The layer whose weight and bias have a row a class.
        categories: Likewise for categories; empty where there are none.
        heads: Modules that score; all others are the body.
        landmarks: Weights (out, in) whose columns run over the landmarks that the model sees, once
            or several times.
        interleaved: Whether each landmark there has a column for each of its coordinates.
        positions: Tables whose axis before the last runs over positions.
    """

    classes: str
    heads: tuple[str, ...]
    landmarks: tuple[str, ...]
    positions: tuple[str, ...] = ()
    categories: str = ""
    interleaved: bool = False


@dataclass(frozen=True)
class Widths:
    """What gets smaller with ``d_model`` when a kind is pruned, by keys of its configuration.

    Attributes:
        feed_forward: Inner widths, which keep their ratio to ``d_model``.
        heads: Numbers of heads, which stay; each divides ``d_model``.
    """

    feed_forward: tuple[str, ...]
    heads: tuple[str, ...]


@dataclass(frozen=True)
class ModelKind:
    """One kind of model; its name is the address of its files in all packages.

    ``signbart_torch.models.<name>`` has ``Network`` and ``for_export``, and may have ``for_onnx``
    and ``read_published``; ``signbart_tf.models.<name>``, where there is a Keras twin, has
    ``Network`` and ``for_export``, and ``signbart.weights.<name>`` then ``rules``.

    Attributes:
        name: ``model.kind`` in configurations.
        title: What people call it.
        config: Its configuration's class; a network's ``config`` is one of these.
        io_spec: (configuration, batch, frames) -> inputs and outputs; None stands for any size.
        check: (configuration, layout, source) -> the configuration, completed from the landmark
            layout; raises `ConfigError` where it does not fit that or itself.
        frame: `POINTS` or `FEATURES`.
        coordinates: Of each landmark: 2 (x, y) or 3 (x, y, z); None: its configuration says.
        open_length: Whether its .onnx takes clips of any length.
        length_key: What limits the length of a clip, for messages.
        default_route: Of ``bridge/export_models.py``; docs/other_models.md has the measurements.
        quantized_operators: LiteRT operators that hold its weights, all of which every
            quantization scheme has to reach.
        trained_in: Names of the frameworks that train it.
        fake_quantized: Whether quantization-aware training knows its layers.
        widths: What pruning makes smaller; None where it does not know the kind.
        ignored_keys: Keys of published configurations that nothing reads, there or here.
        published: Other people's checkpoints of it, where there are any.
        axes: What of a trained model can be taken into one for other data; without them, whatever
            has the same name and shape.
    """

    name: str
    title: str
    config: type
    io_spec: Callable[[Any, int | None, int | None], IOSpec]
    check: Callable[[Any, Layout, str], Any]
    frame: str = POINTS
    coordinates: int | None = 2
    open_length: bool = True
    length_key: str = "the frames that the model has positions for"
    default_route: str = "litert"
    quantized_operators: tuple[str, ...] = ("FULLY_CONNECTED",)
    trained_in: tuple[str, ...] = ("torch",)
    fake_quantized: bool = False
    widths: Widths | None = None
    ignored_keys: tuple[str, ...] = ()
    published: Published | None = None
    axes: Axes | None = None


def check_joints(config: Any, layout: Layout, source: str) -> Any:
    """`config` with ``joint_idx`` filled in, and ``coordinates`` where it has them.

    That is every landmark of the layout where it names none, and its depth where there is one and
    nothing is said of it.

    Raises:
        ConfigError: An index is beyond the layout.
    """
    if config.joint_idx is None:
        config = dataclasses.replace(config, joint_idx=tuple(range(layout.num_keypoints)))
    if getattr(config, "coordinates", 0) is None:
        config = dataclasses.replace(config, coordinates=3 if layout.unit == "metres" else 2)
    for index in config.joint_idx:
        if not 0 <= index < layout.num_keypoints:
            raise ConfigError(
                f"{source}: model.joint_idx holds {index}, but layout '{layout.name}' has "
                f"landmarks 0 to {layout.num_keypoints - 1}; choose another data.layout or index"
            )
    return config


def check_features(config: Any, layout: Layout, source: str) -> Any:
    """`config`, if ``num_features`` are x and y of every landmark of the layout.

    Raises:
        ConfigError: They are not.
    """
    if config.num_features != 2 * layout.num_keypoints:
        wanted = config.num_features
        fitting = [name for name, of in LAYOUTS.items() if 2 * of.num_keypoints == wanted]
        raise ConfigError(
            f"{source}: model.num_features is {wanted}, but layout '{layout.name}' has x and y of "
            f"{layout.num_keypoints} landmarks, {2 * layout.num_keypoints} numbers; layouts that "
            f"fit: {', '.join(fitting) or 'none'}"
        )
    return config
