"""Paired tests between two trainings: what is more than chance, and what cannot be paired."""

from math import comb

import numpy as np
import pytest

from signbart.errors import SignBartError
from signbart.training.comparison import compare
from signbart.training.frameworks import TORCH
from signbart.training.predictions import Predictions, write_predictions
from signbart_runtime.report import main

CLASSES = ("ja", "nein")


def write_run(folder, signer, hits, recordings="same"):
    """A finished run that recognised the clips at which `hits` is True."""
    hits = np.asarray(hits, bool)
    labels = np.arange(len(hits)) % 2
    logits = np.eye(2, dtype=np.float32)[np.where(hits, labels, 1 - labels)]
    clips = tuple(f"{signer} {at}" for at in range(len(hits)))
    said = Predictions(TORCH.best, CLASSES, clips, (signer,) * len(hits), labels, logits)
    folder.mkdir(parents=True)
    (folder / TORCH.last).touch()
    write_predictions(folder / "evaluation", said, {"sha256": "", "recordings": recordings})


def write_folds(folder, hits, **options):
    for signer, of_signer in hits.items():
        write_run(folder / signer, signer, of_signer, **options)
    return folder


def outcomes(both, only_first, only_second):
    """Hits of A and of B on clips that both, A alone, and B alone recognise."""
    first = [True] * both + [True] * only_first + [False] * only_second
    second = [True] * both + [False] * only_first + [True] * only_second
    return first, second


def test_mcnemar_is_the_binomial_test_of_clips_that_one_alone_recognises(tmp_path):
    first, second = outcomes(both=20, only_first=2, only_second=12)
    a, b = (write_folds(tmp_path / n, {"s": hits}) for n, hits in (("a", first), ("b", second)))
    (pair,) = compare(a, b).pairs
    assert (pair.clips, pair.only_first, pair.only_second) == (34, 2, 12)
    assert pair.first == pytest.approx(100 * 22 / 34)
    assert pair.second == pytest.approx(100 * 32 / 34)
    assert pair.p == pytest.approx(2 * sum(comb(14, k) for k in range(3)) / 2**14)


def test_a_run_does_not_differ_from_itself(tmp_path):
    a = write_folds(tmp_path / "a", {name: outcomes(3, 2, 1)[0] for name in "abcdef"})
    found = compare(a, a)
    assert [pair.p for pair in found.pairs] == [1.0] and found.p_signers == 1.0


def test_signers_are_exchanged_whole(tmp_path):
    """With 7 signers all better by B, one exchange in 64 is as far out, at either end."""
    hits = {name: outcomes(10, 0, 2 + at) for at, name in enumerate("abcdefg")}
    a = write_folds(tmp_path / "a", {name: both[0] for name, both in hits.items()})
    b = write_folds(tmp_path / "b", {name: both[1] for name, both in hits.items()})
    found = compare(a, b)
    assert found.p_signers == pytest.approx(2 / 2**7) == found.smallest_p
    assert found.signers["a"] == (pytest.approx(100 * 10 / 12), 100.0)


def test_seeds_are_paired_with_seeds_and_joined_by_signer(tmp_path, capsys):
    first, second = outcomes(both=10, only_first=0, only_second=10)
    for seed, (of_a, of_b) in {0: (first, second), 1: (first, first)}.items():
        write_folds(tmp_path / "a" / f"seed_{seed}", {"s": of_a, "t": of_a})
        write_folds(tmp_path / "b" / f"seed_{seed}", {"s": of_b, "t": of_b})
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [pair.name for pair in found.pairs] == ["seed_0", "seed_1"]
    assert [pair.only_second for pair in found.pairs] == [20, 0]
    assert found.signers == {"s": (50.0, 75.0), "t": (50.0, 75.0)}
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "by more than chance B is better with 1 of 2 seeds" in printed
    assert "2 signers cannot tell" in printed and "at best p = 0.5" in printed


def test_what_can_not_be_paired_is_said(tmp_path):
    hits = [True, False]
    a = write_folds(tmp_path / "a", {"s": hits})
    (tmp_path / "empty").mkdir()
    others = {
        tmp_path / "empty": "empty says of no test clip",
        write_folds(tmp_path / "t", {"t": hits}): r"no fold in common \(s and t\)",
        write_folds(tmp_path / "o", {"s": hits}, recordings="o"): "different clips in s",
    }
    for other, message in others.items():
        with pytest.raises(SignBartError, match=message):
            compare(a, other)
