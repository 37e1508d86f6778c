"""Commands in processes of their own that end themselves where they are told to.

The processes are forked from one that has imported everything, so that a kill costs no start.
"""

import errno
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import types
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.robustness.killing", "torch._dynamo", "torch.utils.tensorboard",
        "signbart_torch.train", "signbart_torch.training.learner",
        "signbart.clips", "bridge.convert", "bridge.conversion.pipeline", "bridge.quantize",
        "ai_edge_quantizer.quantizer", "signbart_runtime.evaluation.predict",
        "signbart_runtime.evaluate", "signbart_runtime.web.__main__", "signbart.pictures",
        "rich.table", "sklearn.metrics",
    ]
)  # fmt: skip
# What changes a folder, beside opening a file to write to it.
STEPS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
LONGEST = 120  # seconds of a command


@dataclass(frozen=True)
class Command:
    """A command line, and what stands in for what would take long.

    Attributes:
        module: Has a ``main``.
        arguments: Of it.
        ready: Routes, each with the .tflite that it makes without converting anything.
    """

    module: str
    arguments: tuple[str, ...]
    ready: dict[str, Path] = field(default_factory=dict)

    def start(
        self,
        folder: Path,
        *,
        at: int | None = None,
        denied: int | None = None,
        longest: int | None = None,
    ) -> multiprocessing.Process:
        """Runs it; its temporary files, output and number of steps go to `folder`.

        Args:
            folder: The folder.
            at: Kill it before this step; None: do not.
            denied: Allow no step from this one on.
            longest: Bytes that a file may have, as where the disk is full then.
        """
        process = CONTEXT.Process(target=_run, args=(self, folder, at, denied, longest))
        process.start()
        return process

    def whole(self, folder: Path) -> tuple[int, float]:
        """Runs it undisturbed: how many steps it took, and how many seconds."""
        begun = time.monotonic()
        process = self.start(folder)
        process.join(LONGEST)
        said = (folder / "output").read_text()
        assert process.exitcode == 0, f"{self.arguments}: {process.exitcode}: {said}"
        return int((folder / "steps").read_text()), time.monotonic() - begun

    def killed(self, folder: Path, *, at: int | None = None, after: float | None = None) -> bool:
        """Kills it before a step, or after so many seconds; False where it ended before that."""
        process = self.start(folder, at=at)
        process.join(LONGEST if after is None else after)
        if process.is_alive():
            process.kill()
            process.join()
        assert process.exitcode in (0, -signal.SIGKILL), (folder / "output").read_text()
        return process.exitcode != 0

    def fails(self, folder: Path, **how: int) -> int:
        """Runs it where a file cannot be written; see `start`. Its exit status."""
        process = self.start(folder, **how)
        process.join(LONGEST)
        return process.exitcode

    def __str__(self) -> str:
        return f"{self.module} {' '.join(self.arguments)}"


def _run(
    command: Command, folder: Path, at: int | None, denied: int | None, longest: int | None
) -> None:
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    sys.argv = [f"signbart {command.module}"]
    main = import_module(command.module).main
    if command.ready:
        _take_routes(command.ready)
    from signbart.console import run_command

    taken = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal taken
        writing = event == "open" and (arguments[2] or 0) & os.O_ACCMODE != os.O_RDONLY
        if event in STEPS or writing:
            taken += 1
            if taken - 1 == at:
                os.kill(os.getpid(), signal.SIGKILL)
            if denied is not None and taken > denied:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(arguments[0]))

    sys.addaudithook(count)
    if longest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest, longest))
    try:
        run_command(lambda: main(list(command.arguments)))
    finally:
        steps, denied = taken, None
        (folder / "steps").write_text(str(steps))


def _take_routes(ready: dict[str, Path]) -> None:
    from bridge.routes import ROUTES, Route

    ROUTES.clear()
    for name, path in ready.items():
        module = types.ModuleType(f"route_{name}")
        content = path.read_bytes()
        module.export = lambda model, spec, paths, content=content: paths[".tflite"].write_bytes(
            content
        )
        sys.modules[module.__name__] = module
        ROUTES[name] = Route(name, (), "", (), module.__name__)
