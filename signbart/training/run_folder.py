"""A run folder: what stands in it, and who may write to it.

``config.yaml`` (resolved), ``last`` (a checkpoint with everything needed to go on), ``best`` (a
checkpoint of the model alone), ``summary.csv`` (a row an epoch), ``evaluation/`` (what the best one
says of each test clip; see `predictions`), ``results.json`` (written once, at the end) and
``tensorboard/``. Every file appears whole or not at all. The checkpoints' endings are their
framework's.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from signbart.configuration.schema import SECTIONS, RunConfig
from signbart.errors import ConfigError
from signbart.files import folder_lock, make_folder, remove_left_overs, write_text
from signbart.training.frameworks import FRAMEWORKS, Framework, framework_of

RESULTS, EVALUATION = "results.json", "evaluation"


class Resumable(Protocol):
    """A checkpoint that training can go on from."""

    @property
    def config(self) -> RunConfig | None:
        """The run's configuration."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels."""

    @property
    def progress(self) -> Mapping[str, Any]:
        """What `progress.record_epoch` keeps, and ``recordings``."""


State = TypeVar("State", bound=Resumable)

_IDENTITY = {
    "recordings": "on other recordings or another division of them",
    "start": "that started from another model",
    "teachers": "that was distilled otherwise",
}


def find_run(
    output: Path,
    config: RunConfig,
    class_names: Sequence[str],
    identity: Mapping[str, Mapping[str, Any]],
    resume: bool,
    *,
    framework: Framework,
    load: Callable[[Path], State],
) -> State | None:
    """The checkpoint to go on from, if the folder holds this very run.

    Nothing is written; what killed processes left goes, for a finished run writes nothing any more.

    Args:
        output: The folder.
        config: The run's configuration.
        class_names: The recordings' classes.
        identity: ``recordings``: what identifies them and their division; ``start``, where the run
            goes on from a trained model, and ``teachers``, where it is distilled: what identifies
            those. Kept in the checkpoint's progress.
        resume: Whether an existing run may be gone on with.
        framework: Trains.
        load: Reads its last checkpoint.

    Returns:
        The checkpoint; None where there is no run yet.

    Raises:
        ConfigError: The folder holds a run and `resume` was not asked for, another run than this
            one, or one of which a part is missing.
        SignBartError: The checkpoint cannot be read.
    """
    remove_left_overs(output)
    remedy = "choose another --output, or remove that folder"
    begun, ended = framework_of(output), (output / RESULTS).is_file()
    if holds_run(output) and not resume:
        raise ConfigError(
            f"{output} already holds a run; pass --resume to go on with it, or {remedy}"
        )
    if begun not in (None, framework):
        raise ConfigError(
            f"{output} holds a run that was trained in {begun.title} ({begun.last}), not in "
            f"{framework.title}; go on in {begun.title}, or choose another --output"
        )
    for name in (framework.last, framework.best) if ended else ():
        if not (output / name).is_file():
            raise ConfigError(f"{output} holds a finished run without its {name}; {remedy}")
    if begun:
        state = load(output / framework.last)
        if state.config != config:
            differing = ", ".join(_differences(state.config, config))
            raise ConfigError(
                f"{output} holds a run with another configuration: {differing}; {remedy}"
            )
        if state.class_names != tuple(class_names):
            raise ConfigError(
                f"{output} holds a run with other classes than these recordings; {remedy}"
            )
        for part, what in _IDENTITY.items():
            before, now = (found.get(part, {}) for found in (state.progress, identity))
            for key in {**now, **before}:
                if not _is_same(key, before.get(key), now.get(key)):
                    raise ConfigError(
                        f"{output} holds a run {what}: {key} was {before.get(key)!r} and is "
                        f"{now.get(key)!r} now; {remedy}"
                    )
        return state
    return None


def _is_same(key: str, before: Any, now: Any) -> bool:
    """Whether a part of a run's identity is what it was."""
    if key == "seen":  # follows from the other keys, and runs of before may lack it
        return True
    if key == "test_signers" and None not in (before, now):  # runs of before kept another order
        return set(before) == set(now)
    return before == now


def holds_run(folder: Path) -> bool:
    """Whether anything stands there that training wrote, in whatever framework."""
    names = [name for framework in FRAMEWORKS.values() for name in (framework.last, framework.best)]
    return any((folder / name).is_file() for name in [*names, RESULTS])


@contextmanager
def run_lock(output: Path, config: RunConfig) -> Iterator[None]:
    """Makes the run folder, if need be, and keeps it to this process until the block ends.

    Args:
        output: The folder.
        config: The run's configuration, of which ``config.yaml`` is written.

    Raises:
        SignBartError: The folder cannot be made, or another process trains there.
    """
    make_folder(output)
    with folder_lock(output):
        write_text(output / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
        yield


def _differences(old: RunConfig, new: RunConfig) -> list[str]:
    if old.name != new.name:
        return [f"name is {old.name!r} there and {new.name!r} now"]
    if old.kind != new.kind:
        return [f"model.kind is {old.kind!r} there and {new.kind!r} now"]
    before, now = dataclasses.asdict(old), dataclasses.asdict(new)
    return [
        f"{section}.{key} is {before[section][key]!r} there and {value!r} now"
        for section in SECTIONS
        for key, value in now[section].items()
        if before[section][key] != value
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header; what a row lacks stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        fieldnames=list(dict.fromkeys(key for row in rows for key in row)),
        lineterminator="\n",
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
