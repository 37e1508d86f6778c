"""Signatures of one .tflite for shorter clips, by their names: what a file says it has of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signbart.configuration.values import shown
from signbart.errors import ArtifactError
from signbart.models.io_spec import RAW_SIGNATURE, SIGNATURE

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig

# Signature -> what the names of its shorter forms begin with.
STEMS = {SIGNATURE: "serving", RAW_SIGNATURE: "landmarks"}


def signature_at(signature: str, frames: int | None) -> str:
    """What a file calls that signature for clips of at most `frames`; None: for all."""
    return signature if frames is None else f"{STEMS[signature]}_{frames}"


def config_at(config: RunConfig, frames: int | None) -> RunConfig:
    """The configuration of the same model for `frames`; None: as it is."""
    if frames is None:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, max_frames=frames))


def lengths_of(signature: str, longest: int, shorter: Iterable[int]) -> dict[str, int]:
    """Signature -> most frames, the shortest first: so a caller finds the one to take."""
    return {signature_at(signature, n): n for n in sorted(shorter)} | {signature: longest}


def carried_lengths(metadata: Mapping[str, Any], path: str | Path) -> list[int]:
    """The shorter lengths that an artifact says it has signatures for, ascending.

    Raises:
        ArtifactError: They are no such lengths; it names `path`.
    """
    said = metadata.get("lengths")
    if said is None:
        return []
    numbers = list(said.values()) if isinstance(said, dict) else []
    if numbers and all(type(number) is int and number >= 1 for number in numbers):
        *shorter, longest = sorted(numbers)
        if said == lengths_of(SIGNATURE, longest, shorter):
            return shorter
    raise ArtifactError(
        f"{path}: lengths of its metadata are {shown(said)}; they must be the most frames of "
        f"'{signature_at(SIGNATURE, 32)}', say, and of '{SIGNATURE}'; convert the checkpoint again"
    )
