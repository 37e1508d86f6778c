"""Leave-one-signer-out over several seeds: what the seed changes, apart from what the signer does.

Seed s is a run of its own, ``OUTPUT/seed_<s>``; see `folds`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import cell, print_table
from signbart.errors import ConfigError, SignBartError
from signbart.files import write_text
from signbart.json_text import read_json_file
from signbart.training.folds import train_folds
from signbart.training.run_folder import RESULTS, csv_text

SUMMARY = "seeds.csv"


class _Seeds(argparse.Action):
    """Whole numbers, apart or separated by commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Keeps them in their order."""
        parts = [part for value in values for part in value.split(",") if part]
        if not parts or not all(part.isdecimal() for part in parts):
            parser.error(f"--seeds {' '.join(values)}: expected whole numbers, as in 0 1 2")
        setattr(namespace, self.dest, [int(part) for part in parts])


def add_seed_argument(parser: argparse.ArgumentParser) -> None:
    """Which seeds; without it the configuration's own."""
    parser.add_argument(
        "--seeds",
        nargs="+",
        action=_Seeds,
        metavar="SEED",
        help="train every fold with each of these seeds, into OUTPUT/seed_SEED (default: once, "
        "with train.seed)",
    )


def train_seeds(options: argparse.Namespace, *arguments: Any, **functions: Any) -> None:
    """`folds.train_folds` for each seed, and their common table; the former alone without seeds.

    Args:
        options: Of `folds.add_fold_arguments` and `add_seed_argument`.
        arguments: Those of `folds.train_folds`.
        functions: Likewise.

    Raises:
        ConfigError: A seed is named twice, or set in another way.
        SignBartError: See `folds.train_folds`.
    """
    if not options.seeds:
        train_folds(options, *arguments, **functions)
        return
    if len(set(options.seeds)) < len(options.seeds):
        raise ConfigError(f"--seeds names one twice: {' '.join(map(str, options.seeds))}")
    if any(text.partition("=")[0].strip() == "train.seed" for text in options.overrides):
        raise ConfigError("--seeds and --set train.seed both say the seed; drop one")
    output = Path(options.output)
    _require_one_run(output, load_config(options.config, options.overrides))
    train_folds(options, *arguments, seeds=options.seeds, **functions)
    summarise(output)


def _require_one_run(output: Path, config: RunConfig) -> None:
    """Before anything is trained: whether what is there differs in nothing but the seed.

    Raises:
        ConfigError: Says which folder does, or which configuration cannot be read.
    """
    for path in _of_seeds(output, "config.yaml"):
        there = load_config(path)
        train = dataclasses.replace(there.train, seed=config.train.seed)
        model = dataclasses.replace(there.model, num_labels=config.model.num_labels)
        if dataclasses.replace(there, train=train, model=model) != config:
            raise ConfigError(
                f"{path.parent} was trained with another configuration than this one, so the seeds "
                "would have no common table; choose another --output, or remove that folder"
            )


def _of_seeds(output: Path, name: str) -> list[Path]:
    """The files of that name in the folds of all seeds."""
    found = [*output.glob(f"seed_*/*/{name}")]
    return sorted(path for path in found if path.parts[-3].removeprefix("seed_").isdecimal())


def accuracies(output: Path) -> dict[int, dict[str, float]]:
    """Seed -> signer -> accuracy in percent, of all finished folds of a folder.

    Raises:
        SignBartError: A fold's results are damaged.
    """
    found: dict[int, dict[str, float]] = {}
    for path in _of_seeds(output, RESULTS):
        seed = int(path.parts[-3].removeprefix("seed_"))
        try:
            accuracy = read_json_file(path)["test"]["accuracy"]
        except (OSError, ValueError, KeyError, TypeError):
            raise SignBartError(
                f"{path} is damaged; remove {path.parent} and train again"
            ) from None
        found.setdefault(seed, {})[path.parts[-2]] = accuracy
    return found


def spread(found: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Mean over all folds, and the deviations of the seeds' means and of the signers' means.

    Only signers that every seed has count, so that the two are told apart; nothing where there is
    none. The deviations are those of a sample: NaN of one seed or signer.
    """
    signers = set.intersection(*(set(of_seed) for of_seed in found.values()))
    if not signers:
        return {}
    by_seed = [statistics.fmean(of_seed[name] for name in signers) for of_seed in found.values()]
    by_signer = [statistics.fmean(of_seed[name] for of_seed in found.values()) for name in signers]
    return {
        "mean": statistics.fmean(by_seed),
        "deviation over seeds": _deviation(by_seed),
        "deviation over signers": _deviation(by_signer),
    }


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def summarise(output: Path) -> None:
    """Prints a row a signer and a column a seed, and writes them to ``seeds.csv``."""
    found = accuracies(output)
    signers = sorted({name for of_seed in found.values() for name in of_seed})
    rows = [
        {"signer": name, **{f"seed {seed}": found[seed].get(name, "") for seed in found}}
        for name in signers
    ]
    facts = spread(found)
    write_text(output / SUMMARY, csv_text(rows))
    print_table(
        f"Accuracy in percent, {len(found)} seeds",
        ["test signer", *(f"seed {seed}" for seed in found)],
        [[name, *(cell(found[seed].get(name)) for seed in found)] for name in signers],
    )
    every = [(value, seed, name) for seed in found for name, value in found[seed].items()]
    for what, (value, seed, name) in (("best", max(every)), ("worst", min(every))):
        print(f"{what:<24}{value:.2f} (seed {seed}, {name})")
    common = set.intersection(*(set(of_seed) for of_seed in found.values()))
    if len(common) < len(signers):
        print(f"below count {len(common)} of {len(signers)} signers: those that every seed has")
    for what, value in facts.items():
        print(f"{what:<24}{'-' if math.isnan(value) else f'{value:.2f}'}")
    print(f"wrote {output / SUMMARY}")
