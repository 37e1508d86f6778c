"""Models in files, each a task: opened, and asked for what it makes of the same recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.errors import BridgeError
from bridge.weights.source import read_labels
from signbart.configuration.reading import load_config
from signbart.engines import Engine, run_tasks
from signbart_runtime.evaluation.opened import lacks_header, open_model
from signbart_runtime.evaluation.predict import evaluate
from signbart_runtime.evaluation.spotting import StreamScores, evaluate_streams

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet
    from signbart.streaming.rule import StreamRule
    from signbart.training.predictions import Predictions
    from signbart_runtime.evaluation.opened import OpenedModel

T = TypeVar("T")


def evaluate_files(
    paths: Sequence[Path],
    clips: ClipSet,
    source: str,
    **options: Any,
) -> dict[Path, Predictions]:
    """Evaluates models of any kind, each once, on the same clips; `source` is for messages.

    Args:
        paths: The models.
        clips: Labelled.
        source: Their path.
        options: Of `ask_files`.

    Raises:
        SignBartError: A file cannot be opened, or the clips do not fit it.
    """
    found = ask_files(paths, partial(evaluate, source=source), clips, **options)
    names = short_names(paths)
    return {path: one.named(name) for path, name, one in zip(paths, names, found, strict=True)}


def score_streams(
    model: OpenedModel,
    clips: ClipSet,
    *,
    rule_for: Callable[[Sequence[str], float | None], StreamRule],
    **options: Any,
) -> tuple[StreamScores, StreamRule, float | None]:
    """`spotting.evaluate_streams` by a rule that depends on the model; a question for `ask_files`.

    Args:
        model: Any.
        clips: Labelled with classes of the model.
        rule_for: Gives the rule for a model's classes and the threshold that it carries.
        options: Further ones of `evaluate_streams`.

    Returns:
        The scores, the rule, and the threshold that the model carries.
    """
    rule = rule_for(model.class_names, model.threshold)
    return evaluate_streams(model, clips, rule, **options), rule, model.threshold


def ask_files(
    paths: Sequence[Path],
    question: Callable[[OpenedModel, ClipSet], T],
    clips: ClipSet,
    *,
    jobs: int | None = 1,
    engine: Engine | None = None,
    **opening: Any,
) -> Iterator[T]:
    """Yields each model's answer, in the order of the files.

    Args:
        paths: The models.
        question: Picklable.
        clips: What it is about.
        jobs: Models at a time; None leaves it to the engine.
        engine: Runs them; see `run_tasks`. Its machines must see the files.
        opening: ``checksum`` as for `opened.open_model`, and ``config``, ``overrides`` and
            ``labels`` of a published .pth as for `bridge.weights.source.read_source`.

    Raises:
        SignBartError: A file cannot be opened, or the clips do not fit it.
    """
    published = opening.get("config") or opening.get("overrides") or opening.get("labels")
    if published and not any(lacks_header(path) for path in paths):
        raise BridgeError(
            "--config, --set and --labels are for a published .pth; other models carry theirs"
        )
    found: dict[int, T] = {}
    given = 0
    for at, answer in run_tasks(
        [partial(_ask, path, question, clips, opening) for path in paths],
        jobs and min(jobs, len(paths)),
        engine=engine,
        threads=1 if jobs and jobs > 1 else None,
        name="model",
        names=short_names(paths),
    ):
        found[at] = answer
        while given in found:
            yield found.pop(given)
            given += 1


def _ask(
    path: Path, question: Callable[[OpenedModel, ClipSet], T], clips: ClipSet, opening: dict
) -> T:
    return question(_open(path, **opening), clips)


def _open(
    path: Path,
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    labels: str | None = None,
    checksum: bool = True,
) -> OpenedModel:
    published = lacks_header(path)
    return open_model(
        path,
        load_config(config, overrides) if published and config else None,
        read_labels(labels) if published else (),
        checksum=checksum,
    )


def short_names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many of their folders in front as tell each from the others.

    Raises:
        BridgeError: A file is named twice.
    """
    parts = [path.resolve().parts for path in paths]
    for at, part in enumerate(parts):
        if part in parts[:at]:
            raise BridgeError(f"{paths[at]}: named twice; name each model once")

    def name(part: tuple[str, ...]) -> str:
        depth = 1
        while sum(other[-depth:] == part[-depth:] for other in parts) > 1:
            depth += 1
        return "_".join(part[-depth:])

    return [name(part) for part in parts]
