"""Who is trained on, who chooses the best epoch, who is tested: by signer wherever possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from signbart.configuration.schema import TrainConfig
from signbart.errors import ClipError
from signbart.recordings.clip import ClipSet

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet


@dataclass(frozen=True)
class Split:
    """Indices into a `ClipSet`; the three are disjoint, `val` and `test` may be empty."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    val_signers: tuple[str, ...] = ()
    test_signers: tuple[str, ...] = ()


def split_clips(
    clips: ClipSet,
    config: TrainConfig,
    test_signers: Sequence[str] = (),
    *,
    after: str | None = None,
) -> Split:
    """Holds out clips to test on, then clips to choose the best epoch by.

    The test signers' clips are tested on; without any, those that the recordings themselves mark
    ``test``. Recordings marked ``val`` then validate. Otherwise validation takes
    `config.val_signers` whole signers, those that follow the test signers in the sorted order (so
    that in leave-one-signer-out each signer validates as often as any other). If that would leave
    fewer than two signers to train on, a share `config.val_fraction` of the clips, stratified by
    class, stands in.

    Args:
        clips: The recordings.
        config: Says how many signers or clips validate.
        test_signers: Signers to test on, whatever the recordings mark; in whatever order.
        after: The one of them whom those that validate follow; by default the last in the sorted
            order.

    Raises:
        ClipError: A test signer is unknown, or nothing is left to train on.
    """
    names = clips.signer_names
    for signer in test_signers:
        if signer not in names:
            raise ClipError(f"no clips by signer '{signer}'; the signers are {', '.join(names)}")
    signers = np.array(clips.signers)
    marked = np.array([clip.split for clip in clips.clips])
    testing = np.isin(signers, list(test_signers)) if test_signers else marked == "test"
    # A signer with clips on both sides of a marked division cannot validate without leaking.
    rest = [name for name in names if name not in set(signers[testing])]
    if testing.all():
        raise ClipError("every clip is held out for testing; leave some to train on")

    val_signers: tuple[str, ...] = ()
    if not test_signers and (marked == "val").any():
        validating = marked == "val"
    elif config.val_signers and len(rest) - config.val_signers >= 2:
        begin = names.index(after or max(test_signers)) + 1 if test_signers else len(names) - 1
        ring = [name for name in names[begin:] + names[:begin] if name in rest]
        val_signers = tuple(ring[: config.val_signers])
        validating = np.isin(signers, val_signers)
    else:
        validating = np.zeros(len(clips), bool)
        if config.val_fraction:
            validating[_stratified_share(clips, np.flatnonzero(~testing), config)] = True
    return Split(
        train=np.flatnonzero(~testing & ~validating),
        val=np.flatnonzero(validating),
        test=np.flatnonzero(testing),
        val_signers=val_signers,
        test_signers=tuple(test_signers),
    )


def split_as_begun(clips: ClipSet, config: TrainConfig, recordings: Mapping[str, Any]) -> Split:
    """The division of a run that goes on.

    In runs of before, who validates follows the last test signer that was named. Their checkpoints
    keep that order; those of today have the sorted one.

    Args:
        clips: The run's recordings.
        config: The run's.
        recordings: What its checkpoint says of them; see `progress.identify_recordings`.

    Raises:
        ClipError: See `split_clips`.
    """
    named = recordings["test_signers"]
    split = split_clips(clips, config, sorted(set(named)), after=named[-1] if named else None)
    return replace(split, test_signers=tuple(named))


def split_further(
    clips: ClipSet, config: TrainConfig, test_signers: Sequence[str], before: Mapping[str, Any]
) -> Split:
    """The division of a run that begins, with what was trained before or without.

    Args:
        clips: The run's recordings.
        config: The run's.
        test_signers: Signers to test on, in whatever order.
        before: What is noted of that training; empty without any. Where it was on the same
            recordings, and tested on the same signers, the same ones validate.

    Raises:
        ClipError: See `split_clips`.
    """
    known = before.get("recordings")
    same = known and set(known["test_signers"]) == set(test_signers)
    if same and known["fingerprint"] == clips.fingerprint():
        return split_as_begun(clips, config, known)
    return split_clips(clips, config, sorted(set(test_signers)))


def _stratified_share(clips: ClipSet, candidates: np.ndarray, config: TrainConfig) -> np.ndarray:
    """A share of `candidates`, of every class alike; classes of one clip stay in training."""
    from sklearn.model_selection import train_test_split

    labels = clips.labels[candidates]
    counts = np.bincount(labels, minlength=len(clips.class_names))
    enough = candidates[counts[labels] >= 2]
    present = len(np.unique(clips.labels[enough]))
    size = max(round(config.val_fraction * len(candidates)), present)
    if present == 0 or len(enough) - size < present:
        raise ClipError(
            f"{len(candidates)} training clips in {present} classes are too few to set "
            f"{size} aside for validation; record more, or set train.val_fraction=0"
        )
    _, held_out = train_test_split(
        enough, test_size=size, stratify=clips.labels[enough], random_state=config.seed
    )
    return held_out


# How `divide` calls clips that are strangers to the model.
UNSEEN = "that were not trained on"


def divide(
    clips: ClipSet,
    config: RunConfig,
    test_signers: Sequence[str] | None,
    *,
    count: int,
    seed: int,
) -> tuple[ClipSet, ClipSet, str]:
    """Parts recordings into those that were trained on and those to judge by.

    The division is the training's own. Where that is not known, or held nothing out, the clips that
    calibration does not take are judged by: the model may have seen them, the quantizer has not.

    Args:
        clips: All recordings.
        config: The run's configuration.
        test_signers: Those that the run was tested on, in the order of its checkpoint, which
            says who validated; None: not known.
        count: How many clips calibration will take.
        seed: Of that choice.

    Returns:
        Clips to calibrate on, clips to judge by, and how the latter were chosen, in words.

    Raises:
        SignBartError: A test signer is not among the clips.
    """
    from signbart.training.calibration import balanced_choice

    if test_signers is not None:
        split = split_as_begun(clips, config.train, {"test_signers": list(test_signers)})
        held_out = [*split.val, *split.test]
        if held_out:
            return clips.select(split.train), clips.select(held_out), UNSEEN
    taken = set(balanced_choice(clips.labels, clips.signers, count, seed).tolist())
    held_out = [at for at in range(len(clips)) if at not in taken]
    how = "that calibration does not take; the model may have been trained on them"
    if test_signers is not None and not count:
        how = "that the model was trained on"
    return clips.select(sorted(taken)), clips.select(held_out), how
