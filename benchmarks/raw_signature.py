"""``python -m benchmarks.raw_signature``: what preprocessing in the graph costs, and how exact.

Of artifacts with ``--reference``, or of models of random weights that are made for it: a small one
for each of ``--layouts`` (or all) and each normalisation, and one for each of ``--configs``.

Latency of ARTIFACTS: a call of each signature of each, in turns, one thread; beside it NumPy's
preprocessing of the same recording. Agreement: both signatures against NumPy's preprocessing and
PyTorch, on random recordings with holes and on every clip of data sets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.raw_agreement import (
    BODIES,
    IN_IMAGES,
    POINTS,
    RANDOM,
    Agreement,
    contracts,
    loud_model,
    measure,
    random_recordings,
    summary,
)
from bridge.artifact.runtimes import TorchRuntime, open_runtime
from bridge.conversion.pipeline import convert
from bridge.errors import BridgeError
from bridge.routes import ROUTES
from bridge.verification.raw import RawReference
from bridge.weights.source import Source, read_source
from signbart.artifacts.metadata import carried_config, carried_raw, read_metadata
from signbart.configuration.reading import load_config
from signbart.configuration.schema import RunConfig
from signbart.console import at_least, markdown_table, print_table, run_command
from signbart.files import make_folder, write_text
from signbart.landmarks.layouts import LAYOUTS
from signbart.models.io_spec import RAW_SIGNATURE, raw_input
from signbart.models.raw_spec import RawSignature
from signbart.recordings.clip import ClipSet
from signbart.recordings.data_source import read_recordings
from signbart.recordings.options import add_reading_arguments, data_source
from signbart.timing import interleaved, machine_name
from signbart.waiting import track

_LATENCY = ("file", "model alone, ms", "raw landmarks, ms", "ratio", "NumPy preprocessing, ms")
_CLASSES = 30
RESULTS = "agreement.json"


def latency(paths: Sequence[Path], rounds: int) -> list[list[str]]:
    """Rows of `_LATENCY`: medians of `rounds` turns of every contestant of every .tflite."""
    calls: dict[str, Callable[[], object]] = {}
    for path in paths:
        raw = _raw_signature(path)
        frames = min(raw.frames, 2 * raw.config.data.max_frames)
        inputs = next(random_recordings(raw, 1, length=frames))
        reference = RawReference(open_runtime(path), raw)
        bare, whole = open_runtime(path), open_runtime(path, RAW_SIGNATURE)
        for what, call in (
            ("alone", partial(bare, reference.prepare(inputs))),
            ("whole", partial(whole, inputs)),
            ("NumPy", partial(reference.prepare, inputs)),
        ):
            # Each twice in its turn, for the first one finds another's numbers in the caches.
            calls[f"{path} {what}, first"] = calls[f"{path} {what}"] = call
    median = {name: found.median for name, found in interleaved(calls, rounds=rounds).items()}
    rows = []
    for path in paths:
        alone, whole, numpy = (median[f"{path} {what}"] for what in ("alone", "whole", "NumPy"))
        row = f"{alone:.3f}", f"{whole:.3f}", f"{whole / alone:.2f}", f"{numpy:.3f}"
        rows.append([path.name, *row])
    return rows


def agreements(
    source: Source,
    files: Sequence[Path],
    sets: dict[str, ClipSet],
    random: int,
    seed: int,
    known: Sequence[Agreement] = (),
) -> list[Agreement]:
    """Those of a model's files, on random recordings and on the sets that have its landmarks.

    Args:
        source: The model.
        files: What was made of it, all with the same second signature.
        sets: Name -> recordings.
        random: Random recordings.
        seed: Of those.
        known: What need not be measured again.
    """
    config, model = source.config, TorchRuntime(source.model, source.config)
    raw = next(raw for raw in map(_raw_signature, files) if raw)
    layout = config.data.landmark_layout
    tried = {}
    if random and layout.unit == "metres":
        tried[BODIES] = random, random_recordings(raw, random, seed)
        tried[POINTS] = random, random_recordings(raw, random, seed, bodies=False)
    elif random:
        tried[IN_IMAGES] = random, random_recordings(raw, random, seed)
    width = raw.spec.inputs[0].shape[3]
    for name, clips in sets.items():
        if clips.gives(layout):
            tried[name] = len(clips), _whole_clips(raw, clips, width)
    rows = []
    for name, (count, given) in tried.items():
        found = [row for row in known if row.recordings == name]
        if not found or (name in RANDOM and found[0].count != count):
            what = f"{config.data.layout} {config.data.normalization}, {name}"
            found = measure(files, model, raw, track(given, what, count), name)
        rows += found
    return rows


def _whole_clips(raw: RawSignature, clips: ClipSet, width: int) -> Iterator[dict[str, np.ndarray]]:
    for clip in clips.to_layout(raw.config.data.landmark_layout).clips:
        landmarks = np.asarray(clip.landmarks)[..., :width]
        if len(landmarks) <= raw.frames:
            yield raw_input(raw.spec, landmarks)


def made_model(
    name: str, config: RunConfig, folder: Path, routes: Sequence[str]
) -> tuple[Source, list[Path]]:
    """A model of random weights and its files, which are made where they are not there yet."""
    from signbart_torch.training.checkpoint import Checkpoint, save_checkpoint

    checkpoint, output = folder / "random.safetensors", folder / "files"
    make_folder(folder)
    if not checkpoint.is_file():
        labels = tuple(map(str, range(config.model.num_labels)))
        weights = loud_model(config).state_dict()
        save_checkpoint(Checkpoint(weights, config, labels), checkpoint)
    missing = [route for route in routes if not list(output.glob(f"*_{route}_*.tflite"))]
    if missing:
        convert(checkpoint, output, routes=routes)
    files = sorted([*output.glob("*.tflite"), *output.glob("*.onnx")])
    for route in missing:
        if not list(output.glob(f"*_{route}_*.tflite")):
            raise BridgeError(f"{name}: route {route} made no .tflite; see {output / 'parity.md'}")
    return read_source(checkpoint), files


def _raw_signature(path: Path) -> RawSignature | None:
    metadata = read_metadata(path)
    raw = carried_raw(metadata, carried_config(metadata, path))
    if raw is None and path.suffix == ".tflite":
        raise BridgeError(f"{path} has no signature {RAW_SIGNATURE}; convert it again")
    return raw


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.raw_signature",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifacts", nargs="*", type=Path, metavar="ARTIFACT")
    parser.add_argument("--reference", metavar="CKPT", help="their checkpoint, for agreement")
    parser.add_argument(
        "--layouts", nargs="+", default=[], choices=[*LAYOUTS, "all"], metavar="NAME"
    )
    parser.add_argument("--configs", nargs="+", default=[], metavar="YAML")
    parser.add_argument(
        "--routes", nargs="+", default=["all"], choices=[*ROUTES, "all"], metavar="NAME"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="receives those models and what was measured; what is there is not done again",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="PATH",
        help="recordings for agreement, all of them",
    )
    parser.add_argument(
        "--random", type=at_least(0), default=1000, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=500, help="of latency (default: %(default)s)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: %(default)s")
    add_reading_arguments(parser)
    options = parser.parse_args(arguments)
    if (options.layouts or options.configs) and not options.output:
        parser.error("--layouts and --configs need --output")

    timed = [path for path in options.artifacts if path.suffix == ".tflite"]
    if timed:
        print_table(
            f"medians of {options.rounds}, {machine_name()}",
            _LATENCY,
            latency(timed, options.rounds),
        )
    sets = {Path(path).name: read_recordings(data_source(options, path)) for path in options.data}
    measured: dict[str, list[Agreement]] = {}
    if options.reference:
        source = read_source(options.reference)
        name = source.config.name
        measured[name] = agreements(source, options.artifacts, sets, options.random, options.seed)
    layouts = [*LAYOUTS] if "all" in options.layouts else options.layouts
    routes = [*ROUTES] if "all" in options.routes else options.routes
    models = [(config.data.layout, name, config) for name, config in contracts(layouts).items()]
    for path in options.configs:
        config = load_config(path, [f"model.num_labels={_CLASSES}"])
        models.append((path, Path(path).stem, config))
    for group, name, config in models:
        folder = options.output / name
        source, files = made_model(name, config, folder, routes)
        results, known = folder / RESULTS, []
        if results.is_file():
            known = [Agreement(**row) for row in json.loads(results.read_text(encoding="utf-8"))]
        found = agreements(source, files, sets, options.random, options.seed, known)
        write_text(results, json.dumps([dataclasses.asdict(row) for row in found], indent=1))
        measured.setdefault(group, []).extend(found)
    if measured:
        columns, rows = summary(measured)
        print_table(f"largest differences of scores, {machine_name()}", columns, rows)
        if options.output:
            write_text(options.output / "agreement.md", markdown_table(columns, rows))
    return 0


if __name__ == "__main__":
    run_command(main)
