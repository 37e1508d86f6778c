"""A model layout of a user's own, as a configuration carries it.

It is two mappings of texts: landmark -> group, in the landmarks' order, and landmark -> the one
that it changes places with when a clip is mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from signbart.errors import ConfigError
from signbart.landmarks.layouts import Layout
from signbart.landmarks.source import SourceLayout

MOST_LANDMARKS = 10_000  # far beyond any detector's
_PARTS = ("left_hand", "right_hand", "face")  # as MediaPipe's names begin
_SIDES = (("left", "right"), ("right", "left"), ("Left", "Right"), ("Right", "Left"))


def describe_layout(source: SourceLayout) -> tuple[dict[str, str], dict[str, str]]:
    """Groups and flip pairs of a source's landmarks; see `own_layout`.

    What the source does not say follows from the names: ``left_hand_…``, ``right_hand_…`` and
    ``face_…`` are groups, the rest is the ``body``; what differs in left and right is a pair.
    """
    _, names = source.selection
    given = {name: group for group, members in source.groups.items() for name in members}
    groups = {name: given.get(name) or _part_of(name) for name in names}
    pairs = dict(source.flip_pairs)
    paired = {*pairs, *pairs.values()}
    for name in names:
        partner = next((name.replace(a, b) for a, b in _SIDES if a in name), name)
        if partner != name and partner in names and not {name, partner} & paired:
            pairs[name] = partner
            paired |= {name, partner}
    return groups, pairs


def _part_of(name: str) -> str:
    return next((part for part in _PARTS if name.startswith(f"{part}_")), "body")


def own_layout(
    name: str, groups: Mapping[str, str], flip_pairs: Mapping[str, str], unit: str
) -> Layout:
    """The layout that a configuration carries.

    Args:
        name: What it is called.
        groups: Landmark -> its group, in order.
        flip_pairs: Landmark -> its partner; each is in one pair.
        unit: ``image`` or ``metres``.

    Raises:
        ConfigError: There are too many landmarks, or a pair is none.
    """
    return _build(name, tuple(groups.items()), tuple(flip_pairs.items()), unit)


@lru_cache(maxsize=16)  # asked for once a clip
def _build(
    name: str,
    groups: tuple[tuple[str, str], ...],
    flip_pairs: tuple[tuple[str, str], ...],
    unit: str,
) -> Layout:
    names = tuple(landmark for landmark, _ in groups)
    if not 0 < len(names) <= MOST_LANDMARKS:
        raise ConfigError(f"{len(names)} landmarks; a layout has 1 to {MOST_LANDMARKS}")
    index = {landmark: at for at, landmark in enumerate(names)}
    flip = list(range(len(names)))
    for pair in flip_pairs:
        if not set(pair) <= set(index) or any(flip[index[one]] != index[one] for one in pair):
            raise ConfigError(
                f"flip pair {' and '.join(pair)[:120]}: both must be landmarks, in no other pair"
            )
        one, other = (index[landmark] for landmark in pair)
        flip[one], flip[other] = other, one
    return Layout(
        name=name,
        description=f"{len(names)} landmarks of its own",
        unit=unit,
        names=names,
        groups={
            group: tuple(at for at, (_, of) in enumerate(groups) if of == group)
            for group in dict.fromkeys(group for _, group in groups)
        },
        flip=tuple(flip),
        edges=(),
    )
