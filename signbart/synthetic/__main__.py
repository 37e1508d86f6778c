"""``python -m signbart.synthetic OUT.npz``: writes the synthetic data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from signbart.console import program_name, run_command
from signbart.recordings.packed import write_packed
from signbart.synthetic.signs import make_clips


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the data set into one packed file."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart.synthetic"),
        description="Write synthetic recordings into one packed file.",
    )
    parser.add_argument("out", metavar="OUT.npz", help="the file to write")
    parser.add_argument(
        "--classes", type=int, default=10, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--signers", type=int, default=12, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        default=5,
        metavar="N",
        help="of each sign by each signer (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args(argv)
    clip_set = make_clips(
        num_classes=args.classes,
        num_signers=args.signers,
        repetitions=args.repetitions,
        seed=args.seed,
    )
    with suppress(OSError):  # write_packed says what is wrong, with the path
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    write_packed(clip_set, args.out)
    frames = sum(len(clip.landmarks) for clip in clip_set.clips)
    print(f"{args.out}: {len(clip_set.clips)} clips, {frames} frames, {args.classes} classes")
    return 0


if __name__ == "__main__":
    run_command(main)
