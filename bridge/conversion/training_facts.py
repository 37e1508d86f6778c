"""What a checkpoint knows of its training, with what recordings that it knows add to that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signbart.recordings.data_source import DataSource
from signbart.training.splits import split_clips
from signbart.weights.stored import read_progress

if TYPE_CHECKING:
    from bridge.weights.source import Source
    from signbart.recordings.clip import ClipSet


@dataclass(frozen=True)
class TrainingFacts:
    """For a model card.

    Attributes:
        clips: How many were trained on or held out.
        held_out: Signers who were tested on.
        epoch: The best one, which is the checkpoint's.
        data: Name of the recordings; empty where they are not at hand, and so are the next two.
        signers: Who was trained on.
        validated: Who chose the epoch.
    """

    clips: int
    held_out: tuple[str, ...]
    epoch: int | None = None
    data: str = ""
    signers: tuple[str, ...] = ()
    validated: tuple[str, ...] = ()


def training_facts(
    source: Source, recordings: ClipSet | None, data: str | DataSource | None
) -> TrainingFacts | None:
    """What is known; None where the checkpoint says nothing, as published ones do.

    Args:
        source: The checkpoint.
        recordings: Those at hand; they count if they are what it was trained on.
        data: Their path.
    """
    progress = read_progress(source.checkpoint)
    known = progress.get("recordings")
    if known is None:
        return None
    clips, held_out = known["clips"], tuple(known["test_signers"])
    epoch = progress.get("epoch")
    if recordings is None or known["fingerprint"] != recordings.fingerprint():
        return TrainingFacts(clips, held_out, epoch)
    split = split_clips(recordings, source.config.train, held_out)
    trained = {recordings.signers[at] for at in split.train}
    validated = {recordings.signers[at] for at in split.val} - trained
    return TrainingFacts(
        clips, held_out, epoch, _name_of(data), tuple(sorted(trained)),
        tuple(sorted(validated)),
    )  # fmt: skip


def _name_of(data: str | DataSource | None) -> str:
    return Path(str(data)).name.removesuffix(".npz")
