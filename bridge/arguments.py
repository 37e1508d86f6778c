"""Command-line options that several commands of the bridge share. Loads nothing heavy."""

from __future__ import annotations

import argparse

MIN_SAMPLES = 8


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is compared on."""
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="recordings to compare on (default: synthetic ones where the layout is kp90, and "
        "random inputs)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=MIN_SAMPLES,
        help=f"inputs a length, at least {MIN_SAMPLES} (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
