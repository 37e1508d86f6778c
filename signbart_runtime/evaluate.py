"""``python -m signbart_runtime.evaluate``: how well models recognise recordings, by one table."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError
from bridge.options import add_published_arguments
from signbart.checksums import add_checksum_argument
from signbart.console import at_least, print_table, program_name, run_command
from signbart.engines.options import add_engine_arguments, engine_of
from signbart.recordings.options import SignerNames, add_reading_arguments
from signbart.streaming.options import (
    add_rule_arguments,
    check_rule,
    describe_threshold,
    fps_of,
    rule_for,
    rule_of,
)
from signbart.training.predictions import SCORE_COLUMNS, per_class_csv, per_class_rows, score_row
from signbart_runtime.evaluation.opened import lacks_header

if TYPE_CHECKING:
    from signbart.recordings.clip import ClipSet
    from signbart.training.predictions import Predictions


def _score_streams(paths: Sequence[Path], clips: ClipSet, options: argparse.Namespace) -> None:
    """Prints a table a model, and writes all of them."""
    from signbart.files import file_sha256, make_folder, write_text
    from signbart.streaming.scoring import COLUMNS
    from signbart_runtime.evaluation.files import ask_files, score_streams, short_names
    from signbart_runtime.evaluation.spotting import require_same_spotting

    fps = fps_of(options)
    names, settings = short_names(paths), dataclasses.asdict(rule_of(options))
    if options.threshold is None:
        del settings["threshold"]  # each model's, which its hash stands for
    made_from = {
        "models": {name: file_sha256(path) for path, name in zip(paths, names, strict=True)},
        "recordings": clips.fingerprint(),
        "rule": settings,
        "fps": fps,
        "seed": options.seed,
    }
    target = Path(options.output) / "spotting.json" if options.output else None
    if target:
        make_folder(target.parent)
        require_same_spotting(target, made_from)
    found = {}
    question = partial(
        score_streams,
        rule_for=partial(rule_for, options),
        fps=fps,
        seed=options.seed,
        source=options.data,
    )
    for name, (scores, rule, carried) in zip(
        names, ask_files(paths, question, clips, **_opening(options)), strict=True
    ):
        print_table(
            f"{name}: signs in {scores.total.minutes:.1f} minutes of {len(scores.by_signer)} "
            f"stream(s) strung of {options.data}, {fps:g} frames a second; "
            + describe_threshold(options, rule, carried),
            COLUMNS,
            scores.rows(),
        )
        found[name] = {"threshold": rule.threshold, **scores.numbers()}
    if target:
        record = {"made_from": made_from, "models": found}
        write_text(target, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        print(f"wrote {target}")


def _opening(options: argparse.Namespace) -> dict[str, Any]:
    """How the files are opened, and by what engine: options of `ask_files`."""
    names = ("config", "overrides", "labels", "checksum")
    jobs = options.jobs or (None if options.engine == "ray" else 1)
    return {
        **{name: getattr(options, name) for name in names},
        "jobs": jobs,
        "engine": engine_of(options),
    }


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
    from bridge.weights.source import test_signers
    from signbart.training.seen import seen_before
    from signbart.weights.stored import read_progress

    if path.suffix in (".tflite", ".onnx") or lacks_header(path):
        return ""
    tested = test_signers(path, clips)
    if tested is None:
        return ""
    # A teacher, or what it started from, may know those whom it was tested on.
    known = seen_before(read_progress(path))
    strangers = [name for name in tested if name not in known]
    others = sorted(set(chosen.signer_names).difference(strangers))
    if not others:
        return ""
    held_out = f" (held out: {', '.join(strangers)}; see --signers)" if strangers else ""
    trained = "may have been" if known.intersection(others) else "was"
    return (
        f"{path.name} {trained} trained on recordings of {', '.join(others)}, so its score says "
        f"little about strangers{held_out}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=program_name("python -m signbart_runtime.evaluate"),
        description="Score models of any kind on labelled recordings, each with the preprocessing "
        "and the labels that it carries.",
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
        "--signers",
        nargs="+",
        action=SignerNames,
        default=[],
        metavar="SIGNER",
        help="their clips only; @FILE reads them from a file, one a line",
    )
    which.add_argument(
        "--split",
        choices=("train", "val", "test", "all"),
        default="all",
        help="only clips that the recordings mark so (default: %(default)s)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave bad clips out, and say so")
    add_published_arguments(parser)
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="receives scores.csv, per_class_accuracy.csv, predictions/ and confusion_matrices/",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="string each signer's clips together, with idle between them, and score how their "
        "signs are found; --output receives spotting.json",
    )
    add_rule_arguments(parser)
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="of --stream (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="models at a time, one thread each if more than one (default: 1; with --engine ray as "
        "many as there is room for)",
    )
    add_engine_arguments(parser, "models")
    add_checksum_argument(parser)
    options = parser.parse_args(arguments)
    check_rule(options, streams=options.stream)
    opening = _opening(options)

    from signbart.files import make_folder
    from signbart.recordings.options import read_data
    from signbart.training.options import print_skipped
    from signbart.training.predictions import identify, require_nothing_else
    from signbart_runtime.evaluation.files import evaluate_files, short_names

    paths = list({Path(model).resolve(): Path(model) for model in options.models}.values())
    clips = read_data(options)
    print_skipped(clips.skipped)
    chosen = select_clips(clips, options.signers, options.data)
    if options.stream:
        _score_streams(paths, chosen, options)
        _print_notes(paths, clips, chosen)
        return 0
    if options.output:
        # Before the work: what cannot be written is said at once.
        make_folder(Path(options.output))
        named = zip(short_names(paths), paths, strict=True)
        require_nothing_else(
            Path(options.output),
            {name: identify(path, chosen) for name, path in named if path.is_file()},
        )
    found = evaluate_files(paths, chosen, options.data, **opening)
    _print_scores(found, chosen, options.data)
    _print_notes(paths, clips, chosen)
    if options.output:
        _write(Path(options.output), found, chosen)
        print(f"wrote {options.output}")
    return 0


def _print_notes(paths: Sequence[Path], clips: ClipSet, chosen: ClipSet) -> None:
    for path in paths:
        note = seen_in_training(path, clips, chosen)
        if note:
            print(f"note: {note}")


def _print_scores(found: Mapping[Path, Predictions], clips: ClipSet, source: str) -> None:
    signers = ", ".join(clips.signer_names)
    print_table(
        f"{source}: {len(clips)} clips by {signers}, in percent",
        SCORE_COLUMNS,
        [score_row(evaluation) for evaluation in found.values()],
    )
    if len(found) == 1:
        (evaluation,) = found.values()
        print_table(
            "By class", ["class", "clips", "accuracy", "taken for"], per_class_rows(evaluation)
        )


def _write(output: Path, found: Mapping[Path, Predictions], clips: ClipSet) -> None:
    from signbart.files import make_folder, write_text
    from signbart.training.predictions import draw_evaluation, identify, write_predictions
    from signbart.training.run_folder import csv_text

    pictures = output / "confusion_matrices"
    make_folder(pictures)
    keys = [column.replace("-", "").replace(" ", "_") for column in SCORE_COLUMNS]
    for path, evaluation in found.items():
        write_predictions(output, evaluation, identify(path, clips))
        draw_evaluation(evaluation, evaluation.model, pictures / f"{evaluation.model}.png")
    by_name = {evaluation.model: evaluation for evaluation in found.values()}
    rows = [dict(zip(keys, score_row(one), strict=True)) for one in by_name.values()]
    write_text(output / "scores.csv", csv_text(rows))
    write_text(output / "per_class_accuracy.csv", per_class_csv(by_name))


if __name__ == "__main__":
    run_command(main)
