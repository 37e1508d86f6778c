"""Whom a trained model may know: what its header says, its own teachers' and its start's included.

Who is tested on has to be a stranger to the model, to whatever it started from, and to whoever
taught it; otherwise scores say little of strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet

MARKED = "the clips marked test"
# Parts of a run's identity that may say of signers it was tested on that they are no strangers.
_SOURCES = ("start", "teachers")


class Trained(Protocol):
    """What is asked, such as a checkpoint."""

    @property
    def progress(self) -> Mapping[str, Any]:
        """What training noted; of a file without a header nothing."""


def kept_out(model: Trained, clips: ClipSet) -> list[str]:
    """Whom a model has not been trained on, nor its teachers, nor what it started from.

    Args:
        model: Asked for its progress, which has been checked; see `weights.stored`.
        clips: The recordings of which is asked.

    Returns:
        The signers of whom its header says so; of clips marked ``test`` the word for them.
    """
    recordings = model.progress.get("recordings", {})
    names = list(recordings.get("test_signers", ()))
    if not names and recordings and recordings["fingerprint"] == clips.fingerprint():
        names = [MARKED]  # what training that names no signers holds out of these recordings
    known = seen_before(model.progress)
    return [name for name in names if name not in known]


def seen_before(progress: Mapping[str, Any]) -> set[str]:
    """Who is tested on and may be known to what a model started from, or to its teachers.

    Args:
        progress: What its header says.
    """
    return {name for part in _SOURCES for name in progress.get(part, {}).get("seen", ())}


def seen_by(model: Trained, clips: ClipSet, test_signers: Sequence[str]) -> list[str]:
    """Whom of those tested on a model may have been trained on, itself or by what it learned from.

    Args:
        model: As for `kept_out`.
        clips: The recordings.
        test_signers: Whom a run is tested on; none: what the recordings mark ``test``.

    Returns:
        Their names; of clips marked ``test`` those words.
    """
    unseen = kept_out(model, clips)
    marked = any(clip.split == "test" for clip in clips.clips)
    tested = test_signers or ([MARKED] if marked else [])
    return [name for name in tested if name not in unseen]
