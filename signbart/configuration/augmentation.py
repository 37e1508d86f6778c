"""Which changes of `augment` a layout allows."""

from __future__ import annotations

from signbart.configuration.schema import RunConfig
from signbart.errors import ConfigError
from signbart.landmarks.layouts import hand_groups


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
                f"'{layout.name}' is in image coordinates and has none; set it to 0 (shear and "
                "perspective are for images)"
            )
    seen = {joint for name in hand_groups(layout) for joint in layout.groups[name]}
    if settings.drop_hand and (layout.unit != "image" or seen.isdisjoint(config.joint_idx)):
        raise ConfigError(
            f"{source}: augment.drop_hand loses the landmarks of a group whose name contains "
            f"'hand', in image coordinates; the chosen ones of layout '{layout.name}', in "
            f"{layout.unit} coordinates, have no such group; set it to 0"
        )
