"""A source layout that a user describes in a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from signbart.errors import ConfigError
from signbart.landmarks.source import METRES, UNITS, XYZV, SourceLayout
from signbart.yaml_files import read_yaml

_KEYS = (
    "landmarks", "count", "channels", "unit", "x", "y", "image_size", "min_confidence", "groups",
    "flip_pairs",
)  # fmt: skip
_CHANNELS = {"x": "x", "y": "y", "z": "z", "confidence": "c", "visibility": "v"}


def read_source_layout(path: Path) -> SourceLayout:
    """Reads ``landmarks`` and what else the file says; docs/data.md has an example.

    Raises:
        ConfigError: The file cannot be read, or a key is unknown or malformed; names file and key.
    """
    tree = _read_yaml(path)
    unknown = [key for key in tree if key not in _KEYS]
    if unknown:
        raise ConfigError(f"{path}: unknown key '{unknown[0]}'; known: {', '.join(_KEYS)}")
    unit = _choice(path, tree, "unit", UNITS)
    metres = unit == "metres"
    channels = _channels(path, tree, metres)
    size = tree.get("image_size")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(_is_number(side, 1) for side in size)
    ):
        raise ConfigError(f"{path}: image_size must be [width, height] in pixels, found {size!r}")
    least = tree.get("min_confidence", 0.0)
    if not _is_number(least, 0) or least >= 1:
        raise ConfigError(f"{path}: min_confidence must be from 0 to below 1, found {least!r}")
    names = _names(path, tree)
    return SourceLayout(
        name=str(path),
        description="as the file describes it",
        names=names,
        channels=channels,
        unit=unit,
        left=_choice(path, tree, "x", ("right", "left")) == "left",
        up=_choice(path, tree, "y", ("up", "down") if metres else ("down", "up")) == "up",
        min_confidence=float(least),
        size=None if size is None else (float(size[0]), float(size[1])),
        groups=_groups(path, tree, names),
        flip_pairs=_flip_pairs(path, tree, names),
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(tree, dict) or "landmarks" not in tree:
        raise ConfigError(f"{path}: expected keys {', '.join(_KEYS)}, of which 'landmarks' must be")
    return tree


def _names(path: Path, tree: dict[str, Any]) -> tuple[str | None, ...]:
    """``landmarks`` is a list of names in order (null: not used), or name -> index."""
    given = tree["landmarks"]
    index = dict(enumerate(given)) if isinstance(given, list) else None
    if isinstance(given, dict):
        numbers = [at for at in given.values() if type(at) is int and at >= 0]
        index = {at: name for name, at in given.items()} if len(numbers) == len(given) else {}
        if len(index) < len(given):
            raise ConfigError(f"{path}: landmarks: each name needs an index of its own, from 0")
    if not index or not all(name is None or isinstance(name, str) for name in index.values()):
        raise ConfigError(f"{path}: landmarks must be a list of names, or name: index")
    count = tree.get("count", max(index) + 1)
    if type(count) is not int or not max(index) < count <= 10_000:
        raise ConfigError(f"{path}: count must be above the largest index, found {count!r}")
    names = tuple(index.get(at) for at in range(count))
    used = [name for name in names if name is not None]
    twice = next((name for name in used if used.count(name) > 1), None)
    if twice or not used:
        raise ConfigError(f"{path}: landmarks names {twice!r} twice, or nothing at all")
    return names


def _groups(
    path: Path, tree: dict[str, Any], names: tuple[str | None, ...]
) -> dict[str, tuple[str, ...]]:
    """``groups``: group -> names, each of which may be in one of them."""
    given = tree.get("groups", {})
    valid = isinstance(given, dict) and all(
        isinstance(group, str) and isinstance(members, list) for group, members in given.items()
    )
    if not valid:
        raise ConfigError(f"{path}: groups must be group: [landmark, …], found {str(given)[:80]}")
    _check_listed(path, "groups", [name for members in given.values() for name in members], names)
    return {group: tuple(members) for group, members in given.items() if members}


def _flip_pairs(
    path: Path, tree: dict[str, Any], names: tuple[str | None, ...]
) -> tuple[tuple[str, str], ...]:
    """``flip_pairs``: two names each, in no pair twice."""
    given = tree.get("flip_pairs", [])
    if not isinstance(given, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in given
    ):
        raise ConfigError(f"{path}: flip_pairs must be [[left, right], …], found {str(given)[:80]}")
    _check_listed(path, "flip_pairs", [name for pair in given for name in pair], names)
    return tuple((one, other) for one, other in given)


def _check_listed(path: Path, key: str, found: list, names: tuple[str | None, ...]) -> None:
    for at, name in enumerate(found):
        if not isinstance(name, str) or name not in names:
            raise ConfigError(f"{path}: {key}: {str(name)[:80]!r} is not among the landmarks")
        if name in found[:at]:
            raise ConfigError(f"{path}: {key} names {name!r} twice")


def _channels(path: Path, tree: dict[str, Any], metres: bool) -> dict[int, str]:
    """``channels`` lists what the numbers of a landmark are; x and y must be among them."""
    given = tree.get("channels")
    if given is None:
        return dict(METRES if metres else XYZV)
    known = isinstance(given, list) and all(
        isinstance(channel, str) and channel in _CHANNELS for channel in given
    )
    needed = {"x", "y", "z"} if metres else {"x", "y"}
    if not known or not needed <= set(given) or len(set(given)) < len(given):
        raise ConfigError(
            f"{path}: channels must list each of {', '.join(sorted(needed))} once, and may list "
            f"{', '.join(_CHANNELS)}; found {given!r}"
        )
    return {len(given): "".join(_CHANNELS[channel] for channel in given)}


def _choice(path: Path, tree: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = tree.get(key, choices[0])
    if value not in choices:
        raise ConfigError(f"{path}: {key} must be one of {', '.join(choices)}, found {value!r}")
    return value


def _is_number(value: object, least: float) -> bool:
    return type(value) in (int, float) and least <= value < float("inf")
