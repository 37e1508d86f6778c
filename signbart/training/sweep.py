"""Settings against each other: a grid or a random part of it, judged on signers left out inside.

The signers to be tested on take no part at all. Of the others some are left out in turn, a training
each, and a setting's score is the mean accuracy on them: who is tested in the end has chosen
nothing. By successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) every setting is
trained for a few epochs, the best third for three times as many, and so on; what stops is judged by
its validation signers, which are others again. The trainings are run folders,
``OUTPUT/<setting>/<signer>``, and go on where they stopped.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import random
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from signbart.engines import Engine, run_tasks
from signbart.errors import ClipError, ConfigError, DivergedError
from signbart.json_text import read_json_file
from signbart.recordings.clip import ClipSet
from signbart.training.run_folder import RESULTS
from signbart.waiting import within

_BETWEEN = re.compile(r",(?![^\[]*\])")  # commas, but not those of a list in brackets


class _EnoughEpochs(Exception):
    """Ends a training that can be gone on with."""


@dataclass(frozen=True)
class Setting:
    """One point of the grid.

    Attributes:
        values: ``section.key`` -> value as text.
    """

    values: Mapping[str, str]

    @property
    def overrides(self) -> list[str]:
        """As ``--set`` takes them."""
        return [f"{key}={value}" for key, value in self.values.items()]

    @property
    def folder(self) -> str:
        """A name that stays when the grid grows."""
        text = json.dumps(self.overrides)
        return f"setting_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class Judged:
    """What came of a setting.

    Attributes:
        setting: Which.
        epochs: That it was trained for at most.
        validation: Mean of the best validation accuracies within those, in percent.
        score: Mean accuracy on the signers left out, in percent; None where it was stopped.
    """

    setting: Setting
    epochs: int
    validation: float
    score: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one training.

    Attributes:
        validation: Its best validation accuracy, in percent.
        tested: Accuracy on the signer left out, in percent; None where training has not ended.
        failure: Why nothing came of it, both numbers being 0; empty otherwise.
    """

    validation: float
    tested: float | None
    failure: str = ""


def settings_of(overrides: Sequence[str], count: int | None = None, seed: int = 0) -> list[Setting]:
    """The settings that ``--set key=v1,v2`` texts span, in their order; one value is fixed.

    Args:
        overrides: The texts. A list of numbers stands in brackets, and counts as one value.
        count: Draw so many, without putting back; None: all.
        seed: Of the draw.

    Raises:
        ConfigError: A key is named twice, or there is nothing to choose from.
    """
    axes: dict[str, list[str]] = {}
    for text in overrides:
        key, _, values = text.partition("=")
        if key.strip() in axes:
            raise ConfigError(f"--set {text}: {key.strip()} is set twice; list its values once")
        axes[key.strip()] = list(dict.fromkeys(v.strip() for v in _BETWEEN.split(values)))
    every = [
        Setting(dict(zip(axes, row, strict=True))) for row in itertools.product(*axes.values())
    ]
    if len(every) < 2:
        raise ConfigError("there is one setting only; give values, as in --set train.lr=0.001,0.01")
    if count is None or count >= len(every):
        return every
    chosen = random.Random(seed).sample(range(len(every)), count)
    return [every[at] for at in sorted(chosen)]


def choose_signers(clips: ClipSet, count: int) -> list[str]:
    """Signers to leave out, as far apart in the sorted order as they can be.

    Raises:
        ClipError: There are too few to leave one out, validate on one and train on one.
    """
    names = clips.signer_names
    if len(names) < 3:
        raise ClipError(
            f"a sweep takes three signers that are not tested on, and there are {len(names)}"
        )
    count = min(count, len(names))
    return [names[at * len(names) // count] for at in range(count)]


def rungs(epochs: int, eta: int) -> list[int]:
    """Epochs at which settings are stopped, the last being all of them.

    Two rungs below it: 1/eta^2 and 1/eta of the epochs. Without halving, `eta` 1, one.
    """
    shares = [eta**2, eta, 1] if eta > 1 else [1]
    return sorted({max(1, math.ceil(epochs / share)) for share in shares})


def sweep(
    settings: Sequence[Setting],
    clips: ClipSet,
    output: Path,
    *,
    config_of: Callable[[Setting], Any],
    train: Callable[..., dict[str, Any]],
    signers: Sequence[str],
    eta: int = 3,
    apart: bool = False,
    jobs: int | None = 1,
    engine: Engine | None = None,
    report: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> list[Judged]:
    """Trains the settings, and stops the hopeless ones.

    Args:
        settings: At least two.
        clips: Recordings of whoever is not tested on.
        output: Receives the run folders.
        config_of: Gives a setting's configuration.
        train: Of a framework, picklable.
        signers: Left out in turn.
        eta: One in so many goes on at a rung, rounded up; 1: all.
        apart: A process for each training.
        jobs: Trainings at a time.
        engine: Runs them; see `run_tasks`.
        report: Takes a line a rung.
        options: Further ones of `train`.

    Returns:
        The best first: those trained to the end by their score, then by how far they came.

    Raises:
        ConfigError: All trainings of a rung diverge; where some do, they count as 0 %.
    """
    configs = {setting.folder: config_of(setting) for setting in settings}
    left, stopped = list(settings), []
    levels = rungs(max(config.train.epochs for config in configs.values()), eta)
    for epochs in levels:
        runs = [(setting, signer) for setting in left for signer in signers]
        tasks = [
            partial(
                train_until,
                train,
                clips,
                configs[setting.folder],
                output / setting.folder / signer,
                epochs,
                test_signers=[signer],
                **options,
            )
            for setting, signer in runs
        ]
        names = [f"{setting.folder}/{signer}" for setting, signer in runs]
        found: dict[str, list[Outcome]] = {s.folder: [] for s in left}
        said = [
            f"up to epoch {epochs}, training {n} of {len(runs)}" for n in range(1, len(runs) + 1)
        ]
        failures = []
        for at, outcome in run_tasks(
            [partial(within, what, task) for what, task in zip(said, tasks, strict=True)],
            jobs,
            engine=engine,
            apart=apart,
            threads=1 if jobs and jobs > 1 else None,
            name="training",
            names=names,
            remedy="go on with --resume, and fewer --jobs",
            folder=output,
        ):
            found[runs[at][0].folder].append(outcome)
            if outcome.failure:
                failures.append(outcome.failure)
                report(f"{names[at]} counts as 0 %: {outcome.failure}")
        if len(failures) == len(runs):
            raise ConfigError(f"no training kept a finite loss up to epoch {epochs}: {failures[0]}")
        last = epochs == levels[-1]
        judged = [_judge(setting, epochs, found[setting.folder], last) for setting in left]
        if last:
            done = sorted(judged, key=lambda one: -one.score)
            return [*done, *reversed(stopped)]
        judged.sort(key=lambda one: -one.validation)  # stable: ties stay in the grid's order
        keep = max(1, math.ceil(len(judged) / eta))
        stopped += reversed(judged[keep:])
        left = [setting for setting in left if setting in [one.setting for one in judged[:keep]]]
        report(f"after {epochs} epochs {keep} of {len(judged)} settings go on")
    raise AssertionError("the last rung returns")


def _judge(setting: Setting, epochs: int, found: Sequence[Outcome], last: bool) -> Judged:
    validation = statistics.fmean(one.validation for one in found)
    # What stops here may have been tested by an earlier sweep, in which it went on.
    score = statistics.fmean(one.tested for one in found) if last else None
    return Judged(setting, epochs, validation, score)


def train_until(
    train: Callable[..., dict[str, Any]],
    clips: ClipSet,
    config: Any,
    output: Path,
    epochs: int,
    **options: Any,
) -> Outcome:
    """Trains, or goes on, up to an epoch."""
    history = output / "summary.csv"
    try:
        if epochs >= config.train.epochs:
            train(clips, config, output, resume=True, **options)
        elif len(_rows(history)) < epochs:
            with suppress(_EnoughEpochs):
                train(clips, config, output, resume=True, report=partial(_stop, epochs), **options)
    except DivergedError as error:  # of this setting, and not of the sweep
        return Outcome(0.0, 0.0, str(error))
    rows = _rows(history)[:epochs]
    tested = None
    if (output / RESULTS).is_file():
        results = read_json_file(output / RESULTS)
        tested = results["test"]["accuracy"]
    return Outcome(max(float(row["val_accuracy"]) for row in rows), tested)


def _stop(epochs: int, row: Mapping[str, Any]) -> None:
    # Called when the epoch's checkpoint is written.
    if row["epoch"] >= epochs:
        raise _EnoughEpochs


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
