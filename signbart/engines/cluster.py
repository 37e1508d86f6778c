"""Tasks on the machines of a Ray cluster, or on a Ray of this machine alone.

Ray starts processes, notices which have died and carries bytes. What is tried again, and where
files go, is said here.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from signbart.engines.connection import Cluster, connected, last_line, machines
from signbart.engines.engine import CRASHED, RUNNING, WAITING, Batch
from signbart.engines.packing import pack, shared_arguments, unpack
from signbart.engines.travel import Errand, Outcome, bring_home, perform, written
from signbart.errors import SignBartError
from signbart.files import make_folder, temporary_folder
from signbart.waiting import heard, stage

_TRIES = 4  # of a task whose process or machine dies
_PATIENCE = 60.0  # seconds without a machine that could take a task
_LOOK = 0.5  # seconds between looks at what tasks have sent
_COUNT = 5.0  # seconds between looks at which machines there are, and signs of life


def run_on_ray(batch: Batch, cluster: Cluster | None = None) -> Iterator[tuple[int, Any]]:
    """Runs tasks wherever the cluster has room; see `engine.Engine`.

    A task whose process or machine dies is begun again, `_TRIES` times in all.

    Raises:
        SignBartError: The cluster cannot be reached, or no machine of it can take a task.
    """
    cluster = cluster or Cluster()
    with ExitStack() as stack:
        mark = stack.enter_context(_mark(batch.folder)) if batch.folder else ""
        with stage(f"reaching Ray at {cluster.address}" if cluster.address else "starting Ray"):
            ray = stack.enter_context(connected(cluster, batch.jobs))
        try:
            with stage("handing over what the tasks share"):
                run = _Run(ray, batch, cluster, mark)
            stack.callback(run.end)
            yield from run.outcomes()
        except ray.exceptions.RayError as error:
            raise SignBartError(
                f"the Ray cluster is lost: its head, or Ray on this machine, has gone "
                f"({type(error).__name__}); start it again ('ray stop', then 'ray start', on every "
                "machine) and give the same command, with --resume where it has that: what is "
                "finished is kept"
            ) from None


@contextmanager
def _mark(folder: Path) -> Iterator[str]:
    """Name of a folder in `folder`, by which machines know that they see it."""
    make_folder(folder)
    with temporary_folder(folder) as place:
        yield str(place.relative_to(folder))


class _Run:
    """Tasks on a cluster that is connected to."""

    def __init__(self, ray: ModuleType, batch: Batch, cluster: Cluster, mark: str):
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.batch, self.cluster, self.mark = ray, batch, cluster, mark
        self.running: dict[Any, int] = {}
        self.tries: Counter[int] = Counter()
        self.room, self.room_seen, self.counted = 0, time.monotonic(), -math.inf
        here = ray.get_runtime_context().get_node_id()
        self.folder = batch.folder and Path(os.path.abspath(batch.folder))
        self.news = Queue(
            actor_options={
                "num_cpus": 0,
                # It must not die with another machine.
                "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
            }
        )
        self.full = ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError
        shared = shared_arguments(batch.tasks)
        self.places = {id(value): at for at, value in enumerate(shared)}
        try:
            self.shared = [ray.put(value) for value in shared]
        except self.full as error:
            raise _full("Ray's", error) from None
        # A process a task: what a framework keeps ends with it.
        self.remote = ray.remote(
            num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_calls=1, max_retries=0
        )(_perform)

    def outcomes(self) -> Iterator[tuple[int, Any]]:
        ray, batch = self.ray, self.batch
        died = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.ObjectLostError,
        )
        waiting = deque(range(len(batch.tasks)))
        while waiting or self.running:
            if time.monotonic() - self.counted >= _COUNT:
                self.counted = time.monotonic()
                self._look_for_room()
                self._renew_mark()
            # What goes along with a task is read when it is sent: not long before it can begin.
            # Some always wait, or a cluster that grows with what is asked of it would not.
            while waiting and len(self.running) < (batch.jobs or max(1, 2 * self.room)):
                index = waiting.popleft()
                self.running[self._send(index)] = index
            ended, _ = ray.wait([*self.running], num_returns=1, timeout=_LOOK)
            self._hear()
            for task in ended:
                try:
                    outcome: Outcome = self._get(task)
                except died as error:
                    index = self.running.pop(task)
                    name, tries = batch.names[index], self.tries[index]
                    print(f"{name}: {_why(error)}; try {tries} of {_TRIES}", flush=True)
                    if tries < _TRIES:
                        waiting.append(index)
                        batch.moved(index, WAITING)
                    else:
                        yield index, CRASHED
                    continue
                except ray.exceptions.RpcError:  # the head's silence, not the task's fault
                    raise
                except ray.exceptions.RayError as error:
                    name = batch.names[self.running.pop(task)]
                    if isinstance(error, self.full):
                        raise _full(f"{name}: a machine's", error) from None
                    raise SignBartError(
                        f"{name}: Ray could not run it: {last_line(error)}"
                    ) from None
                self._hear()
                index = self.running.pop(task)
                if self.folder:
                    bring_home(self.folder, outcome.files)
                result = unpack(outcome.result, batch.folder)
                if outcome.raised:
                    raise result
                yield index, result

    def _send(self, index: int) -> Any:
        """Submits a task; the reference to its outcome."""
        batch, folder = self.batch, self.batch.folder
        task, paths = pack(batch.tasks[index], folder, self.places)
        self.tries[index] += 1
        errand = Errand(
            name=batch.names[index],
            task=task,
            folder=str(self.folder) if self.folder else None,
            mark=self.mark,
            travels=batch.travels,
            files=written(folder, sorted(paths)) if folder and batch.travels else {},
            directory=os.getcwd(),
            threads=self.cluster.cpus,
        )
        return self.remote.remote(errand, self.news, (index, self.tries[index]), *self.shared)

    def _hear(self) -> None:
        """Prints and writes what tasks have sent; not that of an earlier try."""
        queue = self.news.actor
        count = self._get(queue.qsize.remote())
        for (index, attempt), kind, content in self._get(queue.get_nowait_batch.remote(count)):
            if attempt != self.tries[index] or index not in self.running.values():
                continue
            if kind == "begun":
                self.batch.moved(index, RUNNING)
            elif kind in ("line", "warning"):
                print(content, file=sys.stdout if kind == "line" else sys.stderr, flush=True)
                heard()
            elif kind == "files":
                bring_home(self.folder, content)

    def _get(self, reference: Any) -> Any:
        """An object, waited for while the cluster lives: Ray would wait for a dead one, too."""
        while True:
            try:
                return self.ray.get(reference, timeout=_COUNT)
            except self.ray.exceptions.GetTimeoutError:
                self._look_for_room()

    def _look_for_room(self) -> None:
        """Counts how many tasks the machines can run at a time.

        Raises:
            SignBartError: For long there was none that could run one.
        """
        self.room = sum(self.cluster.room_on(machine) for machine in machines(self.ray))
        if self.room:
            self.room_seen = time.monotonic()
        elif time.monotonic() - self.room_seen > _PATIENCE or not self.tries:
            raise SignBartError(
                f"no machine of the Ray cluster has what a task takes, cores: {self.cluster.cpus}, "
                f"GPUs: {self.cluster.gpus:g}; pass other --cpus-per-task and --gpus-per-task, or "
                "add one"
            )

    def _renew_mark(self) -> None:
        """Other machines take what is a day old for left over; see `files.remove_left_overs`."""
        if self.folder:
            with suppress(OSError):
                os.utime(self.folder / self.mark)

    def end(self) -> None:
        """Ends what still runs."""
        for task in self.running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(task, force=True)


def _why(error: BaseException) -> str:
    """Of a task that died, in words."""
    kind = type(error).__name__
    return {
        "NodeDiedError": "its machine is gone",
        "OutOfMemoryError": "its process was killed, because memory ran out",
        "WorkerCrashedError": "its process was killed",
    }.get(kind, f"what it made is lost ({kind})")


def _full(whose: str, error: BaseException) -> SignBartError:
    return SignBartError(
        f"{whose} object store cannot hold what the tasks share, nor the disk of Ray's temporary "
        f"folder the rest ({type(error).__name__}); start Ray there with more "
        "--object-store-memory, or with --temp-dir on a disk that has room, or map the recordings "
        "(docs/data.md), which then are read from their path"
    )


def _perform(errand: Errand, news: Any, sender: tuple[int, int], *shared: Any) -> Outcome:
    """What Ray runs, in a process of another machine."""

    def send(kind: str, content: Any) -> None:
        news.put((sender, kind, content))

    send("begun", None)
    return perform(errand, send, shared)
