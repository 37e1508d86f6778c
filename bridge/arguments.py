"""Command-line options that several commands of the bridge share. Loads nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

MIN_SAMPLES = 8


def _at_least(lowest: int) -> Callable[[str], int]:
    """An argparse type: a whole number no smaller than `lowest`."""

    def number(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{value} is less than {lowest}")
        return value

    number.__name__ = "whole number"
    return number


def not_negative(text: str) -> float:
    """An argparse type: a finite number that is not negative."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is compared on."""
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="recordings to compare on, beside random inputs (default: synthetic ones, where they "
        "have the layout's landmarks)",
    )
    parser.add_argument(
        "--samples",
        type=_at_least(MIN_SAMPLES),
        default=MIN_SAMPLES,
        help=f"inputs a length, at least {MIN_SAMPLES} (default: %(default)s)",
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, help="default: %(default)s")


def add_published_arguments(parser: argparse.ArgumentParser) -> None:
    """What a published .pth does not say of itself."""
    parser.add_argument("--config", metavar="YAML", help="configuration of a published .pth")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override that configuration, for example --set data.layout=kp75",
    )


def published_options(config: str | Path | None, overrides: Sequence[str]) -> list[str]:
    """Those arguments again, for a command that is printed."""
    given = ["--config", str(config)] if config else []
    for override in overrides:
        given += ["--set", override]
    return given
