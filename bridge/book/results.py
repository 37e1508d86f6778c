"""What the folds of `bridge.loso` measured, read back from their folders as plain rows."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.evaluation.predictions import Evaluation, read_evaluation
from bridge.folds.layout import EVALUATION, EXPORTS, LATENCY, PLAIN, QAT, training_folder
from bridge.quantization.schemes import FLOAT, SCHEMES
from bridge.routes import ROUTES
from signbart.configuration.reading import load_config
from signbart.console import NOT_RUN
from signbart.training.folds import ALL
from signbart.training.frameworks import FRAMEWORKS, TORCH, Framework, framework_of
from signbart.training.run_folder import RESULTS

# Stand for a route where the checkpoint itself was evaluated, in the framework that it was trained
# in, and for the .onnx, of any batch and length.
CHECKPOINT, ONNX = "checkpoint", ".onnx"
# What every book has cells for, whether it was measured or not; other schemes where they were.
_ALWAYS = (FLOAT, *QAT.values())


@dataclass(frozen=True)
class Result:
    """One model of one fold.

    Attributes:
        data: Name of the configuration, which names the data; behind it that of the framework,
            where it is not PyTorch.
        fold: The signer that was tested on, or `ALL`.
        training: `PLAIN` or a key of `QAT`.
        route: Name of the route, `CHECKPOINT` or `ONNX`.
        scheme: Name of the quantization scheme.
        verdict: Of the comparison with PyTorch.
        reason: Of a verdict that is no pass.
        clips: How many it was evaluated on.
        accuracy: Percent; None where it was not measured.
        top5: Percent.
        mean_class_accuracy: Percent.
        agreement: Percent of clips with the class that PyTorch gives the same weights.
        scaled_rmse: Error of the logits over their root mean square, in the comparison.
        max_abs: Largest difference of a logit in the comparison.
        bytes: Size of the file.
        latency_ms: Median of one call.
        speed_up: How many times faster than its route's float32 in the same turns.
        operators: Operator -> count.
        multiply_accumulates: Number format -> count.
        evaluation: The predictions.
    """

    data: str
    fold: str
    training: str
    route: str
    scheme: str
    verdict: str
    reason: str = ""
    clips: int = 0
    accuracy: float | None = None
    top5: float | None = None
    mean_class_accuracy: float | None = None
    agreement: float | None = None
    scaled_rmse: float | None = None
    max_abs: float | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    speed_up: float | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    multiply_accumulates: Mapping[str, int] = field(default_factory=dict)
    evaluation: Evaluation | None = field(default=None, repr=False, compare=False)

    @property
    def share_int8(self) -> float | None:
        """Percent of multiply-accumulates that run in int8; None where none were counted."""
        products = self.multiply_accumulates
        return 100 * products.get("int8", 0) / sum(products.values()) if products else None


@dataclass(frozen=True)
class Variant:
    """One kind of number format: ``FP32``, or a scheme after training (PTQ) or in it (QAT)."""

    precision: str
    training: str
    scheme: str

    @property
    def name(self) -> str:
        """For tables, for example ``QAT int8``."""
        return "FP32" if self.precision == "FP32" else f"{self.precision} {self.scheme}"


@dataclass(frozen=True)
class Run:
    """An output folder of `bridge.loso`, read.

    Attributes:
        folder: Where it stands.
        framework: What all of its folds were trained in.
        results: One a model.
        latency: What the times were measured on; None where they were not.
    """

    folder: Path
    framework: Framework
    results: tuple[Result, ...]
    latency: Mapping[str, Any] | None

    @property
    def data(self) -> str:
        """See `Result`."""
        return self.results[0].data

    @property
    def folds(self) -> list[str]:
        """Signers left out, sorted; `ALL` alone in full-data training."""
        return sorted({result.fold for result in self.results})

    @property
    def routes(self) -> list[str]:
        """Those that anything was made by, in the order of `ROUTES`."""
        found = {result.route for result in self.results}
        return [route for route in ROUTES if route in found]

    @property
    def variants(self) -> list[Variant]:
        """FP32, and every scheme after training and, where it can be, in it."""
        found = {result.scheme for result in self.results}
        schemes = [name for name in SCHEMES if name in found or name in _ALWAYS]
        variants = []
        for scheme in schemes:
            variants.append(Variant("FP32" if scheme == FLOAT else "PTQ", PLAIN, scheme))
            variants += [Variant("QAT", name, scheme) for name, s in QAT.items() if s == scheme]
        return variants

    @property
    def kinds(self) -> list[tuple[Variant, str]]:
        """What files there are to expect: every variant by every route, and the float .onnx."""
        kinds = []
        for variant in self.variants:
            kinds += [(variant, route) for route in self.routes]
            if variant.scheme == FLOAT and any(r.route == ONNX for r in self.results):
                kinds.append((variant, ONNX))
        return kinds

    def find(self, variant: Variant, route: str, fold: str) -> Result | None:
        """That model; None where it was not made."""
        for result in self.results:
            key = (result.training, result.scheme, result.route, result.fold)
            if key == (variant.training, variant.scheme, route, fold):
                return result
        return None

    def all_folds(self, variant: Variant, route: str) -> list[Result | None]:
        """That model of every fold, in the order of `folds`."""
        return [self.find(variant, route, fold) for fold in self.folds]

    def held_out(self, fold: str) -> dict[str, int]:
        """How many clips validated (``val``) and tested (``test``) the training of a fold."""
        path = self.folder / fold / RESULTS
        found = (_read_json(path) or {}).get("clips", {})
        return {part: found.get(part, 0) for part in ("val", "test")}

    def history(self, fold: str, training: str) -> list[dict[str, float]]:
        """Rows of a training's ``summary.csv`` as numbers; none where it was not run."""
        path = training_folder(self.folder / fold, training) / "summary.csv"
        if not path.is_file():
            return []
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]


def read_run(folder: Path) -> Run:
    """Every model of every fold of a run.

    Args:
        folder: The output folder of `bridge.loso`.

    Raises:
        BridgeError: It holds no fold with exports, is one itself, holds folds that do not belong
            together, or a file cannot be read.
    """
    if (folder / EXPORTS / "manifest.json").is_file():
        raise BridgeError(
            f"{folder} is one fold or export; give the output folder of bridge.loso that holds the "
            "folds"
        )
    results: list[Result] = []
    latency = None
    for training in (PLAIN, *QAT):
        pattern = f"*/{EXPORTS}" if training == PLAIN else f"*/{training}/{EXPORTS}"
        for manifest in sorted(folder.glob(f"{pattern}/manifest.json")):
            made, times = _read_training(manifest, training)
            results += made
            latency = latency or times
    if not results:
        raise BridgeError(f"{folder} holds no fold with exports; run python -m bridge.loso first")
    folds = sorted({result.fold for result in results})
    _require_one_run(folder, folds)
    return Run(folder, _framework_of(folder / folds[0]), tuple(results), latency)


def _require_one_run(folder: Path, folds: Sequence[str]) -> None:
    """Refuses folds that have no mean.

    Those are of several frameworks or configurations, or one of them saw everybody.

    Raises:
        SignBartError: Says which, or which configuration cannot be read.
    """
    if ALL in folds and len(folds) > 1:
        raise BridgeError(
            f"{folder} holds {', '.join(folds)}: folds that leave a signer out and one trained on "
            "all are not one run; move one of them to another folder"
        )
    for training in (PLAIN, *QAT):
        paths = [training_folder(folder / fold, training) / "config.yaml" for fold in folds]
        # Of a fold that had no such training there is none.
        configs = {path: load_config(path) for path in paths if training == PLAIN or path.is_file()}
        for path, config in configs.items():
            first = next(iter(configs))
            if config != configs[first]:
                raise BridgeError(
                    f"{path} and {first} differ, so these folds are not one run; move one of them "
                    "to another folder"
                )
    first, framework = folder / folds[0], _framework_of(folder / folds[0])
    for other in (folder / fold for fold in folds):
        if (found := _framework_of(other)) != framework:
            raise BridgeError(
                f"{other} was trained in {found.title} and {first} in {framework.title}, so these "
                "folds are not one run; move one of them to another folder"
            )


def _read_training(path: Path, training: str) -> tuple[list[Result], Mapping[str, Any] | None]:
    """The models of one run folder, and what their times were measured on."""
    folder = path.parent.parent
    fold_folder = folder if training == PLAIN else folder.parent
    fold = fold_folder.name
    latency = _read_json(folder / LATENCY)
    times = latency["artifacts"] if latency else {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        data = _data_name(manifest["name"], _framework_of(fold_folder))
        found = [
            _result(data, fold, training, entry, folder, times) for entry in manifest["artifacts"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BridgeError(
            f"{path} is no manifest of this version ({type(error).__name__}: {error}); remove its "
            "folder and run python -m bridge.loso again"
        ) from None
    if training == PLAIN:
        reference = read_evaluation(folder / EVALUATION, _framework_of(folder).best)
        if reference is not None:
            named = {"data": data, "fold": fold, "training": training, "scheme": FLOAT}
            found.append(Result(route=CHECKPOINT, verdict="pass", **named, **_scores(reference)))
    return found, latency


def _framework_of(fold: Path) -> Framework:
    framework = framework_of(fold)
    if framework is None:
        names = " nor ".join(framework.last for framework in FRAMEWORKS.values())
        raise BridgeError(
            f"{fold} holds neither {names}, so it is not known what it was trained in; remove that "
            "folder and run python -m bridge.loso again"
        )
    return framework


def _data_name(configuration: str, framework: Framework) -> str:
    """Tells runs of one configuration apart, so that both frameworks can stand in one book."""
    return configuration if framework == TORCH else f"{configuration} {framework.title}"


def _result(
    data: str,
    fold: str,
    training: str,
    entry: Mapping[str, Any],
    folder: Path,
    times: Mapping[str, Mapping[str, Any]],
) -> Result:
    measured = entry["parity"]
    agreement = measured.get("argmax_agreement")
    file, sha256 = entry.get("file", ""), entry.get("sha256")
    evaluation = None
    if file:
        evaluation = read_evaluation(folder / EVALUATION, Path(file).name, sha256)
    time = times.get(file, {})
    if time.get("sha256") != sha256:
        time = {}  # of a file that has been made again since
    ratio = time.get("to_fp32")
    route = ONNX if file.endswith(ONNX) else entry["route"]
    return Result(
        data=data,
        fold=fold,
        training=training,
        route=route,
        scheme=entry["scheme"],
        verdict=entry["verdict"],
        reason=entry["reason"],
        agreement=None if agreement is None else 100 * agreement,
        scaled_rmse=measured.get("scaled_rmse"),
        max_abs=measured.get("max_abs"),
        bytes=entry.get("bytes"),
        latency_ms=time.get("median_ms"),
        speed_up=1 / ratio if ratio else None,
        operators=entry["operators"],
        multiply_accumulates=entry["multiply_accumulates"],
        **(_scores(evaluation) if evaluation else {}),
    )


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    scores = evaluation.scores
    return {
        "clips": scores.count,
        "accuracy": 100 * scores.accuracy,
        "top5": 100 * scores.top5,
        "mean_class_accuracy": 100 * scores.mean_class_accuracy,
        "evaluation": evaluation,
    }


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path} is damaged ({error}); remove it and measure again") from None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean, if there is anything and all of it was measured."""
    values = list(values)
    return None if not values or None in values else statistics.fmean(values)


def deviation(values: Iterable[float | None]) -> float | None:
    """The standard deviation over the folds themselves, on the terms of `mean`."""
    values = list(values)
    return None if not values or None in values else statistics.pstdev(values)


def values(results: Sequence[Result | None], name: str) -> list[float | None]:
    """One attribute of several models; None where one was not made."""
    return [None if result is None else getattr(result, name) for result in results]


def cell(value: float | None, form: str = ".2f") -> str:
    """A number for a table; what was not measured says so."""
    return NOT_RUN if value is None else format(value, form)
