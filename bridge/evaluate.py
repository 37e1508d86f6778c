"""``python -m bridge.evaluate``: how well any model recognises recordings, by one table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from bridge.evaluation.tables import per_class_csv, per_class_rows
from bridge.options import add_published_arguments
from signbart.console import print_table, run_command
from signbart.recordings.options import add_reading_arguments

if TYPE_CHECKING:
    from bridge.evaluation.predictions import Evaluation
    from signbart.recordings.clip import ClipSet


def evaluate_files(
    paths: Sequence[Path],
    clips: ClipSet,
    source: str,
    *,
    config: str | None = None,
    overrides: Sequence[str] = (),
    labels: str | None = None,
) -> dict[Path, Evaluation]:
    """Evaluates models of any kind on the same clips.

    Args:
        paths: The files, each once.
        clips: The recordings.
        source: Their path, for messages.
        config: Configuration of the published .pth among them.
        overrides: ``section.key=value`` texts on top of it.
        labels: label2id.json of the published .pth.

    Raises:
        SignBartError: A file cannot be opened, or the clips do not fit it.
    """
    from bridge.artifact.opened import open_model
    from bridge.evaluation.predictions import evaluate
    from bridge.weights.source import read_labels
    from signbart.configuration.reading import load_config

    if (config or overrides or labels) and not any(path.suffix == ".pth" for path in paths):
        raise BridgeError(
            "--config, --set and --labels are for a published .pth; other models carry theirs"
        )
    found = {}
    for path, name in zip(paths, _short_names(paths), strict=True):
        published = path.suffix == ".pth"
        model = open_model(
            path,
            load_config(config, overrides) if published and config else None,
            read_labels(labels) if published else (),
        )
        found[path] = evaluate(model, clips, source).named(name)
    return found


def _short_names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many of their folders in front as tell each from the others."""
    parts = [path.resolve().parts for path in paths]

    def name(part: tuple[str, ...]) -> str:
        depth = 1
        while sum(other[-depth:] == part[-depth:] for other in parts) > 1:
            depth += 1
        return "_".join(part[-depth:])

    return [name(part) for part in parts]


def select_clips(clips: ClipSet, signers: Sequence[str], source: str) -> ClipSet:
    """The clips of those signers; all without any.

    Raises:
        BridgeError: A signer has no clip.
    """
    unknown = [signer for signer in signers if signer not in clips.signer_names]
    if unknown:
        raise BridgeError(
            f"{source}: no clips by signer '{unknown[0]}'; the signers are "
            f"{', '.join(clips.signer_names)}"
        )
    return clips.select(at for at, s in enumerate(clips.signers) if not signers or s in signers)


def seen_in_training(path: Path, clips: ClipSet, chosen: ClipSet) -> str:
    """What to tell a user whose clips the checkpoint was trained on; empty where it was not.

    Only checkpoints know it, and only of the very recordings that they were trained with.
    """
    from bridge.weights.source import load_progress

    if path.suffix in (".tflite", ".onnx", ".pth"):
        return ""
    known = load_progress(path).get("recordings", {})
    if known.get("fingerprint") != clips.fingerprint():
        return ""
    tested = known["test_signers"]
    others = sorted(set(chosen.signer_names) - set(tested))
    if not others:
        return ""
    held_out = f" (held out: {', '.join(tested)}; see --signers)" if tested else ""
    return (
        f"{path.name} was trained on recordings of {', '.join(others)}, so its score says little "
        f"about strangers{held_out}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.evaluate",
        description="Score models of any kind on labelled recordings. Preprocessing and labels are "
        "the model's own.",
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help=".safetensors, .pth, .keras, .weights.h5, .onnx or .tflite",
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="labelled recordings")
    add_reading_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--signers", nargs="+", default=[], metavar="SIGNER", help="their clips only"
    )
    which.add_argument(
        "--split",
        choices=("train", "val", "test", "all"),
        default="all",
        help="the part that the recordings themselves mark so (default: %(default)s)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave bad clips out, and say so")
    add_published_arguments(parser)
    parser.add_argument("--labels", metavar="JSON", help="label2id.json of a published .pth")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="receives scores.csv, per_class_accuracy.csv, predictions/ and confusion_matrices/",
    )
    options = parser.parse_args(arguments)

    from bridge.evaluation.predictions import identify, require_nothing_else
    from signbart.files import make_folder
    from signbart.recordings.options import read_data
    from signbart.training.options import print_skipped

    paths = list({Path(model).resolve(): Path(model) for model in options.models}.values())
    clips = read_data(options)
    print_skipped(clips.skipped)
    chosen = select_clips(clips, options.signers, options.data)
    if options.output:
        # Before the work: what cannot be written is said at once.
        make_folder(Path(options.output))
        named = zip(_short_names(paths), paths, strict=True)
        require_nothing_else(
            Path(options.output),
            {name: identify(path, chosen) for name, path in named if path.is_file()},
        )
    found = evaluate_files(
        paths,
        chosen,
        options.data,
        config=options.config,
        overrides=options.overrides,
        labels=options.labels,
    )
    _print_scores(found, chosen, options.data)
    for path in paths:
        note = seen_in_training(path, clips, chosen)
        if note:
            print(f"note: {note}")
    if options.output:
        _write(Path(options.output), found, chosen)
        print(f"wrote {options.output}")
    return 0


_COLUMNS = ("model", "clips", "accuracy", "top-5", "mean class accuracy")


def _score_row(evaluation: Evaluation) -> list[str]:
    scores = evaluation.scores
    shares = (scores.accuracy, scores.top5, scores.mean_class_accuracy)
    return [evaluation.model, str(scores.count), *(f"{100 * share:.2f}" for share in shares)]


def _print_scores(found: Mapping[Path, Evaluation], clips: ClipSet, source: str) -> None:
    signers = ", ".join(clips.signer_names)
    print_table(
        f"{source}: {len(clips)} clips by {signers}, in percent",
        _COLUMNS,
        [_score_row(evaluation) for evaluation in found.values()],
    )
    if len(found) == 1:
        (evaluation,) = found.values()
        print_table(
            "By class", ["class", "clips", "accuracy", "taken for"], per_class_rows(evaluation)
        )


def _write(output: Path, found: Mapping[Path, Evaluation], clips: ClipSet) -> None:
    from bridge.book.pictures import draw_confusion
    from bridge.evaluation.predictions import identify, write_evaluation
    from signbart.files import make_folder, replacing, write_text
    from signbart.training.run_folder import csv_text

    pictures = output / "confusion_matrices"
    make_folder(pictures)
    keys = [column.replace("-", "").replace(" ", "_") for column in _COLUMNS]
    rows = []
    for path, evaluation in found.items():
        write_evaluation(output, evaluation, identify(path, clips))
        with replacing(pictures / f"{evaluation.model}.png") as picture:
            draw_confusion(
                evaluation.confusion, evaluation.class_names, _title(evaluation), picture
            )
        rows.append(dict(zip(keys, _score_row(evaluation), strict=True)))
    write_text(output / "scores.csv", csv_text(rows))
    by_name = {evaluation.model: evaluation for evaluation in found.values()}
    write_text(output / "per_class_accuracy.csv", per_class_csv(by_name))


def _title(evaluation: Evaluation) -> str:
    scores = evaluation.scores
    return f"{evaluation.model}: {100 * scores.accuracy:.2f} % of {scores.count} clips"


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()
