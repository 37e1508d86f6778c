"""What an engine is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What an engine gives instead of the result of a task whose process was killed.
CRASHED = object()
# What a task does.
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@dataclass(frozen=True)
class Batch:
    """Tasks that are run together.

    Attributes:
        tasks: Callables; picklable, and so their results, if they leave this process.
        jobs: How many run at a time; None leaves that to the engine.
        threads: How many each process gets; None leaves that to the frameworks.
        names: What messages call each.
        folder: Holds all that they write; None where they write nothing.
        travels: Whether an engine may bring what they write from a machine that does not see
            `folder`; not so where they also read what stands beside it.
        moved: Takes a task's index and `RUNNING` when it begins, and `WAITING` when the engine is
            to begin it again.
    """

    tasks: Sequence[Callable[[], Any]]
    jobs: int | None
    threads: int | None
    names: Sequence[str]
    folder: Path | None = None
    travels: bool = True
    moved: Callable[[int, str], None] = lambda index, state: None


@dataclass(frozen=True)
class Engine:
    """One way to run tasks.

    Attributes:
        name: Key in `ENGINES`.
        description: What it does, in words.
        run: Gives each task's index and result as it ends, or `CRASHED`. What a task raises it
            raises, and whenever it is closed it ends what still runs.
        tries_again: Whether it gives `CRASHED` only of what it tried again itself.
        is_remote: Whether its tasks do not say themselves what they are at; see `waiting.muted`.
    """

    name: str
    description: str
    run: Callable[[Batch], Iterator[tuple[int, Any]]]
    tries_again: bool = False
    is_remote: bool = False
