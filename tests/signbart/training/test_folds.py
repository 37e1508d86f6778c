"""Folds side by side, as any callables; with a framework: tests/signbart_torch and signbart_tf."""

import os
from functools import partial

import pytest

from signbart.errors import SignBartError
from signbart.training.folds import run_folds
from signbart.training.frameworks import KERAS, TORCH


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


def test_one_at_a_time_they_stay_in_this_process():
    found = list(run_folds([os.getpid] * 2, 1, TORCH, names=["P01", "P02"]))
    assert found == [("P01", os.getpid()), ("P02", os.getpid())]


@pytest.mark.parametrize(("jobs", "threads"), [(1, "2"), (2, "1")])
def test_where_a_framework_keeps_memory_each_has_a_process_of_its_own(jobs, threads):
    processes = dict(run_folds([os.getpid] * 3, jobs, KERAS))
    assert len({os.getpid(), *processes.values()}) == 4
    found = dict(run_folds([partial(os.getenv, "OMP_NUM_THREADS")] * 2, jobs, KERAS))
    assert found == {"1": threads, "2": threads}


def test_several_at_a_time_need_no_asking():
    assert os.getpid() not in dict(run_folds([os.getpid] * 2, 2, TORCH)).values()


def test_a_fold_that_is_killed_says_what_to_do():
    with pytest.raises(SignBartError, match=r"process of fold 1 was killed.*go on with --resume"):
        list(run_folds([os.abort], 2, TORCH))


def test_what_a_fold_raises_is_raised():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(run_folds([partial(os.stat, "/nowhere"), os.getpid], 2, TORCH))


def test_a_fold_says_which_of_how_many_it_is(monkeypatch, capsys):
    monkeypatch.setattr("signbart.waiting.SILENCE", 0.0)
    list(run_folds([os.getpid] * 2, 1, TORCH, names=["P01", "P02"]))
    said = capsys.readouterr().err
    assert "fold 1 of 2, P01 (" in said and "fold 2 of 2, P02 (" in said
