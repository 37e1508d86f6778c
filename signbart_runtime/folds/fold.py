"""One fold of `signbart_runtime.loso`: trained, converted, quantized, evaluated on its signer.

What is finished is not made again, and what was made before of other routes or schemes stays: where
one is added, all of them are converted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.quantization.schemes import select_schemes
from bridge.routes import ROUTES, is_raw_onnx, select_routes
from signbart.artifacts.completeness import MANIFEST, require_complete
from signbart.files import file_sha256, remove_left_overs
from signbart.json_text import read_json_file
from signbart.training.frameworks import Framework
from signbart.training.run_folder import EVALUATION, RESULTS
from signbart_runtime.folds.layout import EXPORTS, QAT

if TYPE_CHECKING:
    from signbart.configuration.schema import RunConfig
    from signbart.recordings.clip import ClipSet
    from signbart.recordings.data_source import DataSource


@dataclass(frozen=True)
class Fold:
    """One signer's training and conversions, as a picklable callable for worker processes.

    Attributes:
        clips: All recordings, from `data`.
        folder: ``OUTPUT/<signer>``.
        test_signers: Who is not trained on; empty in full-data training.
        qat_epochs: Epochs of quantization-aware training; 0: none.
        conversions: Routes to convert by at a time.
    """

    framework: Framework
    clips: ClipSet
    config: RunConfig
    folder: Path
    test_signers: tuple[str, ...]
    data: DataSource
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
        from signbart.training.calibration import MIN_CLIPS, require_clips
        from signbart.training.splits import split_clips

        calibrated = any(scheme.calibrated for scheme in select_schemes(self.schemes))
        if calibrated or self.qat_epochs:
            split = split_clips(self.clips, self.config.train, self.test_signers)
            require_clips(min(MIN_CLIPS, len(split.train)))

    def __call__(self) -> dict[str, Any]:
        """Makes what is missing; the results of training."""
        if not (self.folder / RESULTS).is_file():
            self._say("training")
        results = self.framework.module().train_model(
            self.clips,
            self.config,
            self.folder,
            test_signers=self.test_signers,
            resume=True,
            device=self.device,
            data_name=str(self.data),
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
        from bridge.conversion.evidence import QuantizationOptions
        from bridge.conversion.pipeline import convert

        output = checkpoint.parent / EXPORTS
        remove_left_overs(output)
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
                # A fold's artifacts are measured; those of all recordings go into programs.
                raw_frames=0 if self.test_signers else None,
            )
        self._evaluate([checkpoint, *artifacts(output)], checkpoint.parent / EVALUATION)

    def _evaluate(self, paths: Sequence[Path], output: Path) -> None:
        """Runs what is new on the clips that its training was tested on."""
        from signbart.training.predictions import identify, is_evaluated, write_predictions
        from signbart_runtime.evaluation.opened import open_model
        from signbart_runtime.evaluation.predict import evaluate

        remove_left_overs(output)
        unseen = self._unseen()
        for path in paths:
            made_from = identify(path, unseen)
            if not is_evaluated(output, path.name, made_from):
                evaluation = evaluate(open_model(path), unseen, str(self.data))
                write_predictions(output, evaluation, made_from)

    def _unseen(self) -> ClipSet:
        """The test clips alone: validation signers were not trained on, but chose the best epoch.

        Where nothing is tested, as in most full-data training, those have to do.
        """
        from signbart.training.calibration import MIN_CLIPS
        from signbart.training.splits import divide, split_clips

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
        from signbart.training.qat import default_overrides, training_config

        checkpoint = self.framework.module().load_checkpoint(best)
        overrides = [*default_overrides(), f"train.epochs={self.qat_epochs}"]
        self.framework.module().train_quantized(
            self.clips,
            checkpoint,
            training_config(checkpoint.config, overrides, source=str(best)),
            self.folder / name,
            source=str(best),
            static=QAT[name] == "int8",
            test_signers=self.test_signers,
            resume=True,
            device=self.device,
            data_name=str(self.data),
        )
        return self.folder / name / self.framework.best


def listed(checkpoint: Path, output: Path) -> tuple[set[str], set[str]]:
    """Routes and schemes of the .tflite in a folder, if its manifest is of this checkpoint.

    A float .onnx does not count: it comes along with whatever its route was asked for.
    """
    made, _ = _manifest_of(checkpoint, output)
    kinds = [kind for file, kind in made.items() if file.endswith(".tflite")]
    return {route for route, _ in kinds}, {scheme for _, scheme in kinds}


def is_converted(
    checkpoint: Path, output: Path, routes: Iterable[str], schemes: Iterable[str]
) -> bool:
    """Whether a folder's manifest is of this checkpoint and has every route and scheme.

    Other versions of the project or of a converter have to convert again, and so has a failure.
    """
    from signbart.artifacts.metadata import OWN_VERSIONS, versions

    made, by = _manifest_of(checkpoint, output)
    wanted = {
        (route.name, scheme.name)
        for route in select_routes(routes)
        for scheme in select_schemes(schemes)
    }
    return by == versions(list(by.keys() - OWN_VERSIONS)) and wanted <= {*made.values()}


def _manifest_of(
    checkpoint: Path, output: Path
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """File -> its route and scheme, and the versions that made them; nothing of another model."""
    try:
        manifest = read_json_file(output / MANIFEST)
        if manifest["checkpoint_sha256"] != file_sha256(checkpoint):
            return {}, {}
        made = {
            entry["file"]: (entry["route"], entry["scheme"])
            for entry in manifest["artifacts"]
            if "file" in entry
        }
        return made, dict(manifest.get("versions", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}


def artifacts(exports: Path, ending: str = "") -> list[Path]:
    """Every file with that ending that a conversion lists, those that it rejected among them."""
    require_complete(exports)
    manifest = read_json_file(exports / MANIFEST)
    files = [entry["file"] for entry in manifest["artifacts"] if "file" in entry]
    # What takes raw landmarks says what the file beside it says.
    listed = [file for file in files if not is_raw_onnx(file, files)]
    return [exports / file for file in listed if file.endswith(ending)]
