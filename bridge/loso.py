"""``python -m bridge.loso``: from recordings to verified artifacts, one fold a signer.

A fold ``OUTPUT/<signer>`` is a run folder, trained in PyTorch or in Keras, with ``exports/`` beside
the checkpoints: every route and scheme, judged on the signer that was not trained on. With
``--qat`` two more runs stand in it, ``qat_dynamic/`` and ``qat_static/``, each with its own
``exports/``. Every model is evaluated on that signer (``evaluation/``), every .tflite timed
(``latency.json``). What is finished is not made again, and what was made before of other routes or
schemes stays: where one is added, all of them are converted together. `bridge.results` reads all of
it, and the results book of it goes to ``OUTPUT/report``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.folds import ALL, EVALUATION, EXPORTS, LATENCY, PLAIN, QAT, training_folder
from bridge.frameworks import FRAMEWORKS, Framework
from bridge.quantize import FLOAT, select_schemes
from bridge.routes import ROUTES, select_routes
from signbart.console import run_command
from signbart.files import file_sha256, make_folder, write_text
from signbart.run_folder import RESULTS

if TYPE_CHECKING:
    from signbart.clips import ClipSet
    from signbart.config import RunConfig

REPORT = "report"  # the book's folder; no signer's, for signers hold exports


@dataclass(frozen=True)
class Fold:
    """One signer's training and conversions, as a picklable callable for worker processes.

    Attributes:
        framework: Trains.
        clips: All recordings.
        config: The run's configuration.
        folder: ``OUTPUT/<signer>``.
        test_signers: Who is not trained on; empty in full-data training.
        data: Path of the recordings.
        routes: Routes to take.
        schemes: Schemes to quantize to.
        qat_epochs: Epochs of quantization-aware training; 0: none.
        device: Where to train.
        conversions: Routes to convert by at a time.
    """

    framework: Framework
    clips: ClipSet
    config: RunConfig
    folder: Path
    test_signers: tuple[str, ...]
    data: str
    routes: tuple[str, ...]
    schemes: tuple[str, ...]
    qat_epochs: int
    device: str
    conversions: int

    def check_calibration(self) -> None:
        """Before training takes its time: are there enough clips to calibrate on behind it?

        Raises:
            ClipError: There are not.
        """
        from signbart.calibration import MIN_CLIPS, require_clips
        from signbart.splits import split_clips

        calibrated = any(scheme.calibrated for scheme in select_schemes(self.schemes))
        if calibrated or self.qat_epochs:
            split = split_clips(self.clips, self.config.train, self.test_signers)
            require_clips(min(MIN_CLIPS, len(split.train)))

    def __call__(self) -> dict[str, Any]:
        """Makes what is missing; the results of training."""
        if not (self.folder / RESULTS).is_file():
            self._say("training")
        results = self.framework.train_fold(
            self.clips,
            self.config,
            self.folder,
            test_signers=self.test_signers,
            resume=True,
            device=self.device,
            data_name=self.data,
        )
        best = self.folder / self.framework.best
        self._convert(best, self.schemes)
        for name, scheme in QAT.items() if self.qat_epochs else ():
            if not (self.folder / name / RESULTS).is_file():
                self._say(f"training on, for {scheme}")
            self._convert(self._fine_tune(best, name), (scheme,))
        self._say("done")
        return results

    def _say(self, what: str) -> None:
        print(f"{self.folder.name}: {what}", flush=True)

    def _convert(self, checkpoint: Path, schemes: Sequence[str]) -> None:
        from bridge.conversion import convert
        from bridge.quantization_job import QuantizationOptions

        output = checkpoint.parent / EXPORTS
        made_routes, made_schemes = listed(checkpoint, output)
        routes, schemes = {*self.routes, *made_routes}, {*schemes, *made_schemes}
        if not is_converted(checkpoint, output, routes, schemes):
            self._say("converting")
            convert(
                checkpoint,
                output,
                routes=[name for name in ROUTES if name in routes],
                quantization=QuantizationOptions(sorted(schemes), test_signers=self.test_signers),
                data=self.data,
                seed=self.config.train.seed,
                jobs=self.conversions,
            )
        self._evaluate([checkpoint, *artifacts(output)], checkpoint.parent / EVALUATION)

    def _evaluate(self, paths: Sequence[Path], output: Path) -> None:
        """Runs what is new on the clips that its training was tested on."""
        from bridge.evaluation import (
            evaluate,
            identify,
            is_evaluated,
            open_model,
            write_evaluation,
        )

        unseen = self._unseen()
        for path in paths:
            made_from = identify(path, unseen)
            if not is_evaluated(output, path.name, made_from):
                evaluation = evaluate(open_model(path), unseen, self.data)
                write_evaluation(output, evaluation, made_from)

    def _unseen(self) -> ClipSet:
        """The test clips alone: validation signers were not trained on, but chose the best epoch.

        Where nothing is tested, as in most full-data training, those have to do.
        """
        from bridge.calibration import divide
        from signbart.calibration import MIN_CLIPS
        from signbart.splits import split_clips

        config = self.config.train
        tested = split_clips(self.clips, config, self.test_signers).test
        if len(tested):
            return self.clips.select(tested)
        _, unseen, _ = divide(
            self.clips, self.config, self.test_signers, count=MIN_CLIPS, seed=config.seed
        )
        return unseen

    def _fine_tune(self, best: Path, name: str) -> Path:
        """Trains on, fake-quantized; the new checkpoint."""
        from signbart.quantized_training import default_overrides, training_config

        checkpoint = self.framework.load_checkpoint(best)
        overrides = [*default_overrides(), f"train.epochs={self.qat_epochs}"]
        self.framework.train_quantized(
            self.clips,
            checkpoint,
            training_config(checkpoint.config, overrides, source=str(best)),
            self.folder / name,
            source=str(best),
            static=QAT[name] == "int8",
            test_signers=self.test_signers,
            resume=True,
            device=self.device,
            data_name=self.data,
        )
        return self.folder / name / self.framework.best


def check_folds(
    output: Path,
    framework: Framework,
    names: Sequence[str],
    clips: ClipSet,
    config: RunConfig,
    resume: bool,
) -> None:
    """Whether the folds of a folder, those to be made among them, belong into one book.

    Args:
        output: The folder; it need not exist.
        framework: Trains.
        names: Signers, or `ALL` alone.
        clips: All recordings.
        config: The run's configuration.
        resume: Whether folds of `names` may be there.

    Raises:
        ConfigError: There are such folds and `resume` was not asked for, or any that are of another
            framework or configuration, other recordings, or the other kind of training.
    """
    from signbart.errors import ConfigError
    from signbart.leave_one_out import folds_in
    from signbart.run_folder import find_run
    from signbart.runs import identify_recordings, with_labels

    there = folds_in(output)
    if not resume and set(there) & set(names):
        raise ConfigError(f"{output} already holds folds; pass --resume to go on with them")
    if (ALL in there and [*names] != [ALL]) or (ALL in names and set(there) - {ALL}):
        raise ConfigError(
            f"{output} holds {', '.join(there)}: folds that leave a signer out and one trained on "
            "all are not one run; choose another --output"
        )
    for name in there:
        find_run(
            output / name,
            with_labels(config, clips),
            clips.class_names,
            {"recordings": identify_recordings(clips, [] if name == ALL else [name])},
            True,
            last=framework.last,
            load=framework.load_checkpoint,
        )


def listed(checkpoint: Path, output: Path) -> tuple[set[str], set[str]]:
    """Routes and schemes of the .tflite in a folder, if its manifest is of this checkpoint.

    A float .onnx does not count: it comes along with whatever its route was asked for.
    """
    try:
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        if manifest["checkpoint_sha256"] != file_sha256(checkpoint):
            return set(), set()
        entries = [
            (entry["route"], entry["scheme"])
            for entry in manifest["artifacts"]
            if entry.get("file", "").endswith(".tflite")
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return set(), set()
    return {route for route, _ in entries}, {scheme for _, scheme in entries}


def is_converted(
    checkpoint: Path, output: Path, routes: Iterable[str], schemes: Iterable[str]
) -> bool:
    """Whether a folder's manifest is of this checkpoint and has every route and scheme.

    Other versions of the project or of a converter have to convert again, and so has a failure.
    """
    from bridge.metadata import OWN_VERSIONS, versions

    try:
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        made = {
            (entry["route"], entry["scheme"]) for entry in manifest["artifacts"] if "file" in entry
        }
        same = manifest["checkpoint_sha256"] == file_sha256(checkpoint)
        same &= manifest["versions"] == versions(list(manifest["versions"].keys() - OWN_VERSIONS))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = {
        (route.name, scheme.name)
        for route in select_routes(routes)
        for scheme in select_schemes(schemes)
    }
    return same and wanted <= made


def artifacts(exports: Path) -> list[Path]:
    """Every file that a conversion lists, those that it rejected among them."""
    manifest = json.loads((exports / "manifest.json").read_text(encoding="utf-8"))
    return [exports / entry["file"] for entry in manifest["artifacts"] if "file" in entry]


def measure_latency(fold: Path, clip: ClipSet) -> None:
    """Times every .tflite of a fold by turns with its route's float32, on one thread.

    Writes ``latency.json`` beside each ``exports/``; what it already holds of the same files, from
    the same machine, stays.

    Args:
        fold: Folder of the fold.
        clip: One recording, which every model is given.
    """
    from bridge.latency import ROUNDS, machine_name
    from bridge.metadata import read_metadata

    paths = [path for path in artifacts(fold / EXPORTS) if path.suffix == ".tflite"]
    floats = {
        metadata["route"]: path
        for path in paths
        if (metadata := read_metadata(path))["scheme"] == FLOAT
    }
    for training in (PLAIN, *QAT):
        folder = training_folder(fold, training)
        if not (folder / EXPORTS / "manifest.json").is_file():
            continue
        conditions = {"machine": machine_name(), "threads": 1, "rounds": ROUNDS}
        known = _known_latency(folder / LATENCY, conditions)
        times, frames = {}, None
        for path in artifacts(folder / EXPORTS):
            if path.suffix != ".tflite":
                continue
            metadata = read_metadata(path)
            frames = metadata["preprocessing"]["max_frames"]
            partner = floats.get(metadata["route"])
            identity = {
                "sha256": file_sha256(path),
                "fp32_sha256": file_sha256(partner) if partner else None,
            }
            file = str(path.relative_to(folder / EXPORTS))
            if {key: known.get(file, {}).get(key) for key in identity} == identity:
                times[file] = known[file]
            else:
                times[file] = identity | _time(path, partner, clip)
        record = {**conditions, "frames": frames, "artifacts": times}
        write_text(folder / LATENCY, json.dumps(record, indent=2) + "\n")


def _known_latency(path: Path, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured before, if it was under the same conditions."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = all(found[key] == value for key, value in conditions.items())
        return found["artifacts"] if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _time(path: Path, partner: Path | None, clip: ClipSet) -> dict[str, float | None]:
    """Median milliseconds of a .tflite and, if it has a partner, their ratio in the same turns."""
    from bridge.latency import interleaved
    from bridge.metadata import carried_config, read_metadata
    from bridge.quantized_parity import prepared_inputs
    from bridge.runtimes import TFLiteRuntime
    from bridge.spec import ATTENTION_MASK, KEYPOINTS

    keypoints, mask = prepared_inputs(clip, carried_config(read_metadata(path), path))
    inputs = {KEYPOINTS: keypoints, ATTENTION_MASK: mask}
    # In pairs: a dozen models by turns would push each other's weights out of the caches, as no
    # program does that runs one of them.
    calls = {"it": TFLiteRuntime(path).invocation(inputs)}
    if partner not in (None, path):
        calls["partner"] = TFLiteRuntime(partner).invocation(inputs)
    found = interleaved(calls)
    # Float32 beside itself is 1, whatever noise two measurements would have.
    ratio = found["it"].median / found.get("partner", found["it"]).median if partner else None
    return {
        "median_ms": round(found["it"].median, 4),
        "to_fp32": None if ratio is None else round(ratio, 4),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if every artifact agrees, 1 if not."""
    from signbart.leave_one_out import add_fold_arguments
    from signbart.training_command import add_run_arguments

    parser = argparse.ArgumentParser(
        prog="python -m bridge.loso",
        description="Train once per signer, each time without that signer; convert each model by "
        "every route, quantize it, and judge all of it on the signer left out. Started again, it "
        "goes on past what is finished.",
    )
    add_run_arguments(parser)
    add_fold_arguments(parser)
    parser.add_argument(
        "--framework",
        default="torch",
        choices=FRAMEWORKS,
        help="which one trains (default: %(default)s)",
    )
    parser.add_argument(
        "--full-data",
        action="store_true",
        help="one fold, all, trained on every signer; judged on test clips if any are marked, else "
        "on validation clips",
    )
    parser.add_argument(
        "--routes", default="all", help="parted by commas, or all (default: %(default)s)"
    )
    parser.add_argument(
        "--schemes", default="all", help="parted by commas, or all (default: %(default)s)"
    )
    parser.add_argument(
        "--qat", action="store_true", help="train on, fake-quantized, for dynamic_int8 and for int8"
    )
    parser.add_argument(
        "--qat-epochs", type=int, default=10, metavar="N", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)

    from bridge.report import report
    from signbart.clips import read_clips
    from signbart.config import load_config
    from signbart.errors import ConfigError
    from signbart.leave_one_out import run_folds, select_signers
    from signbart.training_command import print_skipped

    if options.jobs < 1 or options.qat_epochs < 1:
        raise ConfigError("--jobs and --qat-epochs must be at least 1")
    if options.full_data and options.signers:
        raise ConfigError("--full-data trains on every signer; drop --signers")
    routes = tuple(route.name for route in select_routes([options.routes]))
    schemes = tuple(scheme.name for scheme in select_schemes([options.schemes]))
    config = load_config(options.config, options.overrides)
    clips = read_clips(options.data, skip_bad=options.skip_bad)
    signers = [ALL]
    if not options.full_data:
        signers = select_signers(clips, options.signers, options.data)
    output, framework = Path(options.output), FRAMEWORKS[options.framework]
    check_folds(output, framework, signers, clips, config, options.resume)
    folds = [
        Fold(
            framework=framework,
            clips=clips,
            config=config,
            folder=output / name,
            test_signers=() if options.full_data else (name,),
            data=options.data,
            routes=routes,
            schemes=schemes,
            qat_epochs=options.qat_epochs if options.qat else 0,
            device=options.device,
            # Whatever cores parallel folds leave.
            conversions=max(1, (os.cpu_count() or 1) // options.jobs),
        )
        for name in signers
    ]
    for fold in folds:
        fold.check_calibration()
    print_skipped(clips.skipped)
    make_folder(output)
    for _ in run_folds(folds, options.jobs, framework.start_worker):
        pass
    # Alone, behind all else: nothing that runs beside it disturbs the clock.
    for name in signers:
        measure_latency(output / name, clips.select([0]))
    return report([output], output / REPORT)


def command() -> None:
    """The console script."""
    run_command(main)


if __name__ == "__main__":
    command()
