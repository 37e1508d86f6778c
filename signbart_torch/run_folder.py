"""A run folder: what stands in it, and who may write to it.

``config.yaml`` (resolved), ``last.safetensors`` (everything needed to go on), ``best.safetensors``
(the model alone), ``summary.csv`` (a row an epoch), ``results.json`` (written once, at the end) and
``tensorboard/``. Every file appears whole or not at all.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from signbart.config import RunConfig
from signbart.errors import ConfigError
from signbart_torch.checkpoint import Checkpoint, load_checkpoint
from signbart_torch.workers import Workers

LAST, BEST, RESULTS = "last.safetensors", "best.safetensors", "results.json"


def take_possession(
    output: Path,
    config: RunConfig,
    class_names: Sequence[str],
    resume: bool,
    workers: Workers,
) -> Checkpoint:
    """Makes a new run folder, or returns the checkpoint to go on from.

    Raises:
        ConfigError: The folder holds a run and `resume` was not asked for, or another run than this
            one.
    """
    last = output / LAST
    if workers.is_main and output.is_dir():
        for left_over in output.glob(".*.tmp"):  # of a save that was killed
            left_over.unlink(missing_ok=True)
    if last.is_file() and not resume:
        raise ConfigError(
            f"{output} already holds a run; pass --resume to go on with it, or choose another "
            "--output"
        )
    if last.is_file():
        state = load_checkpoint(last)
        if state.config != config:
            differing = ", ".join(_differences(state.config.to_dict(), config.to_dict()))
            raise ConfigError(f"{output} holds a run with another configuration: {differing}")
        if state.class_names != tuple(class_names):
            raise ConfigError(f"{output} holds a run with other classes than these recordings")
        return state
    if workers.is_main:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
    return Checkpoint({})


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if old["name"] != new["name"]:
        return [f"name is {old['name']!r} there and {new['name']!r} now"]
    return [
        f"{section}.{key} is {old[section][key]!r} there and {value!r} now"
        for section, values in new.items()
        if section != "name"
        for key, value in values.items()
        if old[section][key] != value
    ]


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
