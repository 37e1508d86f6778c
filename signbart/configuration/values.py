"""One value of a configuration: its type and its range."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from signbart.errors import ConfigError
from signbart.models.fields import DEEPEST

_SHOWN = 200  # characters of a value that a message quotes


def shown(value: Any) -> str:
    """A value as a message quotes it: no more of it than helps."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def coerce(value: Any, hint: Any, where: str) -> Any:
    """Returns a value as the annotated type; int is taken for float, nothing else.

    Args:
        value: As YAML gives it.
        hint: The field's annotation.
        where: File and key, for messages.

    Raises:
        ConfigError: It is of another type.
    """
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    if hint is float and type(value) is str:
        # YAML 1.1 reads 1e-3, without a dot, as text.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and type(value) in (int, float):
        return float(value)
    if typing.get_origin(hint) is tuple:
        return _coerce_indices(value, where)
    if typing.get_origin(hint) is dict:
        return _coerce_texts(value, where)
    if type(value) is not hint:
        raise ConfigError(
            f"{where} must be {hint.__name__}, found {shown(value)} ({type(value).__name__})"
        )
    return value


def flatten(indices: Any) -> Any:
    """Joins a list of lists, one a group, as published files nest them; else `indices` itself."""
    if isinstance(indices, (list, tuple)) and all(isinstance(i, (list, tuple)) for i in indices):
        return [index for group in indices for index in group]
    return indices


def _coerce_indices(value: Any, where: str) -> tuple[int, ...]:
    """A list of indices, or of groups of them."""
    value = flatten(value)
    if not isinstance(value, (list, tuple)) or not value:
        raise ConfigError(f"{where} must be a list of landmark indices, found {shown(value)}")
    for index in value:
        if type(index) is not int:
            raise ConfigError(f"{where} must hold whole numbers, found {shown(index)}")
    if len(set(value)) != len(value):
        twice = next(index for index in value if list(value).count(index) > 1)
        raise ConfigError(f"{where} lists index {twice} more than once")
    return tuple(value)


def _coerce_texts(value: Any, where: str) -> dict[str, str]:
    """Text -> text; null stands for none at all."""
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{where} must hold keys and values, found {shown(value)}")
    for pair in (value or {}).items():
        for text in pair:
            if type(text) is not str:
                raise ConfigError(f"{where} must pair texts, found {shown(text)}; put it in quotes")
    return dict(value or {})


def check_range(value: Any, limits: Mapping[str, Any], where: str) -> None:
    """Refuses what is outside a field's limits.

    Args:
        value: As `coerce` returns it; None is never refused.
        limits: The field's metadata: ``choices``, or ``low``, ``high`` and ``open_high``.
        where: File and key, for messages.

    Raises:
        ConfigError: Says what is allowed.
    """
    if value is None:
        return
    if "choices" in limits and value not in limits["choices"]:
        known = ", ".join(limits["choices"])
        raise ConfigError(f"{where} is {shown(value)}; it must be one of: {known}")
    if "low" in limits:
        low, high, open_high = limits["low"], limits["high"], limits["open_high"]
        if not (low <= value < high or (value == high and not open_high)):
            if type(high) is int and high >= DEEPEST:  # the other end is far away
                interval = f"at least {low:,}" if value < low else f"at most {high:,}"
            elif high == float("inf"):
                interval = f"at least {low:g}{' and finite' if open_high else ''}"
            else:
                interval = f"in [{low:g}, {high:g}{')' if open_high else ']'}"
            raise ConfigError(f"{where} is {shown(value)}; it must be {interval}")
