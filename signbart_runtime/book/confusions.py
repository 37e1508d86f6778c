"""Which signs are taken for which, in words."""

from __future__ import annotations

from collections import Counter

import numpy as np

from signbart.training.predictions import Predictions

_LISTED = 12  # pairs: the rest is in the pictures


def confused_pairs(found: Predictions) -> list[str]:
    """Pairs of classes by how often clips of the one were taken for the other, a line each."""
    predicted = found.logits.argmax(axis=1)
    counts = found.confusion.copy()
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    names, lines = found.class_names, []
    for place in np.argsort(-counts, axis=None, kind="stable")[:_LISTED]:
        label, other = np.unravel_index(place, counts.shape)
        if not counts[label, other]:
            break
        at = np.flatnonzero((found.labels == label) & (predicted == other))
        signers = Counter(found.signers[one] for one in at).most_common()
        whose = ", ".join(f"{name} {count}" for name, count in signers)
        lines.append(
            f"{names[label]} is taken for {names[other]}: {len(at)} of {totals[label]} clips "
            f"({100 * len(at) / totals[label]:.0f} %; {whose})"
        )
    return lines
