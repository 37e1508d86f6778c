"""The options that say by which engine a command's tasks are run."""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial

from signbart.console import at_least, not_negative
from signbart.engines import ENGINES, Engine
from signbart.engines.cluster import run_on_ray
from signbart.engines.connection import Cluster
from signbart.errors import ConfigError


def add_engine_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """The options of `engine_of`.

    Args:
        parser: Receives them.
        what: The tasks, in the plural.
    """
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help=f"what runs the {what}: "
        + "; ".join(f"{engine.name}, {engine.description}" for engine in ENGINES.values())
        + " (default: processes if more than one is run at a time, else serial)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="with --engine ray: the head of a running cluster, or auto for the one that this "
        "machine belongs to (default: Ray is started on this machine, and ended afterwards)",
    )
    parser.add_argument(
        "--cpus-per-task",
        type=at_least(1),
        metavar="N",
        help="with --engine ray: cores for each task, one thread each (default: 1)",
    )
    parser.add_argument(
        "--gpus-per-task",
        type=not_negative,
        metavar="N",
        help="with --engine ray: GPUs for each task, or a share of one (default: 0)",
    )


def engine_of(options: argparse.Namespace) -> Engine | None:
    """The engine that the options of `add_engine_arguments` name; None where they name none.

    Raises:
        ConfigError: Options of another engine are given, or such as this one cannot obey.
    """
    given = {
        "address": options.address,
        "cpus": options.cpus_per_task,
        "gpus": options.gpus_per_task,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.engine == "serial" and (getattr(options, "jobs", None) or 1) > 1:
        raise ConfigError(f"--jobs {options.jobs}: --engine serial runs one at a time; drop either")
    if options.engine != "ray":
        if given:
            raise ConfigError("--address, --cpus-per-task and --gpus-per-task go with --engine ray")
        return ENGINES[options.engine] if options.engine else None
    gpus = given.get("gpus", 0)
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus-per-task {gpus:g}: more than one must be a whole number of them")
    return dataclasses.replace(ENGINES["ray"], run=partial(run_on_ray, cluster=Cluster(**given)))
