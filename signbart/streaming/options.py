"""Command-line options that say how a stream is cut into windows, and what makes an event."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from signbart.console import at_least
from signbart.errors import ConfigError
from signbart.streaming.rule import StreamRule

_USUAL_FPS = 30.0  # of recorded landmarks, which do not say
_LISTED = 8  # classes that a message lists


def add_rule_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each field of `StreamRule`, and how fast recorded landmarks were."""
    usual = StreamRule()
    group = parser.add_argument_group("streams", "see docs/streaming.md")
    group.add_argument("--window", type=float, metavar="S", help=_help("of a window", usual.window))
    group.add_argument(
        "--stride", "--every", type=float, metavar="S", help=_help("between windows", usual.stride)
    )
    group.add_argument(
        "--smoothing",
        type=at_least(1),
        metavar="N",
        help=f"windows that are averaged (default: {usual.smoothing})",
    )
    group.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability that begins an event; signbart calibrate finds one (default: what the "
        f"model carries, else {usual.threshold:g})",
    )
    group.add_argument(
        "--hold",
        type=float,
        metavar="SHARE",
        help=f"share of the threshold from which on an event goes on (default: {usual.hold:g})",
    )
    group.add_argument(
        "--pause", type=float, metavar="S", help=_help("below that which end an event", usual.pause)
    )
    group.add_argument(
        "--idle", metavar="CLASS", help=f"the class that is no sign (default: {usual.idle})"
    )
    group.add_argument(
        "--fps",
        type=float,
        metavar="N",
        help=f"frames a second of recorded landmarks (default: {_USUAL_FPS:g})",
    )


def rule_of(options: argparse.Namespace, carried: float | None = None) -> StreamRule:
    """The rule that a command line with `add_rule_arguments` asks for.

    Args:
        options: The command line.
        carried: The threshold that the model brings; it counts where the user names none.

    Raises:
        ConfigError: A number is out of its range.
    """
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(StreamRule)}
    if given["threshold"] is None:
        given["threshold"] = carried
    return StreamRule(**{name: value for name, value in given.items() if value is not None})


def rule_for(
    options: argparse.Namespace, class_names: Sequence[str], carried: float | None
) -> StreamRule:
    """`rule_of`, for a model with those classes.

    Raises:
        ConfigError: Also: what the user calls idle is none of them.
    """
    require_idle(options, class_names)
    return rule_of(options, carried)


def check_rule(options: argparse.Namespace, *, streams: bool) -> None:
    """Refuses, before anything is read, a rule that cannot be, or one where no stream is asked for.

    Raises:
        ConfigError: A number is out of its range, or nothing would come of an option.
    """
    names = (*(field.name for field in dataclasses.fields(StreamRule)), "fps")
    given = [name for name in names if getattr(options, name) is not None]
    if given and not streams:
        raise ConfigError(f"--{given[0]} is of streams: add --stream, or leave it out")
    rule_of(options)


def describe_threshold(options: argparse.Namespace, rule: StreamRule, carried: object) -> str:
    """The rule's threshold and whose it is, on one line."""
    if options.threshold is not None:
        whose = "--threshold"
    elif carried is not None:
        whose = "the model's own; --threshold sets another"
    else:
        whose = "the usual one; the model carries none"
    return f"threshold {rule.threshold:g} ({whose})"


def require_idle(options: argparse.Namespace, class_names: Sequence[str]) -> None:
    """Whether the class that the user calls idle is one of the model's.

    Raises:
        ConfigError: It is not.
    """
    if options.idle is not None and options.idle not in class_names:
        shown = ", ".join(class_names[:_LISTED]) + (", …" if len(class_names) > _LISTED else "")
        raise ConfigError(
            f"--idle {options.idle}: the model has no such class; its classes are {shown}. Leave "
            "it out where none of them is no sign"
        )


def fps_of(options: argparse.Namespace) -> float:
    """Frames a second of recorded landmarks.

    Raises:
        ConfigError: The number is none that a camera has.
    """
    fps = _USUAL_FPS if options.fps is None else options.fps
    if not 1 <= fps <= 1000:
        raise ConfigError(f"--fps {fps:g}: frames a second, 1 to 1000")
    return fps


def _help(what: str, seconds: float) -> str:
    return f"seconds {what} (default: {seconds:g})"
