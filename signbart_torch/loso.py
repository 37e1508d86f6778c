"""``python -m signbart_torch.loso``: leave-one-signer-out; see `signbart.training.folds`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signbart.console import program_name, run_command
from signbart.errors import ConfigError
from signbart.files import file_sha256
from signbart.training.distillation import add_settings_arguments, identity_of, settings_of
from signbart.training.folds import add_fold_arguments
from signbart.training.frameworks import TORCH
from signbart.training.run_folder import RESULTS
from signbart.training.seeds import add_seed_argument, train_seeds
from signbart_torch import load_checkpoint, train_distilled, train_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_torch.loso"),
        description="For each signer train a model without that signer, and test it on them. With "
        "--resume finished folds are kept.",
    )
    add_fold_arguments(parser)
    add_seed_argument(parser)
    parser.add_argument(
        "--teachers",
        nargs="+",
        metavar="FOLDER",
        help="distil from finished folders of this command, with any kind of model and the same "
        "signers: each fold learns from their models of that fold, see signbart distill; with "
        "--engine ray every machine needs them at the same path",
    )
    add_settings_arguments(parser)
    options = parser.parse_args(arguments)
    if options.teachers:
        train, besides = train_distilled, _distilled(options)
    elif (options.weight, options.temperature) != (None, None):
        raise ConfigError("--weight and --temperature say how teachers count; give --teachers")
    else:
        train, besides = train_model, {}
    train_seeds(options, TORCH, train=train, load=load_checkpoint, **besides)
    return 0


def _distilled(options: argparse.Namespace) -> dict[str, Any]:
    """Of `train_folds`: who teaches a fold, those who have not seen its signer either, and how."""
    settings = settings_of(options)

    def teachers(signer: str) -> list[Path]:
        found = [Path(folder) / signer / TORCH.best for folder in options.teachers]
        for path in found:
            if not path.is_file():
                raise ConfigError(
                    f"--teachers {path.parent.parent}: no {signer}/{path.name}, so nobody teaches "
                    f"the fold of {signer}; train that fold there first, or name others by "
                    "--signers"
                )
            # What it has said so far is not what it will say in the end.
            if not path.with_name(RESULTS).is_file():
                raise ConfigError(
                    f"--teachers {path.parent.parent}: the fold of {signer} is not finished; go on "
                    "with it by --resume, as it was begun, or name others by --signers"
                )
        return found

    def identity(signer: str) -> dict[str, Any]:
        hashes = [file_sha256(path) for path in teachers(signer)]
        return {"teachers": identity_of(settings, hashes, seen=())}

    return {
        "of_fold": lambda signer: {"teachers": teachers(signer), "settings": settings},
        "identity": identity,
    }


if __name__ == "__main__":
    run_command(main)
