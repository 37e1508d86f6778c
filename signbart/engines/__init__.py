"""Tasks such as folds and routes, run by an engine; what happens when one of their processes dies.

`ENGINES` is the one table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from signbart.engines.board import shown
from signbart.engines.cluster import run_on_ray
from signbart.engines.engine import CRASHED, DONE, FAILED, WAITING, Batch, Engine
from signbart.engines.processes import run_in_processes, run_serially
from signbart.errors import SignBartError

__all__ = ["CRASHED", "ENGINES", "Batch", "Engine", "run_tasks"]

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("serial", "one after another, in this process", run_serially),
        Engine("processes", "side by side, each in a process of its own", run_in_processes),
        Engine(
            "ray",
            "on the machines of a Ray cluster",
            run_on_ray,
            tries_again=True,
            is_remote=True,
        ),
    )
}


def run_tasks(
    tasks: Sequence[Callable[[], Any]],
    jobs: int | None = 1,
    *,
    engine: str | Engine | None = None,
    apart: bool = False,
    threads: int | None = None,
    crashed: Callable[[int], Any] | None = None,
    name: str = "task",
    names: Sequence[str] = (),
    remedy: str = "try again, with fewer --jobs",
    folder: Path | None = None,
    travels: bool = True,
) -> Iterator[tuple[int, Any]]:
    """Yields each task's index and result as it ends.

    A task that raises ends the others, and its exception is raised here. So does a task whose
    process was killed, unless `crashed` is given: then the others go on, it is tried once more when
    they have ended, alone, and if that kills its process too, `crashed` says what came of it. An
    engine that tries again itself does so at once, several times, and whether `crashed` is given
    or not.

    Args:
        tasks: Callables; picklable, and so their results, if they leave this process.
        jobs: How many run at a time; None: one, or on a cluster as many as it takes.
        engine: Key in `ENGINES`, or one made of its row; by default ``serial`` for one job, and
            otherwise ``processes``.
        apart: A process for each task even if one runs at a time.
        threads: How many each process gets; None leaves that to the frameworks.
        crashed: Gives the result of a task, by its index, that never let its process live.
        name: What a task is, for messages.
        names: What messages call each; by default their numbers.
        remedy: What to do where a process was killed, for messages.
        folder: Holds all that the tasks write; see `Batch`.
        travels: Whether that may come from a machine that does not see `folder`; see `Batch`.

    Raises:
        SignBartError: There is no such engine, or a task's process was killed.
    """
    if jobs is not None and jobs < 1:
        raise SignBartError(f"--jobs {jobs}: it must be at least 1")
    engine = engine or ("serial" if jobs in (None, 1) and not apart else "processes")
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise SignBartError(f"no engine '{engine}'; there are {', '.join(ENGINES)}")
        engine = ENGINES[engine]
    called = [f"{name} {each}" for each in names or range(1, len(tasks) + 1)]
    if not engine.tries_again:
        jobs = jobs or 1
    with shown(called, speaks=engine.is_remote) as board:
        batch = Batch(tasks, jobs, threads, called, folder, travels, board.move)
        again = []
        with closing(engine.run(batch)) as outcomes:
            for index, outcome in outcomes:
                if outcome is not CRASHED:
                    board.move(index, DONE)
                    yield index, outcome
                elif crashed is None:
                    raise SignBartError(
                        f"the process of {called[index]} was killed, perhaps because memory ran "
                        f"out; {remedy}"
                    )
                elif engine.tries_again:
                    board.move(index, FAILED)
                    yield index, crashed(index)
                else:
                    board.move(index, WAITING)
                    again.append(index)
        for index in again:
            alone = dataclasses.replace(
                batch,
                tasks=[tasks[index]],
                jobs=1,
                names=[called[index]],
                moved=lambda _, state, index=index: board.move(index, state),
            )
            with closing(engine.run(alone)) as outcomes:
                _, outcome = next(outcomes)
            board.move(index, FAILED if outcome is CRASHED else DONE)
            yield index, crashed(index) if outcome is CRASHED else outcome
