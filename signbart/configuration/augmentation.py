"""Which changes of `augment` a layout allows."""

from __future__ import annotations

from signbart.configuration.schema import RunConfig
from signbart.errors import ConfigError


def check_augmentation(config: RunConfig, source: str) -> None:
    """Refuses changes that the layout has nothing for.

    Args:
        config: The run's configuration.
        source: Where it came from, for messages.

    Raises:
        ConfigError: Says what the layout lacks.
    """
    layout, settings = config.data.landmark_layout, config.augment
    for key in ("yaw_degrees", "pitch_degrees"):
        if getattr(settings, key) and layout.unit != "metres":
            raise ConfigError(
                f"{source}: augment.{key} turns landmarks through their depth, but layout "
                f"'{layout.name}' is in image coordinates and has none; set it to 0 "
                "(augment.shear is for images)"
            )
