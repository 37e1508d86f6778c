"""What a framework supplies to train a model: a `Learner`. `lifecycle` has the order of things.

Legend: N clips, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from signbart.batches import PreparedClips
from signbart.training.seen import kept_out, seen_by

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of clips.

    Attributes:
        logits: (N, C) float32.
        loss: Their mean cross-entropy, in the framework's own arithmetic.
        percentages: Scores that only some models have, by name.
    """

    logits: np.ndarray
    loss: float
    percentages: Mapping[str, float] = field(default_factory=dict)


class EventWriter(Protocol):
    """TensorBoard's event files."""

    def write(self, row: Mapping[str, float]) -> None:
        """One epoch's numbers, a scalar each."""

    def close(self) -> None:
        """Writes what is left."""


class Learner(Protocol):
    """One model in training, with its optimizer; made with the initial weights of the run's seed.

    A checkpoint is what the framework's `load_checkpoint` reads.

    Attributes:
        parameters: How many values are trained.
        where: What it computes on, in words.
        notes: Further lines about what is trained.
        is_main: Whether this is the process that writes and reports, among those that train along.
    """

    parameters: int
    where: str
    notes: Sequence[str] = ()
    is_main: bool = True

    def load(self, checkpoint: Any, source: str | Path) -> None:
        """Takes a checkpoint's weights; `source` is its path, for messages."""

    def restore(self, checkpoint: Any, source: str | Path) -> None:
        """Takes the weights and the optimizer's state of a checkpoint that was saved to go on."""

    def refresh(self) -> None:
        """Brings the preparation of `Start`, if there is one, up to date with the weights."""

    def train_epoch(
        self, data: PreparedClips, epoch: int, rate_of: Callable[[int], float]
    ) -> tuple[float, float]:
        """One pass over the training clips.

        Args:
            data: The clips.
            epoch: Its number, from 0: decides the batches and what dropout draws.
            rate_of: The learning rate of a step, by its number in the epoch, from 0; asked once
                before each step.

        Returns:
            Mean loss of the clips, and how many percent were classified correctly.
        """

    def evaluate(self, data: PreparedClips) -> Evaluation:
        """The model that `save` writes, on clips, as it was prepared.

        It is the one of the averaged weights where ``train.ema`` asks for them.
        """

    def evaluate_plain(self, data: PreparedClips) -> Evaluation:
        """The model of the weights that are trained, not of their average; asked with ``ema``."""

    def evaluator_of(
        self, checkpoint: Any, source: str | Path
    ) -> Callable[[PreparedClips], Evaluation]:
        """Evaluates an ordinary model of a checkpoint's weights, without preparation."""

    def save(self, path: Path, progress: Mapping[str, Any], *, resumable: bool) -> None:
        """Writes an ordinary checkpoint, with the optimizer's state where it is to be resumed.

        With ``train.ema`` its model has the averaged weights, and the state also the others.
        """

    def open_event_writer(self, folder: Path, purge_step: int) -> EventWriter:
        """TensorBoard's writer; events of interrupted runs from `purge_step` on are hidden."""

    def require_alike(self, about: Mapping[str, Any], path: Path) -> None:
        """Refuses processes that would train something else together.

        Args:
            about: What has to be the same in all of them, by what to call it.
            path: What the main process has written, and all have to see.

        Raises:
            ConfigError: In every process.
        """

    def wait_for_others(self) -> None:
        """Returns when every process that trains along has come here."""


@dataclass(frozen=True)
class Start:
    """A trained model to go on from; the model as it starts is a candidate for the best epoch.

    Attributes:
        checkpoint: The model, of the run's own sizes.
        source: The checkpoint's path, for messages.
        identity: What tells this start from others, in JSON containers: a run is resumed only from
            the same one, and its checkpoints carry it.
        preparation: Changes what the model computes while it trains, validates and is tested, but
            not what its checkpoints hold; what it is, the framework's learner says.
        notes: Lines about how it starts.
        progress: What the training of the model noted that it starts from. By default nothing, so
            that it may have been trained on anybody.
    """

    checkpoint: Any
    source: str | Path
    identity: Mapping[str, Any]
    preparation: Any = None
    notes: Sequence[str] = ()
    progress: Mapping[str, Any] = field(default_factory=dict)

    def tested_on(self, clips: ClipSet, test_signers: Sequence[str]) -> Start:
        """This start of a run that is tested on these: with whom of them the model may know.

        They stand in the identity, as ``seen``, so that checkpoints of the run do not pass for
        strangers to them, and in the notes.

        Args:
            clips: The run's recordings.
            test_signers: Its test signers; none: what the recordings mark ``test``.
        """
        seen = seen_by(self, clips, test_signers)
        if not seen:
            return self
        known = ", ".join(kept_out(self, clips)) or "nobody"
        warning = (
            f"warning: {self.source} may have been trained on {', '.join(seen)}, whom this run is "
            f"tested on: by its header {known} was kept out of all its training. Scores then say "
            "little of strangers"
        )
        return replace(
            self, identity={**self.identity, "seen": sorted(seen)}, notes=[*self.notes, warning]
        )


def mixed_seed(*parts: int) -> int:
    """One seed of 32 bits from several numbers, such as a run's seed and an epoch."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
