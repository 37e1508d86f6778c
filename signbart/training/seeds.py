"""Leave-one-signer-out over several seeds: what the seed changes, apart from what the signer does.

Seed s is a run of its own, ``OUTPUT/seed_<s>``; see `folds`.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signbart.console import at_least, cell, print_table
from signbart.errors import ConfigError
from signbart.files import write_text
from signbart.training.folds import train_folds
from signbart.training.run_folder import RESULTS, csv_text

SUMMARY = "seeds.csv"


def add_seed_argument(parser: argparse.ArgumentParser) -> None:
    """Which seeds; without it the configuration's own."""
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=at_least(0),
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
    for seed in options.seeds:
        one = copy.copy(options)
        one.output = str(output / f"seed_{seed}")
        one.overrides = [*options.overrides, f"train.seed={seed}"]
        print(f"seed {seed}:", flush=True)
        train_folds(one, *arguments, **functions)
    summarise(output)


def accuracies(output: Path) -> dict[int, dict[str, float]]:
    """Seed -> signer -> accuracy in percent, of all finished folds of a folder."""
    found: dict[int, dict[str, float]] = {}
    for path in sorted(output.glob(f"seed_*/*/{RESULTS}")):
        results = json.loads(path.read_text(encoding="utf-8"))
        seed = int(path.parts[-3].removeprefix("seed_"))
        found.setdefault(seed, {})[path.parts[-2]] = results["test"]["accuracy"]
    return found


def spread(found: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Mean over all folds, and the deviations of the seeds' means and of the signers' means.

    Only signers that every seed has count, so that the two are parted. The deviations are those of
    the population, as in `folds`.
    """
    signers = set.intersection(*(set(of_seed) for of_seed in found.values()))
    by_seed = [statistics.fmean(of_seed[name] for name in signers) for of_seed in found.values()]
    by_signer = [statistics.fmean(of_seed[name] for of_seed in found.values()) for name in signers]
    return {
        "mean": statistics.fmean(by_seed),
        "deviation over seeds": statistics.pstdev(by_seed),
        "deviation over signers": statistics.pstdev(by_signer),
    }


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
    for what, value in facts.items():
        print(f"{what:<24}{value:.2f}")
    print(f"wrote {output / SUMMARY}")
