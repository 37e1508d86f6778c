"""Options that only the Keras commands have."""

from __future__ import annotations

import argparse


def add_loop_argument(parser: argparse.ArgumentParser) -> None:
    """Which of the two loops trains."""
    parser.add_argument(
        "--loop",
        default="fit",
        choices=("fit", "tape"),
        help="Keras's compile and fit, or a tf.GradientTape; both end with the same weights "
        "(default: %(default)s)",
    )
