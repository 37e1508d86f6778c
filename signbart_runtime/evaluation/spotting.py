"""How well a model finds signs in streams: clips strung together, spotted, and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError
from signbart.json_text import read_json_file
from signbart.streaming.rule import StreamRule, spot
from signbart.streaming.scoring import Spotting, score_stream, total
from signbart.streaming.stringing import string_clips
from signbart_runtime.evaluation.stream import window_probabilities

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet
    from signbart_runtime.evaluation.opened import OpenedModel


@dataclasses.dataclass(frozen=True)
class StreamScores:
    """One model on one stream a signer.

    Attributes:
        model: Name of the file.
        by_signer: Signer -> label -> what became of its signs.
    """

    model: str
    by_signer: Mapping[str, Mapping[str, Spotting]]

    @property
    def by_label(self) -> dict[str, Spotting]:
        """Over all streams; labels that were neither made nor seen are left out."""
        labels = sorted({label for found in self.by_signer.values() for label in found})
        minutes = sum(spotting.minutes for spotting in self.signers.values())
        found = {}
        for label in labels:
            parts = [of[label] for of in self.by_signer.values() if label in of]
            # A stream in which the label does not occur counts for false alarms, too.
            found[label] = dataclasses.replace(total(parts), minutes=minutes)
        return found

    @property
    def signers(self) -> dict[str, Spotting]:
        """Over all labels of each stream."""
        return {
            signer: dataclasses.replace(
                total(found.values()), minutes=max(part.minutes for part in found.values())
            )
            for signer, found in self.by_signer.items()
        }

    @property
    def total(self) -> Spotting:
        """Over all labels and streams."""
        return total(self.signers.values())

    def rows(self) -> list[list[str]]:
        """Of `scoring.COLUMNS`: labels, then signers where there are several, then all."""
        rows = [spotting.row(label) for label, spotting in self.by_label.items()]
        if len(self.by_signer) > 1:
            rows += [spotting.row(f"all, {who}") for who, spotting in self.signers.items()]
        return [*rows, self.total.row("all")]

    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "total": self.total.numbers(),
            "signers": {who: found.numbers() for who, found in self.signers.items()},
            "labels": {label: found.numbers() for label, found in self.by_label.items()},
        }


def evaluate_streams(
    model: OpenedModel,
    clips: ClipSet,
    rule: StreamRule,
    *,
    fps: float,
    seed: int,
    source: str,
    signers: Sequence[str] = (),
) -> StreamScores:
    """Strings each signer's clips together and spots their signs.

    Args:
        model: Any.
        clips: Labelled with classes of the model.
        rule: Makes events of windows.
        fps: Frames a second of the clips.
        seed: Of the streams: each signer's depends on it and on the signer's clips alone.
        source: The clips' path, for messages.
        signers: Whose; all by default.

    Raises:
        SignBartError: The clips do not fit the model, or a signer has none of a sign.
    """
    clips = clips.relabel(model.class_names, source)
    found = {}
    for signer in signers or clips.signer_names:
        stream = string_clips(clips, signer, fps=fps, seed=seed, idle=rule.idle)
        times, shares = window_probabilities(
            model,
            stream.frames(),
            rule,
            source=f"the stream of {signer}",
            landmark_names=clips.landmark_names,
        )
        events = spot(times, shares, rule, model.class_names)
        found[signer] = score_stream(stream.signs, events, stream.minutes)
    return StreamScores(model.runtime.name, found)


def require_same_spotting(path: Path, made_from: Mapping[str, Any]) -> None:
    """Refuses a file of scores that would be lost where others are written.

    Args:
        path: Need not exist.
        made_from: What the new scores depend on, in JSON containers.

    Raises:
        BridgeError: It holds what was made from anything else.
    """
    try:
        before = read_json_file(path)["made_from"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    if before != made_from:
        raise BridgeError(
            f"{path} holds the scores of other models, recordings or streams; choose another "
            "--output, or remove that file"
        )
