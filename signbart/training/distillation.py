"""Distillation, whatever the framework: who may teach whom.

A student learns what its teachers make of the very clips that it is shown, augmented and mixed as
they are (Hinton, Vinyals, Dean: "Distilling the Knowledge in a Neural Network", 2015).

Legend: C classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart.training.run_folder import Resumable

# What has to be the student's own: clips are prepared and augmented once for all models.
_SHARED = ("layout", "max_frames", "resample", "normalization")


@dataclass(frozen=True)
class Settings:
    """How much is learned from teachers, and how soft their answers are.

    Attributes:
        weight: Their share of the loss, above 0 and at most 1; the rest is the labels'.
        temperature: What all logits are divided by before they are compared.
        allow_seen: Whether teachers may have been trained on whom the student is tested on.

    Raises:
        ConfigError: A number is not possible.
    """

    weight: float = 0.7
    temperature: float = 2.0
    allow_seen: bool = False

    def __post_init__(self):
        if not 0.0 < self.weight <= 1.0:
            raise ConfigError(f"--weight {self.weight:g}: give more than 0 and at most 1")
        if not 0.0 < self.temperature < float("inf"):
            raise ConfigError(f"--temperature {self.temperature:g}: give a number above 0")


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """How much teachers count, and how soft their answers are."""
    parser.add_argument(
        "--weight",
        type=float,
        metavar="SHARE",
        help="the teachers' share of the loss, the rest is the labels' (default: "
        f"{Settings.weight:g})",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="divides all logits before they are compared, which softens them (default: "
        f"{Settings.temperature:g})",
    )


def settings_of(options: argparse.Namespace, *, allow_seen: bool = False) -> Settings:
    """What `add_settings_arguments` gave.

    Raises:
        ConfigError: A number is not possible.
    """
    given = {name: getattr(options, name) for name in ("weight", "temperature")}
    given = {name: value for name, value in given.items() if value is not None}
    return Settings(**given, allow_seen=allow_seen)


def class_order(
    teacher: Resumable, config: RunConfig, clips: ClipSet, source: str | Path
) -> list[int]:
    """Where a teacher has the classes of the recordings: C places among its logits.

    Args:
        teacher: Its checkpoint.
        config: The student's.
        clips: The recordings.
        source: The checkpoint's path, for messages.

    Raises:
        CheckpointError: The teacher tells other classes apart, or what it was trained with is not
            known.
        ConfigError: It takes other inputs than the student's configuration makes.
    """
    if teacher.config is None:
        raise CheckpointError(
            f"{source} carries no configuration, so what it takes is not known; distil from a "
            "checkpoint that this project wrote"
        )
    _require_same_inputs(teacher.config, config, source)
    if set(teacher.class_names) != set(clips.class_names):
        names = sorted(set(teacher.class_names) ^ set(clips.class_names))
        raise CheckpointError(
            f"{source} tells other classes apart than these recordings have: {len(names)} are on "
            f"one side only ({', '.join(names[:5])}); take a teacher of the same classes"
        )
    return [teacher.class_names.index(name) for name in clips.class_names]


def _require_same_inputs(teacher: RunConfig, student: RunConfig, source: str | Path) -> None:
    for key in _SHARED:
        theirs, ours = getattr(teacher.data, key), getattr(student.data, key)
        if theirs != ours:
            raise ConfigError(
                f"{source} was trained with data.{key}={theirs}, and this configuration has "
                f"{ours}: they would see other clips; give --set data.{key}={theirs}"
            )
    if teacher.joint_idx != student.joint_idx:
        joints = ",".join(map(str, teacher.joint_idx))
        raise ConfigError(
            f"{source} takes other landmarks than this configuration's {student.num_keypoints}; "
            f"give --set model.joint_idx=[{joints}]"
        )
    if teacher.coordinates > student.augmented_coordinates:
        raise ConfigError(
            f"{source} takes depth, which this configuration's clips do not keep: it takes x and y "
            "and turns no body through its depth; set augment.yaw_degrees or pitch_degrees, or "
            "take a teacher of x and y"
        )


def require_unseen(seen: Sequence[str], source: str | Path) -> None:
    """Refuses a teacher that may know whom the student is tested on.

    Args:
        seen: What `seen.seen_by` found.
        source: The checkpoint's path.

    Raises:
        ConfigError: There is somebody.
    """
    if seen:
        raise ConfigError(
            f"{source} may have been trained on {', '.join(seen)}, whom this run is tested on: its "
            "header does not say that they were kept out. Scores would say little of strangers. "
            "Take a teacher that was tested on them, or pass --allow-seen"
        )


def identity_of(settings: Settings, hashes: Sequence[str], seen: Sequence[str]) -> dict[str, Any]:
    """What tells a distilled run from others, in JSON containers; its checkpoints carry it.

    Args:
        settings: Of the run.
        hashes: The teachers' checkpoints, each by SHA-256.
        seen: Whom of those tested on some teacher may know.
    """
    return {
        "checkpoints": list(hashes),
        "weight": settings.weight,
        "temperature": settings.temperature,
        **({"seen": sorted(set(seen))} if seen else {}),
    }
