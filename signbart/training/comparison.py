"""Whether two trainings, judged on the same clips, differ by more than chance.

Both are output folders of leave-one-signer-out, with or without seeds, or run folders of one
training: whatever holds ``evaluation/``, which training writes. Clips are paired, one by one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signbart.console import print_table
from signbart.errors import SignBartError
from signbart.json_text import read_json_file
from signbart.training.frameworks import framework_of
from signbart.training.predictions import INDEX, Predictions, read_predictions
from signbart.training.run_folder import EVALUATION

CHANCE = 0.05  # what is rarer than this, if there were no difference, is called more than chance

# Fold -> its predictions and what identifies its clips; folds of seeds are named SEED/SIGNER.
Folds = dict[str, tuple[Predictions, str]]


@dataclass(frozen=True)
class Pair:
    """The same clips by two models, A and B.

    Attributes:
        name: Of the seed, or of both together.
        clips: N.
        first: Accuracy of A in percent.
        second: Likewise of B.
        only_first: Clips that A alone recognises.
        only_second: Clips that B alone recognises.
        p: How likely so unequal a number of those is by chance: McNemar's exact test, two-sided
            (https://doi.org/10.1007/BF02295996, in its binomial form).
    """

    name: str
    clips: int
    first: float
    second: float
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        pairs: One a seed, or one alone.
        signers: Signer -> accuracies of A and B in percent, the mean of their seeds.
        left_out: Folds that one of them has and the other has not.
        p_signers: How likely so large a mean of the signers' differences is by chance: exact test
            by exchange of A and B within signers, two-sided; None where there is one signer alone.
    """

    pairs: tuple[Pair, ...]
    signers: Mapping[str, tuple[float, float]]
    left_out: tuple[str, ...]
    p_signers: float | None

    @property
    def smallest_p(self) -> float:
        """What `p_signers` is where every signer is better by one model: 2 of 2^n exchanges."""
        return 2.0 ** (1 - len(self.signers))


def folds_of(folder: Path) -> Folds:
    """What training wrote of its test clips, by fold; empty where there is nothing.

    Raises:
        SignBartError: A file is damaged.
    """
    found: Folds = {}
    for pattern in (
        f"{EVALUATION}/{INDEX}",
        f"*/{EVALUATION}/{INDEX}",
        f"seed_*/*/{EVALUATION}/{INDEX}",
    ):
        for index in sorted(folder.glob(pattern)):
            run = index.parent.parent
            framework = framework_of(run)
            said = framework and read_predictions(index.parent, framework.best)
            if said:
                about = read_json_file(index)[framework.best]
                if "recordings" not in about:
                    raise SignBartError(f"{index} is damaged; evaluate {run} again")
                found[run.relative_to(folder).as_posix()] = said, about["recordings"]
    return found


def compare(first: Path, second: Path) -> Comparison:
    """Compares two trainings on the clips that both were tested on.

    Args:
        first: Folder A.
        second: Folder B.

    Raises:
        SignBartError: One holds no predictions of test clips, or they have no fold in common, or a
            fold of the same name was tested on other clips.
    """
    folders = first, second
    folds = [folds_of(folder) for folder in folders]
    for folder, found in zip(folders, folds, strict=True):
        if not folder.is_dir():
            raise SignBartError(f"no folder {folder}; give the output folder of a training")
        if not found:
            raise SignBartError(
                f"{folder} says of no test clip what the model made of it: it was trained without "
                f"test signers, or by an older version. signbart evaluate BEST "
                f"--data PATH --signers WHO --output RUN/{EVALUATION} makes up for it"
            )
    common = [name for name in folds[0] if name in folds[1]]
    if not common:
        names = [", ".join(found) for found in folds]
        seeded = "; of a run with seeds give one of them, as in RUN/seed_0"
        raise SignBartError(
            f"{first} and {second} have no fold in common ({names[0]} and {names[1]}), so no clip "
            f"can be paired{seeded if any('seed_' in name for name in names) else ''}"
        )
    left_out = [
        f"{name} (only in {folder})"
        for folder, found in zip(folders, folds, strict=True)
        for name in found
        if name not in common
    ]
    for name in common:
        if folds[0][name][1] != folds[1][name][1]:
            raise SignBartError(
                f"{first} and {second} were tested on different clips"
                f"{'' if name == '.' else f' in {name}'}; a paired test needs the same recordings "
                "and the same signers left out"
            )
    hits = {name: tuple(_hits(found[name][0]) for found in folds) for name in common}
    seeds = sorted({name.rpartition("/")[0] for name in common})
    pairs = [
        _pair(seed, [hits[name] for name in common if name.rpartition("/")[0] == seed])
        for seed in seeds
    ]
    signers = _by_signer([(folds[0][name][0].signers, *hits[name]) for name in common])
    p_signers = _exchange_test([*signers.values()])
    return Comparison(tuple(pairs), signers, tuple(left_out), p_signers)


def _hits(said: Predictions) -> np.ndarray:
    """(N,) bool: which clips were recognised."""
    return said.logits.argmax(axis=1) == said.labels


def _pair(name: str, hits: Sequence[tuple[np.ndarray, np.ndarray]]) -> Pair:
    from scipy.stats import binomtest

    first, second = (np.concatenate(of_model) for of_model in zip(*hits, strict=True))
    only = int((first & ~second).sum()), int((second & ~first).sum())
    return Pair(
        name=name,
        clips=len(first),
        first=100 * float(first.mean()),
        second=100 * float(second.mean()),
        only_first=only[0],
        only_second=only[1],
        p=float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
    )


def _by_signer(
    folds: Sequence[tuple[Sequence[str], np.ndarray, np.ndarray]],
) -> dict[str, tuple[float, float]]:
    """Signer -> accuracies of both models over all of the signer's clips and seeds, in percent."""
    names = np.concatenate([np.array(signers) for signers, _, _ in folds])
    both = [np.concatenate([fold[at] for fold in folds]) for at in (1, 2)]
    return {
        str(name): tuple(100 * float(hits[names == name].mean()) for hits in both)
        for name in np.unique(names)
    }


def _exchange_test(accuracies: Sequence[tuple[float, float]]) -> float | None:
    if len(accuracies) < 2:
        return None
    from scipy.stats import permutation_test

    differences = [second - first for first, second in accuracies]
    return float(
        permutation_test(
            (differences,),
            lambda values: statistics.fmean(values),
            permutation_type="samples",
            vectorized=False,
            # All exchanges of up to 16 signers; of more, as many drawn by a fixed seed.
            n_resamples=2**16,
            rng=0,
        ).pvalue
    )


def print_comparison(found: Comparison, first: Path, second: Path) -> None:
    """Prints both tables, and says whether the difference is more than chance."""
    print_table(
        f"A {first} and B {second} on the same clips: accuracy in percent, clips that one alone "
        "recognises, McNemar's exact test",
        ["seed", "clips", "A", "B", "B - A", "A alone", "B alone", "p"],
        [
            [
                pair.name.removeprefix("seed_") or "-",
                pair.clips,
                f"{pair.first:.2f}",
                f"{pair.second:.2f}",
                f"{pair.second - pair.first:+.2f}",
                pair.only_first,
                pair.only_second,
                f"{pair.p:.2g}",
            ]
            for pair in found.pairs
        ],
    )
    print_table(
        "By signer, mean of the seeds",
        ["signer", "A", "B", "B - A"],
        [[name, f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f}"] for name, (a, b) in found.signers.items()],
    )
    for fold in found.left_out:
        print(f"left out: {fold}")
    print(f"over clips: {_over_clips(found.pairs)}")
    if found.p_signers is None:
        print("over signers: one signer says nothing of others; leave each out in turn (loso)")
        return
    p = f"over signers: p = {found.p_signers:.2g}"
    if found.smallest_p > CHANCE:
        print(
            f"{p}; {len(found.signers)} signers cannot tell (at best p = {found.smallest_p:.2g}): "
            "leave out at least 6"
        )
    elif found.p_signers < CHANCE:
        gain = sum(second - first for first, second in found.signers.values())
        print(f"{p}: {'B' if gain > 0 else 'A'} is better by more than chance, with others too")
    else:
        print(f"{p}: not more than chance")


def _over_clips(pairs: Sequence[Pair]) -> str:
    """In words, for one seed or several."""
    shown = "p = " + ", ".join(f"{pair.p:.2g}" for pair in pairs)
    better = {
        model: sum(pair.p < CHANCE and sign * (pair.second - pair.first) > 0 for pair in pairs)
        for model, sign in (("A", -1), ("B", 1))
    }
    if not any(better.values()):
        return f"{shown}: not more than chance"
    if len(pairs) == 1:
        return f"{shown}: {'A' if better['A'] else 'B'} is better by more than chance"
    return f"{shown}: by more than chance " + ", ".join(
        f"{model} is better with {count} of {len(pairs)} seeds"
        for model, count in better.items()
        if count
    )
